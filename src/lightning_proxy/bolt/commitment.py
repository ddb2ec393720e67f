"""Commitment transactions (BOLT #3), built for either side from what both sides agreed on.

BOLT #3 calls the side that owns a commitment (can broadcast it) local, the other remote.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import Final, Protocol

from btclib.tx import TxOut

from lightning_proxy.bolt.derivation import (
    FIRST_COMMITMENT_INDEX,
    derive_public_key,
    revocation_public_key,
)
from lightning_proxy.bolt.errors import RequirementError
from lightning_proxy.bolt.fees import ANCHOR_SAT, anchors_sat, commitment_fee_sat, htlc_fee_sat
from lightning_proxy.bolt.scripts import (
    anchor_script,
    funding_script,
    offered_htlc_script,
    p2wpkh,
    p2wsh,
    received_htlc_script,
    to_local_script,
    to_remote_script,
)
from lightning_proxy.bolt.signing import (
    SIGHASH_ALL,
    SIGHASH_SINGLE_ANYONECANPAY,
    UnsignedTransaction,
    witness_signature,
)

# The upper bytes that tell a commitment number from a block height, a time or a relative delay.
_LOCKTIME_MARK: Final = 0x20 << 24
_SEQUENCE_MARK: Final = 0x80 << 24


class Role(Enum):
    """A side of a channel, by which of the two opened it; the opener pays the fees."""

    OPENER = "opener"
    ACCEPTER = "accepter"

    @property
    def other(self) -> "Role":
        return Role.ACCEPTER if self is Role.OPENER else Role.OPENER


class ChannelSide(Protocol):
    """What one side laid down, by the names and meanings of `open_channel` and `accept_channel`.

    Those messages are such sides themselves. `to_self_delay` is what this side imposes on the
    other, `dust_limit_satoshis` is for this side's own commitments.
    """

    @property
    def funding_pubkey(self) -> bytes: ...
    @property
    def revocation_basepoint(self) -> bytes: ...
    @property
    def payment_basepoint(self) -> bytes: ...
    @property
    def delayed_payment_basepoint(self) -> bytes: ...
    @property
    def htlc_basepoint(self) -> bytes: ...
    @property
    def dust_limit_satoshis(self) -> int: ...
    @property
    def to_self_delay(self) -> int: ...


@dataclass(frozen=True, slots=True)
class ChannelParameters:
    """What stays the same in all of a channel's commitments."""

    opener: ChannelSide
    accepter: ChannelSide
    #: The funding output; the id's bytes stand as in `funding_created`.
    funding_txid: bytes
    funding_output_index: int
    funding_satoshis: int
    #: Whether the channel's type is `option_anchors` (with fee-less HTLC transactions), else
    #: `option_static_remotekey`.
    anchors: bool

    def side(self, role: Role) -> ChannelSide:
        return self.opener if role is Role.OPENER else self.accepter

    @property
    def funding_script(self) -> bytes:
        """The funding output's witness script; its `scriptpubkey` is the `p2wsh` of it."""
        return funding_script(self.opener.funding_pubkey, self.accepter.funding_pubkey)

    def obscured(self, commitment_number: int) -> int:
        """A commitment number (48 bits, from 0) as the chain sees it, and back."""
        basepoints = self.opener.payment_basepoint + self.accepter.payment_basepoint
        return commitment_number ^ int.from_bytes(sha256(basepoints).digest()[-6:], "big")


@dataclass(frozen=True, slots=True)
class Htlc:
    """One HTLC that a commitment has to hold, by the names of `update_add_htlc`."""

    offered_by: Role
    id: int
    amount_msat: int
    payment_hash: bytes
    cltv_expiry: int

    @property
    def amount_sat(self) -> int:
        return self.amount_msat // 1000


@dataclass(frozen=True, slots=True)
class CommitmentState:
    """What one commitment has to say, in terms that don't depend on whose it is.

    The two balances leave the HTLCs out, and no fee is subtracted.
    """

    commitment_number: int
    feerate_per_kw: int
    to_opener_msat: int
    to_accepter_msat: int
    htlcs: tuple[Htlc, ...] = ()


@dataclass(frozen=True, slots=True)
class CommitmentKeys:
    """The keys of one commitment (33 bytes each), by their names in BOLT #3."""

    revocationpubkey: bytes
    local_delayedpubkey: bytes
    local_htlcpubkey: bytes
    remote_htlcpubkey: bytes
    remotepubkey: bytes

    @classmethod
    def derive(
        cls, local: ChannelSide, remote: ChannelSide, per_commitment_point: bytes
    ) -> "CommitmentKeys":
        """Of the commitment that `local` owns, by its point; raises `ValueError` for no point."""
        return cls(
            revocationpubkey=revocation_public_key(
                remote.revocation_basepoint, per_commitment_point
            ),
            local_delayedpubkey=derive_public_key(
                local.delayed_payment_basepoint, per_commitment_point
            ),
            local_htlcpubkey=derive_public_key(local.htlc_basepoint, per_commitment_point),
            remote_htlcpubkey=derive_public_key(remote.htlc_basepoint, per_commitment_point),
            remotepubkey=remote.payment_basepoint,
        )


