"""One websocket of a wallet's, whose relay may be gone at any moment."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
from coincurve import PrivateKey

from lightning_proxy.bolt.keys import sign_message
from lightning_proxy.rpc import SUBPROTOCOL, authentication_text, normal_origin

#: Seconds for an answer of a relay that is there.
_PATIENCE: Final = 20.0


class Gone(Exception):
    """The connection is over; what was asked may have been done or not."""


class Refused(Exception):
    """The relay answered with an error; `code` is the stable one."""

    def __init__(self, method: str, error: dict[str, Any]) -> None:
        super().__init__(f"{method}: {error['message']}")
        self.code: str = error["data"]["code"]


class Link:
    """`on_body` gets, in order, what the relay says by itself."""

    def __init__(
        self,
        url: str,
        socket: aiohttp.ClientWebSocketResponse,
        on_body: Callable[[dict[str, Any]], None],
    ) -> None:
        self.ended = asyncio.Event()
        self._url = url
        self._socket = socket
        self._on_body = on_body
        self._ids = itertools.count()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._challenge: asyncio.Future[dict[str, Any]] = asyncio.Future()

    async def listen(self) -> None:
        """Until the connection ends."""
        try:
            async for message in self._socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    self._take(json.loads(message.data))
        finally:
            self.ended.set()
            for waiter in (self._challenge, *self._waiting.values()):
                if not waiter.done():
                    waiter.set_exception(Gone("the relay is gone"))
                    # Perhaps nobody asks any more.
                    waiter.exception()

    def _take(self, body: dict[str, Any]) -> None:
        if body.get("method") == "challenge":
            self._challenge.set_result(body["params"])
        elif "method" in body:
            self._on_body(body)
        else:
            waiter = self._waiting.pop(body["id"])
            if not waiter.done():
                waiter.set_result(body)

    async def call(self, method: str, **params: Any) -> Any:
        """A request's result; raises `Gone`, `Refused`; `TimeoutError`: the relay hangs."""
        request_id = next(self._ids)
        waiter = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        await self.send({"id": request_id, "method": method, "params": params})
        async with asyncio.timeout(_PATIENCE):
            body = await waiter
        if "error" in body:
            raise Refused(method, body["error"])
        return body["result"]

    async def send(self, body: dict[str, Any]) -> None:
        """Raises `Gone`."""
        if self.ended.is_set():
            raise Gone("the relay is gone")
        try:
            await self._socket.send_str(json.dumps({"jsonrpc": "2.0", **body}))
        except (ConnectionError, aiohttp.ClientError):
            raise Gone("the relay is gone") from None

    async def authenticate(self, secret: bytes, node_id: bytes) -> dict[str, Any]:
        """By the wallet's own key; raises as `call` does."""
        return await self._authenticate(secret, node_id)

    async def authenticate_device(self, secret: bytes, node_id: bytes) -> dict[str, Any]:
        """By the key of a device of this wallet's; raises as `call` does."""
        device = PrivateKey(secret).public_key.format()
        return await self._authenticate(secret, node_id, node_id.hex(), device=device.hex())

    async def _authenticate(
        self, secret: bytes, node_id: bytes, *named: str, **more: str
    ) -> dict[str, Any]:
        async with asyncio.timeout(_PATIENCE):
            challenge = await self._challenge
        text = authentication_text(normal_origin(self._url), challenge["challenge"], *named)
        result: dict[str, Any] = await self.call(
            "authenticate", node_id=node_id.hex(), signature=sign_message(secret, text), **more
        )
        return result


@asynccontextmanager
async def link(url: str, on_body: Callable[[dict[str, Any]], None]) -> AsyncIterator[Link]:
    """A connection to the relay; raises `Gone` where there is none to be had."""
    async with aiohttp.ClientSession() as http:
        try:
            socket = await http.ws_connect(f"{url}/v1/wallet", protocols=(SUBPROTOCOL,))
        except (aiohttp.ClientError, OSError):
            raise Gone("the relay can't be reached") from None
        connected = Link(url, socket, on_body)
        listening = asyncio.create_task(connected.listen())
        try:
            yield connected
        finally:
            await socket.close()
            await listening
