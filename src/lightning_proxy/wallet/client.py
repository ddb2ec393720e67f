"""The SDK: a wallet at a relay, with its sessions, its answers and what happens to it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from operator import attrgetter
from typing import Any, Final, Self, TypeVar

import aiohttp
import structlog
from msgspec import UNSET

from lightning_proxy.bolt.address import NodeAddress, parse
from lightning_proxy.bolt.errors import AddressError, BoltError
from lightning_proxy.bolt.messages import Init, decode
from lightning_proxy.http import refusing_redirects
from lightning_proxy.rpc import (
    NOTIFICATIONS,
    Acknowledge,
    Adopt,
    ChannelInfo,
    Channels,
    Close,
    Closed,
    Connect,
    Connected,
    Delegate,
    DirectionState,
    Done,
    Envelope,
    ErrorCode,
    FundingRefused,
    Handshake,
    HandshakeDone,
    LeaseLost,
    Notification,
    OpenChannel,
    PeerMessage,
    Rejected,
    RpcError,
    SessionInfo,
    SessionLost,
    Sessions,
    SlotUsed,
    UpdateChannel,
    Voided,
    WalletSettings,
    decode_params,
    encode_error,
    normal_origin,
)
from lightning_proxy.transport.handshake import HandshakeError
from lightning_proxy.wallet.backoff import Backoff
from lightning_proxy.wallet.connection import Connection, OnFrame
from lightning_proxy.wallet.delegations import Delegations
from lightning_proxy.wallet.device import DeviceKeys
from lightning_proxy.wallet.errors import (
    ConnectionLost,
    DoorClosed,
    HandshakeFailed,
    RelayMisbehaved,
    WalletError,
)
from lightning_proxy.wallet.events import (
    Disconnected,
    Event,
    MessageReceived,
    ReceivedMessage,
    Reconnected,
    SessionClosed,
)
from lightning_proxy.wallet.keys import WalletKeys
from lightning_proxy.wallet.lists import every
from lightning_proxy.wallet.positions import Positions
from lightning_proxy.wallet.session import Session
from lightning_proxy.wallet.signer import Signer, can_move, standings
from lightning_proxy.wallet.stream import Stream

_log = structlog.get_logger()

#: Events that wait for a reader; of more, the oldest go.
_MAX_EVENTS: Final = 1024
#: Seconds; the relay's own limits for dialling and the handshake are shorter.
_REQUEST_TIMEOUT: Final = 90.0
#: With these a relay says no for good; with others it may be asked again.
_FINAL: Final = frozenset(
    {
        ErrorCode.UNAUTHENTICATED.code,
        ErrorCode.FORBIDDEN.code,
        ErrorCode.METHOD_UNKNOWN.code,
    }
)

_NOTIFICATIONS: Final[dict[object, type[Any]]] = {
    method: kind for kind, method in NOTIFICATIONS.items()
}

T = TypeVar("T")


class Wallet:
    """Use as an async context manager: entering dials and authenticates, once.

    Entering raises `ConnectionLost`, `OriginMismatch`, `RelayError`, `RelayMisbehaved`. Afterwards
    a lost connection is made again by itself; a relay that then says no for good ends the wallet,
    and every method raises that error. Leaving keeps the sessions at the relay.

    `signer` answers delegations; without one they stay open. `token` is the operator's access
    token. `on_frame` sees all that crosses the relay's socket, transport keys included.

    What the relay keeps for this wallet comes again until it is acknowledged, and never twice out
    of here. That is done as soon as it is among `events`; who has to store messages first says
    `acknowledge=False` and calls `acknowledge` with their positions.
    """

    def __init__(
        self,
        relay_url: str,
        keys: WalletKeys | DeviceKeys,
        *,
        signer: Signer | None = None,
        token: str | None = None,
        on_frame: OnFrame | None = None,
        backoff: Backoff | None = None,
        request_timeout: float = _REQUEST_TIMEOUT,
        acknowledge: bool = True,
    ) -> None:
        normal_origin(relay_url)  # raises ValueError here, not when it is dialled
        self.settings: WalletSettings | None = None
        self._relay_url = relay_url
        self._keys = keys
        self._token = token
        self._on_frame = on_frame
        self._backoff = backoff or Backoff()
        self._request_timeout = request_timeout
        self._events: Stream[Event] = Stream(_MAX_EVENTS)
        self._signer = signer
        self._delegations = Delegations(signer, self._reply, self._events.put)
        self._sessions: dict[str, Session] = {}
        self._positions = Positions(self.acknowledge, self._run_errand)
        self._acknowledges = acknowledge
        self._unmet: deque[PeerMessage] = deque(maxlen=_MAX_EVENTS)
        self._errands: set[asyncio.Task[None]] = set()

    @property
    def node_id(self) -> bytes:
        """The wallet's node id, 33 bytes."""
        return self._keys.node_id

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._http = await stack.enter_async_context(
                aiohttp.ClientSession(trace_configs=[refusing_redirects()])
            )
            connection = await self._dial()
            # The supervisor closes what it serves, but who leaves at once cancels it unstarted.
            stack.push_async_callback(connection.close)
            self._online: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
            self._online.set_result(connection)
            self._supervisor = asyncio.create_task(self._supervise(connection))
            self._stack = stack.pop_all()
        if connection.authenticated.more_sessions:
            try:
                await self.sessions()
            except BaseException:
                await self.__aexit__()
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = (self._supervisor, *self._errands)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._delegations.close()
        await self._stack.aclose()
        self._end(ConnectionLost("This wallet is closed; the relay keeps its sessions."), None)

    # ---- what a wallet can do ----

    async def connect(self, peer: str, init: Init | None = None) -> Session:
        """Have the relay connect to a peer, "pubkey@host:port", and hand it the transport keys.

        `init` is what the relay says for this wallet (features, networks); None: its default.
        Raises `HandshakeFailed` if another node answers, bolt's `AddressError` for an address that
        is none, and what `request` raises.
        """
        address = parse(peer)
        initiator = self._keys.initiator(address.node_id)
        connected = await self.request(
            "connect", Connect(peer, initiator.act_one().hex()), Connected
        )
        try:
            act_three = initiator.act_two(bytes.fromhex(connected.act_two))
        except HandshakeError as error:
            self._run_errand(partial(self._give_up, connected.session_id))
            raise HandshakeFailed(f"{peer} is not that node: {error}.") from None
        keys = initiator.keys
        chaining_key = keys.chaining_key.hex()
        # Before the peer can say anything, there is somebody to hear it.
        session = self._add_session(connected.session_id, address, init)
        try:
            done = await self.request(
                "handshake",
                Handshake(
                    session_id=session.id,
                    act_three=act_three.hex(),
                    sending=DirectionState(keys.sending_key.hex(), 0, chaining_key),
                    receiving=DirectionState(keys.receiving_key.hex(), 0, chaining_key),
                    init=None if init is None else init.encode().hex(),
                    commitments=can_move(self._signer),
                    standings=await standings(self._signer, session.id, address.node_id),
                ),
                HandshakeDone,
            )
            session.peer_init = _read_init(done.init)
        except BaseException:
            self._sessions.pop(session.id, None)
            raise
        return session

    async def sessions(self) -> list[SessionInfo]:
        """All of this wallet's sessions at the relay, whoever made them.

        Those that another device made have a handle here from then on, too.
        """
        listed = await every(self.request, "sessions", Sessions, SessionInfo)
        listed.sort(key=attrgetter("created"))
        for info in listed:
            if info.init is not None:
                self._know(info)
        return listed

    async def adopt(self, session_id: str) -> Session:
        """Take over a session that was made over REST."""
        return self._know(await self.request("adopt", Adopt(session_id), SessionInfo))

    def session(self, session_id: str) -> Session:
        """The handle of a session that the relay held when this wallet came, or that it made since.

        Raises `KeyError`.
        """
        return self._sessions[session_id]

    def session_with(self, node_id: bytes) -> Session | None:
        """The handle of the latest session with this peer, if there is one."""
        held = [each for each in self._sessions.values() if each.peer.node_id == node_id]
        return held[-1] if held else None

    async def open_channel(self, session_id: str, message: bytes) -> None:
        """Offer a session's peer a channel by this raw `open_channel`; what follows is asked."""
        await self.request("open_channel", OpenChannel(session_id, message.hex()), Done)

    async def update_channel(self, update: UpdateChannel) -> None:
        """Move a channel of this wallet's own accord; all of it is in the record already."""
        await self.request("update_channel", update, Done)

    async def channels(self) -> list[ChannelInfo]:
        """All of this wallet's channels, as the relay knows them."""
        return await every(self.request, "channels", Channels, ChannelInfo)

    async def close_session(self, session_id: str) -> None:
        """Close a session of this wallet's, known here or not."""
        await self.request("close", Close(session_id), Done)

    async def acknowledge(self, position: int) -> None:
        """Tell the relay that nothing up to this position needs to come again."""
        await self.request("acknowledge", Acknowledge(position), Done)

    def events(self) -> AsyncIterator[Event]:
        """All that happens from the first connection on, for one reader, until the wallet ends.

        Raises the `WalletError` by which it ended.
        """
        return self._events

    def emit(self, event: Event) -> None:
        """Put an event of one's own among those that `events` gives."""
        self._events.put(event)

    async def request(self, method: str, params: Any, kind: type[T]) -> T:
        """Ask the relay; waits for it where the connection is just being made again.

        Raises `RelayError` when it says no, `ConnectionLost` when the connection breaks before the
        answer or none came in time, `RelayMisbehaved`.
        """
        try:
            async with asyncio.timeout(self._request_timeout):
                connection = await asyncio.shield(self._online)
                return await connection.request(method, params, kind)
        except TimeoutError:
            raise ConnectionLost(f"The relay did not answer {method} in time.") from None

    # ---- the connection ----

    async def _dial(self) -> Connection:
        connection = await Connection.open(
            self._http, self._relay_url, self._keys, self._token, self._on_frame
        )
        self.settings = connection.authenticated.settings
        self._positions.connected(connection.authenticated.inbox)
        try:
            for info in connection.authenticated.sessions:
                self._know(info)
        except RelayMisbehaved:
            await connection.close()
            raise
        return connection

    async def _supervise(self, connection: Connection) -> None:
        """Keep a connection until the wallet is closed or the relay says no for good."""
        clock = asyncio.get_running_loop().time
        attempt = 0
        try:
            while True:
                since = clock()
                reason = await connection.serve(self._take)
                if clock() - since >= self._backoff.most:
                    attempt = 0
                self._online = asyncio.get_running_loop().create_future()
                _log.info("relay_lost", reason=reason)
                self._events.put(Disconnected(reason))
                connection, attempt = await self._dial_again(attempt)
                self._online.set_result(connection)
                self._events.put(Reconnected())
                self._run_errand(self._reconcile)
        except WalletError as error:
            _log.warning("relay_refused", error=str(error))
            self._end(error, error)

    async def _dial_again(self, attempt: int) -> tuple[Connection, int]:
        """Until the relay is there; raises `RelayError` where it says no itself, and for good.

        Anything else may be a proxy's word, or a relay's that is being restarted.
        """
        told: str | None = None
        retry_after = 0.0
        while True:
            await asyncio.sleep(max(self._backoff.delay(attempt), retry_after))
            attempt += 1
            try:
                return await self._dial(), attempt
            except WalletError as error:
                if not isinstance(error, DoorClosed) and getattr(error, "code", "") in _FINAL:
                    raise
                _log.info("relay_unreachable", attempt=attempt, reason=str(error))
                if str(error) != told:
                    told = str(error)
                    self._events.put(Disconnected(told))
                retry_after = min(getattr(error, "retry_after", None) or 0.0, self._backoff.most)

    async def _reconcile(self) -> None:
        """Find sessions that ended while this wallet was away, and nobody could tell it.

        The relay answers in order: what waited for the wallet, `closed` included, came before.
        """
        known = set(self._sessions)
        listed = {info.session_id for info in await self.sessions()}
        for session_id in known - listed:
            self._session_over(session_id, "the relay no longer holds it")

    async def _give_up(self, session_id: str) -> None:
        await self.close_session(session_id)

    def _run_errand(self, work: Callable[[], Awaitable[None]]) -> None:
        """Something that nobody waits for, and that may fail.

        It is called by the task: a coroutine made here would never run where that ends at once.
        """

        async def run() -> None:
            try:
                await work()
            except WalletError as error:
                _log.info("errand_failed", error=str(error))

        task = asyncio.create_task(run())
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def _reply(self, text: str) -> None:
        if not self._online.done():
            raise ConnectionLost("The relay is gone; it will ask again.")
        await self._online.result().post(text)

    def _end(self, error: WalletError, for_events: WalletError | None) -> None:
        """The wallet is over, for good."""
        if not self._online.done():
            self._online.set_exception(error)
            self._online.exception()
        for session in self._sessions.values():
            session.abandon(error)
        self._sessions.clear()
        self._events.end(for_events)

    # ---- what the relay says ----

    async def _take(self, envelope: Envelope) -> None:
        """A request or a notification of the relay's."""
        try:
            match envelope.method:
                case "delegate":
                    await self._take_delegate(envelope.id, decode_params(envelope.params, Delegate))
                case method if method in _NOTIFICATIONS:
                    await self._take_notification(
                        decode_params(envelope.params, _NOTIFICATIONS[method])
                    )
                    # A burst arrives without a pause: whoever reads messages gets a turn for each.
                    await asyncio.sleep(0)
                case "rejected":
                    self._events.put(decode_params(envelope.params, Rejected))
                case "lease_lost":
                    self._events.put(decode_params(envelope.params, LeaseLost))
                case _:
                    raise RpcError(ErrorCode.METHOD_UNKNOWN, "This wallet has no such method.")
        except RpcError as error:
            _log.warning("relay_request_unreadable", code=error.error.code)
            if envelope.id is not UNSET:
                await self._reply(encode_error(envelope.id, error))

    async def _take_delegate(self, request_id: object, delegate: Delegate) -> None:
        if request_id != delegate.id:
            # JSON-RPC 2.0 §4.1: without an id nobody waits for an answer, and none may be given.
            raise RpcError(ErrorCode.INVALID_REQUEST, "A question's id is its delegation's.")
        session = self._sessions.get(delegate.session_id)
        await self._delegations.take(delegate, session)

    async def _take_notification(self, notification: Notification) -> None:
        if not self._positions.is_new(notification.position):
            return
        match notification:
            case PeerMessage():
                self._take_message(notification)
            case Closed():
                self._session_over(notification.session_id, notification.reason)
            case Voided():
                self._delegations.void(notification)
            case SessionLost():
                self._session_over(notification.session_id, "the relay was restarted")
                self._events.put(notification)
            case FundingRefused():
                self._events.put(notification)
            case SlotUsed():
                # Before anything that may rest on it.
                session = self._sessions.get(notification.session_id)
                if not await self._delegations.slot_used(notification, session):
                    self._positions.failed()
        if self._acknowledges:
            self._positions.had(notification.position)

    def _take_message(self, message: PeerMessage) -> None:
        if self._unmet:
            self._unmet.append(message)
        elif message.session_id in self._sessions:
            self._put_message(message)
        else:
            self._unmet.append(message)
            self._run_errand(self._meet)

    async def _meet(self) -> None:
        """A message of a session that another device of this wallet's made: with whom is it?

        What comes meanwhile waits, so that nothing overtakes.
        """
        try:
            await self.sessions()
        finally:
            while self._unmet:
                self._put_message(self._unmet.popleft())

    def _put_message(self, message: PeerMessage) -> None:
        received = ReceivedMessage(
            message.sequence, bytes.fromhex(message.message), message.position
        )
        session = self._sessions.get(message.session_id)
        if session is not None:
            session.put(received)
        peer = None if session is None else session.peer.node_id
        self._events.put(MessageReceived(message.session_id, received, peer))

    # ---- sessions ----

    def _add_session(
        self, session_id: str, peer: NodeAddress, own_init: Init | None = None
    ) -> Session:
        session = self._sessions[session_id] = Session(self, session_id, peer, own_init)
        return session

    def _know(self, info: SessionInfo) -> Session:
        """The handle of a session that the relay describes."""
        session = self._sessions.get(info.session_id)
        if session is None:
            try:
                peer = parse(info.peer)
            except AddressError as error:
                raise RelayMisbehaved(f"The relay lists a session with nobody: {error}.") from None
            session = self._add_session(info.session_id, peer)
        if info.init is not None:
            session.peer_init = _read_init(info.init)
        return session

    def _session_over(self, session_id: str, reason: str) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            session.end(reason)
        self._events.put(SessionClosed(session_id, reason))


def _read_init(text: str) -> Init:
    try:
        init = decode(bytes.fromhex(text))
    except BoltError as error:
        raise RelayMisbehaved(f"What the relay calls the peer's init is none: {error}.") from None
    if not isinstance(init, Init):
        raise RelayMisbehaved(f"What the relay calls the peer's init is a message {init.NAME}.")
    return init
