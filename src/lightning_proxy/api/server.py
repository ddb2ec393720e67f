"""The port that wallets use: the application's routes, its start and its end."""

import asyncio
import html
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib import resources
from string import Template
from typing import Self

import msgspec
import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from lightning_proxy import __version__, rpc
from lightning_proxy.api.access import Access, cross_origin
from lightning_proxy.api.admin import Admin
from lightning_proxy.api.door import Door, at_the_door
from lightning_proxy.api.forwarded import Forwarded
from lightning_proxy.api.limits import Limits
from lightning_proxy.api.metrics import Metrics
from lightning_proxy.api.openapi import document
from lightning_proxy.api.problems import problems
from lightning_proxy.api.rest import Rest
from lightning_proxy.api.settings import ApiSettings, unusable
from lightning_proxy.api.socket import WalletSocket
from lightning_proxy.api.tls import CertificateError
from lightning_proxy.chain import ChainUnavailable
from lightning_proxy.relay import Relay, RelaySettings
from lightning_proxy.relay.store import StoreUnavailable
from lightning_proxy.transport import kernel_name

_log = structlog.get_logger()

#: The largest REST body is a handshake of some 400 bytes.
_MAX_BODY = 16 * 1024
#: Seconds that requests under way get at shutdown.
_SHUTDOWN_TIMEOUT = 2.0
#: Connections that may wait to be accepted: thousands of wallets come back at once.
_BACKLOG = 4096
#: Seconds between attempts to start while what the relay rests on isn't there yet.
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 5.0
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Server:
    """A relay and its API, as an async context manager: entered, it listens; left, it is gone.

    While it is being entered, connections wait; where what the relay rests on isn't there (for up
    to `start_timeout`), everything is answered with 503. Raises `SettingsError` for settings that
    contradict each other, `OSError` when the address is in use or not this machine's, and what
    entering a `Relay` raises.
    """

    port: int
    url: str

    def __init__(self, relay_settings: RelaySettings, api_settings: ApiSettings) -> None:
        self._settings = api_settings.checked()
        self._tls = self._settings.tls()
        self._limits = Limits(self._settings.limits)
        self._forwarded = Forwarded(self._settings.trusted_proxies)
        self.relay = Relay(relay_settings, is_local=self._settings.is_local)
        self._metrics = Metrics(self.relay)
        self._sockets: set[WalletSocket] = set()
        self._is_ready = False
        self._schema = msgspec.json.encode(document())
        self._page = Template(resources.files(__package__).joinpath("page.html").read_text("utf-8"))

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            listening = await self._bind()
            stack.callback(listening.close)
            self.port = listening.getsockname()[1]
            self.url = self._settings.url_on(self.port)
            self._access = Access(self._settings, self._settings.origins_on(self.port))
            runner = web.AppRunner(self._application(), shutdown_timeout=_SHUTDOWN_TIMEOUT)
            stack.push_async_callback(runner.cleanup)
            await runner.setup()
            door = self._door(runner)
            stack.push_async_callback(door.finish)
            stack.callback(door.close)
            # Sessions go before: their wallets are still there to be told.
            stack.push_async_callback(self._say_goodbye)
            await self._enter_relay(stack, lambda: door.open(listening))
            if self._settings.admin_socket is not None:
                admin = Admin(self.relay, self._settings, self._metrics)
                await stack.enter_async_context(admin)
            # First of all, nobody new comes.
            stack.callback(door.close)
            self._is_ready = True
            door.open(listening)
            self._stack = stack.pop_all()
        return self

    def _door(self, runner: web.AppRunner) -> Door:
        settings = self._settings
        assert runner.server is not None  # noqa: S101 - it is set up
        return Door(
            runner.server,
            settings.limits,
            settings.request_timeout,
            settings.keepalive_timeout,
            self.relay.counters,
            tls=None if self._tls is None else self._tls.context,
            trusts=self._forwarded.trusts,
        )

    async def _enter_relay(self, stack: AsyncExitStack, waits: Callable[[], None]) -> None:
        """What the relay rests on may be starting beside it, after a power cut for example.

        `waits` is called whenever it has to be waited for.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + self.relay.settings.start_timeout
        pause = _FIRST_PAUSE
        while True:
            try:
                await stack.enter_async_context(self.relay)
            except (ChainUnavailable, StoreUnavailable) as error:
                if clock() + pause > until:
                    raise
                _log.warning("waiting_to_start", reason=str(error), seconds=round(until - clock()))
                waits()
            else:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _say_goodbye(self) -> None:
        await asyncio.gather(*(wallet.shut_down() for wallet in self._sockets))

    def reload(self) -> bool:
        """Read the certificate's files again, if there are any.

        Raises `SettingsError`, and then the old one stays.
        """
        if self._tls is None:
            return False
        try:
            self._tls.reload()
        except CertificateError as error:
            raise unusable(error) from None
        return True

    async def _bind(self) -> socket.socket:
        """A listening socket at the configured host and port."""
        host, port = self._settings.host, self._settings.port
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, *_, address = found[0]
        return socket.create_server(
            address[:2],
            family=family,
            backlog=_BACKLOG,
            dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
        )

    def _application(self) -> web.Application:
        application = web.Application(
            middlewares=[
                at_the_door,
                self._forwarded.middleware(),
                cross_origin(self._access),
                problems,
                self._limited,
            ],
            client_max_size=_MAX_BODY,
        )
        application.add_routes(
            [
                *Rest(
                    self.relay, self._access, self._limits, self._settings.request_timeout
                ).routes(),
                web.get(rpc.PATH, self._wallet),
                web.get("/", self._index),
                web.get("/healthz", self._healthz),
                web.get("/metrics", self._show_metrics),
                web.get("/openapi.json", self._openapi),
            ]
        )
        return application

    @web.middleware
    async def _limited(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._is_ready:
            return web.json_response(
                {"status": "starting", "version": __version__},
                status=503,
                headers={hdrs.RETRY_AFTER: "1"},
            )
        self._limits.request(request.remote or "")
        return await handler(request)

    async def _wallet(self, request: web.Request) -> web.StreamResponse:
        wallet = WalletSocket(self.relay, self._access, self._limits, self._settings)
        self._sockets.add(wallet)
        try:
            return await wallet.serve(request)
        finally:
            self._sockets.discard(wallet)

    async def _index(self, request: web.Request) -> web.Response:
        scheme = "wss" if request.scheme == "https" else "ws"
        page = self._page.substitute(
            version=__version__,
            kernel=kernel_name(),
            sessions=sum(1 for _ in self.relay.sessions()),
            wallets=self.relay.wallets,
            access=self._settings.access,
            websocket=html.escape(f"{scheme}://{request.host}{rpc.PATH}"),
        )
        return web.Response(text=page, content_type="text/html", headers=_PAGE_HEADERS)

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "version": __version__})

    async def _show_metrics(self, request: web.Request) -> web.Response:
        self._access.check_metrics(request)
        return await self._metrics.get(request)

    async def _openapi(self, _: web.Request) -> web.Response:
        return web.Response(body=self._schema, content_type="application/json")
