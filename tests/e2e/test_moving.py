"""A channel that moves, over a real relay: what is asked, what leaves, and what never does."""

from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from lightning_proxy.api import Server
from lightning_proxy.bolt.channel.reestablish import reestablish_of
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import UpdateFailHtlc, UpdateFee, decode
from tests.support.moves import Moves, question_of
from tests.support.peer import ScriptedPeer
from tests.support.relay import RawWallet, RpcFailure, raw_wallet, relay
from tests.unit.bolt.pair import TYPES

SECRET = b"\x77" * 32
PREIMAGE = b"\x01" * 32
HASH = sha256(PREIMAGE).digest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.sqlite"


@pytest.fixture(params=[(role, name) for role in Role for name in TYPES], ids=str)
def any_moves(request: pytest.FixtureRequest) -> Moves:
    role, name = request.param
    return Moves(role, channel_type=TYPES[name])


@pytest.fixture
def moves() -> Moves:
    return Moves(Role.ACCEPTER)


@pytest.fixture
async def server(path: Path) -> AsyncIterator[Server]:
    async with relay(store=str(path)) as running:
        yield running


async def ready(moves: Moves, server_path: Path, wallet_id: bytes, peer: ScriptedPeer) -> None:
    await moves.store(server_path, wallet_id, peer.node_id)


@pytest.fixture
async def started(path: Path, peer: ScriptedPeer) -> AsyncIterator[Any]:
    """Makes a wallet that is connected to the peer of these moves."""
    from contextlib import AsyncExitStack

    async with AsyncExitStack() as stack:

        async def start(moves: Moves, **settings: Any) -> RawWallet:
            from coincurve import PrivateKey

            await moves.store(path, PrivateKey(SECRET).public_key.format(), peer.node_id)
            server = await stack.enter_async_context(relay(store=str(path), **settings))
            wallet = await stack.enter_async_context(raw_wallet(server.url, SECRET))
            await moves.connect(wallet, peer)
            return wallet

        yield start


async def test_a_payment_in(any_moves: Moves, started: Any) -> None:
    wallet = await started(any_moves)
    await any_moves.receive_payment(wallet, 50_000_000, PREIMAGE, HASH)
    assert any_moves.peer.snapshot.is_quiet
    await wallet.quiet()
    await any_moves.quiet()
