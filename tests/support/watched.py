"""A reference wallet in the test's own process, watched, and honest openings to begin with."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from lightning_proxy.bolt.channel import Channel, ChannelState
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import AcceptChannel, decode
from lightning_proxy.bolt.signing import parse_transaction
from lightning_proxy.chain.simulated import SimulatedChain
from lightning_proxy.wallet import Policy, ReferenceWallet, keystore
from lightning_proxy.wallet.events import Event
from lightning_proxy.wallet.files import create
from tests.support.opening import Side
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.relay import take

E = TypeVar("E")

POLICY = Policy(chains=("regtest",))
FUNDING_SAT = 1_000_000


class Watched:
    """A reference wallet, and all that happened to it."""

    def __init__(self, wallet: ReferenceWallet) -> None:
        self.wallet = wallet
        self.events: list[Event] = []

    async def watch(self) -> None:
        async for event in self.wallet.watch():
            self.events.append(event)

    async def until(self, kind: type[E]) -> E:
        """The first event of this kind, whether it came already or is to come."""
        async with asyncio.timeout(10):
            while True:
                for event in self.events:
                    if isinstance(event, kind):
                        return event
                await asyncio.sleep(0.01)

    async def channel(self) -> Channel:
        """The latest, as the record has it."""
        return (await self.wallet.record.channels())[-1].channel()

    async def wait_for(self, state: ChannelState) -> None:
        async with asyncio.timeout(10):
            while (await self.channel()).state is not state:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def watched_wallet(
    url: str, folder: Path, chain: SimulatedChain | None = None, **options: Any
) -> AsyncIterator[Watched]:
    path = folder / "wallet"
    if not path.exists():
        create(path, "passphrase", cost=10)
    async with ReferenceWallet(
        path,
        keystore.load(path, "passphrase"),
        url,
        chain=None if chain is None else chain.url,
        chain_interval=0.02,
        **{"policy": POLICY, "reconnect": False, "chain_patience": 0.2, **options},
    ) as wallet:
        watched = Watched(wallet)
        watching = asyncio.create_task(watched.watch())
        try:
            yield watched
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def connect(watched: Watched, peer: ScriptedPeer) -> PeerConnection:
    taking = asyncio.create_task(take(peer))
    await watched.wallet.connect(peer.address)
    return await taking


async def offer(side: Side, connection: PeerConnection, **changes: Any) -> None:
    """The peer's `open_channel`, and the `accept_channel` that comes back."""
    await connection.send(side.say(side.open_channel(funding_satoshis=FUNDING_SAT, **changes)))
    accept = await connection.receive()
    assert isinstance(decode(accept), AcceptChannel)
    side.hear(accept)


async def open_signed(
    connection: PeerConnection, chain: SimulatedChain | None = None, **changes: Any
) -> Side:
    """An honest opening, up to `funding_signed`."""
    side = Side(Role.OPENER)
    await offer(side, connection, **changes)
    txid, index = None, 0
    if chain is not None:
        transaction, index = chain.faucet(side.channel.funding_scriptpubkey, FUNDING_SAT)
        txid = parse_transaction(transaction).id[::-1]
    await connection.send(side.say(side.funding_created(txid, index)))
    side.hear(await connection.receive())
    assert side.channel.state is ChannelState.SIGNED
    return side
