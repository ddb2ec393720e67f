"""Either side's commitments, and every way in which BOLT #3 and #5 spend their outputs.

Whether a spend is valid, btclib's script engine says: it knows nothing of what built them.
"""

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

import pytest
from btclib.exceptions import BTClibValueError
from btclib.script.engine import verify_transaction
from btclib.script.witness import Witness
from btclib.tx import OutPoint, Tx, TxIn, TxOut
from coincurve import PrivateKey
from coincurve.utils import GROUP_ORDER_INT
from hypothesis import given
from hypothesis import strategies as st

from lightning_proxy.bolt.commitment import (
    ChannelParameters,
    Commitment,
    CommitmentState,
    Htlc,
    Role,
    build_commitment,
    is_trimmed,
)
from lightning_proxy.bolt.derivation import (
    derive_private_key,
    per_commitment_secret,
    revocation_private_key,
)
from lightning_proxy.bolt.errors import RequirementError
from lightning_proxy.bolt.fees import ANCHOR_SAT
from lightning_proxy.bolt.scripts import (
    anchor_script,
    funding_script,
    p2wsh,
    to_local_script,
    to_remote_script,
)
from lightning_proxy.bolt.signing import UnsignedTransaction, witness_signature
from tests.unit.bolt.samples import ACCEPT_CHANNEL, OPEN_CHANNEL

FUNDING_SAT: Final = 1_000_000
PREIMAGE: Final = b"\x07" * 32
NUMBER: Final = 3
BOTH_TYPES = pytest.mark.parametrize("anchors", [False, True], ids=["static_remotekey", "anchors"])
BOTH_ROLES = pytest.mark.parametrize("owner", list(Role), ids=lambda role: role.value)


def point(secret: bytes) -> bytes:
    return PrivateKey(secret).public_key.format()


@dataclass(frozen=True)
class Party:
    """One side with its secrets."""

    name: str
    dust_limit_satoshis: int
    to_self_delay: int

    def secret(self, name: str) -> bytes:
        return sha256(f"{self.name} {name}".encode()).digest()

    def per_commitment_secret(self) -> bytes:
        return per_commitment_secret(self.secret("seed"), (1 << 48) - 1 - NUMBER)

    @property
    def funding_pubkey(self) -> bytes:
        return point(self.secret("funding"))

    @property
    def revocation_basepoint(self) -> bytes:
        return point(self.secret("revocation"))

    @property
    def payment_basepoint(self) -> bytes:
        return point(self.secret("payment"))

    @property
    def delayed_payment_basepoint(self) -> bytes:
        return point(self.secret("delayed"))

    @property
    def htlc_basepoint(self) -> bytes:
        return point(self.secret("htlc"))


PARTIES: Final = {
    Role.OPENER: Party("opener", dust_limit_satoshis=354, to_self_delay=144),
    Role.ACCEPTER: Party("accepter", dust_limit_satoshis=600, to_self_delay=720),
}


def channel(*, anchors: bool) -> ChannelParameters:
    return ChannelParameters(
        PARTIES[Role.OPENER],
        PARTIES[Role.ACCEPTER],
        funding_txid=bytes(range(32)),
        funding_output_index=1,
        funding_satoshis=FUNDING_SAT,
        anchors=anchors,
    )


def htlc(offered_by: Role, number: int, amount_msat: int, cltv_expiry: int = 500) -> Htlc:
    return Htlc(offered_by, number, amount_msat, sha256(PREIMAGE).digest(), cltv_expiry)


def state(
    *htlcs: Htlc, to_accepter_msat: int = 300_000_000, feerate: int = 1000
) -> CommitmentState:
    used = to_accepter_msat + sum(htlc.amount_msat for htlc in htlcs)
    return CommitmentState(NUMBER, feerate, 1000 * FUNDING_SAT - used, to_accepter_msat, htlcs)


def build(owner: Role, said: CommitmentState, *, anchors: bool) -> Commitment:
    return build_commitment(
        channel(anchors=anchors), owner, said, point(PARTIES[owner].per_commitment_secret())
    )


