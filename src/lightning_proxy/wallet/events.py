"""What happens to a wallet, typed, for whoever shows it."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.messages import Message, decode, name_of
from lightning_proxy.rpc import ChannelKeys, Rejected, Voided
from lightning_proxy.wallet.request import ChannelKeysRequest


@dataclass(frozen=True)
class ReceivedMessage:
    """A peer's message: `raw` as it came; a gap in `sequence` is a message that was dropped."""

    sequence: int
    raw: bytes = field(repr=False)

    @cached_property
    def message(self) -> Message | None:
        """The message decoded by this wallet; None where it can't be."""
        try:
            return decode(self.raw)
        except BoltError:
            return None

    @property
    def name(self) -> str:
        """The BOLTs' name of its type, or "unknown(4711)"."""
        return name_of(int.from_bytes(self.raw[:2], "big"))


@dataclass(frozen=True, slots=True)
class DelegationReceived:
    """The relay asks; the signer is about to be."""

    request: ChannelKeysRequest


@dataclass(frozen=True, slots=True)
class Answered:
    """The signer's answer went to the relay."""

    request: ChannelKeysRequest
    answer: ChannelKeys


@dataclass(frozen=True, slots=True)
class Refused:
    """The wallet's no went to the relay."""

    delegation_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The connection to a peer is over."""

    session_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A peer's message came."""

    session_id: str
    received: ReceivedMessage


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection to the relay broke; the wallet tries again by itself."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The relay is there again; open delegations come again."""


Event: TypeAlias = (
    DelegationReceived
    | Answered
    | Refused
    | Voided
    | Rejected
    | SessionClosed
    | MessageReceived
    | Disconnected
    | Reconnected
)
