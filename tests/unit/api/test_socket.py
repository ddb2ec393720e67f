"""A wallet's socket that is behind: slow, or gone."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from lightning_proxy.api import ApiSettings
from lightning_proxy.api.socket import WalletSocket


class SlowTransport:
    """Of what is to be written so much is left, from look to look."""

    def __init__(self, *left: int) -> None:
        self.left = list(left)
        self.aborted = asyncio.Event()

    def get_write_buffer_size(self) -> int:
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]

    def abort(self) -> None:
        self.aborted.set()


def socket_behind(transport: SlowTransport) -> WalletSocket:
    relay = SimpleNamespace(settings=SimpleNamespace(wallet_stall_timeout=0.001))
    socket = WalletSocket(cast("Any", relay), cast("Any", None), cast("Any", None), ApiSettings())
    socket._transport = cast("Any", transport)
    socket._inbox = cast("Any", SimpleNamespace(set_behind=lambda *_, **__: None))
    socket._limit = 1000
    return socket


async def test_one_long_frame_takes_its_time() -> None:
    transport = SlowTransport(5, 4, 4, 3, 3, 2, 2)
    socket = socket_behind(transport)
    socket._post("x" * 900)
    async with asyncio.timeout(10):
        await transport.aborted.wait()
    # Only once nothing more was taken from one look to the next.
    assert transport.left == [2]


async def test_one_frame_alone_is_not_too_much() -> None:
    transport = SlowTransport(*range(1000, 0, -1))
    socket = socket_behind(transport)
    socket._post("x" * 5000)
    assert not transport.aborted.is_set()
    socket._post("x")
    assert transport.aborted.is_set()