def own_secret(owner: Role, of: Role, name: str) -> bytes:
    """The secret of one of this party's keys in the owner's commitment."""
    return derive_private_key(
        PARTIES[of].secret(name), point(PARTIES[owner].per_commitment_secret())
    )


def revocation_secret(owner: Role) -> bytes:
    return revocation_private_key(
        PARTIES[owner.other].secret("revocation"), PARTIES[owner].per_commitment_secret()
    )


def index_of(tx: Tx, script: bytes) -> int:
    """Where the one output for this witness script is."""
    (index,) = (
        index
        for index, output in enumerate(tx.vout)
        if output.script_pub_key.script == p2wsh(script)
    )
    return index


def spend(
    tx: Tx,
    index: int,
    script: bytes,
    secret: bytes | None,
    *rest: bytes,
    sequence: int = 0xFFFFFFFD,
    locktime: int = 0,
) -> None:
    """Spends this output with a signature and the rest of a witness; raises if that isn't valid."""
    output = tx.vout[index]
    unsigned = UnsignedTransaction.spending(
        tx.id[::-1],
        index,
        script,
        output.value,
        sequence=sequence,
        locktime=locktime,
        outputs=[TxOut(output.value - 100, p2wsh(b"\x51"))],
    )
    witness = [b"" if secret is None else witness_signature(unsigned.sign(secret)), *rest]
    verify_transaction([output], Tx.parse(unsigned.serialize(witness)))


@BOTH_TYPES
@BOTH_ROLES
def test_both_sides_build_and_sign_the_same(owner: Role, *, anchors: bool) -> None:
    commitment = build(owner, state(htlc(Role.OPENER, 0, 50_000_000)), anchors=anchors)
    opener, accepter = (
        commitment.unsigned.sign(PARTIES[role].secret("funding"))
        for role in (Role.OPENER, Role.ACCEPTER)
    )
    signed = Tx.parse(commitment.signed(opener, accepter))
    funding = TxOut(FUNDING_SAT, p2wsh(commitment.parameters.funding_script))
    verify_transaction([funding], signed)
    assert signed.vin[0].prev_out == OutPoint(bytes(range(32))[::-1], 1)
    with pytest.raises(BTClibValueError):
        verify_transaction([funding], Tx.parse(commitment.signed(accepter, opener)))


@BOTH_TYPES
@BOTH_ROLES
def test_balances_and_delays_are_the_owners(owner: Role, *, anchors: bool) -> None:
    commitment = build(owner, state(), anchors=anchors)
    keys, tx, other = commitment.keys, commitment.unsigned.tx, PARTIES[owner.other]
    to_local = to_local_script(keys.revocationpubkey, other.to_self_delay, keys.local_delayedpubkey)
    # 724 or 1124 weight at 1000 sat/kw, and two anchors: the opener's cost, whose ever this is.
    balances = {
        Role.OPENER: 700_000 - (1124 + 2 * ANCHOR_SAT if anchors else 724),
        Role.ACCEPTER: 300_000,
    }
    assert tx.vout[index_of(tx, to_local)].value == balances[owner]
    assert sorted(output.value for output in tx.vout) == sorted(
        [*balances.values(), *([ANCHOR_SAT] * 2 if anchors else [])]
    )
    assert commitment.base_fee_sat == commitment.fee_sat == (1124 if anchors else 724)


@BOTH_TYPES
@BOTH_ROLES
def test_to_local(owner: Role, *, anchors: bool) -> None:
    commitment = build(owner, state(), anchors=anchors)
    keys, tx = commitment.keys, commitment.unsigned.tx
    delay = PARTIES[owner.other].to_self_delay
    script = to_local_script(keys.revocationpubkey, delay, keys.local_delayedpubkey)
    index = index_of(tx, script)
    delayed = own_secret(owner, owner, "delayed")
    spend(tx, index, script, delayed, b"", sequence=delay)
    spend(tx, index, script, revocation_secret(owner), b"\x01")
    for secret, branch, sequence in [
        (delayed, b"", delay - 1),
        (delayed, b"\x01", delay),
        (revocation_secret(owner), b"", delay),
        (own_secret(owner, owner.other, "delayed"), b"", delay),
    ]:
        with pytest.raises(BTClibValueError):
            spend(tx, index, script, secret, branch, sequence=sequence)


