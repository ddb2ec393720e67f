"""One BOLT 8 connection to a peer: what the relay answers, drops, delegates and passes on."""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final, TypeVar, cast

import structlog

from lightning_proxy.bolt import messages
from lightning_proxy.bolt.address import NodeAddress
from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.features import Feature, Features, check_init
from lightning_proxy.relay import channels, gossip
from lightning_proxy.relay.book import ChannelBook
from lightning_proxy.relay.channels import SessionChannels
from lightning_proxy.relay.counters import Counters
from lightning_proxy.relay.delegation import Deadlines, Delegation
from lightning_proxy.relay.dialler import Dialler
from lightning_proxy.relay.inbox import Inbox
from lightning_proxy.relay.own_init import OwnInit
from lightning_proxy.relay.presence import Presence
from lightning_proxy.relay.questions import Question, channel_error
from lightning_proxy.relay.settings import RelaySettings
from lightning_proxy.relay.text import printable
from lightning_proxy.rpc import (
    ChannelInfo,
    Closed,
    DelegationKind,
    ErrorCode,
    FundingSeen,
    PeerMessage,
    PresencePolicy,
    RpcError,
    SessionInfo,
    SessionState,
    SetPresence,
)
from lightning_proxy.transport import CipherState, PeerTransport, SendQueueFull
from lightning_proxy.transport.handshake import ACT_TWO_SIZE

_log = structlog.get_logger()

M = TypeVar("M", bound=messages.Message)

#: BOLT #1: an `error` or `warning` for the all-zero channel id concerns every channel.
_ALL_CHANNELS: Final = bytes(32)
#: In an open_channel: after its type and the chain_hash (BOLT #2).
_TEMPORARY_CHANNEL_ID: Final = slice(34, 66)
#: A session's first errors and warnings are logged for the operator, later ones for debugging.
_ERRORS_LOGGED: Final = 5
#: Our own pings ask for the least; the answer's length says nothing.
_PONG_BYTES: Final = 0
_NO_CHANNELS: Final[frozenset[int]] = frozenset()
_NO_FEATURES: Final = Features()


