"""The demo's phone: an HTTP server that waits for the relay's webhook, and looks who sent it."""

import asyncio
from typing import Final, Self

from aiohttp import web

from lightning_proxy.wallet.wake import Wake, WebhookRefused, verify_webhook

_PATH: Final = "/wake"
_MAX_BODY: Final = 4096


class Phone:
    """Use as an async context manager; `url` is what the wallet registers."""

    url: str
    #: The relay that may wake it (node id, 33 bytes); nobody, while it is None.
    relay_node_id: bytes | None = None

    def __init__(self) -> None:
        self._woken: asyncio.Future[tuple[Wake, int]] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_post(_PATH, self._post)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}{_PATH}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def woken(self) -> tuple[Wake, int]:
        """What the first push that is the relay's says, and how many bytes it has."""
        return await self._woken

    async def _post(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            if self.relay_node_id is None:
                raise WebhookRefused("Nobody may wake this phone yet.")
            wake = verify_webhook(self.relay_node_id, self.url, request.headers, body)
        except WebhookRefused as error:
            return web.Response(status=403, text=str(error))
        if not self._woken.done():
            self._woken.set_result((wake, len(body)))
        return web.Response()
