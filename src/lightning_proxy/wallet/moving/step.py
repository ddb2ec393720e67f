"""One step of a channel, as the wallet takes it: pure, and the only place that signs for one.

At rest a wallet's snapshot never owes a `revoke_and_ack`, and never has an update of the wallet's
own that no signature of its covers: `hear` revokes at once what the peer signed anew, and `speak`
signs what it says. Whoever stores both before they leave can be interrupted anywhere.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from msgspec import structs

from lightning_proxy.bolt.channel.normal import next_commitment, take
from lightning_proxy.bolt.channel.reestablish import reestablish
from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.bolt.channel.terms import terms_of
from lightning_proxy.bolt.channel.updates import Removal, Update
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.derivation import (
    FIRST_COMMITMENT_INDEX,
    derive_private_key,
    per_commitment_secret,
)
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.messages import (
    ChannelReestablish,
    CommitmentSigned,
    Message,
    RevokeAndAck,
    UpdateAddHtlc,
    decode,
)
from lightning_proxy.wallet.keys import ChannelSecrets
from lightning_proxy.wallet.moving.limits import Limits


@dataclass(frozen=True, slots=True)
class Heard:
    """A channel after the peer's messages, and the `revoke_and_ack`s that they called for."""

    snapshot: Snapshot
    messages: tuple[bytes, ...]
    adds: tuple[UpdateAddHtlc, ...]
    removals: tuple[Removal, ...]


@dataclass(frozen=True, slots=True)
class Spoken:
    """A channel after the wallet's updates, with the `commitment_signed` that covers them.

    `said` are those that could be said, `refused` those that never can be now, and why.
    """

    snapshot: Snapshot
    messages: tuple[bytes, ...]
    said: tuple[Update, ...]
    refused: tuple[tuple[Update, str], ...]


def hear(
    snapshot: Snapshot, secrets: ChannelSecrets, raw_messages: Iterable[bytes], limits: Limits
) -> Heard:
    """Take what the peer said; raises `BoltError` for what it may not say, and nothing is signed.

    No secret leaves before the commitment that comes after it is signed by the peer, and checked.
    """
    peer = snapshot.role.other
    messages: list[bytes] = []
    adds: list[UpdateAddHtlc] = []
    removals: list[Removal] = []
    for raw in raw_messages:
        message = decode(raw)
        if isinstance(message, ChannelReestablish):
            # What is to be repeated, the relay derives from the same snapshot.
            snapshot = reestablish(snapshot, peer, message).snapshot
            continue
        limits.check(message)
        snapshot = take(snapshot, peer, raw, message)
        if snapshot.owes_revocation:
            snapshot, said = _say(snapshot, revoke_and_ack(snapshot, secrets))
            messages.append(said)
        if isinstance(message, UpdateAddHtlc):
            adds.append(message)
        elif isinstance(message, Removal):
            removals.append(message)
    return Heard(snapshot, tuple(messages), tuple(adds), tuple(removals))


def may_speak(snapshot: Snapshot) -> bool:
    """Whether an update could be said, and signed for, now."""
    is_connected = snapshot.reestablished is None or len(snapshot.reestablished) == len(Role)
    return is_connected and snapshot.theirs.unrevoked is None and not snapshot.owes_revocation


def speak(snapshot: Snapshot, secrets: ChannelSecrets, wishes: Iterable[Update]) -> Spoken:
    """Say these updates, and sign for them and for what the peer's updates call for.

    The id of an `update_add_htlc` is set here. Nothing is said while a signature of ours is not
    yet acknowledged: what is wished then waits.
    """
    messages: list[bytes] = []
    said: list[Update] = []
    refused: list[tuple[Update, str]] = []
    if not may_speak(snapshot):
        return Spoken(snapshot, (), (), ())
    for wish in wishes:
        update = _numbered(wish, snapshot.ours.next_htlc_id)
        try:
            snapshot, raw = _say(snapshot, update)
        except BoltError as error:
            refused.append((update, str(error)))
        else:
            messages.append(raw)
            said.append(update)
    if snapshot.may_commit:
        snapshot, raw = _say(snapshot, commitment_signed(snapshot, secrets))
        messages.append(raw)
    return Spoken(snapshot, tuple(messages), tuple(said), tuple(refused))


def commitment_signed(snapshot: Snapshot, secrets: ChannelSecrets) -> CommitmentSigned:
    """Our signatures for the peer's next commitment, as it is rebuilt here."""
    commitment = next_commitment(snapshot, snapshot.role)
    point = snapshot.theirs.next_point
    htlc_secret = derive_private_key(secrets.htlc_basepoint_secret, point)
    return CommitmentSigned(
        channel_id=terms_of(snapshot).channel_id,
        signature=commitment.unsigned.sign(secrets.funding_secret),
        htlc_signature=tuple(
            each.unsigned.sign(htlc_secret, each.remote_hash_type)
            for each in commitment.htlc_transactions
        ),
    )


def revoke_and_ack(snapshot: Snapshot, secrets: ChannelSecrets) -> RevokeAndAck:
    """The secret of our commitment that the peer has signed the successor of."""
    if not snapshot.owes_revocation:
        raise ValueError("a secret stays here until its successor is signed")
    number = snapshot.ours.commitment.state.commitment_number
    return RevokeAndAck(
        channel_id=terms_of(snapshot).channel_id,
        per_commitment_secret=per_commitment_secret(
            secrets.per_commitment_seed, FIRST_COMMITMENT_INDEX - number
        ),
        next_per_commitment_point=secrets.per_commitment_point(number + 2),
    )


def _say(snapshot: Snapshot, message: Message) -> tuple[Snapshot, bytes]:
    raw = message.encode()
    return take(snapshot, snapshot.role, raw, message), raw


def _numbered(update: Update, next_htlc_id: int) -> Update:
    is_add = isinstance(update, UpdateAddHtlc)
    return structs.replace(update, id=next_htlc_id) if is_add else update