class Session:
    """The consumer of one `PeerTransport`. `on_over` is called once, when it is gone for good."""

    # A relay holds thousands of these, most of them idle: what few need is made when it is needed.
    __slots__ = (
        "_book",
        "_channels",
        "_counters",
        "_deadlines",
        "_errors_received",
        "_gossip_dropped",
        "_init_waiter",
        "_networks",
        "_on_over",
        "_paused",
        "_timer",
        "_transport",
        "created",
        "features",
        "id",
        "inbox",
        "peer",
        "peer_init",
        "pinged_at",
        "presence",
        "raw",
        "sequence",
        "settings",
        "short_channel_ids",
        "state",
    )

    def __init__(
        self,
        peer: NodeAddress,
        inbox: Inbox,
        settings: RelaySettings,
        counters: Counters,
        deadlines: Mapping[DelegationKind, Deadlines],
        book: ChannelBook,
        on_over: Callable[["Session"], None],
    ) -> None:
        self.id = secrets.token_hex(16)
        self.peer = peer
        self.inbox = inbox
        self.created = time.time()
        self.sequence = 0
        self.raw = False
        #: Where the wallet chose another policy than `stay`.
        self.presence: Presence | None = None
        self.short_channel_ids = _NO_CHANNELS
        self.state = SessionState.HANDSHAKE
        self.peer_init: bytes | None = None
        #: When the unanswered ping left (monotonic seconds); keepalive's.
        self.pinged_at: float | None = None
        #: What both nodes offer, once the peer's `init` came; before, our own.
        self.features = _NO_FEATURES
        self.settings = settings
        self._counters = counters
        self._deadlines = deadlines
        self._book = book
        self._on_over = on_over
        self._transport: PeerTransport | None = None
        self._networks: tuple[bytes, ...] = ()
        self._init_waiter: asyncio.Future[bytes] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._channels: SessionChannels | None = None
        self._paused = False
        self._gossip_dropped = 0
        self._errors_received = 0

    @property
    def transport(self) -> PeerTransport:
        """The connection; raises `RpcError` (session_state) when there is none."""
        if self._transport is None or self._transport.is_closing:
            raise RpcError(ErrorCode.SESSION_STATE, "This session is not connected.")
        return self._transport

    def describe(self) -> SessionInfo:
        """What the API shows of it."""
        transport = self._transport
        return SessionInfo(
            session_id=self.id,
            peer=str(self.peer),
            state=self.state,
            raw=self.raw,
            presence=PresencePolicy.STAY if self.presence is None else self.presence.wanted.policy,
            created=self.created,
            sequence=self.sequence,
            init=self.peer_init.hex() if self.peer_init else None,
            messages_received=transport.messages_received if transport else 0,
            messages_sent=transport.messages_sent if transport else 0,
            pings_received=transport.pings_received if transport else 0,
            pongs_received=transport.pongs_received if transport else 0,
            gossip_dropped=self._gossip_dropped,
            open_delegations=self._channels.open_delegations if self._channels else 0,
        )

    # ---- the handshake ----

    async def dial(self, dialler: Dialler, act_one: bytes) -> bytes:
        """Connect, pass act one on, return act two; raises `RpcError`, and then it is over."""
        self._counters.dials += 1
        try:
            self._transport = transport = await dialler.dial(self.peer, self)
            transport.write_raw(act_one)
            self.say(_log.debug, "act_one", size=len(act_one))
            async with asyncio.timeout(self.settings.dial.act_two_timeout):
                act_two: bytes = await transport.receive_exactly(ACT_TWO_SIZE)
        except BaseException as error:
            self._counters.dials_failed += 1
            self.abort("the peer gave no act two")
            match error:
                case TimeoutError():
                    raise RpcError(
                        ErrorCode.PEER_TIMEOUT, "The peer gave no act two in time."
                    ) from None
                case ConnectionError():
                    raise RpcError(
                        ErrorCode.PEER_FAILED, f"The peer gave no act two: {error}."
                    ) from None
                case _:
                    raise
        self.say(_log.debug, "act_two", size=len(act_two))
        self._set_timer(
            self.settings.act_three_timeout, "the wallet gave no act three within the time limit"
        )
        return act_two

    async def shake_hands(
        self, act_three: bytes, sending: CipherState, receiving: CipherState, init: OwnInit
    ) -> bytes:
        """Send act three and `init`, return the peer's `init`.

        Raises `RpcError`: session_state, peer_failed, peer_timeout.
        """
        if self.state is not SessionState.HANDSHAKE or self._transport is None:
            raise RpcError(ErrorCode.SESSION_STATE, "This session has no act three to wait for.")
        transport = self.transport
        self.features, self._networks = init.features, init.networks
        self.state = SessionState.INIT
        waiter: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._init_waiter = waiter
        transport.write_raw(act_three)
        self.say(_log.debug, "act_three", size=len(act_three))
        transport.start(sending, receiving)
        transport.send(init.message)
        self.say(_log.debug, "init_sent", size=len(init.message))
        self._set_timer(self.settings.init_timeout, "the peer sent no init within the time limit")
        try:
            return await waiter
        finally:
            self._init_waiter = None

    def _received_init(self, message: bytes) -> None:
        self.say(_log.debug, "init_received", size=len(message))
        init = self._decode(messages.Init, memoryview(message))
        if init is None:
            return
        try:
            theirs = check_init(init, self.features)
        except BoltError as error:
            self.fail(f"init: {error}")
            return
        # BOLT #1: with no chain in common nothing can be done here; who names none shares all.
        if self._networks and init.networks and not set(self._networks) & set(init.networks):
            self.fail("init: no chain in common")
            return
        self._set_timer(None)
        # BOLT #1: negotiated is what both offered.
        self.features &= theirs
        self.state = SessionState.READY
        self.peer_init = message
        self._counters.handshakes += 1
        self.say(_log.info, "session_ready")
        if self.features.offers(Feature.GOSSIP_QUERIES):
            chains = self._networks or init.networks or (CHAIN_HASHES["bitcoin"],)
            self.tell(gossip.filter_nothing_matches(chains[0]))
        if self._init_waiter is not None and not self._init_waiter.done():
            self._init_waiter.set_result(message)
        self.resume_channels()

    # ---- the wallet's wishes ----

    def send(self, message: bytes) -> None:
        """Send the peer a message of the wallet's; raises `RpcError` (session_state, limit)."""
        if self.state is not SessionState.READY:
            raise RpcError(ErrorCode.SESSION_STATE, "This session is not ready to send.")
        try:
            self.transport.send(message)
        except SendQueueFull:
            raise RpcError(
                ErrorCode.LIMIT, "The peer does not read; wait, or close the session."
            ) from None

    def pause(self, *, paused: bool) -> None:
        """Read nothing of the peer's while the wallet can't take it."""
        if self._transport is not None and paused != self._paused:
            self._paused = paused
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def subscribe(self, raw: bool, short_channel_ids: frozenset[int]) -> None:
        """Turn raw messages on or off; name the channels whose updates the wallet wants."""
        self.raw = raw
        self.short_channel_ids = short_channel_ids

    def set_presence(self, wanted: SetPresence) -> None:
        """What to do with this session while the wallet is away."""
        if self.presence is not None:
            self.presence.attended()
        stays = wanted.policy is PresencePolicy.STAY
        self.presence = None if stays else Presence(self, wanted)

    # ---- PeerTransport's consumer ----

    def on_message(self, type: int, view: memoryview) -> None:
        """Deal with one message: answer, drop, delegate, or pass on."""
        if self.state is not SessionState.READY:
            self._received_first(type, view)
            return
        handler = _ALWAYS.get(type)
        if handler is None:
            handler = Session.pass_on if self.raw else _UNLESS_RAW.get(type, Session.received_other)
        handler(self, type, view)

    def on_closed(self, reason: str) -> None:
        """The connection is gone, whoever ended it."""
        self.state = SessionState.CLOSED
        self._set_timer(None)
        transport = self._transport
        if transport is not None:
            self._counters.messages_received += transport.messages_received
            self._counters.messages_sent += transport.messages_sent
            self._counters.pings_received += transport.pings_received
            self._counters.pongs_received += transport.pongs_received
        self._counters.sessions_closed += 1
        if self._init_waiter is not None and not self._init_waiter.done():
            self._counters.handshakes_failed += 1
            self._init_waiter.set_exception(
                RpcError(ErrorCode.PEER_FAILED, f"No init came from the peer: {reason}.")
            )
        if self._channels is not None:
            self._channels.disconnected(reason)
        self.say(_log.info, "session_closed", reason=reason)
        wakes = True
        if self.presence is not None:
            self.presence.attended()
            wakes = not self.presence.has_closed
        if self.peer_init is not None:
            self.inbox.notify(Closed(self.id, reason), wakes=wakes)
        self._on_over(self)

    # ---- ends ----

    def fail(self, reason: str) -> None:
        """End the session for what the peer did, and tell it why.

        By a `warning`: an `error` for the all-zero channel id would fail every channel.
        """
        text = printable(reason).encode("ascii")
        self.tell(messages.Warning(channel_id=_ALL_CHANNELS, data=text).encode())
        self.close(f"closed for what the peer sent: {reason}")

    def close(self, reason: str) -> None:
        """End the session after what is queued was sent."""
        if self._transport is None:
            self.abort(reason)
        else:
            self._transport.close(reason)

    def abort(self, reason: str) -> None:
        """End the session at once."""
        if self._transport is not None:
            self._transport.abort(reason)
        elif self.state is not SessionState.CLOSED:
            self.on_closed(reason)

    def check_alive(self, now: float, ping_after: float) -> None:
        """Ping an idle peer; close a session whose ping stayed unanswered. For the keepalive."""
        transport = self._transport
        if transport is None or self.state is not SessionState.READY or transport.is_closing:
            return
        if self._paused:
            # Its pong may be there, and it is us who don't read.
            self.pinged_at = now
        elif self.pinged_at is None or not transport.awaiting_pong:
            if transport.idle_seconds >= ping_after:
                self.pinged_at = now
                try:
                    transport.send_ping(_PONG_BYTES)
                except SendQueueFull:
                    self.abort("the peer does not read")
        elif now - self.pinged_at >= self.settings.pong_timeout:
            self._counters.pings_unanswered += 1
            transport.abort("the peer did not answer a ping within the time limit")

    # ---- for its channels ----

    @property
    def channels(self) -> SessionChannels:
        """The channels with this peer."""
        if self._channels is None:
            self._channels = SessionChannels(self, self._book)
        return self._channels

    @property
    def is_over(self) -> bool:
        return self.state is SessionState.CLOSED

    def describe_channels(self) -> list[ChannelInfo]:
        """What the API shows of them."""
        return [] if self._channels is None else self._channels.describe()

    def open_channel(self, message: bytes) -> None:
        """Offer the peer a channel by the wallet's `open_channel`; raises `RpcError`."""
        if self.state is not SessionState.READY:
            raise RpcError(ErrorCode.SESSION_STATE, "This session is not ready to send.")
        self.channels.open(message)

    def resume_channels(self) -> None:
        """The connection is ready and its wallet known: go on with their channels, if any."""
        wallet = self.inbox.node_id
        if (
            wallet is not None
            and self.state is SessionState.READY
            and self._book.has(wallet, self.peer.node_id)
        ):
            self.channels.load(wallet)

    def delegate(
        self,
        question: Question,
        raw_messages: list[bytes],
        funding: FundingSeen | None,
        on_over: Callable[[Delegation, str, list[bytes]], None],
    ) -> Delegation:
        """Ask the wallet; `on_over` is `Delegation`'s."""
        self.sequence += 1
        delegation = Delegation(
            question,
            session_id=self.id,
            peer=self.peer.node_id,
            sequence=self.sequence,
            messages=raw_messages,
            funding=funding,
            deadlines=self._deadlines[question.kind],
            on_over=on_over,
        )
        self.say(_log.debug, "delegated", delegation_id=delegation.id, kind=question.kind)
        self.inbox.open(delegation)
        return delegation

    def delegation_over(self, delegation: Delegation, sentence: str) -> None:
        """Log a delegation's end, and tell the wallet where it doesn't know."""
        self.say(
            _log.info,
            f"delegation_{delegation.state}",
            delegation_id=delegation.id,
            reason=sentence,
        )
        self.inbox.over(delegation, sentence)

    def say(self, log: Callable[..., object], event: str, **values: object) -> None:
        """Log an event, and whose it is."""
        log(event, session_id=self.id, peer=self.peer.node_id.hex(), **values)

    def tell(self, message: bytes) -> None:
        """Send the peer a message of the relay's own making, or of a delegation's."""
        if self._transport is None or self._transport.is_closing:
            return
        name = messages.name_of(int.from_bytes(message[:2], "big"))
        self.say(_log.debug, name, size=len(message))
        try:
            self._transport.send(message)
        except SendQueueFull:
            self.abort("the peer does not read")

    # ---- by message type; the tables are below the class ----

    def _received_first(self, type: int, view: memoryview) -> None:
        if type == messages.Init.TYPE:
            self._received_init(bytes(view))
        else:
            # BOLT #1: `init` is the first message.
            self.fail(f"{messages.name_of(type)} came before init")

    def received_second_init(self, type: int, view: memoryview) -> None:
        self.fail("a second init")

    def pass_on(self, type: int, view: memoryview) -> None:
        """Give the wallet the message as it is."""
        self.sequence += 1
        self.inbox.notify(PeerMessage(self.id, self.sequence, view.hex()))

    def received_other(self, type: int, view: memoryview) -> None:
        if type % 2:
            # BOLT #1: it's OK to be odd.
            self._counters.unknown_ignored += 1
        else:
            self.fail(f"unknown even message type {type}")

    def received_error(self, type: int, view: memoryview) -> None:
        """Record an `error` or a `warning`, show it to the wallet, and do what BOLT #1 says."""
        error = cast(
            "messages.Error | messages.Warning | None", self._decode(messages.Message, view)
        )
        if error is None:
            return
        text = printable(error.data.decode("latin-1"))
        self._errors_received += 1
        # A peer must not be able to fill the operator's disk.
        log = _log.info if self._errors_received <= _ERRORS_LOGGED else _log.debug
        self.say(log, f"peer_{error.NAME}", channel_id=error.channel_id.hex(), text=text)
        self.pass_on(type, view)
        if isinstance(error, messages.Warning):
            return
        if error.channel_id == _ALL_CHANNELS:
            self.close(f"the peer failed all channels: {text}")
        elif self._channels is not None:
            self._channels.received_error(error.channel_id, text)

    def received_query(self, type: int, view: memoryview) -> None:
        try:
            self.tell(gossip.answer_query(bytes(view)))
        except BoltError as malformed:
            self.fail(str(malformed))

    def received_gossip(self, type: int, view: memoryview) -> None:
        """Drop it, unless it is the `channel_update` of one of the wallet's channels."""
        if (
            type == messages.ChannelUpdate.TYPE
            and self.short_channel_ids
            and gossip.short_channel_id_of(view) in self.short_channel_ids
        ):
            self.pass_on(type, view)
        else:
            self._gossip_dropped += 1
            self._counters.gossip_dropped += 1

    def received_open_channel(self, type: int, view: memoryview) -> None:
        raw = bytes(view)
        try:
            open_channel = messages.decode(raw)
        except BoltError as malformed:
            # A kind of channel that nobody here knows has records that nobody here knows: that is
            # no reason to lose the peer's other channels.
            channel_id = raw[_TEMPORARY_CHANNEL_ID]
            if len(channel_id) < len(_ALL_CHANNELS):
                self.fail(str(malformed))
            else:
                self.tell(channel_error(channel_id, str(malformed)))
        else:
            self.channels.received_open_channel(raw, cast("messages.OpenChannel", open_channel))

    def received_for_channel(self, type: int, view: memoryview) -> None:
        message = self._decode(messages.Message, view)
        if message is not None:
            self.channels.received(type, bytes(view), message)

    def received_for_later(self, type: int, view: memoryview) -> None:
        """Payments and closing are the wallet's alone as yet."""
        self.pass_on(type, view)
        if self._channels is not None:
            self._channels.received_later(bytes(view[2:34]))

    def received_open_channel2(self, type: int, view: memoryview) -> None:
        """Opening v2 was never offered; the peer gets an `error` for that channel, not a hang."""
        open_channel = self._decode(messages.OpenChannel2, view)
        if open_channel is not None:
            self.tell(
                channel_error(open_channel.temporary_channel_id, "dual funding is not supported")
            )

    # ---- inside ----

    def _set_timer(self, seconds: float | None, reason: str = "") -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = (
            None
            if seconds is None
            else asyncio.get_running_loop().call_later(seconds, self.abort, reason)
        )

    def _decode(self, kind: type[M], view: memoryview) -> M | None:
        """A message of the peer's whose type is `kind`'s; None: malformed, and the session ends."""
        try:
            return cast("M", messages.decode(view))
        except BoltError as error:
            self.fail(str(error))
            return None


