"""A channel on a new connection (BOLT #2, "Message Retransmission"): who stands where, and what
goes again.
"""

from hmac import compare_digest
from typing import NamedTuple

from msgspec import structs

from lightning_proxy.bolt.channel.snapshot import SideState, Snapshot
from lightning_proxy.bolt.channel.terms import terms_of
from lightning_proxy.bolt.channel.updates import dropped
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.derivation import FIRST_COMMITMENT_INDEX
from lightning_proxy.bolt.errors import BoltError, RequirementError, UnexpectedMessage
from lightning_proxy.bolt.keys import is_point
from lightning_proxy.bolt.messages import ChannelReestablish
from lightning_proxy.bolt.secrets_store import NO_SECRET, SecretsStore


class Behind(BoltError):
    """A `channel_reestablish` and this snapshot can't both be of one channel that goes on.

    `who` fell behind by what the numbers say. They alone prove nothing: a peer can say any.
    `secret`: what the sender showed of the other side's, for whoever can tell whether it is right.
    """

    def __init__(self, who: Role, number: int, secret: bytes) -> None:
        super().__init__(who, number)
        self.who = who
        #: The number of the commitment of `secret`'s.
        self.number = number
        self.secret = secret

    def __str__(self) -> str:
        return f"the {self.who.value} has an old state of this channel"


class Resumed(NamedTuple):
    """A channel after a side's `channel_reestablish`, and what the other side says again for it."""

    snapshot: Snapshot
    messages: tuple[bytes, ...]


def disconnected(snapshot: Snapshot) -> Snapshot:
    """The connection is gone, and with it what no signature covers."""
    for role in Role:
        snapshot = dropped(snapshot, role)
    return structs.replace(snapshot, reestablished=())


def reestablish_of(snapshot: Snapshot, role: Role) -> ChannelReestablish:
    """What this side has to say on a new connection: all of it is public knowledge here.

    A commitment that is signed and not yet revoked counts as not received, and the other side
    signs it again: so whoever goes on from a snapshot that has one must not have taken anything
    after it, either. What came later would be missing in what is signed again.
    """
    side, other = snapshot.side(role), snapshot.side(role.other)
    return ChannelReestablish(
        channel_id=terms_of(snapshot).channel_id,
        next_commitment_number=_number(side) + 1,
        next_revocation_number=_number(other),
        your_last_per_commitment_secret=_last_secret(other),
        my_current_per_commitment_point=side.commitment.point,
    )


def reestablish(snapshot: Snapshot, sender: Role, message: ChannelReestablish) -> Resumed:
    """The sender says where it stands; `messages` are what the other side now has to repeat.

    Raises `Behind` where one of the two has lost something, other `BoltError`s for what can't be
    at all.
    """
    if message.channel_id != terms_of(snapshot).channel_id:
        raise RequirementError("channel_id", "not this channel's")
    if snapshot.reestablished is None or sender in snapshot.reestablished:
        raise UnexpectedMessage("channel_reestablish comes once, after a reconnection")
    if not is_point(message.my_current_per_commitment_point):
        raise RequirementError("my_current_per_commitment_point", "no point of secp256k1")
    side, other = snapshot.side(sender), snapshot.side(sender.other)
    _check_revocations(other, sender, message)
    snapshot = structs.replace(snapshot, reestablished=(*snapshot.reestablished, sender))
    received = message.next_commitment_number - 1 - _number(side)
    if side.unrevoked is None:
        signed: tuple[bytes, ...] = ()
        if received:
            raise _behind(sender, received > 0, message)
    elif received == 1:
        # It has the signature, and has revoked or is about to.
        signed = ()
    elif received == 0:
        signed = (*other.changes.signed, side.unrevoked.commitment_signed)
    else:
        raise _behind(sender, received > 1, message)
    revoked = (other.revocation,) if message.next_revocation_number < _number(other) else ()
    if side.unrevoked is not None and side.unrevoked.signed_at < _number(other):
        return Resumed(snapshot, (*signed, *revoked))
    return Resumed(snapshot, (*revoked, *signed))


def _check_revocations(other: SideState, sender: Role, message: ChannelReestablish) -> None:
    """What the sender says to have of the other side's secrets."""
    count = message.next_revocation_number
    behind = count - _number(other)
    if behind > 0 or behind < -1:
        raise _behind(sender, behind > 0, message)
    secret = message.your_last_per_commitment_secret
    wanted = _secret(other, count - 1) if count else NO_SECRET
    if not compare_digest(secret, wanted):
        raise RequirementError("your_last_per_commitment_secret", "not the one that was given")


def _behind(sender: Role, is_ahead: bool, message: ChannelReestablish) -> Behind:
    who = sender.other if is_ahead else sender
    number = message.next_revocation_number - 1
    return Behind(who, number, message.your_last_per_commitment_secret)


def _number(side: SideState) -> int:
    return side.commitment.state.commitment_number


def _last_secret(side: SideState) -> bytes:
    number = _number(side)
    return _secret(side, number - 1) if number else NO_SECRET


def _secret(side: SideState, number: int) -> bytes:
    return SecretsStore.from_bytes(side.secrets).secret(FIRST_COMMITMENT_INDEX - number)
