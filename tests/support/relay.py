"""A relay in the test's own process, and a wallet that speaks its API by hand, faults and all."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp.base_protocol import BaseProtocol
from coincurve import PrivateKey

from lightning_proxy.api import ApiSettings, Server
from lightning_proxy.api.limits import LimitSettings
from lightning_proxy.bolt.features import DEFAULT_FEATURES
from lightning_proxy.bolt.keys import sign_message
from lightning_proxy.bolt.messages import Init
from lightning_proxy.relay import RelaySettings
from lightning_proxy.rpc import SUBPROTOCOL, authentication_text, normal_origin
from lightning_proxy.transport.handshake import Initiator
from tests.support.peer import PeerConnection, ScriptedPeer

WAIT = 10.0
#: As far as a relay can see, who has no key of the peer's.
ACT_ONE = (b"\0" + PrivateKey(b"\1" * 32).public_key.format() + bytes(16)).hex()
PEER_INIT = Init(globalfeatures=b"", features=DEFAULT_FEATURES.to_bytes()).encode()


@asynccontextmanager
async def relay(api: ApiSettings | None = None, **settings: Any) -> AsyncIterator[Server]:
    """A relay on a free loopback port; by default, one that a test may ask as often as it likes."""
    api = api or ApiSettings(port=0, limits=LimitSettings(requests_per_wallet_burst=1_000_000))
    async with Server(RelaySettings(**settings), api) as server:
        yield server


class RpcFailure(Exception):
    """An error that came back: `code` is the stable one."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error)
        self.code = error["data"]["code"]
        self.sentence = error["message"]