_Handler = Callable[[Session, int, memoryview], None]

#: What a session does with these whatever the wallet wants.
_ALWAYS: Final[dict[int, _Handler]] = {
    messages.Init.TYPE: Session.received_second_init,
    messages.Error.TYPE: Session.received_error,
    messages.Warning.TYPE: Session.received_error,
}

#: And with the rest, unless the wallet subscribed to raw messages: all of BOLT #2 reaches the
#: wallet as it is but for what is delegated or refused.
_UNLESS_RAW: Final[dict[int, _Handler]] = {
    **dict.fromkeys(messages.MESSAGES, Session.pass_on),
    **dict.fromkeys(gossip.GOSSIP_TYPES, Session.received_gossip),
    **dict.fromkeys(gossip.QUERY_TYPES, Session.received_query),
    messages.OpenChannel.TYPE: Session.received_open_channel,
    **dict.fromkeys(channels.TYPES, Session.received_for_channel),
    **dict.fromkeys(channels.LATER_TYPES, Session.received_for_later),
    messages.OpenChannel2.TYPE: Session.received_open_channel2,
    # Peer storage is a feature that the relay never offers.
    messages.PeerStorage.TYPE: Session.received_other,
    messages.PeerStorageRetrieval.TYPE: Session.received_other,
}
