"""Who comes: how many connections have no request under way, for how long; who speaks no HTTP."""

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from ssl import SSLContext
from typing import Any, Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server

from lightning_proxy.api.access import log_address
from lightning_proxy.api.limits import LimitSettings, network_of
from lightning_proxy.api.problems import problem
from lightning_proxy.relay.buckets import Buckets
from lightning_proxy.relay.counters import Counters
from lightning_proxy.relay.due import Due
from lightning_proxy.rpc import ErrorCode, RpcError

_log = structlog.get_logger()

#: Connections that are taken before the event loop's other work has its turn.
_AT_ONCE: Final = 64
#: Seconds until the next attempt to take one, after there was no file for it.
_PAUSE: Final = 0.5
#: Seconds between two log lines about what is no HTTP: anybody can send it, the metric counts it.
_LOG_PAUSE: Final = 60.0


class Door:
    """Takes a listening socket's connections and hands them to an aiohttp server.

    Each connection is counted from its first moment, before any TLS, and whenever it has no request
    under way: of more than `limits` allows, the one goes that has been so for longest, so that
    nobody can keep others out by saying nothing. `seconds` is what it gets for its first request's
    head, TLS's handshake included; `keepalive` is for later ones. `trusts` says whether an address
    is a proxy's, behind which there are many.

    What can't be read as HTTP is answered, counted, and told to the operator once in a while. Who
    sends much of it is not let in for as long as `limits` says, before anything is read.
    """

    def __init__(
        self,
        server: Server,
        limits: LimitSettings,
        seconds: float,
        keepalive: float,
        counters: Counters,
        *,
        tls: SSLContext | None = None,
        trusts: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._server = server
        self._limits = limits
        self._trusts = trusts
        self._tls = tls
        self._keepalive = keepalive
        self._counters = counters
        self._malformed = Buckets(limits.malformed_per_address, limits.malformed_per_address_burst)
        #: Loop time before which nothing more is logged about them.
        self._quiet_until = 0.0
        self._listening: socket.socket | None = None
        self._is_failing = False
        #: By whose they are, those of nobody in particular too; the latest last.
        self._quiet: OrderedDict[_Connection, Due[_Connection]] = OrderedDict()
        self._quiet_of: dict[str, OrderedDict[_Connection, None]] = {}
        self._first: Due[_Connection] = Due(seconds, self._cut)
        # aiohttp closes those that are idle, and is told so; what is left takes no answer.
        self._later: Due[_Connection] = Due(keepalive + seconds, self._cut)
        self._arrivals: set[asyncio.Task[None]] = set()

    def open(self, listening: socket.socket) -> None:
        """Let connections in, from now on. Idempotent."""
        if self._listening is not None:
            return
        listening.setblocking(False)
        self._listening = listening
        asyncio.get_running_loop().add_reader(listening, self._accept)

    def close(self) -> None:
        """Let nobody in any more; who has a request under way stays. Idempotent."""
        listening, self._listening = self._listening, None
        if listening is not None:
            asyncio.get_running_loop().remove_reader(listening)
            listening.close()

    async def finish(self) -> None:
        """Cut those who are still at TLS's handshake: of the others the server takes leave."""
        for connection in tuple(self._quiet):
            if connection.is_arriving:
                self._cut(connection)
        await asyncio.gather(*self._arrivals)

    # ---- a connection's life ----

    def quiet(self, connection: "_Connection", *, came: bool = False) -> None:
        """It has no request under way."""
        network, due = connection.network, self._first if came else self._later
        same = self._quiet_of.setdefault(network or "", OrderedDict())
        self._quiet[connection], same[connection] = due, None
        due.add(connection)
        if network is not None and len(same) > self._limits.silent_connections_per_address:
            self._cut(next(iter(same)))
        if len(self._quiet) > self._limits.silent_connections:
            self._cut(next(iter(self._quiet)))

    def busy(self, connection: "_Connection") -> None:
        """A request of its has a handler; or it is over."""
        due = self._quiet.pop(connection, None)
        if due is None:
            return
        due.discard(connection)
        key = connection.network or ""
        del self._quiet_of[key][connection]
        if not self._quiet_of[key]:
            del self._quiet_of[key]

    def malformed(self, connection: "_Connection", address: str) -> None:
        """What came on it can't be read."""
        self._counters.requests_malformed += 1
        if connection.network is not None:
            self._malformed.take(connection.network)
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            self._quiet_until = now + _LOG_PAUSE
            _log.info(
                "requests_malformed", address=address, until_now=self._counters.requests_malformed
            )

    def _cut(self, connection: "_Connection") -> None:
        self.busy(connection)
        connection.cut()

    # ---- inside ----

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            if self._listening is None:
                return
            try:
                came, address = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._rest(error)
                return
            self._is_failing = False
            host = address[0] if isinstance(address, tuple) else ""
            network = None if self._trusts(host) else network_of(host)
            if network is not None and self._malformed.wait(network):
                came.close()
                continue
            came.setblocking(False)
            task = asyncio.create_task(self._let_in(came, network))
            self._arrivals.add(task)
            task.add_done_callback(self._arrivals.discard)

    async def _let_in(self, came: socket.socket, network: str | None) -> None:
        connection = _Connection(
            self,
            self._server,
            came,
            network,
            loop=asyncio.get_running_loop(),
            access_log=None,
            keepalive_timeout=self._keepalive,
            # For the rest of a body that nobody reads.
            lingering_time=self._first.seconds,
        )
        self.quiet(connection, came=True)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection, came, ssl=self._tls
            )
        except OSError:
            # It went, or what it spoke was no TLS.
            self.busy(connection)

    def _rest(self, error: OSError) -> None:
        """No file is left, or no memory, and the listening socket would be ready all the time."""
        if not self._is_failing:
            self._is_failing = True
            _log.error("connections_wait", reason=error.strerror)
        if self._listening is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._listening)
            loop.call_later(_PAUSE, self._go_on)

    def _go_on(self) -> None:
        if self._listening is not None:
            asyncio.get_running_loop().add_reader(self._listening, self._accept)


