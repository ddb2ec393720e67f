"""One websocket to a relay, from dialling and authentication to its end."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, Self, TypeAlias, TypeVar

import aiohttp
import structlog
from aiohttp import WSCloseCode, WSMsgType
from aiohttp.http_websocket import WSMessageTextBytes
from msgspec import UNSET, Raw, UnsetType

from lightning_proxy.rpc import (
    MAX_FRAME_TO_RELAY,
    MAX_FRAME_TO_WALLET,
    PATH,
    SUBPROTOCOL,
    Authenticated,
    Challenge,
    Envelope,
    ErrorCode,
    ErrorObject,
    RpcError,
    decode_envelope,
    decode_params,
    encode_error,
    encode_request,
    normal_origin,
)
from lightning_proxy.wallet.device import DeviceKeys
from lightning_proxy.wallet.errors import (
    ConnectionLost,
    DoorClosed,
    OriginMismatch,
    RelayError,
    RelayMisbehaved,
)
from lightning_proxy.wallet.keys import WalletKeys

_log = structlog.get_logger()

#: Sees every frame as it crosses: the frames of `handshake` hold transport keys, so never log them.
OnFrame: TypeAlias = Callable[[Literal["sent", "received"], str], None]
#: Takes whatever the relay says that is no response: a request or a notification.
Take: TypeAlias = Callable[[Envelope], Awaitable[None]]

#: Seconds.
_DIAL_TIMEOUT: Final = 20.0
#: A relay that hangs is noticed half as long again after it fell silent.
_HEARTBEAT: Final = 9.0
_CLOSE_TIMEOUT: Final = 2.0

T = TypeVar("T")


class Connection:
    """Made by `open`; then `serve` has to run, and `request` and `post` may be used beside it."""

    authenticated: Authenticated

    def __init__(
        self, socket: aiohttp.ClientWebSocketResponse[bool], on_frame: OnFrame | None
    ) -> None:
        self._socket = socket
        self._on_frame = on_frame
        self._ids = itertools.count(1)
        #: Until the response comes: one that nobody waits for any more is cancelled.
        self._pending: dict[int, asyncio.Future[Raw]] = {}
        self._lost: str | None = None

    @classmethod
    async def open(
        cls,
        http: aiohttp.ClientSession,
        relay_url: str,
        keys: WalletKeys | DeviceKeys,
        token: str | None,
        on_frame: OnFrame | None,
    ) -> Self:
        """Dial and authenticate; `http` refuses redirects.

        Raises `ConnectionLost`, `OriginMismatch`, `RelayError`, `RelayMisbehaved`; `ValueError`
        for a URL that is none.
        """
        origin = normal_origin(relay_url)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            async with asyncio.timeout(_DIAL_TIMEOUT):
                socket = await http.ws_connect(
                    relay_url.rstrip("/") + PATH,
                    protocols=(SUBPROTOCOL,),
                    headers=headers,
                    heartbeat=_HEARTBEAT,
                    # aiohttp takes what is smaller than this.
                    max_msg_size=MAX_FRAME_TO_WALLET + 1,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_TIMEOUT),
                )
                connection = cls(socket, on_frame)
                try:
                    await connection._authenticate(origin, keys)
                except OriginMismatch:
                    await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"wrong origin")
                    raise
                except BaseException:
                    await socket.close()
                    raise
        except aiohttp.ClientResponseError as error:
            raise _refused(error) from None
        except aiohttp.InvalidURL:
            raise ValueError(f"{relay_url!r} is no relay URL") from None
        except TimeoutError:
            raise ConnectionLost("The relay did not answer in time.") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionLost(f"The relay can't be reached: {error}.") from None
        return connection

    async def _authenticate(self, origin: str, keys: WalletKeys | DeviceKeys) -> None:
        envelope = await self._read_one()
        if envelope.method != "challenge":
            raise RelayMisbehaved("The relay did not begin with a challenge.")
        challenge = _read(envelope.params, Challenge)
        if challenge.origin != origin:
            raise OriginMismatch(challenge.origin, origin)
        proof = keys.authentication(origin, challenge.challenge)
        request_id = next(self._ids)
        await self.post(encode_request(request_id, "authenticate", proof))
        envelope = await self._read_one()
        if envelope.error is not UNSET:
            if envelope.id != request_id:
                # It had not read this wallet's words: they were too late.
                raise ConnectionLost(f"The relay gave up: {envelope.error.message}")
            raise _relay_error(envelope.error)
        if envelope.id != request_id or envelope.result is UNSET:
            raise RelayMisbehaved("The relay did not answer the authentication.")
        self.authenticated = _read(envelope.result, Authenticated)

    async def _read_one(self) -> Envelope:
        message = await self._socket.receive()
        if message.type is not WSMsgType.TEXT:
            raise ConnectionLost(f"The relay hung up: {self._why(message)}.")
        self._observe("received", message.data)
        try:
            return decode_envelope(message.data)
        except RpcError as error:
            raise RelayMisbehaved(f"The relay's first words: {error.sentence}") from None

    async def serve(self, take: Take) -> str:
        """Read until the connection ends; returns why. Every request under way then fails."""
        lost = "this wallet hung up"
        try:
            while True:
                message = await self._socket.receive()
                if message.type is WSMsgType.TEXT:
                    await self._received(message.data, take)
                elif message.type is WSMsgType.BINARY:
                    await self._complain(
                        RpcError(ErrorCode.INVALID_REQUEST, "Send text frames of JSON.")
                    )
                else:
                    lost = self._why(message)
                    return lost
        except ConnectionLost as error:
            lost = str(error)
            return lost
        finally:
            self._lost = lost
            for future in self._pending.values():
                if not future.done():
                    future.set_exception(ConnectionLost(f"The relay is gone: {lost}."))
            await self.close()

    async def close(self) -> None:
        """Hang up; harmless where that is done already."""
        await self._socket.close()

    async def request(self, method: str, params: Any, kind: type[T]) -> T:
        """Ask the relay; raises `RelayError`, `RelayMisbehaved`, `ConnectionLost`."""
        request_id = next(self._ids)
        future: asyncio.Future[Raw] = asyncio.get_running_loop().create_future()
        self._pending[request_id] = future
        try:
            await self.post(encode_request(request_id, method, params))
            return _read(await future, kind)
        except asyncio.CancelledError:
            future.cancel()
            raise
        finally:
            if not future.cancelled():
                self._pending.pop(request_id, None)
                # One that failed while it was being sent has an error that nobody waits for.
                if future.done():
                    future.exception()

    async def post(self, text: str) -> None:
        """Send a frame; raises `ConnectionLost`, and `RelayError` for one that no relay takes."""
        if self._lost is not None:
            raise ConnectionLost(f"The relay is gone: {self._lost}.")
        if len(text.encode()) > MAX_FRAME_TO_RELAY:
            # It would hang up, and be told the same again and again.
            raise RelayError(ErrorCode.TOO_LARGE.code, "That is more than a relay takes at once.")
        self._observe("sent", text)
        try:
            await self._socket.send_str(text)
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionLost(f"The relay is gone: {error}.") from None

    async def _received(self, text: str, take: Take) -> None:
        self._observe("received", text)
        try:
            envelope = decode_envelope(text)
        except RpcError as error:
            await self._complain(error)
            return
        if envelope.method is not UNSET:
            await take(envelope)
            return
        future = self._pending.pop(envelope.id, None) if isinstance(envelope.id, int) else None
        if future is None:
            # Never answered: two sides that answer each other's errors would never stop.
            _log.warning("response_to_nothing", has_error=envelope.error is not UNSET)
        elif future.cancelled():
            pass
        elif envelope.error is not UNSET:
            future.set_exception(_relay_error(envelope.error))
        elif isinstance(envelope.result, Raw):
            future.set_result(envelope.result)
        else:
            future.set_exception(RelayMisbehaved("The relay's response holds nothing."))

    async def _complain(self, error: RpcError) -> None:
        _log.warning("relay_frame_unreadable", code=error.error.code)
        await self.post(encode_error(None, error))

    def _observe(self, direction: Literal["sent", "received"], text: str) -> None:
        if self._on_frame is not None:
            self._on_frame(direction, text)

    def _why(self, message: aiohttp.WSMessage | WSMessageTextBytes) -> str:
        if message.type is WSMsgType.ERROR:
            return f"the connection broke ({message.data})"
        if message.type is WSMsgType.CLOSE and message.extra:
            return f"the relay closed the connection: {message.extra}"
        error = self._socket.exception()
        return "the connection was closed" if error is None else f"the connection broke ({error})"


def _read(raw: Raw | UnsetType, kind: type[T]) -> T:
    try:
        return decode_params(raw, kind)
    except RpcError as error:
        raise RelayMisbehaved(f"The relay's answer can't be read: {error.sentence}") from None


def _relay_error(error: ErrorObject) -> RelayError:
    return RelayError(error.data.code or str(error.code), error.message, error.data.retry_after)


def _refused(error: aiohttp.ClientResponseError) -> DoorClosed | ConnectionLost:
    """What an HTTP status says when no websocket comes of it."""
    match error.status:
        case 401:
            return DoorClosed(
                ErrorCode.UNAUTHENTICATED.code, "The relay wants an access token, or another one."
            )
        case 403:
            return DoorClosed(ErrorCode.FORBIDDEN.code, "The relay does not let this wallet in.")
        case 404:
            return DoorClosed(ErrorCode.METHOD_UNKNOWN.code, "There is no relay at that URL.")
        case 301 | 302 | 303 | 307 | 308:
            return ConnectionLost(
                "That URL would send this wallet elsewhere, and it goes nowhere that its owner did "
                f"not name (HTTP status {error.status}): dial the relay by its own URL."
            )
    return ConnectionLost(f"The relay makes no connection: HTTP status {error.status}.")