@BOTH_ROLES
def test_to_remote_with_anchors(owner: Role) -> None:
    commitment = build(owner, state(), anchors=True)
    tx, script = commitment.unsigned.tx, to_remote_script(commitment.keys.remotepubkey)
    index, payment = index_of(tx, script), PARTIES[owner.other].secret("payment")
    spend(tx, index, script, payment, sequence=1)
    with pytest.raises(BTClibValueError):
        spend(tx, index, script, payment, sequence=0)
    with pytest.raises(BTClibValueError):
        spend(tx, index, script, PARTIES[owner].secret("payment"), sequence=1)


@BOTH_ROLES
def test_to_remote_without_anchors(owner: Role) -> None:
    tx = build(owner, state(), anchors=False).unsigned.tx
    (index,) = (i for i, out in enumerate(tx.vout) if len(out.script_pub_key.script) == 22)
    payment = PARTIES[owner.other].secret("payment")
    key = PrivateKey(payment).public_key.format()
    key_hash = tx.vout[index].script_pub_key.script[2:]
    # BIP 143: such an output is signed as if it paid to the key's hash the old way.
    unsigned = UnsignedTransaction.spending(
        tx.id[::-1],
        index,
        b"\x76\xa9\x14" + key_hash + b"\x88\xac",
        tx.vout[index].value,
        sequence=0,
        locktime=0,
        outputs=[TxOut(1000, p2wsh(b"\x51"))],
    )
    spent = unsigned.tx.vin[0]
    witness = Witness([witness_signature(unsigned.sign(payment)), key])
    tx_in = TxIn(spent.prev_out, b"", spent.sequence, witness)
    verify_transaction([tx.vout[index]], Tx(2, 0, [tx_in], unsigned.tx.vout))


@BOTH_ROLES
def test_anchors_are_their_holders_at_once_and_anybodys_later(owner: Role) -> None:
    tx = build(owner, state(), anchors=True).unsigned.tx
    for role in Role:
        script = anchor_script(PARTIES[role].funding_pubkey)
        index, funding = index_of(tx, script), PARTIES[role].secret("funding")
        assert tx.vout[index].value == ANCHOR_SAT
        spend(tx, index, script, funding)
        spend(tx, index, script, None, sequence=16)
        with pytest.raises(BTClibValueError):
            spend(tx, index, script, None, sequence=15)
        with pytest.raises(BTClibValueError):
            spend(tx, index, script, PARTIES[role.other].secret("funding"))


@BOTH_TYPES
@BOTH_ROLES
def test_htlc_transactions(owner: Role, *, anchors: bool) -> None:
    said = state(htlc(owner, 0, 50_000_000), htlc(owner.other, 0, 60_000_000, 501))
    commitment = build(owner, said, anchors=anchors)
    assert [
        (tx.htlc.offered_by, tx.success, tx.unsigned.tx.lock_time)
        for tx in commitment.htlc_transactions
    ] == [(owner, False, 500), (owner.other, True, 0)]
    for transaction in commitment.htlc_transactions:
        ours = transaction.unsigned.sign(own_secret(owner, owner, "htlc"))
        theirs = transaction.unsigned.sign(
            own_secret(owner, owner.other, "htlc"), transaction.remote_hash_type
        )
        assert transaction.unsigned.verify(
            commitment.keys.remote_htlcpubkey, theirs, transaction.remote_hash_type
        )
        known = PREIMAGE if transaction.success else b""
        raw = Tx.parse(transaction.signed(theirs, ours, known))
        verify_transaction([commitment.unsigned.tx.vout[transaction.output_index]], raw)
        # What it pays is the owner's after the delay, or the other's when it was revoked.
        keys, delay = commitment.keys, PARTIES[owner.other].to_self_delay
        script = to_local_script(keys.revocationpubkey, delay, keys.local_delayedpubkey)
        spend(raw, 0, script, own_secret(owner, owner, "delayed"), b"", sequence=delay)
        spend(raw, 0, script, revocation_secret(owner), b"\x01")
        with pytest.raises(ValueError, match="preimage"):
            transaction.signed(theirs, ours, b"" if transaction.success else PREIMAGE)
        with pytest.raises(ValueError, match="preimage"):
            transaction.signed(theirs, ours, bytes(32))


