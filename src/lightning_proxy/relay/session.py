"""One BOLT 8 connection to a peer: what the relay answers, drops, delegates and passes on."""

import asyncio
import secrets
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from enum import Flag, auto
from typing import Final, TypeVar, cast

import structlog

from lightning_proxy.audit import audit
from lightning_proxy.bolt import messages
from lightning_proxy.bolt.address import NodeAddress
from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.features import Feature, Features, check_init
from lightning_proxy.relay import gossip, received
from lightning_proxy.relay.book import ChannelBook
from lightning_proxy.relay.channel_messages import LONGEST
from lightning_proxy.relay.channels import SessionChannels
from lightning_proxy.relay.counters import Counters
from lightning_proxy.relay.delegation import Deadlines, Delegation, DelegationState
from lightning_proxy.relay.dialler import Dialler
from lightning_proxy.relay.given import Given
from lightning_proxy.relay.inbox import Inbox
from lightning_proxy.relay.own_init import OwnInit
from lightning_proxy.relay.presence import Presence
from lightning_proxy.relay.questions import ALL_CHANNELS, Question, channel_error
from lightning_proxy.relay.settings import RelaySettings
from lightning_proxy.relay.shares import Owner
from lightning_proxy.relay.text import printable
from lightning_proxy.rpc import (
    MAX_SENTENCE,
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
from lightning_proxy.transport.handshake import (
    ACT_TWO_SIZE,
    HandshakeError,
    check_act_three,
    check_act_two,
)

_log = structlog.get_logger()

M = TypeVar("M", bound=messages.Message)

#: Our own pings ask for the least; the answer's length says nothing.
_PONG_BYTES: Final = 0
_NO_CHANNELS: Final = array("Q")
_NO_FEATURES: Final = Features()


class _Pause(Flag):
    """Why a peer is not read."""

    #: The wallet can't take what comes.
    WALLET = auto()
    #: What came is being written.
    DISK = auto()


class Session:
    """The consumer of one `PeerTransport`. `on_over` is called once, when it is gone for good."""

    # A relay holds thousands of these, most of them idle: what few need is made when it is needed.
    __slots__ = (
        "_book",
        "_channels",
        "_deadlines",
        "_init_waiter",
        "_networks",
        "_on_over",
        "_paused",
        "_timer",
        "_transport",
        "commitments",
        "counters",
        "created",
        "errors_received",
        "features",
        "given",
        "gossip_dropped",
        "id",
        "inbox",
        "network",
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
        #: Whose share of sessions without a wallet it takes; interned, as they are many.
        self.network = ""
        self.created = time.time()
        self.sequence = 0
        self.raw = False
        #: Whether the wallet answers `commitment`.
        self.commitments = False
        #: What the wallet said of its channels with this peer, until they are there.
        self.given: Given | None = None
        #: Where the wallet chose another policy than `stay`.
        self.presence: Presence | None = None
        self.short_channel_ids = _NO_CHANNELS
        self.state = SessionState.HANDSHAKE
        self.peer_init: bytes | None = None
        #: When the unanswered ping left (monotonic seconds); keepalive's.
        self.pinged_at: float | None = None
        #: Of the peer's.
        self.errors_received = 0
        self.gossip_dropped = 0
        #: What both nodes offer, once the peer's `init` came; before, our own.
        self.features = _NO_FEATURES
        self.settings = settings
        self.counters = counters
        self._deadlines = deadlines
        self._book = book
        self._on_over = on_over
        self._transport: PeerTransport | None = None
        self._networks: tuple[bytes, ...] = ()
        self._init_waiter: asyncio.Future[bytes] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._channels: SessionChannels | None = None
        self._paused = _Pause(0)

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
            gossip_dropped=self.gossip_dropped,
            open_delegations=self._channels.open_delegations if self._channels else 0,
        )

    # ---- the handshake ----

    async def dial(self, dialler: Dialler, act_one: bytes, owner: Owner) -> bytes:
        """Connect, pass act one on, return act two; raises `RpcError`, and then it is over."""
        self.counters.dials += 1
        try:
            transport = await dialler.dial(self.peer, self, owner)
            if self.is_over:
                transport.abort("the session is over")
                raise RpcError(ErrorCode.LIMIT, "The relay is full; try again in a moment.")
            self._transport = transport
            transport.write_raw(act_one)
            self.say(_log.debug, "act_one", size=len(act_one))
            async with asyncio.timeout(self.settings.dial.act_two_timeout):
                act_two: bytes = await transport.receive_exactly(ACT_TWO_SIZE)
            check_act_two(act_two)
        except BaseException as error:
            self.counters.dials_failed += 1
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
                case HandshakeError():
                    # Nothing more about it: it may be another service's greeting.
                    raise RpcError(
                        ErrorCode.PEER_FAILED, "What answers there is no Lightning node."
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

        Raises `RpcError`: invalid_params, session_state, peer_failed, peer_timeout.
        """
        try:
            check_act_three(act_three)
        except HandshakeError as error:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"Act three is none: {error}.") from None
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
        init = self.decode(messages.Init, memoryview(message))
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
        self.counters.handshakes += 1
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
        type_ = int.from_bytes(message[:2], "big")
        if self._channels is not None and not self.raw:
            self._channels.check_sent(type_, message)
        try:
            self.transport.send(message)
        except SendQueueFull:
            raise RpcError(
                ErrorCode.LIMIT, "The peer does not read; wait, or close the session."
            ) from None
        if self._channels is not None and type_ == messages.Error.TYPE:
            self._channels.failed_by_wallet(message[2:34])

    def _pause(self, reason: _Pause, *, paused: bool) -> None:
        """Read nothing of the peer's while there is a reason not to."""
        before = self._paused
        self._paused = before | reason if paused else before & ~reason
        if self._transport is not None and bool(before) is not bool(self._paused):
            if self._paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def pause_for_wallet(self, *, paused: bool) -> None:
        """The wallet can't keep up, or can again."""
        self._pause(_Pause.WALLET, paused=paused)

    def pause_for_disk(self, *, paused: bool) -> None:
        """What the peer said is being written, or was."""
        self._pause(_Pause.DISK, paused=paused)

    def subscribe(self, raw: bool, short_channel_ids: Iterable[int]) -> None:
        """Turn raw messages on or off; name the channels whose updates the wallet wants."""
        # In order, eight bytes each: a set takes ten times as much.
        self.short_channel_ids = array("Q", sorted(set(short_channel_ids))) or _NO_CHANNELS
        if raw is not self.raw:
            self.raw = raw
            if self._channels is not None:
                self._channels.set_raw(raw=raw)

    def wants_updates_of(self, short_channel_id: int | None) -> bool:
        """Whether the wallet named this channel."""
        if short_channel_id is None:
            return False
        at = bisect_left(self.short_channel_ids, short_channel_id)
        return self.short_channel_ids[at : at + 1] == array("Q", [short_channel_id])

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
        handler = received.ALWAYS.get(type)
        if handler is None and self.raw:
            self.pass_on(type, view)
        else:
            handler = handler or received.UNLESS_RAW.get(type, received.received_other)
            handler(self, type, view)

    def on_closed(self, reason: str) -> None:
        """The connection is gone, whoever ended it."""
        if self.is_over:
            # It ended while its peer was dialled.
            return
        self.state = SessionState.CLOSED
        self._set_timer(None)
        transport = self._transport
        if transport is not None:
            self.counters.messages_received += transport.messages_received
            self.counters.messages_sent += transport.messages_sent
            self.counters.pings_received += transport.pings_received
            self.counters.pongs_received += transport.pongs_received
        self.counters.sessions_closed += 1
        if self._init_waiter is not None and not self._init_waiter.done():
            self.counters.handshakes_failed += 1
            self._init_waiter.set_exception(
                RpcError(ErrorCode.PEER_FAILED, f"No init came from the peer: {reason}.")
            )
        if self._channels is not None:
            self._channels.disconnected(reason)
        # Dials that come to nothing are counted: strangers must not fill the operator's disk.
        log = _log.debug if self.peer_init is None else _log.info
        self.say(log, "session_closed", reason=reason)
        wakes = True
        if self.presence is not None:
            self.presence.attended()
            wakes = not self.presence.has_closed
        if self.peer_init is not None:
            self.inbox.notify(Closed(self.id, reason[:MAX_SENTENCE]), wakes=wakes)
        self._on_over(self)

    # ---- ends ----

    def fail(self, reason: str) -> None:
        """End the session for what the peer did, and tell it why.

        By a `warning`: an `error` for the all-zero channel id would fail every channel.
        """
        text = printable(reason).encode("ascii")
        self.tell(messages.Warning(channel_id=ALL_CHANNELS, data=text).encode())
        self.close(f"closed for what the peer sent: {reason}")

    def fail_channel(self, channel_id: bytes, reason: str) -> None:
        """Tell the peer that this channel, which is none here, fails."""
        if channel_id == ALL_CHANNELS:
            # An `error` by that name would fail all channels, the live ones too.
            self.fail(reason)
        else:
            self.tell(channel_error(channel_id, reason))

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
        if self._paused or transport.is_behind:
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
            self.counters.pings_unanswered += 1
            transport.abort("the peer did not answer a ping within the time limit")

    # ---- for its channels ----

    @property
    def own_channels(self) -> SessionChannels | None:
        """The channels with this peer, if there ever were any on this connection."""
        return self._channels

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
        if wallet is None or self.state is not SessionState.READY:
            return
        given, self.given = self.given, None
        if self._book.has(wallet, self.peer.node_id):
            self.channels.load(wallet, given)
        elif self._channels is not None:
            self._channels.judge_early()

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
        answered = delegation.state in (DelegationState.SETTLED, DelegationState.REFUSED)
        audit(
            f"delegation_{delegation.state}",
            delegation_id=delegation.id,
            kind=delegation.question.kind,
            wallet=self.inbox.node_id,
            # Of an answer that was not taken it may be set, too.
            device=delegation.device_key if answered else None,
            session_id=self.id,
            peer=self.peer.node_id,
            channel_id=delegation.question.channel_id,
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

    # ---- what comes ----

    def _received_first(self, type: int, view: memoryview) -> None:
        if type == messages.Init.TYPE and len(view) > LONGEST[type]:
            self.fail("this init is too long")
        elif type == messages.Init.TYPE:
            self._received_init(bytes(view))
        else:
            # BOLT #1: `init` is the first message.
            self.fail(f"{messages.name_of(type)} came before init")

    def pass_on(self, type: int, view: memoryview) -> None:
        """Give the wallet the message as it is."""
        self.sequence += 1
        self.inbox.notify(PeerMessage(self.id, self.sequence, view.hex()))

    # ---- inside ----

    def _set_timer(self, seconds: float | None, reason: str = "") -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = (
            None
            if seconds is None
            else asyncio.get_running_loop().call_later(seconds, self.abort, reason)
        )

    def decode(self, kind: type[M], view: memoryview) -> M | None:
        """A message of the peer's whose type is `kind`'s; None: malformed, and the session ends."""
        try:
            return cast("M", messages.decode(view))
        except BoltError as error:
            self.fail(str(error))
            return None
