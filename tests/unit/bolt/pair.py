"""Both sides of one opening, message by message, with somebody in between who may change them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from lightning_proxy.bolt.channel import Channel, Entry, Need
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.features import Feature, Features
from lightning_proxy.bolt.messages import (
    AcceptChannel,
    ChannelReady,
    FundingCreated,
    FundingSigned,
    Message,
    OpenChannel,
    decode,
)
from tests.support.opening import Side
from tests.unit.bolt.samples import ANCHORS

STATIC_REMOTEKEY = Features.from_bits((Feature.OPTION_STATIC_REMOTEKEY,)).to_bytes()
TYPES = {"static_remotekey": STATIC_REMOTEKEY, "anchors": ANCHORS}
DEPTH = 3

#: The messages of an opening, each with who says it.
FLOW: tuple[tuple[Role, type[Message]], ...] = (
    (Role.OPENER, OpenChannel),
    (Role.ACCEPTER, AcceptChannel),
    (Role.OPENER, FundingCreated),
    (Role.ACCEPTER, FundingSigned),
    (Role.ACCEPTER, ChannelReady),
    (Role.OPENER, ChannelReady),
)
SIGNED_AT = 4
"""How many of them make a channel that outlives its connection."""


class Pair:
    """An opener and an accepter; `asks` and `grants` are changes to what each asks for."""

    def __init__(
        self, asks: dict[str, Any] | None = None, grants: dict[str, Any] | None = None
    ) -> None:
        self.sides = {role: Side(role) for role in Role}
        self.opener, self.accepter = self.sides[Role.OPENER], self.sides[Role.ACCEPTER]
        self._asks = asks or {}
        self._grants = {"minimum_depth": DEPTH, **(grants or {})}

    def make(self, sender: Role, kind: type[Message]) -> Message:
        """The message of this class that this side owes."""
        side = self.sides[sender]
        if kind is OpenChannel:
            return side.open_channel(**self._asks)
        if kind is AcceptChannel:
            return side.accept_channel(**self._grants)
        if kind is FundingCreated:
            return side.funding_created()
        if kind is FundingSigned:
            return side.funding_signed()
        return side.channel_ready()

    def say(self, sender: Role, kind: type[Message], **changes: Any) -> bytes:
        """One message, said; the other side hears it with these changes."""
        if kind is ChannelReady:
            for side in self.sides.values():
                side.confirm(DEPTH)
        message = self.make(sender, kind)
        raw = self.sides[sender].say(message)
        self.sides[sender.other].hear(msgspec.structs.replace(message, **changes).encode())
        return raw

    def play(self, count: int = len(FLOW)) -> "Pair":
        """The first `count` messages of the flow."""
        for sender, kind in FLOW[:count]:
            self.say(sender, kind)
        return self

    def disconnect(self) -> None:
        for side in self.sides.values():
            side.channel.disconnected()

    def reestablish(self) -> None:
        """A new connection, and `channel_reestablish` both ways."""
        self.disconnect()
        for role, side in self.sides.items():
            self.sides[role.other].hear(side.say(side.channel.reestablish()))


def opened(channel_type: str = "anchors", push_msat: int = 0) -> list[Entry]:
    """The log of a whole opening: the same on both sides."""
    asks = {"channel_type": TYPES[channel_type], "push_msat": push_msat}
    pair = Pair(asks).play()
    assert pair.opener.channel.log == pair.accepter.channel.log
    return pair.opener.channel.log


def snapshot(channel: Channel) -> dict[str, Any]:
    """All that a channel holds."""
    return {
        name: value.copy() if isinstance(value, (dict, list, set)) else value
        for name, value in vars(channel).items()
    }


@contextmanager
def refused(
    channel: Channel, error: type[BoltError], match: str | None = None
) -> Iterator[pytest.ExceptionInfo[BoltError]]:
    """What happens in the block is refused, and leaves the channel as it was."""
    before = snapshot(channel)
    with pytest.raises(error, match=match) as caught:
        yield caught
    assert snapshot(channel) == before


def name_of(entry: Entry) -> str:
    return decode(entry.raw).NAME


def need_of(channel: Channel) -> Need | None:
    """What it needs now: a call, so that no type checker takes the last answer for this one."""
    return channel.needs
