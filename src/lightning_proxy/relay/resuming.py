"""A channel that has moved, on a new connection: whether the wallet's snapshot is one of it."""

import struct
from typing import Final

from lightning_proxy.bolt.channel import Channel
from lightning_proxy.bolt.channel.reestablish import disconnected, reestablish, reestablish_of
from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.bolt.channel.terms import terms_of
from lightning_proxy.bolt.channel.updates import Update, next_state
from lightning_proxy.bolt.commitment import Role, build_commitment
from lightning_proxy.bolt.derivation import FIRST_COMMITMENT_INDEX
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.messages import ChannelReestablish, decode
from lightning_proxy.bolt.secrets_store import SecretsStore
from lightning_proxy.rpc import ErrorCode, RpcError

#: What bytes that no wallet of ours has made can lead to, where they are read and rebuilt.
_NONSENSE: Final = (BoltError, ValueError, LookupError, TypeError, OverflowError, struct.error)


def resumed(
    channel: Channel, data: bytes, message: ChannelReestablish, stored: bytes | None
) -> Snapshot:
    """The wallet's snapshot, once `message` was said by it; raises `RpcError` (answer_invalid).

    `stored` is the last that the relay took. A wallet behind that is a copy from before: with what
    it would say, the peer gets its proof that it may take all.
    """
    try:
        snapshot = Snapshot.decode(data)
        if _identity(snapshot) != _identity_of(channel):
            raise ValueError("it is another channel's")
        if disconnected(snapshot) != snapshot or snapshot.owes_revocation:
            raise ValueError("it is not as a lost connection leaves it")
        _rebuild(snapshot)
        if reestablish_of(snapshot, snapshot.role) != message:
            raise ValueError("its channel_reestablish says something else")
        resumed = reestablish(snapshot, snapshot.role, message).snapshot
    except _NONSENSE as error:
        raise _invalid(f"That snapshot: {error}.") from None
    if stored is not None and _is_behind(snapshot, Snapshot.decode(stored)):
        raise _invalid(
            "This wallet's record is older than what it had said: going on with it could lose the "
            "channel's money. Use the latest record, or close the channel."
        )
    return resumed


def _identity(snapshot: Snapshot) -> tuple[object, ...]:
    return (
        snapshot.role,
        snapshot.features,
        snapshot.open_channel,
        snapshot.accept_channel,
        snapshot.funding_txid,
        snapshot.funding_output_index,
    )


def _identity_of(channel: Channel) -> tuple[object, ...]:
    created = channel.funding_created
    return (
        channel.role,
        channel.features.to_bytes(),
        channel.open_channel.encode(),
        channel.accept_channel.encode(),
        created.funding_txid,
        created.funding_output_index,
    )


def _rebuild(snapshot: Snapshot) -> None:
    """Raise one of `_NONSENSE` where this could not be gone on with."""
    parameters = terms_of(snapshot).parameters
    for owner in Role:
        side = snapshot.side(owner)
        number = side.commitment.state.commitment_number
        if SecretsStore.from_bytes(side.secrets).next_index != FIRST_COMMITMENT_INDEX - number:
            raise ValueError("its secrets are not those of its commitments")
        if not all(isinstance(decode(raw), Update) for raw in side.changes.pending):
            raise ValueError("its changes are no updates")
        build_commitment(parameters, owner, side.latest.state, side.latest.point)
        point = side.next_point or side.latest.point
        build_commitment(parameters, owner, next_state(snapshot, owner.other), point)
        reestablish_of(snapshot, owner)


def _is_behind(snapshot: Snapshot, stored: Snapshot) -> bool:
    return any(new < old for new, old in zip(_numbers(snapshot), _numbers(stored), strict=True))


def _numbers(snapshot: Snapshot) -> tuple[int, ...]:
    """What only grows: how far each side has come, and what we have signed."""
    return tuple(
        each.state.commitment_number
        for each in (
            snapshot.ours.commitment,
            snapshot.theirs.commitment,
            snapshot.theirs.latest,
        )
    )


def _invalid(sentence: str) -> RpcError:
    return RpcError(ErrorCode.ANSWER_INVALID, sentence)
