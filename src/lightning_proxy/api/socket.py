"""The wallet websocket: JSON-RPC 2.0 in both directions, one socket for all of its sessions."""

import asyncio
import fcntl
import inspect
import math
import secrets
import sys
import termios
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import structlog
from aiohttp import WSCloseCode, WSMsgType, web
from msgspec import UNSET, Raw, UnsetType

from lightning_proxy.api.access import Access, log_address
from lightning_proxy.api.limits import Limits
from lightning_proxy.api.lists import fitting
from lightning_proxy.api.methods import Methods, check_right, methods_of
from lightning_proxy.api.settings import ApiSettings
from lightning_proxy.audit import audit
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.keys import recover_message_signer
from lightning_proxy.relay import Inbox, Relay
from lightning_proxy.rpc import (
    FIRST_KINDS,
    MAX_FRAME_TO_RELAY,
    MAX_SENTENCE,
    NOTIFICATIONS,
    SUBPROTOCOL,
    Authenticate,
    Authenticated,
    Challenge,
    Delegate,
    DeviceRight,
    Envelope,
    ErrorCode,
    Integers,
    LeaseLost,
    Notification,
    Rejected,
    RequestId,
    RpcError,
    WalletSettings,
    authentication_text,
    decode_envelope,
    decode_params,
    encode_error,
    encode_notification,
    encode_request,
    encode_result,
)

_log = structlog.get_logger()

#: Requests of one socket that may be under way at once.
_MAX_UNDER_WAY: Final = 64
_MANY_UNDER_WAY: Final = 4
#: Seconds between the websocket pings that find dead sockets.
_HEARTBEAT: Final = 30.0
#: Seconds, in so many looks, that queued frames get to leave before a socket is closed.
_GOODBYE: Final = 0.5
_GOODBYE_LOOKS: Final = 25


