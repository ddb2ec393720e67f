"""The real wallet at the real relay: channels from `open_channel` to `channel_ready`, both ways."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lightning_proxy.api import Server
from lightning_proxy.bolt.channel import ChannelState
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import (
    ChannelReestablish,
    FundingCreated,
    Message,
    OpenChannel,
    decode,
)
from lightning_proxy.bolt.signing import parse_transaction
from lightning_proxy.chain.simulated import SimulatedChain
from lightning_proxy.wallet import Backoff
from lightning_proxy.wallet.events import ChannelProblem
from tests.support.funder import SimulatedFunder
from tests.support.opening import Side
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.relay import take
from tests.support.watched import Watched, connect, watched_wallet

QUICK = Backoff(first=0.01, most=0.05)
FUNDING_SAT = 1_000_000


@pytest.fixture
def settings(with_chain: dict[str, Any]) -> dict[str, Any]:
    return with_chain


@asynccontextmanager
async def owner(
    server: Server, folder: Path, chain: SimulatedChain | None = None, **options: Any
) -> AsyncIterator[Watched]:
    """A wallet that connects again by itself."""
    options = {"reconnect": True, "reconnect_backoff": QUICK, "chain_patience": 60.0, **options}
    async with watched_wallet(server.url, folder, chain, **options) as watched:
        yield watched


async def hear(side: Side, connection: PeerConnection, kind: type[Message]) -> bytes:
    raw = await connection.receive()
    assert isinstance(decode(raw), kind), decode(raw)
    side.hear(raw)
    return raw


async def open_to(connection: PeerConnection, chain: SimulatedChain, **changes: Any) -> Side:
    """A peer opens a channel, up to `funding_signed`."""
    side = Side(Role.OPENER)
    await connection.send(side.say(side.open_channel(funding_satoshis=FUNDING_SAT, **changes)))
    side.hear(await connection.receive())
    transaction, index = chain.faucet(side.channel.funding_scriptpubkey, FUNDING_SAT)
    txid = parse_transaction(transaction).id[::-1]
    await connection.send(side.say(side.funding_created(txid, index)))
    side.hear(await connection.receive())
    assert side.channel.state is ChannelState.SIGNED
    return side


async def make_ready(side: Side, connection: PeerConnection) -> None:
    side.hear(await connection.receive())
    assert side.channel.channel_ready(side.channel.role.other) is not None
    side.confirm()
    await connection.send(side.say(side.channel_ready()))


@pytest.mark.parametrize("push_msat", [0, 300_000_000])
@pytest.mark.parametrize("own_chain", [False, True])
@pytest.mark.parametrize("channel_type", ["1000", "401000"])
async def test_a_peer_opens_a_channel(
    server: Server,
    peer: ScriptedPeer,
    chain: SimulatedChain,
    tmp_path: Path,
    push_msat: int,
    own_chain: bool,
    channel_type: str,
) -> None:
    async with owner(server, tmp_path, chain if own_chain else None) as watched:
        connection = await connect(watched, peer)
        changes = {"push_msat": push_msat, "channel_type": bytes.fromhex(channel_type)}
        side = await open_to(connection, chain, **changes)
        assert (await watched.channel()).state is ChannelState.SIGNED
        chain.mine()
        await make_ready(side, connection)
        await watched.wait_for(ChannelState.READY)
        (stored,) = await watched.wallet.record.channels()
        assert list(stored.log) == side.channel.log
        assert stored.channel().balance_msat(Role.ACCEPTER) == push_msat


@pytest.mark.parametrize("own_chain", [False, True])
@pytest.mark.parametrize("channel_type", ["static_remotekey", "anchors"])
async def test_a_wallet_opens_a_channel(
    server: Server,
    peer: ScriptedPeer,
    chain: SimulatedChain,
    tmp_path: Path,
    own_chain: bool,
    channel_type: Any,
) -> None:
    funder = SimulatedFunder(chain)
    async with owner(server, tmp_path, chain if own_chain else None, funder=funder) as watched:
        connection = await connect(watched, peer)
        (session,) = await watched.wallet.client.sessions()
        handle = watched.wallet.client.session(session.session_id)
        await watched.wallet.open_channel(handle, FUNDING_SAT, 1000, channel_type=channel_type)
        side = Side(Role.ACCEPTER)
        await hear(side, connection, OpenChannel)
        await connection.send(side.say(side.accept_channel()))
        await hear(side, connection, FundingCreated)
        assert not chain.mempool
        await connection.send(side.say(side.funding_signed()))
        await watched.wait_for(ChannelState.SIGNED)
        while not chain.mempool:
            await asyncio.sleep(0.01)
        chain.mine()
        await make_ready(side, connection)
        await watched.wait_for(ChannelState.READY)
        (stored,) = await watched.wallet.record.channels()
        assert list(stored.log) == side.channel.log
        (wanted,) = funder.paid
        assert wanted.address.startswith("bcrt1q")


async def test_the_peer_and_the_wallet_come_back(
    server: Server, peer: ScriptedPeer, chain: SimulatedChain, tmp_path: Path
) -> None:
    async with owner(server, tmp_path, chain) as watched:
        connection = await connect(watched, peer)
        side = await open_to(connection, chain)
        # The peer restarts: the wallet dials it again by itself.
        await connection.close()
        side.channel.disconnected()
        connection = await take(peer)
        await hear(side, connection, ChannelReestablish)
        await connection.send(side.say(side.channel.reestablish()))
    # The wallet is away when it confirms, and the peer is ready first.
    side.confirm()
    chain.mine()
    await connection.send(side.say(side.channel_ready()))
    async with owner(server, tmp_path, chain) as watched:
        side.hear(await connection.receive())
        await watched.wait_for(ChannelState.READY)
        (stored,) = await watched.wallet.record.channels()
        assert set(stored.log) == set(side.channel.log)
        assert not [each for each in watched.events if isinstance(each, ChannelProblem)]
