"""A real wallet at a real relay, as the interop tests use them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from lightning_proxy.api import Server
from lightning_proxy.relay import DialSettings
from lightning_proxy.wallet import Policy, Session
from lightning_proxy.wallet.events import Event, ReceivedMessage
from lightning_proxy.wallet.files import create
from lightning_proxy.wallet.funding import Funder
from lightning_proxy.wallet.keystore import load
from lightning_proxy.wallet.reference import ReferenceWallet
from tests.interop.lab.nodes import LND_HOST
from tests.support.relay import relay

T = TypeVar("T")

#: btcd and LDK's made-up chain are both regtest.
POLICY = Policy(chains=("regtest",))
_PASSPHRASE = "the lab's"
_PATIENCE = 60.0


@asynccontextmanager
async def lab_relay(chain: str | None = None) -> AsyncIterator[Server]:
    """A relay that dials from where lnd doesn't take it for a Tor peer."""
    dial = DialSettings(source=LND_HOST)
    async with relay(dial=dial, chain=chain, chain_interval=0.2) as server:
        yield server


class LabWallet:
    """The reference wallet, with what happened to it so far."""

    def __init__(self, wallet: ReferenceWallet) -> None:
        self.reference = wallet
        self.client = wallet.client
        self.node_id = wallet.client.node_id.hex()
        self.events: list[Event] = []
        self._changed = asyncio.Event()

    async def watch(self) -> None:
        async for event in self.reference.watch():
            self.events.append(event)
            self._changed.set()

    async def event(self, kind: type[T]) -> T:
        """The first event of this kind, now or later."""
        async with asyncio.timeout(_PATIENCE):
            while True:
                for event in self.events:
                    if isinstance(event, kind):
                        return event
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def lab_wallet(
    folder: Path,
    relay_url: str,
    name: str = "wallet",
    policy: Policy = POLICY,
    *,
    chain: str | None = None,
    funder: Funder | None = None,
) -> AsyncIterator[LabWallet]:
    """Fresh keys in a keystore of their own, connected and watching."""
    path = folder / name
    create(path, _PASSPHRASE, cost=10)
    keys = load(path, _PASSPHRASE)
    async with ReferenceWallet(
        path, keys, relay_url, policy=policy, chain=chain, chain_interval=0.2, funder=funder
    ) as reference:
        wallet = LabWallet(reference)
        watching = asyncio.create_task(wallet.watch())
        try:
            yield wallet
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def receive(session: Session, name: str) -> ReceivedMessage:
    """The session's next message of this name; others before it are passed over."""
    async with asyncio.timeout(_PATIENCE):
        async for message in session.messages():
            if message.name == name:
                return message
    raise AssertionError(f"the session ended before {name} came")
