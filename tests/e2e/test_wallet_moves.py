"""The real wallet at the real relay: payments in and out, fees, over lost connections."""

import asyncio
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey

from lightning_proxy.api import Server
from lightning_proxy.bolt.channel import ChannelState
from lightning_proxy.bolt.channel.begin import snapshot_of
from lightning_proxy.bolt.invoice import Invoice, sign
from lightning_proxy.bolt.messages import (
    ChannelReady,
    ChannelReestablish,
    CommitmentSigned,
    Message,
    RevokeAndAck,
    UpdateFailHtlc,
    UpdateFee,
    UpdateFulfillHtlc,
    decode,
)
from lightning_proxy.chain.simulated import SimulatedChain
from lightning_proxy.rpc import DelegationKind
from lightning_proxy.wallet.events import DelegationReceived, PaymentReceived, PaymentSent
from tests.e2e.test_wallet_channels import make_ready, open_to, owner
from tests.support.moving import Mover
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.relay import take
from tests.support.watched import Watched, connect
from tests.unit.wallet.moving import invoiced

PREIMAGES = (b"\x01" * 32, b"\x02" * 32)


@pytest.fixture
def settings(with_chain: dict[str, Any]) -> dict[str, Any]:
    return with_chain


class Peer:
    """Moves its channel by hand: what it owes, it says at once."""

    def __init__(self, mover: Mover, connection: PeerConnection) -> None:
        self.mover = mover
        self.connection = connection

    async def say(self, message: Message) -> None:
        await self.connection.send(self.mover.say(message))

    async def hear(self) -> Message:
        raw = await self.connection.receive()
        message = decode(raw)
        if not isinstance(message, ChannelReady):
            for again in self.mover.hear(raw):
                await self.connection.send(again)
        return message

    async def answer(self) -> None:
        """Say what is owed for what was heard."""
        if self.mover.snapshot.owes_revocation:
            await self.say(self.mover.revoke_and_ack())
        if self.mover.snapshot.may_commit:
            await self.say(self.mover.commitment_signed())

    async def settle(self) -> None:
        """Until nothing is under way."""
        await self.answer()
        while not self.mover.snapshot.is_quiet:
            await self.hear()
            await self.answer()

    async def come_back(self, connection: PeerConnection) -> None:
        """On a connection that the wallet made."""
        self.connection = connection
        self.mover.disconnect()
        await connection.send(self.mover.reconnect())
        while not isinstance(await self.hear(), ChannelReestablish):
            pass


async def moving_to(watched: Watched, peer: ScriptedPeer, chain: SimulatedChain) -> Peer:
    """A peer with a channel that is ready; 300,000 sat of it are the wallet's."""
    connection = await connect(watched, peer)
    side = await open_to(connection, chain, push_msat=300_000_000)
    chain.mine()
    await make_ready(side, connection)
    await watched.wait_for(ChannelState.READY)
    return Peer(Mover(side.keys, snapshot_of(side.channel)), connection)


async def received(watched: Watched, count: int) -> None:
    async with asyncio.timeout(10):
        while sum(isinstance(each, PaymentReceived) for each in watched.events) < count:
            await asyncio.sleep(0.01)


async def test_payments_come_in(
    server: Server, peer: ScriptedPeer, chain: SimulatedChain, tmp_path: Path
) -> None:
    async with owner(server, tmp_path, chain) as watched:
        moving = await moving_to(watched, peer, chain)
        mover = moving.mover
        for count in range(1, 4):
            text = (await watched.wallet.create_invoice(20_000_000, "tea")).text
            await moving.say(invoiced(mover, text, chain.tip.height))
            await moving.settle()
            await received(watched, count)
        await moving.say(UpdateFee(channel_id=mover.channel_id, feerate_per_kw=500))
        await moving.settle()
        # The connection breaks with a payment half way, and the wallet makes another one.
        text = (await watched.wallet.create_invoice(30_000_000, "cake")).text
        await moving.say(invoiced(mover, text, chain.tip.height))
        await moving.say(mover.commitment_signed())
        assert isinstance(await moving.hear(), RevokeAndAck)
        assert isinstance(decode(await moving.connection.receive()), CommitmentSigned)
        await moving.connection.close()
        await moving.come_back(await take(peer))
        await moving.settle()
        await received(watched, 4)
        asked = [e.request.kind for e in watched.events if isinstance(e, DelegationReceived)]
        assert DelegationKind.COMMITMENT in asked
        # It says where its channels stand before anybody asks.
        assert DelegationKind.REESTABLISH not in asked
    assert mover.snapshot.theirs.commitment.state.to_accepter_msat == 390_000_000


async def test_a_payment_goes_out_and_another_comes_back(
    server: Server, peer: ScriptedPeer, chain: SimulatedChain, tmp_path: Path
) -> None:
    async with owner(server, tmp_path, chain) as watched:
        moving = await moving_to(watched, peer, chain)
        mover = moving.mover
        for number, preimage in enumerate((PREIMAGES[0], None)):
            invoice = Invoice(
                prefix="bcrt",
                amount_msat=20_000_000,
                timestamp=int(time.time()),
                payment_hash=sha256(PREIMAGES[number]).digest(),
                payment_secret=b"\x02" * 32,
                description="tea",
            )
            text = sign(invoice, PrivateKey(peer.node_secret).sign_recoverable).text
            paying = asyncio.create_task(watched.wallet.pay(text))
            while not mover.snapshot.ours.commitment.state.htlcs:
                await moving.hear()
                await moving.answer()
            while mover.snapshot.theirs.unrevoked or mover.snapshot.ours.unrevoked:
                await moving.hear()
                await moving.answer()
            if preimage is None:
                removal: Message = UpdateFailHtlc(
                    channel_id=mover.channel_id, id=number, reason=bytes(292)
                )
            else:
                removal = UpdateFulfillHtlc(
                    channel_id=mover.channel_id,
                    id=number,
                    payment_preimage=PREIMAGES[number],
                )
            await moving.say(removal)
            await moving.settle()
            async with asyncio.timeout(10):
                payment = await paying
            assert (payment.preimage is None) is (preimage is None)
        await watched.until(PaymentSent)
    assert mover.snapshot.theirs.commitment.state.to_accepter_msat == 280_000_000
