"""The REST calls of the 2019 server's flow, for its unchanged clients."""

import asyncio
from typing import TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from lightning_proxy.api.access import Access
from lightning_proxy.api.limits import Limits
from lightning_proxy.networks import block_of
from lightning_proxy.relay import Relay
from lightning_proxy.relay.shares import Owner
from lightning_proxy.rpc import DirectionState, ErrorCode, RpcError, decode_params
from lightning_proxy.rpc.types import ActOne, ActThree, ActTwo, Id, Key, Message, PeerAddress

T = TypeVar("T")


class ConnectBody(Struct, frozen=True):
    """`url` is "pubkey@host:port", `message` act one."""

    url: PeerAddress
    message: ActOne


class ConnectResult(Struct, frozen=True):
    """`id` names the session in the next call, and when a wallet adopts it; `message`: act two."""

    id: Id
    message: ActTwo


class Keys(Struct, frozen=True):
    """The transport keys right after the handshake."""

    sending: Key
    receiving: Key
    chaining: Key

    def __repr__(self) -> str:
        return "Keys(...)"


class HandshakeBody(Struct, frozen=True):
    """`message` is act three."""

    message: ActThree
    keys: Keys


class HandshakeResult(Struct, frozen=True):
    """`message` is the peer's `init`."""

    message: Message


class Rest:
    """`POST /api/connect` and `POST /api/handshake/{id}`; `timeout`: seconds for a body."""

    def __init__(self, relay: Relay, access: Access, limits: Limits, timeout: float) -> None:
        self._timeout = timeout
        self._relay = relay
        self._limits = limits
        self._access = access

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/api/connect", self.connect),
            web.post("/api/handshake/{id}", self.handshake),
        ]

    async def connect(self, request: web.Request) -> web.Response:
        body = await self._read(request, ConnectBody)
        address = request.remote or ""
        self._limits.dial(None, address)
        try:
            session, act_two = await self._relay.connect(
                self._relay.unadopted_inbox(),
                body.url,
                bytes.fromhex(body.message),
                Owner(block_of(address) or ""),
            )
        except RpcError as error:
            self._limits.failed_dial(None, address, error)
            raise
        return _json(ConnectResult(session.id, act_two.hex()))

    async def handshake(self, request: web.Request) -> web.Response:
        body = await self._read(request, HandshakeBody)
        session = self._relay.find_unadopted(request.match_info["id"])
        keys = body.keys
        init = await self._relay.handshake(
            session,
            bytes.fromhex(body.message),
            DirectionState(keys.sending, 0, keys.chaining),
            DirectionState(keys.receiving, 0, keys.chaining),
        )
        return _json(HandshakeResult(init.hex()))

    async def _read(self, request: web.Request, kind: type[T]) -> T:
        self._access.check_request(request)
        self._access.check_rest()
        if request.content_type != "application/json":
            # A page can send anything else across origins without asking first.
            raise RpcError(
                ErrorCode.INVALID_REQUEST, "Send JSON, with Content-Type: application/json."
            )
        try:
            async with asyncio.timeout(self._timeout):
                body = await request.read()
        except TimeoutError:
            raise RpcError(ErrorCode.INVALID_REQUEST, "The body did not come in time.") from None
        return decode_params(body, kind)


def _json(body: Struct) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")
