"""A relay, a peer and a wallet, fresh for each test."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lightning_proxy.api import Server
from lightning_proxy.chain.simulated import SimulatedChain
from tests.support.peer import ScriptedPeer
from tests.support.receivers import Receiver
from tests.support.relay import RawWallet, raw_wallet, relay


@pytest.fixture
async def chain() -> AsyncIterator[SimulatedChain]:
    async with SimulatedChain() as simulated:
        yield simulated


@pytest.fixture
def with_chain(chain: SimulatedChain, tmp_path: Path) -> dict[str, Any]:
    """Settings of a relay that looks at this chain, and has a disk."""
    store = str(tmp_path / "relay.sqlite")
    return {"chain": chain.url, "chain_interval": 0.02, "store": store}


@pytest.fixture
def settings() -> dict[str, Any]:
    """The relay's: for a module to say otherwise."""
    return {}


@pytest.fixture
async def server(settings: dict[str, Any]) -> AsyncIterator[Server]:
    async with relay(**settings) as running:
        yield running


@pytest.fixture
async def peer() -> AsyncIterator[ScriptedPeer]:
    async with ScriptedPeer(b"\x21" * 32).serve() as listening:
        yield listening


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver().serve() as listening:
        yield listening


@pytest.fixture
async def wallet(server: Server) -> AsyncIterator[RawWallet]:
    async with raw_wallet(server.url) as connected:
        yield connected
