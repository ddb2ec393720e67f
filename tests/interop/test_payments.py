"""Payments with real peers, both ways: by the peer's own list of them, and by the wallet's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from lightning_proxy.bolt.channel import ChannelState
from lightning_proxy.wallet.policy import ChannelType
from tests.interop.lab.btcd import Btcd
from tests.interop.lab.nodes import Lnd
from tests.interop.lab.process import until
from tests.interop.peers import (
    FUNDING_SAT,
    LndFunder,
    Peer,
    grow_until_active,
    real_peer,
)
from tests.interop.relayed import LabWallet, lab_relay, lab_wallet
from tests.interop.results import Results

#: What the other side has of a channel at first.
PUSH_MSAT = 400_000_000


@asynccontextmanager
async def channel(
    lab: Path, name: str, channel_type: ChannelType, opener: str
) -> AsyncIterator[tuple[Btcd, Peer, LabWallet]]:
    """One that both can pay through."""
    async with AsyncExitStack() as stack:
        btcd = await stack.enter_async_context(Btcd(lab))
        peer = await stack.enter_async_context(real_peer(name, lab, btcd, channel_type))
        relay = await stack.enter_async_context(lab_relay(chain=btcd.source_url))
        funder = None
        if opener == "wallet":
            owner = await stack.enter_async_context(Lnd(lab, btcd, "owner", host="127.0.0.3"))
            await owner.fund()
            funder = LndFunder(owner)
        wallet = await stack.enter_async_context(
            lab_wallet(lab, relay.url, chain=btcd.source_url, funder=funder)
        )
        session = await wallet.reference.connect(peer.url)
        if opener == "peer":
            await peer.open_to(wallet.node_id, channel_type, PUSH_MSAT)
        else:
            await wallet.reference.open_channel(
                session, FUNDING_SAT, PUSH_MSAT, channel_type=channel_type
            )

            async def broadcast() -> bool:
                return bool(await btcd.rpc("getrawmempool"))

            await until("the funding transaction", broadcast, peer.node.child)
        await grow_until_active(btcd, peer, wallet.node_id)

        async def ready() -> bool:
            (ours,) = await wallet.reference.record.channels()
            return ours.channel().state is ChannelState.READY

        await until("the wallet's channel_ready", ready, patience=20)
        yield btcd, peer, wallet


@pytest.mark.parametrize("opener", ["peer", "wallet"])
@pytest.mark.parametrize("channel_type", ["static_remotekey", "anchors"])
@pytest.mark.parametrize("name", ["lnd", "ldk"])
async def test_payments_both_ways(
    lab: Path, results: Results, name: str, channel_type: ChannelType, opener: str
) -> None:
    async with channel(lab, name, channel_type, opener) as (_, peer, wallet):
        invoice = await wallet.reference.create_invoice(10_000_000)
        await peer.pay(invoice.text)
        assert await peer.sent() == {invoice.payment_hash.hex(): "settled"}
        bill = await peer.bill(20_000_000)
        paid = await asyncio.wait_for(wallet.reference.pay(bill.text), 60)
        assert paid.status == "sent", paid.reason
        assert (await peer.received())[bill.payment_hash] == "settled"
