"""`kill -9` in the middle of a payment: of the relay, of the wallet, of the peer, at each step.

Each time the peer's own list of the payment and the wallet's agree in the end, and another payment
passes through the same channel.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.lab.btcd import Btcd
from tests.interop.lab.nodes import LND_HOST
from tests.interop.lab.ours import PayingWallet, RelayProcess
from tests.interop.lab.process import LabError, Part, until
from tests.interop.peers import Peer, grow_until_active, real_peer
from tests.interop.results import Results

PUSH_MSAT = 400_000_000
#: Above the dust limit, so that it is an output of the commitments.
AMOUNT_MSAT = 1_000_000
PATIENCE = 60.0

#: What the relay's log says at that moment, for the how manieth time since the payment began.
RECEIVED = {
    "update_add_htlc came": ("delegated", 1),
    "its revoke_and_ack sent": ("revoke_and_ack", 1),
    "the peer's revoke_and_ack came": ("delegated", 2),
    "update_fulfill_htlc sent": ("update_fulfill_htlc", 1),
    "the removal was signed": ("delegated", 3),
    "the last revoke_and_ack sent": ("revoke_and_ack", 2),
}
SENT = {
    "update_add_htlc sent": ("update_add_htlc", 1),
    "the peer signed it": ("delegated", 1),
    "its revoke_and_ack sent": ("revoke_and_ack", 1),
    "update_fulfill_htlc came": ("delegated", 2),
    "the last revoke_and_ack sent": ("revoke_and_ack", 2),
}
#: The wallet's words for its own list, by the peer's. A payment that the peer lost before it was
#: offered is on no list of the peer's.
AGREED = {"settled": "paid", "failed": "open", "none": "open"}
#: The same for a payment of the wallet's.
AGREED_SENT = {"settled": "sent", "failed": "failed", "open": "failed"}


@dataclass
class Scene:
    """Who takes part."""

    peer: Peer
    relay: RelayProcess
    wallet: PayingWallet

    async def usable(self) -> None:
        async def active() -> bool:
            await self.wallet.do("connect", peer=self.peer.url)
            return await self.peer.is_active(self.wallet.node_id)

        await until("the channel", active, self.wallet.child, patience=PATIENCE)

    async def quiet(self) -> None:
        async def none() -> bool:
            count: int = await self.wallet.do("htlcs")
            return count == 0

        await until("the end of all HTLCs", none, self.wallet.child, patience=PATIENCE)

    async def receive(self) -> str:
        """A payment that nobody interrupts; returns its hash."""
        made = await self.wallet.do("invoice", amount_msat=AMOUNT_MSAT)
        await self.peer.pay(made["text"])
        assert (await self.peer.sent())[made["payment_hash"]] == "settled"
        hash_: str = made["payment_hash"]
        return hash_

    async def send(self) -> None:
        bill = await self.peer.bill(AMOUNT_MSAT)
        assert await self.wallet.do("pay", text=bill.text) == "sent"
        assert (await self.peer.received())[bill.payment_hash] == "settled"


@pytest.mark.parametrize("victim", ["relay", "wallet", "peer"])
@pytest.mark.parametrize("name", ["lnd", "ldk"])
async def test_killed_at_each_step_of_a_payment(
    lab: Path, results: Results, name: str, victim: str
) -> None:
    async with (
        Btcd(lab) as btcd,
        real_peer(name, lab, btcd, "anchors") as peer,
        RelayProcess(lab, btcd.source_url, LND_HOST) as relay,
        PayingWallet(lab, relay, btcd.source_url) as wallet,
    ):
        scene = Scene(peer, relay, wallet)
        await wallet.do("connect", peer=peer.url)
        await peer.open_to(wallet.node_id, "anchors", PUSH_MSAT)
        await grow_until_active(btcd, peer, wallet.node_id)

        async def begun() -> bool:
            await scene.receive()
            return True

        await until("the first payment", begun, wallet.child, patience=PATIENCE)
        parts: dict[str, Part] = {"relay": relay, "wallet": wallet, "peer": peer.node}
        for direction, steps in (("received", RECEIVED), ("sent", SENT)):
            for step, (event, times) in steps.items():
                try:
                    await scene.quiet()
                    killing = received if direction == "received" else sent
                    outcome = await killing(scene, parts[victim], event, times)
                    await scene.usable()
                    await scene.receive()
                    await scene.send()
                except (LabError, TimeoutError, AssertionError) as error:
                    told = f"{name}, {victim} killed, {direction}, at {step!r}: {error}"
                    raise LabError(told) from error
                results.killed_paying(name, victim, direction, step, outcome)


async def received(scene: Scene, victim: Part, event: str, times: int) -> str:
    """The wallet is paid; returns what the peer's list says."""
    made = await scene.wallet.do("invoice", amount_msat=AMOUNT_MSAT)
    hash_ = made["payment_hash"]
    since = scene.relay.mark()
    paying = asyncio.create_task(scene.peer.pay(made["text"]))
    await scene.relay.said(since, event, times=times)
    await victim.restart()
    await scene.usable()

    async def told() -> str | None:
        theirs = (await scene.peer.sent()).get(hash_, "none")
        ours = (await scene.wallet.do("payments"))[hash_]
        # Where the peer was killed before it had stored it, nobody knows of a payment.
        is_over = theirs in ("settled", "failed") or victim is scene.peer.node
        return theirs if is_over and AGREED.get(theirs) == ours else None

    try:
        theirs = await until("both lists to agree", told, scene.wallet.child, patience=PATIENCE)
    finally:
        paying.cancel()
        await asyncio.gather(paying, return_exceptions=True)
    await scene.quiet()
    return theirs


async def sent(scene: Scene, victim: Part, event: str, times: int) -> str:
    """The wallet pays; returns what the peer's list says."""
    bill = await scene.peer.bill(AMOUNT_MSAT)
    since = scene.relay.mark()
    paying = asyncio.create_task(scene.wallet.do("pay", text=bill.text))
    await scene.relay.said(since, event, times=times)
    await victim.restart()
    await scene.usable()

    async def told() -> str | None:
        theirs = (await scene.peer.received()).get(bill.payment_hash, "open")
        ours = (await scene.wallet.do("payments"))[bill.payment_hash]
        return theirs if AGREED_SENT.get(theirs) == ours else None

    theirs = await until("both lists to agree", told, scene.wallet.child, patience=PATIENCE)
    paying.cancel()
    await asyncio.gather(paying, return_exceptions=True)
    await scene.quiet()
    return theirs
