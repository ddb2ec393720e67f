"""Normal operation (BOLT #2) as one transition: a snapshot, and what one side says, to a snapshot.

It takes a message of either side by the same rules. Whoever holds keys or a connection is above:
the relay takes what the wallet answers, the wallet what it is about to answer.
"""

from hmac import compare_digest
from typing import Protocol

from coincurve import PrivateKey
from msgspec import structs

from lightning_proxy.bolt.channel.snapshot import Changes, SideState, SignedCommitment, Snapshot
from lightning_proxy.bolt.channel.terms import Terms, terms_of
from lightning_proxy.bolt.channel.updates import Update, balance_msat, next_state, propose
from lightning_proxy.bolt.commitment import Commitment, CommitmentState, Role, build_commitment
from lightning_proxy.bolt.derivation import FIRST_COMMITMENT_INDEX
from lightning_proxy.bolt.errors import RequirementError, UnexpectedMessage
from lightning_proxy.bolt.keys import is_point
from lightning_proxy.bolt.messages import CommitmentSigned, Message, RevokeAndAck, decode
from lightning_proxy.bolt.secrets_store import SecretsStore


class CheckCommitment(Protocol):
    """Raises `RequirementError` where these signatures are not for this commitment."""

    def __call__(
        self,
        terms: Terms,
        owner: Role,
        state: CommitmentState,
        point: bytes,
        message: CommitmentSigned,
    ) -> None: ...


def take(
    snapshot: Snapshot,
    sender: Role,
    raw: bytes,
    message: Message | None = None,
    *,
    check: CheckCommitment | None = None,
) -> Snapshot:
    """What the channel is once the sender said this; raises `BoltError`, and nothing has changed.

    `message` is the same, where somebody has decoded it already.
    """
    message = message or decode(raw)
    terms = terms_of(snapshot)
    if getattr(message, "channel_id", None) != terms.channel_id:
        raise RequirementError("channel_id", "not this channel's")
    if snapshot.reestablished is not None and len(snapshot.reestablished) < len(Role):
        raise UnexpectedMessage(f"{message.NAME} came before channel_reestablish")
    match message:
        case CommitmentSigned():
            return _commit(snapshot, terms, sender, raw, message, check or check_signatures)
        case RevokeAndAck():
            return _revoke(snapshot, sender, raw, message)
    if isinstance(message, Update):
        return propose(snapshot, terms, sender, raw, message)
    raise UnexpectedMessage(f"{message.NAME} has no place in normal operation")


def next_commitment(snapshot: Snapshot, signer: Role) -> Commitment:
    """What the signer's next `commitment_signed` signs; raises `UnexpectedMessage` for no point."""
    owner = snapshot.side(signer.other)
    return build_commitment(
        terms_of(snapshot).parameters,
        signer.other,
        next_state(snapshot, signer),
        _next_point(owner),
    )


def check_signatures(
    terms: Terms, owner: Role, state: CommitmentState, point: bytes, message: CommitmentSigned
) -> None:
    """Whether a `commitment_signed` holds for this commitment of the owner's, as rebuilt here."""
    commitment = build_commitment(terms.parameters, owner, state, point)
    if not commitment.unsigned.verify(terms.side(owner.other).funding_pubkey, message.signature):
        raise RequirementError("signature", "it is for another commitment than the one agreed on")
    transactions = commitment.htlc_transactions
    if len(message.htlc_signature) != len(transactions):
        raise RequirementError(
            "htlc_signature", f"{len(message.htlc_signature)} for {len(transactions)} HTLCs"
        )
    key = commitment.keys.remote_htlcpubkey
    for transaction, signature in zip(transactions, message.htlc_signature, strict=True):
        if not transaction.unsigned.verify(key, signature, transaction.remote_hash_type):
            raise RequirementError("htlc_signature", "it is for another HTLC transaction")


def _commit(
    snapshot: Snapshot,
    terms: Terms,
    signer: Role,
    raw: bytes,
    message: CommitmentSigned,
    check: CheckCommitment,
) -> Snapshot:
    """The signer signs the other side's next commitment."""
    ours, owner = snapshot.side(signer), snapshot.side(signer.other)
    if owner.unrevoked is not None:
        raise UnexpectedMessage("commitment_signed came before the last one was acknowledged")
    if not (ours.changes.proposed or owner.changes.acked):
        # BOLT #2: a sender must not.
        raise UnexpectedMessage("commitment_signed without any update")
    state = next_state(snapshot, signer)
    if min(balance_msat(state, role) for role in Role) < 0:
        raise RequirementError("signature", "a balance would be below zero")
    point = _next_point(owner)
    check(terms, signer.other, state, point, message)
    signed = SignedCommitment(state, point, raw, ours.commitment.state.commitment_number)
    return snapshot.with_side(signer, structs.replace(ours, changes=_sign(ours.changes))).with_side(
        signer.other,
        structs.replace(owner, unrevoked=signed, changes=_countersign(owner.changes)),
    )


def _revoke(snapshot: Snapshot, owner: Role, raw: bytes, message: RevokeAndAck) -> Snapshot:
    """The owner gives up its commitment for the one that the other side has signed."""
    side, other = snapshot.side(owner), snapshot.side(owner.other)
    if side.unrevoked is None:
        raise UnexpectedMessage("revoke_and_ack without a commitment_signed")
    try:
        point = PrivateKey(message.per_commitment_secret).public_key.format()
    except ValueError:
        raise RequirementError("per_commitment_secret", "no secret key of secp256k1") from None
    if not compare_digest(point, side.commitment.point):
        raise RequirementError("per_commitment_secret", "not that of the commitment's point")
    if not is_point(message.next_per_commitment_point):
        raise RequirementError("next_per_commitment_point", "no point of secp256k1")
    secrets = SecretsStore.from_bytes(side.secrets)
    number = side.commitment.state.commitment_number
    secrets.insert(FIRST_COMMITMENT_INDEX - number, message.per_commitment_secret)
    revoked = SideState(
        commitment=side.unrevoked,
        next_point=message.next_per_commitment_point,
        changes=structs.replace(side.changes, countersigned=()),
        next_htlc_id=side.next_htlc_id,
        revocation=raw,
        secrets=secrets.to_bytes(),
    )
    changes = other.changes
    acked = structs.replace(changes, signed=(), acked=changes.acked + changes.signed)
    return snapshot.with_side(owner, revoked).with_side(
        owner.other, structs.replace(other, changes=acked)
    )


def _next_point(owner: SideState) -> bytes:
    if not owner.next_point:
        raise UnexpectedMessage("there is no point for a second commitment before channel_ready")
    return owner.next_point


def _sign(changes: Changes) -> Changes:
    return structs.replace(changes, proposed=(), signed=changes.signed + changes.proposed)


def _countersign(changes: Changes) -> Changes:
    return structs.replace(changes, acked=(), countersigned=changes.countersigned + changes.acked)
