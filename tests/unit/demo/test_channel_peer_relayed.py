"""The channel peer, honest and not, against the reference wallet behind a real relay."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from lightning_proxy.bolt.channel import Channel, ChannelState
from lightning_proxy.bolt.messages import ChannelReady, FundingCreated
from lightning_proxy.chain.simulated import SimulatedChain
from lightning_proxy.demo.channel_peer import MINIMUM_DEPTH, Opening
from lightning_proxy.wallet import Backoff, Policy, Record, ReferenceWallet, WalletKeys, files
from tests.support.channel_peer import (
    Fault,
    RunningPeer,
    channel_peer,
    hangs_up_at,
    honest,
    ready_too_early,
    silent_at,
    twice,
    wrong_signature,
)
from tests.support.relay import relay

FUNDING_SAT = 500_000
INTERVAL = 0.02
POLICY = Policy(chains=("regtest",), minimum_depth=MINIMUM_DEPTH)


@asynccontextmanager
async def opening(
    folder: Path, fault: Fault
) -> AsyncIterator[tuple[SimulatedChain, RunningPeer, ReferenceWallet]]:
    """A peer with this fault opens a channel to a wallet, which watches and reconnects."""
    keys = WalletKeys.generate()
    Record.create(files.record_path(folder / "wallet"), keys.node_id)
    async with (
        SimulatedChain() as chain,
        channel_peer(chain, Opening(FUNDING_SAT), fault=fault) as running,
        relay(
            chain=chain.url, chain_interval=INTERVAL, store=str(folder / "relay.sqlite")
        ) as server,
        ReferenceWallet(
            folder / "wallet",
            keys,
            server.url,
            policy=POLICY,
            chain=chain.url,
            chain_interval=INTERVAL,
            reconnect_backoff=Backoff(first=0.01, most=0.05),
        ) as wallet,
    ):
        await wallet.connect(running.address)

        async def watch() -> None:
            async for _ in wallet.watch():
                pass

        watching = asyncio.create_task(watch())
        try:
            yield chain, running, wallet
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching


async def the_channel(wallet: ReferenceWallet, state: ChannelState) -> Channel:
    """The wallet's one signed channel, once it has come so far."""
    async with asyncio.timeout(20):
        while True:
            channels = [stored.channel() for stored in await wallet.record.channels()]
            for channel in channels:
                if channel.state is state:
                    return channel
            await asyncio.sleep(INTERVAL)


@pytest.mark.parametrize(
    "fault",
    [
        honest,
        hangs_up_at(ChannelReady, before=True),
        hangs_up_at(ChannelReady),
        twice(ChannelReady),
    ],
    ids=["honest", "gone before ready", "gone after ready", "ready twice"],
)
async def test_it_opens_all_the_same(tmp_path: Path, fault: Fault) -> None:
    """The wallet connects again by itself, and the opening goes on."""
    async with opening(tmp_path, fault) as (chain, running, wallet):
        await it_opens(chain, running, wallet)


async def test_it_begins_anew(tmp_path: Path) -> None:
    """Without both signatures there is nothing to connect again for, until the owner does."""
    gone = hangs_up_at(FundingCreated, before=True)
    async with opening(tmp_path, gone) as (chain, running, wallet):
        await running.events.until("closed")
        await wallet.connect(running.address)
        await it_opens(chain, running, wallet)
        states = [stored.channel().state for stored in await wallet.record.channels()]
        assert sorted(states) == [ChannelState.ACCEPTED, ChannelState.READY]


async def it_opens(chain: SimulatedChain, running: RunningPeer, wallet: ReferenceWallet) -> None:
    await running.events.until("broadcast")
    chain.mine(MINIMUM_DEPTH)
    channel = await the_channel(wallet, ChannelState.READY)
    view = await running.events.until("channel")
    assert view["channel_id"] == channel.channel_id.hex()
    assert view["our_balance_msat"] == 1000 * FUNDING_SAT


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(wrong_signature, "funding_created: signature"), (ready_too_early, "channel_ready does not")],
    ids=["wrong signature", "ready too early"],
)
async def test_it_does_not_open(tmp_path: Path, fault: Fault, reason: str) -> None:
    """The peer hears why, and nothing is funded or signed."""
    async with opening(tmp_path, fault) as (chain, running, wallet):
        assert reason in (await running.events.until("failed"))["reason"]
        assert running.peer.channels == []
        (stored,) = await wallet.record.channels()
        assert stored.channel().state is ChannelState.ACCEPTED
        assert chain.mempool == ()


async def test_a_silent_peer(tmp_path: Path) -> None:
    """The wallet is asked nothing more, and the connection lives."""
    async with opening(tmp_path, silent_at(FundingCreated)) as (chain, running, wallet):
        await running.events.until("accept_channel_received")
        (session,) = await wallet.client.sessions()
        assert session.open_delegations == 0
        (stored,) = await wallet.record.channels()
        assert stored.channel().state is ChannelState.ACCEPTED
        assert chain.mempool == ()