class WalletSocket:
    """One socket: a `Socket` of its wallet's inbox, once it has authenticated."""

    def __init__(self, relay: Relay, access: Access, limits: Limits, settings: ApiSettings) -> None:
        self._relay = relay
        self._limits = limits
        self._access = access
        self._settings = settings
        self._limit = math.inf
        self._socket = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,),
            heartbeat=_HEARTBEAT,
            # Pongs are of interest here.
            autoping=False,
            # aiohttp takes what is smaller than this.
            max_msg_size=MAX_FRAME_TO_RELAY + 1,
            compress=False,
        )
        self._outgoing: deque[str] = deque()
        self._outgoing_bytes = 0
        self._sent = 0
        #: What was queued in all, in bytes.
        self._said = 0
        #: What the ping bears that is to be sent.
        self._probe: bytes | None = None
        #: Set while the socket is behind: the next look at its progress.
        self._stall: asyncio.TimerHandle | None = None
        self._more = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.Transport | None = None
        self._inbox: Inbox
        self._address = ""
        self._wallet = b""
        self._device_key = b""
        self._rights: frozenset[DeviceRight] = frozenset()
        self._methods: Methods = {}
        self._integers = Integers.NUMBER

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Run the socket until either side ends it."""
        self._access.check_request(request)
        origin = self._access.origin_of(request)
        address = log_address(request)
        self._address = request.remote or ""
        with self._limits.pending(self._address):
            await self._socket.prepare(request)
            self._transport = request.transport
            writer = asyncio.create_task(self._write())
            is_in = False
            try:
                is_in = await self._authenticate(origin, address)
            finally:
                if not is_in:
                    await self._end(writer)
        if is_in:
            try:
                await self._converse()
            finally:
                await self._end(writer)
        return self._socket

    async def _end(self, writer: asyncio.Task[None]) -> None:
        if self._stall is not None:
            self._stall.cancel()
        for task in (writer, *self._tasks):
            task.cancel()
        await asyncio.gather(writer, *self._tasks, return_exceptions=True)
        if self._transport is not None and self._transport.get_write_buffer_size():
            # What a frozen device doesn't take would keep the connection for ever.
            loop = asyncio.get_running_loop()
            loop.call_later(self._relay.settings.wallet_stall_timeout, self._transport.abort)

    async def shut_down(self) -> None:
        """Say goodbye: the relay stops."""
        await self._hang_up(WSCloseCode.GOING_AWAY, "the relay is shutting down")

    # ---- the inbox's Socket ----

    @property
    def device_key(self) -> bytes:
        return self._device_key

    @property
    def can_answer(self) -> bool:
        return {DeviceRight.SEE, DeviceRight.ANSWER} <= self._rights

    def delegate(self, envelope: Delegate) -> None:
        if DeviceRight.SEE not in self._rights:
            return
        self._post(encode_request(envelope.id, "delegate", envelope, self._integers))

    def notify(self, notification: Notification | LeaseLost) -> None:
        if DeviceRight.SEE not in self._rights:
            return
        method = NOTIFICATIONS.get(type(notification), "lease_lost")
        self._post(encode_notification(method, notification, self._integers))

    def hang_up(self, reason: str) -> None:
        # From now on it may do nothing, however long the goodbye takes.
        self._rights = frozenset()
        task = asyncio.create_task(self._hang_up(WSCloseCode.POLICY_VIOLATION, reason))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def abort(self, reason: str) -> None:
        _log.info("wallet_socket_dead", reason=reason)
        self._cut()

    def probe(self, payload: bytes) -> None:
        self._probe = payload
        self._more.set()

    def taken(self) -> int | None:
        if self._transport is None:
            return None
        waiting = self._outgoing_bytes + self._transport.get_write_buffer_size()
        waiting += _unacknowledged(self._transport)
        return self._said - waiting if waiting else None

    # ---- authentication ----

    async def _authenticate(self, origin: str, address: str) -> bool:
        """Ask for the node key's signature, once: a challenge serves one attempt."""
        challenge = secrets.token_hex(32)
        self._post(encode_notification("challenge", Challenge(challenge, origin)))
        request_id: RequestId | UnsetType = None
        try:
            async with asyncio.timeout(self._settings.authentication_timeout):
                message = await self._socket.receive()
                while message.type is WSMsgType.PING:
                    await self._socket.pong(message.data)
                    message = await self._socket.receive()
            if message.type is not WSMsgType.TEXT:
                self._limits.failed_authentication(self._address)
                return False
            envelope = decode_envelope(message.data)
            request_id = envelope.id
            if envelope.method != "authenticate":
                raise RpcError(ErrorCode.UNAUTHENTICATED, "Authenticate first.")
            wanted = decode_params(envelope.params, Authenticate)
            node_id, self._device_key = _signer_of(wanted, origin, challenge)
            self._rights = self._relay.devices.rights_of(node_id, self._device_key)
            if not self._rights:
                raise RpcError(
                    ErrorCode.UNAUTHENTICATED, "That key is none of this wallet's devices."
                )
            self._access.check_wallet(node_id)
            if not self._relay.knows(node_id):
                self._limits.new_wallet(node_id, self._address)
            self._wallet = node_id
            self._relay.strangers.came(node_id)
            self._inbox = self._relay.inbox_of(node_id)
            self._inbox.check_room()
            self._methods = methods_of(
                self._relay,
                self._inbox,
                self._device_key,
                self._rights,
                self._limits,
                self._address,
            )
            self._integers = wanted.integers
            shown = self._inbox.sessions.values() if DeviceRight.SEE in self._rights else ()
            sessions = fitting(each.describe() for each in shown)
            result = Authenticated(
                node_id.hex(),
                self._wallet_settings(),
                sessions.items,
                self._relay.identity,
                more_sessions=not sessions.is_complete,
                integers=self._integers,
            )
            self._reply(request_id, result)
            self._inbox.attach(self)
            # What waited for the wallet is bounded by itself; the cap is for what comes on top.
            self._limit = self._outgoing_bytes + self._relay.settings.max_queued_bytes_per_socket
        except TimeoutError:
            error = RpcError(ErrorCode.UNAUTHENTICATED, "No authentication came in time.")
        except RpcError as failure:
            error = failure
        else:
            audit("authenticated", wallet=node_id, device=self._device_key, address=address)
            return True
        audit("authentication_failed", address=address, code=error.error.code)
        self._relay.counters.authentications_failed += 1
        _log.info("authentication_failed", address=address, code=error.error.code)
        if error.error is not ErrorCode.LIMIT:
            # Who is too much for this moment has failed at nothing.
            self._limits.failed_authentication(self._address)
        self._fail(request_id, error)
        await self._hang_up(WSCloseCode.POLICY_VIOLATION, error.error.code)
        return False

    def _wallet_settings(self) -> WalletSettings:
        settings = self._relay.settings
        return WalletSettings(
            max_sessions=settings.max_sessions_per_wallet,
            max_sockets=settings.max_sockets_per_wallet,
            deadlines={kind.value: settings.deadline_of(kind) for kind in FIRST_KINDS},
            relay_node_id=self._relay.waker.identity.node_id.hex(),
            vapid_public_key=self._relay.waker.vapid_public_key,
        )

    # ---- requests and answers ----

    async def _converse(self) -> None:
        try:
            async for message in self._socket:
                if message.type is WSMsgType.ERROR:
                    # Not a frame of its: aiohttp gave it up.
                    break
                self._inbox.heard(self, message.data if message.type is WSMsgType.PONG else None)
                if message.type is WSMsgType.TEXT:
                    self._take(message.data)
                    if len(self._tasks) >= _MANY_UNDER_WAY:
                        # What came together comes without a pause: others have their turns, too.
                        await asyncio.sleep(0)
                elif message.type is WSMsgType.PING:
                    await self._socket.pong(message.data)
                elif message.type is WSMsgType.BINARY:
                    error = RpcError(ErrorCode.INVALID_REQUEST, "Send text frames of JSON.")
                    self._post(encode_error(None, error))
        finally:
            self._inbox.detach(self)
            if not self._inbox.sockets and self._inbox.node_id is not None:
                _log.debug("wallet_away", node_id=self._inbox.node_id.hex())
            self._relay.forget_if_idle(self._inbox)

    def _take(self, text: str) -> None:
        """One frame of the wallet's: a request, a notification, or an answer to a delegation.

        Every method may be a notification: it takes effect, and counts against the limits, and
        nobody hears how it went (JSON-RPC 2.0 §4.1). §5: what can't be read is answered by the id
        null. Of a request it is an id as any other, if no wise one (§4).
        """
        request_id: RequestId | UnsetType = None
        try:
            envelope = decode_envelope(text)
            if envelope.method is UNSET:
                self._take_answer(envelope)
                return
            request_id = envelope.id
            if envelope.method != "send":
                # Those are limited by their bytes: an engine of the wallet's own may have much to
                # say at once.
                self._limits.call(self._wallet)
            method = self._methods.get(envelope.method)
            if method is None:
                raise RpcError(ErrorCode.METHOD_UNKNOWN, "This relay has no such method.")
            kind, handler = method
            is_node = self._device_key == self._wallet
            check_right(envelope.method, self._rights, is_node=is_node)
            call = partial(handler, decode_params(envelope.params, kind))
            if not inspect.iscoroutinefunction(handler):
                self._reply(request_id, call())
            elif len(self._tasks) >= _MAX_UNDER_WAY:
                raise RpcError(ErrorCode.LIMIT, "Too many requests are under way; wait for some.")
            else:
                task = asyncio.create_task(self._finish(request_id, call))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        except Exception as error:  # noqa: BLE001 - a request's failure must stay its own
            self._fail(request_id, error)

    async def _finish(
        self, request_id: RequestId | UnsetType, call: Callable[[], Awaitable[Any]]
    ) -> None:
        try:
            self._reply(request_id, await call())
        except Exception as error:  # noqa: BLE001 - a request's failure must stay its own
            self._fail(request_id, error)

    def _reply(self, request_id: RequestId | UnsetType, result: Any) -> None:
        if request_id is not UNSET:
            self._post(encode_result(request_id, result, self._integers))

    def _fail(self, request_id: RequestId | UnsetType, error: Exception) -> None:
        """What is our fault is logged, and says no more."""
        if not isinstance(error, RpcError):
            _log.error("request_failed", error=type(error).__name__, exc_info=error)
            error = RpcError(ErrorCode.INTERNAL, "The relay failed on this; it is logged.")
        if request_id is not UNSET:
            self._post(encode_error(request_id, error))

    def _take_answer(self, envelope: Envelope) -> None:
        """An answer is never answered, but one that is not taken is `rejected`."""
        delegation_id = envelope.id
        if delegation_id is None and envelope.error is not UNSET:
            # What the wallet says to a frame that it could not read. Two sides that answer each
            # other's errors would never stop.
            return
        if not isinstance(delegation_id, str):
            raise RpcError(ErrorCode.INVALID_REQUEST, "An answer has its delegation's id.")
        try:
            if DeviceRight.ANSWER not in self._rights:
                raise RpcError(ErrorCode.FORBIDDEN, "This device lacks the right 'answer'.")
            if envelope.error is not UNSET:
                if envelope.error.code != ErrorCode.REFUSED.number:
                    raise RpcError(
                        ErrorCode.ANSWER_INVALID,
                        f"Only an error with the code {ErrorCode.REFUSED.number} refuses.",
                    )
                self._inbox.refuse(self, delegation_id, envelope.error.message)
            elif isinstance(envelope.result, Raw):
                self._inbox.answer(self, delegation_id, envelope.result)
            else:
                raise RpcError(ErrorCode.INVALID_REQUEST, "An answer has a result or an error.")
        except RpcError as error:
            sentence = error.sentence[:MAX_SENTENCE]
            rejected = Rejected(delegation_id[:64], error.error.code, sentence)
            self._post(encode_notification("rejected", rejected))

    # ---- writing ----

    def _post(self, text: str) -> None:
        """Queue a frame; a socket that is too far behind is cut off, its wallet may come again.

        What is behind is what waited before: one frame may be larger than the cap, and the wallet
        that was cut off for it would be so again and again.
        """
        waited = self._outgoing_bytes
        self._outgoing.append(text)
        self._outgoing_bytes += len(text)
        self._said += len(text)
        self._more.set()
        if waited > self._limit:
            self._evict()
        elif self._outgoing_bytes > self._limit / 2 and self._stall is None:
            self._inbox.set_behind(self, behind=True)
            self._watch_progress()

    def _watch_progress(self) -> None:
        """End a socket that is behind and takes nothing at all."""
        before = self._progress

        def look() -> None:
            if self._progress == before:
                self._evict()
            else:
                self._watch_progress()

        timeout = self._relay.settings.wallet_stall_timeout
        self._stall = asyncio.get_running_loop().call_later(timeout, look)

    @property
    def _progress(self) -> tuple[int, int]:
        """Frames that left, and bytes that wait behind them: a long frame takes its time."""
        waiting = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return self._sent, waiting

    def _caught_up(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
            self._inbox.set_behind(self, behind=False)

    def _evict(self) -> None:
        if self._transport is not None:
            _log.info("wallet_socket_evicted", queued=self._outgoing_bytes)
            self._cut()

    def _cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    async def _write(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            while self._outgoing:
                text = self._outgoing.popleft()
                self._outgoing_bytes -= len(text)
                await self._socket.send_str(text)
                self._sent += 1
            if (probe := self._probe) is not None:
                # After all the rest, which may take a question back that was just asked.
                self._probe = None
                await self._socket.ping(probe)
            self._caught_up()

    async def _hang_up(self, code: WSCloseCode, reason: str) -> None:
        """Close the socket, after what is queued was sent as far as it will go."""
        for _ in range(_GOODBYE_LOOKS):
            if not self._outgoing:
                break
            await asyncio.sleep(_GOODBYE / _GOODBYE_LOOKS)
        try:
            # Who takes nothing any more lets nobody close a socket in good manners.
            async with asyncio.timeout(self._relay.settings.wallet_stall_timeout):
                await self._socket.close(code=code, message=reason.encode())
        except TimeoutError:
            self._cut()


def _unacknowledged(transport: asyncio.Transport) -> int:
    """Bytes that the kernel has sent, or is to send, and that did not arrive."""
    try:
        waiting = fcntl.ioctl(
            transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, b"\0" * 4
        )
    except (OSError, ValueError):
        # It is closed.
        return 0
    return int.from_bytes(waiting, sys.byteorder)


def _signer_of(wanted: Authenticate, origin: str, challenge: str) -> tuple[bytes, bytes]:
    """The wallet's node id, and the key that signed if it is the claimed one; raises `RpcError`.

    Whether a device's key may act for that wallet is another question.
    """
    device = wanted.device
    text = authentication_text(origin, challenge, None if device is None else wanted.node_id)
    try:
        signer = recover_message_signer(wanted.signature, text)
    except BoltError as error:
        raise RpcError(ErrorCode.UNAUTHENTICATED, f"The signature is none: {error}.") from None
    if signer.hex() != (device or wanted.node_id):
        raise RpcError(
            ErrorCode.UNAUTHENTICATED,
            "The signature is not this node's, or not over this challenge and origin.",
        )
    return bytes.fromhex(wanted.node_id), signer
