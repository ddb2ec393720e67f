"""A relay, a peer and a wallet, fresh for each test."""

from collections.abc import AsyncIterator

import pytest

from lightning_proxy.api import Server
from tests.support.peer import ScriptedPeer
from tests.support.relay import RawWallet, raw_wallet, relay


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with relay() as running:
        yield running


@pytest.fixture
async def peer() -> AsyncIterator[ScriptedPeer]:
    async with ScriptedPeer(b"\x21" * 32).serve() as listening:
        yield listening


@pytest.fixture
async def wallet(server: Server) -> AsyncIterator[RawWallet]:
    async with raw_wallet(server.url) as connected:
        yield connected
