"""Connections before they have said what they want: how many, from where, and for how long."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server

from lightning_proxy.api.limits import LimitSettings, network_of
from lightning_proxy.relay.due import Due


class Door:
    """Called, it makes the protocol of one connection, as `loop.create_server` wants.

    `seconds` is what a connection gets for its first request's head; `trusts` says whether an
    address is a proxy's, behind which there are many.
    """

    def __init__(
        self,
        server: Server,
        limits: LimitSettings,
        trusts: Callable[[str], bool],
        seconds: float,
        **options: Any,
    ) -> None:
        self._server = server
        self._limits = limits
        self._trusts = trusts
        self._options = options
        self._silent: Counter[str] = Counter()
        self._due: Due[_Connection] = Due(seconds, _Connection.cut)

    def __call__(self) -> RequestHandler:
        return _Connection(self, self._server, loop=asyncio.get_running_loop(), **self._options)

    def came(self, connection: "_Connection", address: str) -> None:
        """A connection was made."""
        network = None if self._trusts(address) else network_of(address)
        limits = self._limits
        if self._silent.total() >= limits.silent_connections or (
            network is not None and self._silent[network] >= limits.silent_connections_per_address
        ):
            connection.cut()
            return
        connection.network = network or ""
        self._silent[connection.network] += 1
        self._due.add(connection)

    def spoke(self, connection: "_Connection") -> None:
        """Its first request has a handler; or it is over."""
        if connection.network is None:
            return
        self._silent[connection.network] -= 1
        if not self._silent[connection.network]:
            del self._silent[connection.network]
        connection.network = None
        self._due.discard(connection)


class _Connection(RequestHandler):
    """aiohttp's, which has no time limit for a head of its own."""

    __slots__ = ("_door", "network")

    def __init__(self, door: Door, server: Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._door = door
        #: Whose it is, while it has said nothing yet.
        self.network: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self._door.came(self, peer[0] if isinstance(peer, tuple) else "")

    def connection_lost(self, exc: BaseException | None) -> None:
        self._door.spoke(self)
        super().connection_lost(exc)

    def spoke(self) -> None:
        self._door.spoke(self)

    def cut(self) -> None:
        if self.transport is not None:
            self.transport.abort()


def spoke(request: web.BaseRequest) -> None:
    """A request has come to a handler."""
    connection = request.protocol
    if isinstance(connection, _Connection):
        connection.spoke()
