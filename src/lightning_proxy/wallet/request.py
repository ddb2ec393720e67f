"""A delegation as the wallet sees it: decoded by itself, from the peer's raw bytes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from types import MappingProxyType
from typing import ClassVar, Final, Self, TypeVar

from lightning_proxy.bolt.chains import chain_name
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.features import DEFAULT_FEATURES, Features
from lightning_proxy.bolt.messages import (
    AcceptChannel,
    ChannelReady,
    FundingCreated,
    FundingSigned,
    Message,
    OpenChannel,
    decode,
)
from lightning_proxy.bolt.opening import ANNOUNCE_CHANNEL
from lightning_proxy.rpc import MAX_UNHEARD, Delegate, DelegationKind, Fence, FundingSeen

#: Far more than a peer says about one channel between two of our answers.
_MAX_MESSAGES: Final = 16

M = TypeVar("M", bound=Message)


class Refusal(Exception):
    """The wallet won't; `reason` is a sentence that the peer may get in its `error`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LeftOpen(Exception):
    """The question is for another device of the wallet's, which has what this one lacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question about a channel with this peer (node id, 33 bytes).

    `channel_id` (32 bytes) is the temporary one until `funding_created` was said; `raw_messages`
    are the peer's, as they came, and `messages` what this wallet read in them; `deadline` is the
    relay's, in Unix seconds; `features` are those that both nodes support, as far as this wallet
    knows.
    """

    kind: ClassVar[DelegationKind]
    #: What its messages may be.
    _types: ClassVar[tuple[type[Message], ...]]

    delegation_id: str
    session_id: str
    peer: bytes
    channel_id: bytes
    raw_messages: tuple[bytes, ...]
    messages: tuple[Message, ...]
    deadline: float
    features: Features = field(default=DEFAULT_FEATURES, compare=False)
    #: The relay's word about the chain, for `channel_ready`.
    funding: FundingSeen | None = field(default=None, compare=False)
    #: Where the relay stands, for `commitment`.
    fence: Fence | None = field(default=None, compare=False)

    @classmethod
    def from_delegate(cls, delegate: Delegate, features: Features = DEFAULT_FEATURES) -> Self:
        """Read the envelope's raw messages; their decoded form is the relay's word, and unused.

        Raises `Refusal` for an envelope that contradicts what is in it.
        """
        cls._check_count(len(delegate.messages))
        raw_messages = tuple(bytes.fromhex(message) for message in delegate.messages)
        try:
            messages = tuple(map(decode, raw_messages))
        except BoltError as error:
            raise Refusal(str(error)) from None
        channel_id = bytes.fromhex(delegate.channel_id)
        for message in messages:
            if not isinstance(message, cls._types):
                raise Refusal(f"{cls.kind} is not about {message.NAME}")
            if _channel_id_in(message) != channel_id:
                raise Refusal(f"the delegation names another channel than its {message.NAME}")
        return cls(
            delegation_id=delegate.id,
            session_id=delegate.session_id,
            peer=bytes.fromhex(delegate.peer),
            channel_id=channel_id,
            raw_messages=raw_messages,
            messages=messages,
            deadline=delegate.deadline,
            features=features,
            funding=delegate.funding,
            fence=delegate.fence,
        )

    @classmethod
    def _check_count(cls, count: int) -> None:
        if count > _MAX_MESSAGES:
            raise Refusal(f"{cls.kind} is about {_MAX_MESSAGES} messages at most, not {count}")

    def repeats(self, earlier: "Request") -> bool:
        """Whether this is the same question again."""
        return self == earlier

    @property
    def digest(self) -> bytes:
        """SHA-256 of all that an answer depends on; the first three parts have fixed lengths."""
        kind = sha256(self.kind.encode()).digest()
        return sha256(kind + bytes.fromhex(self.session_id) + self.peer + self._content).digest()

    @property
    def _content(self) -> bytes:
        return self.channel_id + b"".join(sha256(raw).digest() for raw in self.raw_messages)


class _AboutOneMessage(Request):
    """A question about exactly one message, which is `raw` as it came."""

    __slots__ = ()

    @classmethod
    def _check_count(cls, count: int) -> None:
        if count != 1:
            raise Refusal(f"{cls.kind} is about one message, not {count}")

    @property
    def raw(self) -> bytes:
        return self.raw_messages[0]

    @property
    def _content(self) -> bytes:
        return self.raw


