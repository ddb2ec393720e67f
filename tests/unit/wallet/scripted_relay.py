"""A relay of which the test writes every word, to lie and to break off as no real one would."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import WSMessage, WSMsgType, web
from aiohttp.test_utils import TestServer

from lightning_proxy.bolt.keys import recover_message_signer
from lightning_proxy.rpc import PATH, SUBPROTOCOL, authentication_text, normal_origin
from lightning_proxy.transport.handshake import Responder
from tests.unit.wallet.samples import PEER_INIT, PEER_SECRET

_WAIT = 10.0
CHALLENGE = "c4" * 32
INBOX = "1b" * 16


class RelaySocket:
    """The relay's end of one wallet's socket."""

    def __init__(self, request: web.Request) -> None:
        self.headers = request.headers
        self.socket = web.WebSocketResponse(protocols=(SUBPROTOCOL,))
        self.over = asyncio.Event()
        #: What a wallet that watches asks of its own accord is answered, and not heard: it has
        #: nothing here.
        self.has_nothing = True

    async def say(self, **frame: Any) -> None:
        await self.socket.send_str(json.dumps({"jsonrpc": "2.0", **frame}))

    async def _receive(self) -> WSMessage:
        while True:
            message = await asyncio.wait_for(self.socket.receive(), _WAIT)
            if message.type is WSMsgType.TEXT and self.has_nothing:
                frame = json.loads(message.data)
                if frame.get("method") in ("channels", "slots"):
                    with suppress(ConnectionResetError):  # it may be leaving
                        await self.say(id=frame["id"], result=[])
                    continue
            return message

    async def hear(self) -> dict[str, Any]:
        message = await self._receive()
        assert message.type is WSMsgType.TEXT, message
        frame: dict[str, Any] = json.loads(message.data)
        assert frame.pop("jsonrpc") == "2.0"
        return frame

    async def hear_request(self, method: str) -> tuple[int, dict[str, Any]]:
        frame = await self.hear()
        assert frame["method"] == method, frame
        return frame["id"], frame["params"]

    async def hear_close(self) -> int | None:
        """Wait for the wallet to hang up; the close code that it gave."""
        message = await self._receive()
        assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING), message
        return self.socket.close_code

    async def challenge(self, origin: str) -> None:
        await self.say(method="challenge", params={"challenge": CHALLENGE, "origin": origin})

    async def authenticate(
        self, origin: str, sessions: list[dict[str, Any]] | None = None, inbox: str = INBOX
    ) -> str:
        """Let the wallet in, if its signature is good; its node id in hex."""
        await self.challenge(origin)
        request_id, params = await self.hear_request("authenticate")
        signer = recover_message_signer(
            params["signature"], authentication_text(origin, CHALLENGE)
        ).hex()
        assert signer == params["node_id"]
        settings = {"max_sessions": 10, "max_sockets": 4, "deadlines": {"channel_keys": 18.0}}
        result = {
            "node_id": signer,
            "settings": settings,
            "sessions": sessions or [],
            "inbox": inbox,
        }
        await self.say(id=request_id, result=result)
        return signer

    async def serve_connect(self, session_id: str) -> None:
        """Play relay and peer for one `connect` and its `handshake`."""
        responder = Responder(PEER_SECRET)
        request_id, params = await self.hear_request("connect")
        act_two = responder.act_one(bytes.fromhex(params["act_one"])).hex()
        await self.say(id=request_id, result={"session_id": session_id, "act_two": act_two})
        request_id, params = await self.hear_request("handshake")
        assert params["session_id"] == session_id
        keys = responder.act_three(bytes.fromhex(params["act_three"]))
        assert params["sending"]["key"] == keys.receiving_key.hex()
        assert params["receiving"]["key"] == keys.sending_key.hex()
        assert params["sending"]["chaining_key"] == keys.chaining_key.hex()
        await self.say(id=request_id, result={"init": PEER_INIT.encode().hex()})

    async def drop(self) -> None:
        """Break the connection, without a word."""
        transport = self.socket._req.transport if self.socket._req else None
        assert transport is not None
        transport.abort()
        self.over.set()


class ScriptedRelay:
    """`url` for wallets, `accept()` for the sockets that came, `refuse_with` an HTTP status."""

    url: str
    refuse_with: int | None = None

    def __init__(self) -> None:
        self._came: asyncio.Queue[RelaySocket] = asyncio.Queue()
        self._all: list[RelaySocket] = []

    @property
    def origin(self) -> str:
        return normal_origin(self.url)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if self.refuse_with is not None:
            return web.Response(status=self.refuse_with)
        socket = RelaySocket(request)
        await socket.socket.prepare(request)
        self._all.append(socket)
        self._came.put_nowait(socket)
        await socket.over.wait()
        return socket.socket

    async def accept(self) -> RelaySocket:
        return await asyncio.wait_for(self._came.get(), _WAIT)

    async def let_in(
        self, sessions: list[dict[str, Any]] | None = None, inbox: str = INBOX
    ) -> RelaySocket:
        socket = await self.accept()
        await socket.authenticate(self.origin, sessions, inbox)
        return socket

    @asynccontextmanager
    async def listen(self) -> AsyncIterator["ScriptedRelay"]:
        app = web.Application()
        app.router.add_get(PATH, self._serve)
        async with TestServer(app, host="127.0.0.1") as server:
            self.url = f"http://127.0.0.1:{server.port}"
            yield self
            for socket in self._all:
                socket.over.set()
                await socket.socket.close()
