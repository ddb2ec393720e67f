"""`wallet pay` as a program, by itself and beside a wallet that watches, at the real relay."""

import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey

from lightning_proxy.api import Server
from lightning_proxy.bolt.invoice import Invoice, sign
from lightning_proxy.bolt.messages import Message, UpdateFailHtlc, UpdateFulfillHtlc
from lightning_proxy.chain.simulated import SimulatedChain
from tests.e2e.test_wallet_channels import owner
from tests.e2e.test_wallet_moves import Peer, moving_to
from tests.support.peer import ScriptedPeer
from tests.unit.wallet.program import Program, run

PREIMAGE = b"\x01" * 32


@pytest.fixture
def settings(with_chain: dict[str, Any]) -> dict[str, Any]:
    return with_chain


class At:
    """A channel with a peer that is ready, and the commands of its wallet."""

    def __init__(self, moving: Peer, text: str, variables: dict[str, str]) -> None:
        self.moving, self.text, self.variables = moving, text, variables

    async def pay(self) -> Program:
        return await Program.start("pay", self.text, "--yes", "--json", **self.variables)

    async def offered(self) -> None:
        """Until the payment is the peer's to decide about."""
        mover = self.moving.mover
        while not mover.snapshot.ours.commitment.state.htlcs:
            await self.moving.hear()
            await self.moving.answer()
        while mover.snapshot.theirs.unrevoked or mover.snapshot.ours.unrevoked:
            await self.moving.hear()
            await self.moving.answer()

    async def remove(self, *, paid: bool) -> None:
        channel_id = self.moving.mover.channel_id
        removal: Message = UpdateFailHtlc(channel_id=channel_id, id=0, reason=bytes(292))
        if paid:
            removal = UpdateFulfillHtlc(channel_id=channel_id, id=0, payment_preimage=PREIMAGE)
        await self.moving.say(removal)
        await self.moving.settle()

    async def payment(self) -> Any:
        _, out, _ = await run("payments", "--json", **self.variables)
        return json.loads(out)


@asynccontextmanager
async def channel(
    server: Server, peer: ScriptedPeer, chain: SimulatedChain, folder: Path, *, watch: bool
) -> AsyncIterator[At]:
    invoice = Invoice(
        prefix="bcrt",
        amount_msat=20_000_000,
        timestamp=int(time.time()),
        payment_hash=sha256(PREIMAGE).digest(),
        payment_secret=b"\x02" * 32,
        description="tea",
    )
    policy = folder / "policy.toml"
    policy.write_text('chains = ["regtest"]\n')
    variables = {
        "LIGHTNING_PROXY_WALLET_FILE": str(folder / "wallet"),
        "LIGHTNING_PROXY_WALLET_PASSPHRASE": "passphrase",
        "LIGHTNING_PROXY_WALLET_CHAIN": chain.url,
        "LIGHTNING_PROXY_RELAY": server.url,
    }
    async with owner(server, folder, chain) as watched:
        moving = await moving_to(watched, peer, chain)
        text = sign(invoice, PrivateKey(peer.node_secret).sign_recoverable).text
        if watch:
            yield At(moving, text, variables)
    if not watch:
        yield At(moving, text, variables)


@pytest.mark.parametrize("watch", [True, False], ids=["beside watch", "alone"])
async def test_a_payment_arrives_once(
    server: Server, peer: ScriptedPeer, chain: SimulatedChain, tmp_path: Path, watch: bool
) -> None:
    async with channel(server, peer, chain, tmp_path, watch=watch) as at:
        program = await at.pay()
        await at.offered()
        await program.until("payment_offered")
        assert (await at.payment())["status"] == "pending"
        await at.remove(paid=True)
        assert (await program.until("payment_sent"))["preimage"] == PREIMAGE.hex()
        assert (await program.end())[0] == 0
        payment = await at.payment()
        assert (payment["status"], payment["preimage"]) == ("sent", PREIMAGE.hex())
        # A second time nothing is paid.
        code, _, err = await (await at.pay()).end()
        assert code == 1
        assert "was paid already" in err
        assert (await at.payment())["status"] == "sent"


@pytest.mark.parametrize("watch", [True, False], ids=["beside watch", "alone"])
async def test_a_payment_fails(
    server: Server, peer: ScriptedPeer, chain: SimulatedChain, tmp_path: Path, watch: bool
) -> None:
    async with channel(server, peer, chain, tmp_path, watch=watch) as at:
        program = await at.pay()
        await at.offered()
        await at.remove(paid=False)
        code, _, err = await program.end()
        assert code == 1
        assert "The payment of 20,000.000 sat failed: it failed, and nobody can tell why" in err
        assert (await at.payment())["status"] == "failed"


async def test_an_interrupt_leaves_it_running(
    server: Server, peer: ScriptedPeer, chain: SimulatedChain, tmp_path: Path
) -> None:
    async with channel(server, peer, chain, tmp_path, watch=False) as at:
        program = await at.pay()
        await at.offered()
        await program.until("payment_offered")
        program.process.send_signal(signal.SIGINT)
        code, _, err = await program.end()
        assert code == 130
        assert "The payment goes on, and may still arrive" in err
        # Who asks again waits for the same payment.
        again = await at.pay()
        await again.until("payment_offered")
        await at.remove(paid=True)
        assert (await again.until("payment_sent"))["preimage"] == PREIMAGE.hex()
        code, _, err = await again.end()
        assert code == 0
        assert "under way already" in err
        assert at.moving.mover.snapshot.theirs.commitment.state.to_accepter_msat == 280_000_000
