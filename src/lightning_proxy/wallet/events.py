"""What happens to a wallet, typed, for whoever shows it."""

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TypeAlias

from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.messages import Message, decode, name_of
from lightning_proxy.rpc import (
    Answer,
    FundingRefused,
    LeaseLost,
    Rejected,
    SessionLost,
    SlotUsed,
    Voided,
)
from lightning_proxy.wallet.request import Request


@dataclass(frozen=True)
class ReceivedMessage:
    """A peer's message: `raw` as it came; a gap in `sequence` is a message that was dropped."""

    sequence: int
    raw: bytes = field(repr=False)
    #: What `Wallet.acknowledge` takes; 0: it does not come again.
    position: int = 0

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

    request: Request


@dataclass(frozen=True, slots=True)
class Answered:
    """The signer's answer went to the relay."""

    request: Request
    answer: Answer


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
    """A peer's message came; `peer` is its node id, where this wallet knows the session."""

    session_id: str
    received: ReceivedMessage
    peer: bytes | None = None


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection to the relay broke; the wallet tries again by itself."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The relay is there again; open delegations come again."""


class FundingChange(StrEnum):
    """What a chain source of the wallet's own shows of a funding output."""

    SEEN = "seen"  # it waits for a block, or for more of them
    CONFIRMED = "confirmed"  # as deep as was agreed
    GONE = "gone"  # a reorganisation took it, or it left the mempool
    SPENT = "spent"  # somebody closes the channel
    DIFFERS = "differs"  # it is not what was agreed


@dataclass(frozen=True, slots=True)
class FundingChanged:
    """What the wallet's own chain source shows of a channel (final id) is another than before."""

    channel_id: bytes
    change: FundingChange
    confirmations: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class FundingNotTaken:
    """The wallet's own chain source refuses the funding transaction of a channel (final id).

    Not `final`: it is tried again with each block.
    """

    channel_id: bytes
    reason: str
    final: bool


@dataclass(frozen=True, slots=True)
class ChannelOpened:
    """`channel_ready` went both ways: the channel (final id) with this peer can be used."""

    channel_id: bytes
    peer: bytes


@dataclass(frozen=True, slots=True)
class ChannelProblem:
    """What relay or peer say of a channel contradicts the wallet's record, which stays as it is.

    `state_lost`: the peer claims to know more of the channel than the record does. If that is
    true, the record is an old copy, and to broadcast from it would forfeit the channel's funds.
    """

    channel_id: bytes
    peer: bytes
    reason: str
    state_lost: bool = False


@dataclass(frozen=True, slots=True)
class RecordOutdated:
    """The relay holds what this wallet has said, and its record doesn't know: it is an old copy.

    Or another device's, or the relay lies. Nothing is signed for what the record doesn't have.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """The wallet has connected to a peer again, by itself, because it has channels with it."""

    session_id: str
    peer: bytes


@dataclass(frozen=True, slots=True)
class PeerUnreachable:
    """That failed; the wallet tries again by itself."""

    peer: bytes
    reason: str


Event: TypeAlias = (
    DelegationReceived
    | Answered
    | Refused
    | Voided
    | Rejected
    | LeaseLost
    | SessionLost
    | SlotUsed
    | FundingRefused
    | SessionClosed
    | MessageReceived
    | Disconnected
    | Reconnected
    | FundingChanged
    | FundingNotTaken
    | ChannelOpened
    | ChannelProblem
    | RecordOutdated
    | PeerConnected
    | PeerUnreachable
)