@dataclass(frozen=True, slots=True)
class HtlcTransaction:
    """The HTLC-timeout transaction of an offered, or the HTLC-success one of a received HTLC."""

    htlc: Htlc
    #: Which output of the commitment it spends.
    output_index: int
    unsigned: UnsignedTransaction
    #: What the other side's signature covers: under `option_anchors` the owner may add inputs for
    #: a fee. The owner's own is always SIGHASH_ALL.
    remote_hash_type: int
    #: Whether the preimage is part of the witness.
    success: bool

    def signed(
        self,
        remote_htlc_signature: bytes,
        local_htlc_signature: bytes,
        payment_preimage: bytes = b"",
    ) -> bytes:
        """The transaction to broadcast, from signatures of 64 bytes each.

        Raises `ValueError` for a preimage (32 bytes; none for HTLC-timeout) that doesn't fit, and
        for a malformed signature; whether a signature holds, `unsigned` tells.
        """
        if self.success and sha256(payment_preimage).digest() != self.htlc.payment_hash:
            raise ValueError("HTLC-success takes the preimage of the HTLC's payment_hash")
        if not self.success and payment_preimage:
            raise ValueError("HTLC-timeout takes no preimage")
        return self.unsigned.serialize(
            [
                b"",
                witness_signature(remote_htlc_signature, self.remote_hash_type),
                witness_signature(local_htlc_signature),
                payment_preimage,
            ]
        )


@dataclass(frozen=True, slots=True)
class Commitment:
    """One side's commitment transaction, with the HTLC transactions that spend it."""

    parameters: ChannelParameters
    owner: Role
    state: CommitmentState
    keys: CommitmentKeys
    unsigned: UnsignedTransaction
    #: In the order of the outputs, which is also that of `commitment_signed`'s `htlc_signatures`.
    htlc_transactions: tuple[HtlcTransaction, ...]

    @property
    def base_fee_sat(self) -> int:
        """What the opener pays, if its balance lasts."""
        return commitment_fee_sat(
            self.state.feerate_per_kw, len(self.htlc_transactions), anchors=self.parameters.anchors
        )

    @property
    def fee_sat(self) -> int:
        """What miners get: the base fee, and all that was trimmed or rounded down."""
        return self.parameters.funding_satoshis - sum(out.value for out in self.unsigned.tx.vout)

    def signed(self, opener_signature: bytes, accepter_signature: bytes) -> bytes:
        """The transaction to broadcast, from both signatures (64 bytes each).

        Raises `ValueError` for a malformed one; whether one holds, `unsigned` tells.
        """
        signatures = sorted(
            [
                (self.parameters.opener.funding_pubkey, opener_signature),
                (self.parameters.accepter.funding_pubkey, accepter_signature),
            ]
        )
        return self.unsigned.serialize([b"", *(witness_signature(by) for _, by in signatures)])


def is_trimmed(htlc: Htlc, owner: Role, parameters: ChannelParameters, feerate_per_kw: int) -> bool:
    """Whether this HTLC is too small for an output of the owner's commitment."""
    success = htlc.offered_by is not owner
    fee = htlc_fee_sat(feerate_per_kw, success=success, anchors=parameters.anchors)
    return htlc.amount_sat - fee < parameters.side(owner).dust_limit_satoshis


@dataclass(frozen=True, slots=True)
class _Output:
    """An output on its way to its place. An HTLC's has the script that its spender must show."""

    value: int
    scriptpubkey: bytes
    htlc: Htlc | None = None
    witness_script: bytes = b""

    @property
    def place(self) -> tuple[int, bytes, int]:
        """BOLT #3: BIP 69, then the expiry, which only HTLC transactions show."""
        return self.value, self.scriptpubkey, self.htlc.cltv_expiry if self.htlc else 0


