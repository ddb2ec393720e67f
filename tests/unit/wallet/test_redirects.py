"""A relay, or whoever is in its place, can't send the wallet on to what only the wallet reaches."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler

from lightning_proxy.chain import ChainError
from lightning_proxy.demo.coins import faucet_at
from lightning_proxy.wallet import ConnectionLost, Wallet, WalletKeys
from tests.unit.wallet.samples import SEED

STATUSES = [301, 302, 303, 307, 308]


class Trap:
    """A service beside the wallet, and a stranger who sends it there."""

    def __init__(self, status: int) -> None:
        self.asked: list[str] = []
        self._status = status
        self.inside = _serving(self._trap)
        self.outside = _serving(self._send_on)

    async def _trap(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        return web.Response(text='{"raw":"00","output_index":0}')

    async def _send_on(self, _: web.Request) -> web.Response:
        elsewhere = str(self.inside.make_url("/shutdown"))
        return web.Response(status=self._status, headers={"Location": elsewhere})


def _serving(answer: Handler) -> TestServer:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    return TestServer(app, host="127.0.0.1")


@pytest.mark.parametrize("status", STATUSES)
async def test_a_wallet_is_not_sent_elsewhere(status: int) -> None:
    trap = Trap(status)
    async with trap.inside, trap.outside:
        with pytest.raises(ConnectionLost, match=f"elsewhere.*{status}"):
            await Wallet(str(trap.outside.make_url("/")), WalletKeys(SEED)).__aenter__()
    assert trap.asked == []


@pytest.mark.parametrize("status", STATUSES)
async def test_nor_is_who_asks_a_faucet(status: int) -> None:
    trap = Trap(status)
    async with trap.inside, trap.outside:
        with pytest.raises(ChainError):
            await faucet_at(str(trap.outside.make_url("/faucet")))(b"\x00\x14" + bytes(20), 1)
    assert trap.asked == []
