"""What has come to nothing is shown as that, and nothing that is dead is `ready`."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lightning_proxy.api import Server
from lightning_proxy.bolt.channel import ChannelState
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import ChannelReady, Error, OpenChannel, decode
from lightning_proxy.chain.simulated import SimulatedChain
from lightning_proxy.wallet.overview import CLOSED, FAILED, ChannelView, overview
from lightning_proxy.wallet.record import StoredChannel
from tests.support.channels import open_channel
from tests.support.funder import SimulatedFunder
from tests.support.opening import Side
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.relay import relay
from tests.support.watched import POLICY, Watched, connect, open_signed, watched_wallet


@pytest.fixture
async def chain() -> AsyncIterator[SimulatedChain]:
    async with SimulatedChain() as simulated:
        yield simulated


@pytest.fixture
async def server(chain: SimulatedChain, tmp_path: Path) -> AsyncIterator[Server]:
    store = str(tmp_path / "relay.sqlite")
    async with relay(chain=chain.url, chain_interval=0.02, store=store) as running:
        yield running


async def failed(watched: Watched) -> StoredChannel:
    """The wallet's one channel, once its record has it as failed."""
    async with asyncio.timeout(10):
        while True:
            stored = (await watched.wallet.record.channels())[-1]
            if stored.failure is not None:
                return stored
            await asyncio.sleep(0.01)


async def shown(stored: StoredChannel) -> ChannelView:
    (view,) = await overview([stored], POLICY)
    return view


async def offered(watched: Watched, connection: PeerConnection) -> Side:
    (session,) = await watched.wallet.client.sessions()
    handle = watched.wallet.client.session(session.session_id)
    await watched.wallet.open_channel(handle, 1_000_000)
    side = Side(Role.ACCEPTER)
    raw = await connection.receive()
    assert isinstance(decode(raw), OpenChannel)
    side.hear(raw)
    return side


async def test_a_public_channel_is_refused_with_the_reason(
    server: Server, peer: ScriptedPeer, tmp_path: Path
) -> None:
    async with watched_wallet(server.url, tmp_path) as watched:
        connection = await connect(watched, peer)
        await connection.send(open_channel(channel_flags=1).encode())
        error = decode(await connection.receive())
        assert isinstance(error, Error)
        assert b"this node announces none; make it private" in error.data
        assert await watched.wallet.record.channels() == []


@pytest.mark.parametrize("all_channels", [False, True])
async def test_an_opening_that_the_peer_fails(
    server: Server, peer: ScriptedPeer, chain: SimulatedChain, tmp_path: Path, all_channels: bool
) -> None:
    funder = SimulatedFunder(chain)
    async with watched_wallet(server.url, tmp_path, funder=funder) as watched:
        connection = await connect(watched, peer)
        side = await offered(watched, connection)
        id_ = bytes(32) if all_channels else side.channel.temporary_channel_id
        await connection.send(Error(channel_id=id_, data=b"no\nroom").encode())
        view = await shown(await failed(watched))
        assert view.state == FAILED
        assert view.description == 'failed (the peer failed it: "no?room")'
        assert (view.our_balance_msat, view.peer_balance_msat) == (0, 0)


async def test_an_opening_whose_connection_is_lost(
    server: Server, peer: ScriptedPeer, chain: SimulatedChain, tmp_path: Path
) -> None:
    async with watched_wallet(server.url, tmp_path, funder=SimulatedFunder(chain)) as watched:
        connection = await connect(watched, peer)
        await offered(watched, connection)
        await connection.close()
        assert "connection to the peer was lost" in ((await failed(watched)).failure or "")


async def test_an_accepted_channel_that_nobody_funded(
    server: Server, peer: ScriptedPeer, tmp_path: Path
) -> None:
    async with watched_wallet(server.url, tmp_path) as watched:
        connection = await connect(watched, peer)
        await connection.send(open_channel().encode())
        await connection.receive()
    # It ends while the wallet is away, which learns of it when it comes back.
    await connection.close()
    async with watched_wallet(server.url, tmp_path) as watched:
        assert "connection to the peer was lost" in ((await failed(watched)).failure or "")


async def test_a_live_opening_is_left_alone(
    server: Server, peer: ScriptedPeer, chain: SimulatedChain, tmp_path: Path
) -> None:
    async with watched_wallet(server.url, tmp_path, funder=SimulatedFunder(chain)) as watched:
        connection = await connect(watched, peer)
        await offered(watched, connection)
        await connection.send(open_channel().encode())
        await connection.receive()
        await watched.wallet.catch_up()
        stored = await watched.wallet.record.channels()
        assert [each.failure for each in stored] == [None, None]


async def _open(connection: PeerConnection, chain: SimulatedChain, watched: Watched) -> Side:
    """A channel that is ready on both sides."""
    side = await open_signed(connection, chain)
    chain.mine(3)
    raw = await connection.receive()
    assert isinstance(decode(raw), ChannelReady)
    side.hear(raw)
    side.confirm()
    await connection.send(side.say(side.channel_ready()))
    await watched.wait_for(ChannelState.READY)
    return side


async def test_a_ready_channel_that_the_peer_fails_is_not_ready(
    server: Server, peer: ScriptedPeer, chain: SimulatedChain, tmp_path: Path
) -> None:
    async with watched_wallet(server.url, tmp_path, chain) as watched:
        connection = await connect(watched, peer)
        side = await _open(connection, chain, watched)
        error = Error(channel_id=side.channel.channel_id, data=b"I lost it")
        await connection.send(error.encode())
        view = await shown(await failed(watched))
        assert view.state == FAILED
        assert view.description == 'failed, to be closed (the peer failed it: "I lost it")'


async def test_nor_is_one_that_failed_while_the_wallet_was_away(
    server: Server, peer: ScriptedPeer, chain: SimulatedChain, tmp_path: Path
) -> None:
    async with watched_wallet(server.url, tmp_path, chain) as watched:
        connection = await connect(watched, peer)
        side = await _open(connection, chain, watched)
    error = Error(channel_id=side.channel.channel_id, data=b"I lost it")
    await connection.send(error.encode())
    async with watched_wallet(server.url, tmp_path, chain) as watched:
        stored = await failed(watched)
        assert (await shown(stored)).state == FAILED
        assert "the peer failed it" in (stored.failure or "")


async def test_nor_is_one_that_is_spent(
    server: Server, peer: ScriptedPeer, chain: SimulatedChain, tmp_path: Path
) -> None:
    async with watched_wallet(server.url, tmp_path, chain) as watched:
        connection = await connect(watched, peer)
        side = await _open(connection, chain, watched)
        commitment = side.channel.commitments[Role.OPENER]
        ours = side.channel.signatures[Role.ACCEPTER]
        chain.add_transaction(commitment.signed(side.sign(commitment.unsigned), ours))
        chain.mine()
        stored = await failed(watched)
        assert "spent" in (stored.failure or "")
        assert (await shown(stored)).state == FAILED
        assert watched.wallet.chain is not None
        (view,) = await overview([stored], POLICY, source=watched.wallet.chain.source)
        assert (view.state, view.description) == (CLOSED, "closed on the chain")