class _Connection(RequestHandler):
    """aiohttp's, which has no time limit for a head of its own."""

    __slots__ = ("_door", "_socket", "network")

    def __init__(
        self,
        door: Door,
        server: Server,
        came: socket.socket,
        network: str | None,
        **options: Any,
    ) -> None:
        super().__init__(server, **options)
        self._door = door
        #: Until there is a transport: TLS comes before.
        self._socket: socket.socket | None = came
        #: Whose limits it counts for; None: nobody's.
        self.network = network

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._socket = None

    def connection_lost(self, exc: BaseException | None) -> None:
        self._door.busy(self)
        super().connection_lost(exc)

    @property
    def is_arriving(self) -> bool:
        return self._socket is not None

    def busy(self) -> None:
        self._door.busy(self)

    def quiet(self) -> None:
        if self.transport is not None:
            self._door.quiet(self)

    def malformed(self, request: web.BaseRequest) -> web.Response:
        """The answer to what can't be read, and the last on this connection."""
        self._door.malformed(self, log_address(request))
        error = RpcError(ErrorCode.INVALID_REQUEST, "This is no HTTP that can be read.")
        answer = problem(error, HTTPStatus.BAD_REQUEST)
        answer.force_close()
        return answer

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status != HTTPStatus.BAD_REQUEST:
            return super().handle_error(request, status, exc, message)
        # aiohttp's would log what came, and why that is wrong, at any length.
        return self.malformed(request)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        # Of a body that can't be read aiohttp reads on, after the answer that says so.
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kw)

    def cut(self) -> None:
        if self.transport is not None:
            self.transport.abort()
        elif self._socket is not None:
            # It may have gone by itself, or be closed.
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


@web.middleware
async def at_the_door(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost: while it runs, a request is under way."""
    connection = request.protocol
    assert isinstance(connection, _Connection)  # noqa: S101 - nobody else comes to this application
    connection.busy()
    try:
        return await handler(request)
    except web.RequestPayloadError:
        return connection.malformed(request)
    finally:
        connection.quiet()