class ChannelKeysRequest(_AboutOneMessage):
    """`channel_keys`: a peer wants to open a channel with this wallet."""

    __slots__ = ()
    kind = DelegationKind.CHANNEL_KEYS
    _types = (OpenChannel,)

    @property
    def open_channel(self) -> OpenChannel:
        return _the(self.messages[0], OpenChannel)

    @property
    def chain(self) -> str:
        """The chain's name, or its hash in hex where it has none here."""
        return chain_of(self.open_channel)

    @property
    def is_public(self) -> bool:
        """Whether the channel is to be announced."""
        return bool(self.open_channel.channel_flags & ANNOUNCE_CHANNEL)


class FundingCreatedRequest(_AboutOneMessage):
    """`funding_created`: the peer accepts the channel that this wallet opens."""

    __slots__ = ()
    kind = DelegationKind.FUNDING_CREATED
    _types = (AcceptChannel,)

    @property
    def accept_channel(self) -> AcceptChannel:
        return _the(self.messages[0], AcceptChannel)


class FundingSignedRequest(_AboutOneMessage):
    """`funding_signed`: the peer has a funding transaction, and signed our first commitment."""

    __slots__ = ()
    kind = DelegationKind.FUNDING_SIGNED
    _types = (FundingCreated,)

    @property
    def funding_created(self) -> FundingCreated:
        return _the(self.messages[0], FundingCreated)


class FundingTransactionRequest(Request):
    """`funding_transaction`: the peer has signed; the transaction may go to the chain."""

    __slots__ = ()
    kind = DelegationKind.FUNDING_TRANSACTION
    _types = (FundingSigned, ChannelReady)


class ChannelReadyRequest(Request):
    """`channel_ready`: the funding transaction has its confirmations, says the relay."""

    __slots__ = ()
    kind = DelegationKind.CHANNEL_READY
    _types = (FundingSigned, ChannelReady)


class ReestablishRequest(Request):
    """`reestablish`: there is a new connection to the peer."""

    __slots__ = ()
    kind = DelegationKind.REESTABLISH
    _types = (FundingSigned, ChannelReady)


class UnknownChannelRequest(_AboutOneMessage):
    """`unknown_channel`: the peer goes on with a channel that the relay doesn't have."""

    __slots__ = ()
    kind = DelegationKind.UNKNOWN_CHANNEL
    _types = (Message,)


class CommitmentRequest(Request):
    """`commitment`: by what the peer said, it is this wallet's turn in a channel that moves."""

    __slots__ = ()
    kind = DelegationKind.COMMITMENT
    _types = (Message,)

    @classmethod
    def _check_count(cls, count: int) -> None:
        if count > MAX_UNHEARD:
            raise Refusal(f"{cls.kind} is about {MAX_UNHEARD} messages at most, not {count}")

    def repeats(self, earlier: Request) -> bool:
        """Each time it has what the peer has said meanwhile."""
        return (type(self), self.session_id, self.peer, self.channel_id) == (
            type(earlier),
            earlier.session_id,
            earlier.peer,
            earlier.channel_id,
        )


#: The question of each kind.
REQUESTS: Final[Mapping[DelegationKind, type[Request]]] = MappingProxyType(
    {
        kind.kind: kind
        for kind in (
            ChannelKeysRequest,
            FundingCreatedRequest,
            FundingSignedRequest,
            FundingTransactionRequest,
            ChannelReadyRequest,
            ReestablishRequest,
            UnknownChannelRequest,
            CommitmentRequest,
        )
    }
)


def read_request(delegate: Delegate, features: Features = DEFAULT_FEATURES) -> Request:
    """The question in an envelope; raises `Refusal` for one that contradicts itself."""
    return REQUESTS[delegate.kind].from_delegate(delegate, features)


def chain_of(message: OpenChannel) -> str:
    """The name of the chain that a channel is on, or its hash in hex where it has none here."""
    return chain_name(message.chain_hash) or message.chain_hash.hex()


def _channel_id_in(message: Message) -> bytes | None:
    match message:
        case OpenChannel() | AcceptChannel() | FundingCreated():
            return message.temporary_channel_id
    return getattr(message, "channel_id", None)


def _the(message: Message, kind: type[M]) -> M:
    assert isinstance(message, kind)  # noqa: S101 - for the type checker: read so
    return message