@BOTH_TYPES
@BOTH_ROLES
def test_the_other_side_spends_htlcs(owner: Role, *, anchors: bool) -> None:
    offered, received = htlc(owner, 0, 50_000_000), htlc(owner.other, 0, 60_000_000, 501)
    commitment = build(owner, state(offered, received), anchors=anchors)
    tx, remote = commitment.unsigned.tx, own_secret(owner, owner.other, "htlc")
    for transaction in commitment.htlc_transactions:
        index, script = transaction.output_index, transaction.unsigned.witness_script
        revocation = revocation_secret(owner)
        spend(tx, index, script, revocation, point(revocation))
        with pytest.raises(BTClibValueError):
            spend(tx, index, script, remote, point(revocation))
        if transaction.htlc is offered:
            way, locktime, wrong = PREIMAGE, 0, [(bytes(32), 0), (b"", 0)]
        else:
            way, locktime, wrong = b"", 501, [(b"", 500), (PREIMAGE, 501)]
        spend(tx, index, script, remote, way, sequence=1, locktime=locktime)
        for wrong_way, wrong_locktime in wrong:
            with pytest.raises(BTClibValueError):
                spend(tx, index, script, remote, wrong_way, sequence=1, locktime=wrong_locktime)
        if anchors:
            with pytest.raises(BTClibValueError):
                spend(tx, index, script, remote, way, sequence=0, locktime=locktime)
        else:
            spend(tx, index, script, remote, way, sequence=0, locktime=locktime)


@BOTH_TYPES
def test_htlcs_are_trimmed_by_the_owners_dust_limit(*, anchors: bool) -> None:
    # Without anchors, HTLC-timeout costs 663 and HTLC-success 703 sat at this feerate.
    timeout, success = (0, 0) if anchors else (663, 703)
    for owner, dust_limit in [(Role.OPENER, 354), (Role.ACCEPTER, 600)]:
        for offered_by, fee in [(owner, timeout), (owner.other, success)]:
            least = 1000 * (dust_limit + fee)
            for amount, trimmed in [(least, False), (least - 1, True)]:
                one = htlc(offered_by, 0, amount)
                commitment = build(owner, state(one), anchors=anchors)
                assert is_trimmed(one, owner, commitment.parameters, 1000) is trimmed
                assert len(commitment.htlc_transactions) == (0 if trimmed else 1)
                rounded = sum(out.value for out in commitment.unsigned.tx.vout)
                assert commitment.fee_sat == FUNDING_SAT - rounded


def test_balances_are_trimmed_and_their_anchors_with_them() -> None:
    for owner in Role:
        dust_limit = PARTIES[owner].dust_limit_satoshis
        above = build(owner, state(to_accepter_msat=1000 * dust_limit), anchors=True)
        assert len(above.unsigned.tx.vout) == 4
        below = build(owner, state(to_accepter_msat=1000 * dust_limit - 1), anchors=True)
        anchor = p2wsh(anchor_script(PARTIES[Role.OPENER].funding_pubkey))
        assert below.unsigned.tx.vout[0] == TxOut(ANCHOR_SAT, anchor)
        assert len(below.unsigned.tx.vout) == 2
        # An HTLC brings both anchors back.
        with_htlc = build(
            owner, state(htlc(Role.OPENER, 0, 5_000_000), to_accepter_msat=0), anchors=True
        )
        assert [out.value for out in with_htlc.unsigned.tx.vout].count(ANCHOR_SAT) == 2


def test_equal_htlcs_are_ordered_by_expiry() -> None:
    late, early = (htlc(Role.OPENER, number, 5_000_999, 600 - number) for number in (0, 1))
    commitment = build(Role.OPENER, state(late, early), anchors=True)
    assert [tx.htlc for tx in commitment.htlc_transactions] == [early, late]
    first, second = commitment.htlc_transactions
    assert second.output_index == first.output_index + 1
    assert first.unsigned.witness_script == second.unsigned.witness_script