def build_commitment(
    parameters: ChannelParameters,
    owner: Role,
    state: CommitmentState,
    per_commitment_point: bytes,
) -> Commitment:
    """The commitment that this side can broadcast, by the point (33 bytes) that it gave for it.

    Raises `ValueError` for a state that can't be this channel's (a number beyond 48 bits, amounts
    that don't add up to the funding), and for a point that is none; `RequirementError` when
    everything falls below the dust limit, so that no output is left.
    """
    _check(parameters, state)
    local, remote = parameters.side(owner), parameters.side(owner.other)
    keys = CommitmentKeys.derive(local, remote, per_commitment_point)
    htlcs = [
        _htlc_output(htlc, owner, keys, anchors=parameters.anchors)
        for htlc in state.htlcs
        if not is_trimmed(htlc, owner, parameters, state.feerate_per_kw)
    ]
    to_local_scriptpubkey = p2wsh(
        to_local_script(keys.revocationpubkey, remote.to_self_delay, keys.local_delayedpubkey)
    )
    balances = _balance_outputs(
        parameters,
        owner,
        state,
        to_local_scriptpubkey,
        keys.remotepubkey,
        untrimmed_htlcs=len(htlcs),
    )
    outputs = sorted([*htlcs, *balances], key=lambda output: output.place)
    if not outputs:
        raise RequirementError(
            "feerate_per_kw",
            f"at {state.feerate_per_kw} sat/kw, no output of the commitment stays above the dust "
            f"limit, {local.dust_limit_satoshis} sat",
        )
    obscured = parameters.obscured(state.commitment_number)
    unsigned = UnsignedTransaction.spending(
        parameters.funding_txid,
        parameters.funding_output_index,
        parameters.funding_script,
        parameters.funding_satoshis,
        sequence=_SEQUENCE_MARK | obscured >> 24,
        locktime=_LOCKTIME_MARK | obscured & 0xFFFFFF,
        outputs=[TxOut(output.value, output.scriptpubkey) for output in outputs],
    )
    txid = unsigned.txid
    return Commitment(
        parameters,
        owner,
        state,
        keys,
        unsigned,
        tuple(
            _htlc_transaction(
                output.htlc,
                output.witness_script,
                txid,
                index,
                to_local_scriptpubkey,
                success=output.htlc.offered_by is not owner,
                feerate_per_kw=state.feerate_per_kw,
                anchors=parameters.anchors,
            )
            for index, output in enumerate(outputs)
            if output.htlc is not None
        ),
    )


def _check(parameters: ChannelParameters, state: CommitmentState) -> None:
    if not 0 <= state.commitment_number <= FIRST_COMMITMENT_INDEX:
        raise ValueError("a commitment number has 48 bits")
    amounts = (
        state.to_opener_msat,
        state.to_accepter_msat,
        *(htlc.amount_msat for htlc in state.htlcs),
    )
    if min(amounts) < 0 or sum(amounts) != 1000 * parameters.funding_satoshis:
        raise ValueError("balances and HTLCs are to be what the funding holds, none below zero")


def _balance_outputs(
    parameters: ChannelParameters,
    owner: Role,
    state: CommitmentState,
    to_local_scriptpubkey: bytes,
    remotepubkey: bytes,
    *,
    untrimmed_htlcs: int,
) -> Iterable[_Output]:
    """`to_local`, `to_remote` and the anchors, as far as they exist."""
    local, remote = parameters.side(owner), parameters.side(owner.other)
    anchors = parameters.anchors
    costs = commitment_fee_sat(state.feerate_per_kw, untrimmed_htlcs, anchors=anchors)
    costs += anchors_sat(anchors=anchors)
    # BOLT #3: what the opener can't pay, nobody pays; an amount below zero is below any dust limit.
    sats = {
        Role.OPENER: state.to_opener_msat // 1000 - costs,
        Role.ACCEPTER: state.to_accepter_msat // 1000,
    }
    to_local, to_remote = sats[owner], sats[owner.other]
    if has_local := to_local >= local.dust_limit_satoshis:
        yield _Output(to_local, to_local_scriptpubkey)
    if has_remote := to_remote >= local.dust_limit_satoshis:
        yield _Output(
            to_remote,
            p2wsh(to_remote_script(remotepubkey)) if anchors else p2wpkh(remotepubkey),
        )
    if anchors and (has_local or untrimmed_htlcs):
        yield _Output(ANCHOR_SAT, p2wsh(anchor_script(local.funding_pubkey)))
    if anchors and (has_remote or untrimmed_htlcs):
        yield _Output(ANCHOR_SAT, p2wsh(anchor_script(remote.funding_pubkey)))


def _htlc_output(htlc: Htlc, owner: Role, keys: CommitmentKeys, *, anchors: bool) -> _Output:
    common = (
        keys.revocationpubkey,
        keys.local_htlcpubkey,
        keys.remote_htlcpubkey,
        htlc.payment_hash,
    )
    if htlc.offered_by is owner:
        script = offered_htlc_script(*common, anchors=anchors)
    else:
        script = received_htlc_script(*common, htlc.cltv_expiry, anchors=anchors)
    return _Output(htlc.amount_sat, p2wsh(script), htlc, script)


def _htlc_transaction(
    htlc: Htlc,
    witness_script: bytes,
    commitment_txid: bytes,
    output_index: int,
    scriptpubkey: bytes,
    *,
    success: bool,
    feerate_per_kw: int,
    anchors: bool,
) -> HtlcTransaction:
    fee = htlc_fee_sat(feerate_per_kw, success=success, anchors=anchors)
    unsigned = UnsignedTransaction.spending(
        commitment_txid,
        output_index,
        witness_script,
        htlc.amount_sat,
        sequence=int(anchors),
        locktime=0 if success else htlc.cltv_expiry,
        outputs=[TxOut(htlc.amount_sat - fee, scriptpubkey)],
    )
    return HtlcTransaction(
        htlc,
        output_index,
        unsigned,
        SIGHASH_SINGLE_ANYONECANPAY if anchors else SIGHASH_ALL,
        success,
    )