class RawWallet:
    """One websocket. `call` for requests; what the relay sends by itself lands in `events`."""

    #: Reads; where it is cancelled, nobody does.
    listening: asyncio.Task[None]

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, url: str, secret: bytes) -> None:
        self.socket = socket
        self.url = url
        self.secret = secret
        self.node_id = PrivateKey(secret).public_key.format()
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.ended = asyncio.Event()
        #: Of the last notification that was taken from `events`.
        self.position = 0
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}

    async def listen(self) -> None:
        async for message in self.socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                body = json.loads(message.data)
                waiter = None if "method" in body else self._waiting.pop(str(body["id"]), None)
                if waiter is None:
                    self.events.put_nowait(body)
                elif not waiter.done():
                    waiter.set_result(body)
        self.ended.set()

    async def acknowledge(self) -> None:
        """Say that what was taken from `events` needs not come again."""
        await self.call("acknowledge", position=self.position)

    async def send_json(self, body: Any) -> None:
        await self.socket.send_str(json.dumps(body))

    async def call(self, method: str, **params: Any) -> Any:
        request_id = secrets.token_hex(4)
        waiter = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        await self.send_json(
            {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        )
        body = await asyncio.wait_for(waiter, WAIT)
        if "error" in body:
            raise RpcFailure(body["error"])
        return body["result"]

    async def event(self, method: str) -> dict[str, Any]:
        """The next thing the relay says by itself, which has to be this."""
        body = await self.event_body()
        assert body.get("method") == method, body
        params: dict[str, Any] = body["params"]
        return params

    async def event_body(self) -> dict[str, Any]:
        """The next thing the relay says by itself, whatever it is.

        Positions only grow, and few tests ask for them: they are taken off here.
        """
        body = await asyncio.wait_for(self.events.get(), WAIT)
        if position := body.get("params", {}).pop("position", 0):
            assert position > self.position, body
            self.position = position
        return body

    async def event_of(self, method: str) -> dict[str, Any]:
        """The next thing of this kind; what comes before it is passed over."""
        while True:
            body = await self.event_body()
            if body["method"] == method:
                params: dict[str, Any] = body["params"]
                return params

    async def quiet_but(self, method: str) -> None:
        """Assert that the relay has said nothing but this."""
        await self.call("sessions")
        while not self.events.empty():
            body = self.events.get_nowait()
            assert body["method"] == method, body

    async def quiet(self) -> None:
        """Assert that the relay has said nothing: whatever was under way came before this."""
        await self.call("sessions")
        assert self.events.empty(), self.events.get_nowait()

    async def authenticate(self, **changes: Any) -> Any:
        challenge = await self.event("challenge")
        text = authentication_text(normal_origin(self.url), challenge["challenge"])
        params = {"node_id": self.node_id.hex(), "signature": sign_message(self.secret, text)}
        return await self.call("authenticate", **{**params, **changes})

    async def answer(self, delegation: dict[str, Any], result: Any) -> None:
        await self.send_json({"jsonrpc": "2.0", "id": delegation["id"], "result": result})

    async def refuse(self, delegation: dict[str, Any], reason: str, code: int = -32010) -> None:
        error = {"code": code, "message": reason}
        await self.send_json({"jsonrpc": "2.0", "id": delegation["id"], "error": error})

    def stop_reading(self) -> None:
        """Take no byte any more."""
        self._protocol.pause_reading()

    def start_reading(self) -> None:
        """Take bytes again."""
        self._protocol.resume_reading()

    def write(self, data: bytes) -> None:
        """Send bytes as they are, in one piece: frames of one's own making."""
        transport = self._protocol.transport
        assert transport is not None
        transport.write(data)

    @property
    def _protocol(self) -> BaseProtocol:
        connection = self.socket._response.connection
        assert connection is not None
        assert connection.protocol is not None
        return connection.protocol

    async def open_session(
        self, peer: ScriptedPeer, peer_init: bytes = PEER_INIT, **handshake: Any
    ) -> tuple[str, PeerConnection]:
        """The whole flow up to both `init`s; returns the session's id and the peer's end of it."""
        initiator = Initiator(self.secret, peer.node_id)
        connecting = asyncio.create_task(
            self.call("connect", peer=peer.address, act_one=initiator.act_one().hex())
        )
        connection = await peer.accept()
        shaking = asyncio.create_task(connection.handshake())
        connected = await connecting
        params = handshake_params(initiator, connected)
        finishing = asyncio.create_task(self.call("handshake", **{**params, **handshake}))
        await shaking
        connection.init = await connection.receive()
        await connection.send(peer_init)
        done = await finishing
        assert done["init"] == peer_init.hex()
        if peer_init == PEER_INIT and "init" not in handshake:
            # Both offer gossip_queries: the relay asks for no gossip, in so many words.
            assert (await connection.receive())[:2] == b"\x01\x09"
        return connected["session_id"], connection


async def take(peer: ScriptedPeer) -> PeerConnection:
    """The peer's side of one connection, up to both `init`s and the relay's gossip filter."""
    connection = await peer.accept()
    await connection.handshake()
    await connection.receive()
    await connection.send(PEER_INIT)
    assert (await connection.receive())[:2] == b"\x01\x09"
    return connection


def handshake_params(initiator: Initiator, connected: dict[str, Any]) -> dict[str, Any]:
    """What `handshake` wants, from the result of `connect`."""
    act_three = initiator.act_two(bytes.fromhex(connected["act_two"]))
    keys = initiator.keys
    return {
        "session_id": connected["session_id"],
        "act_three": act_three.hex(),
        "sending": direction(keys.sending_key, keys.chaining_key),
        "receiving": direction(keys.receiving_key, keys.chaining_key),
    }


def direction(key: bytes, chaining_key: bytes, nonce: int = 0) -> dict[str, Any]:
    return {"key": key.hex(), "nonce": nonce, "chaining_key": chaining_key.hex()}


@asynccontextmanager
async def raw_wallet(
    url: str, secret: bytes | None = None, *, authenticated: bool = True, **options: Any
) -> AsyncIterator[RawWallet]:
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{url}/v1/wallet", protocols=(SUBPROTOCOL,), **options) as socket,
    ):
        wallet = RawWallet(socket, url, secret or secrets.token_bytes(32))
        listening = wallet.listening = asyncio.create_task(wallet.listen())
        try:
            if authenticated:
                await wallet.authenticate()
            yield wallet
        finally:
            await socket.close()
            await asyncio.gather(listening, return_exceptions=True)