def test_the_two_messages_of_an_opening_are_the_sides() -> None:
    parameters = ChannelParameters(
        OPEN_CHANNEL,
        ACCEPT_CHANNEL,
        funding_txid=bytes(range(32)),
        funding_output_index=0,
        funding_satoshis=OPEN_CHANNEL.funding_satoshis,
        anchors=True,
    )
    first = CommitmentState(0, OPEN_CHANNEL.feerate_per_kw, 1_000_000_000, 0)
    for owner, per_commitment_point in [
        (Role.OPENER, OPEN_CHANNEL.first_per_commitment_point),
        (Role.ACCEPTER, ACCEPT_CHANNEL.first_per_commitment_point),
    ]:
        commitment = build_commitment(parameters, owner, first, per_commitment_point)
        # 1124 weight at 253 sat/kw, and two anchors.
        assert [out.value for out in commitment.unsigned.tx.vout] == [330, 1_000_000 - 284 - 660]


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(RequirementError, match="feerate_per_kw"):
        build(Role.OPENER, state(to_accepter_msat=0, feerate=10_000_000), anchors=True)


@pytest.mark.parametrize(
    "broken",
    [
        replace(state(), to_opener_msat=1),
        replace(state(), to_opener_msat=-1, to_accepter_msat=1000 * FUNDING_SAT + 1),
        replace(state(), htlcs=(htlc(Role.OPENER, 0, 1),)),
        state(htlc(Role.OPENER, 0, -1_000_000)),
        replace(state(), commitment_number=1 << 48),
        replace(state(), commitment_number=-1),
    ],
)
def test_a_state_that_is_not_the_channels_is_refused(broken: CommitmentState) -> None:
    with pytest.raises(ValueError, match=r"48 bits|below zero"):
        build(Role.OPENER, broken, anchors=False)


def test_a_point_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="public key"):
        build_commitment(channel(anchors=True), Role.OPENER, state(), b"\x02" + b"\xff" * 32)


@given(number=st.integers(0, (1 << 48) - 1))
def test_the_commitment_number_is_read_back(number: int) -> None:
    parameters = channel(anchors=True)
    said = replace(state(), commitment_number=number)
    tx = build_commitment(parameters, Role.OPENER, said, point(b"\x01" * 32)).unsigned.tx
    locktime, sequence = tx.lock_time, tx.vin[0].sequence
    assert (locktime >> 24, sequence >> 24) == (0x20, 0x80)
    assert parameters.obscured((sequence & 0xFFFFFF) << 24 | locktime & 0xFFFFFF) == number


def test_funding_keys_are_sorted() -> None:
    keys = [PARTIES[role].funding_pubkey for role in Role]
    assert funding_script(*keys) == funding_script(*reversed(keys))
    assert funding_script(*keys).index(min(keys)) < funding_script(*keys).index(max(keys))


def test_signatures_are_checked() -> None:
    unsigned = build(Role.OPENER, state(), anchors=False).unsigned
    secret = PARTIES[Role.OPENER].secret("funding")
    key, signature = point(secret), unsigned.sign(secret)
    assert len(signature) == 64
    assert signature == unsigned.sign(secret)
    assert unsigned.verify(key, signature)
    s = int.from_bytes(signature[32:], "big")
    assert s <= GROUP_ORDER_INT // 2
    for wrong in (
        b"",
        bytes(64),
        b"\xff" * 64,
        signature[:63],
        signature + b"\0",
        signature[:32] + (s ^ 1).to_bytes(32, "big"),
        # The same signature with a high S is valid ECDSA, but nodes don't relay it.
        signature[:32] + (GROUP_ORDER_INT - s).to_bytes(32, "big"),
    ):
        assert not unsigned.verify(key, wrong)
    assert not unsigned.verify(point(b"\x01" * 32), signature)
    assert not unsigned.verify(key, signature, hash_type=0x83)
    for malformed in (b"", signature[:63], b"\xff" * 64):
        with pytest.raises(ValueError, match="signature"):
            witness_signature(malformed)
