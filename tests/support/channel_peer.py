"""The demo's `ChannelPeer` in the test's own process, honest or not, and somebody who dials it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from coincurve import PrivateKey

from lightning_proxy.bolt.messages import (
    ChannelReady,
    FundingCreated,
    FundingSigned,
    Message,
)
from lightning_proxy.chain import open_source
from lightning_proxy.chain.simulated import SimulatedChain
from lightning_proxy.demo.channel_peer import ChannelPeer, Opening, PeerChannel
from lightning_proxy.demo.coins import Faucet, Payment
from lightning_proxy.demo.connection import address_of, converse_with_all
from lightning_proxy.transport.handshake import ACT_TWO_SIZE, Initiator
from tests.support.peer import PeerConnection

#: Seconds: between looks at the chain, and for what is waited for.
_INTERVAL: Final = 0.02
_WAIT: Final = 10.0


class FaultyPeer(ChannelPeer):
    """Says what `fault` makes of each message: another, several, or none.

    It goes by its own state machine as if it had said the right one.
    """

    fault: Callable[["FaultyPeer", PeerChannel, Message], list[Message]]

    def say(self, held: PeerChannel, message: Message) -> None:
        connection = self._connections[held.node_id]
        held.channel.send(message.encode(), message)
        for each in self.fault(self, held, message):
            connection.send(each)

    async def until_alone(self) -> None:
        """Return when no connection is left, and what that calls for is done."""
        async with asyncio.timeout(_WAIT):
            while self._connections:
                await asyncio.sleep(0)

    async def look(self) -> None:
        """Look at the chain now; returns when that is done."""
        await self._watch.poke()


Fault = Callable[[FaultyPeer, PeerChannel, Message], list[Message]]


def honest(_: FaultyPeer, __: PeerChannel, message: Message) -> list[Message]:
    return [message]


def wrong_signature(_: FaultyPeer, __: PeerChannel, message: Message) -> list[Message]:
    """Its first signature has a bit flipped."""
    if isinstance(message, FundingCreated | FundingSigned):
        flipped = message.signature[:-1] + bytes([message.signature[-1] ^ 1])
        return [msgspec.structs.replace(message, signature=flipped)]
    return [message]


def silent_at(kind: type[Message]) -> Fault:
    """Never says messages of this class."""
    return lambda peer, held, message: [] if isinstance(message, kind) else [message]


def twice(kind: type[Message]) -> Fault:
    """Says messages of this class twice."""
    return lambda peer, held, message: [message, *([message] * isinstance(message, kind))]


def ready_too_early(_: FaultyPeer, held: PeerChannel, message: Message) -> list[Message]:
    """Says `channel_ready` right behind its signature, before any block."""
    if isinstance(message, FundingCreated | FundingSigned):
        early = ChannelReady(
            channel_id=held.channel.channel_id,
            second_per_commitment_point=held.secrets.per_commitment_point(1),
        )
        return [message, early]
    return [message]


def hangs_up_at(kind: type[Message], *, before: bool = False) -> Fault:
    """Hangs up around its first message of this class; afterwards it is honest."""
    done: list[Message] = []

    def fault(peer: FaultyPeer, held: PeerChannel, message: Message) -> list[Message]:
        if done or not isinstance(message, kind):
            return [message]
        done.append(message)
        connection = peer._connections[held.node_id]
        if not before:
            connection.send(message)
        connection.close("as the test wants it")
        return []

    return fault


class Events:
    """All that a peer says of itself, in order."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []
        self._changed = asyncio.Event()

    def say(self, event: str, /, **fields: Any) -> None:
        self.said.append((event, fields))
        self._changed.set()

    def of(self, name: str) -> list[dict[str, Any]]:
        return [fields for event, fields in self.said if event == name]

    async def until(self, name: str, count: int = 1) -> dict[str, Any]:
        """The `count`th time that it says this."""
        async with asyncio.timeout(_WAIT):
            while len(events := self.of(name)) < count:
                self._changed.clear()
                await self._changed.wait()
        return events[count - 1]


@dataclass(frozen=True)
class RunningPeer:
    """A peer that listens on `address` ("pubkey@host:port")."""

    peer: FaultyPeer
    address: str
    events: Events

    @property
    def node_id(self) -> bytes:
        return bytes.fromhex(self.address.partition("@")[0])


def faucet_of(chain: SimulatedChain) -> Faucet:
    async def pay(scriptpubkey: bytes, amount_sat: int) -> Payment:
        transaction, index = chain.faucet(scriptpubkey, amount_sat)
        chain.mine()
        return Payment(transaction.hex(), index)

    return pay


@asynccontextmanager
async def channel_peer(
    chain: SimulatedChain, opening: Opening | None = None, *, fault: Fault = honest
) -> AsyncIterator[RunningPeer]:
    """A peer on a free loopback port; with an `opening`, it opens that to whoever connects."""
    node_secret = PrivateKey().secret
    source = await open_source(chain.url)
    try:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            address = address_of(node_secret, listening)
            events = Events()
            peer = FaultyPeer(source, faucet_of(chain), events.say, opening, interval=_INTERVAL)
            peer.fault = fault
            async with peer:
                serving = asyncio.create_task(
                    converse_with_all(node_secret, listening, peer.converse, events.say)
                )
                try:
                    yield RunningPeer(peer, address, events)
                finally:
                    serving.cancel()
                    await asyncio.gather(serving, return_exceptions=True)
    finally:
        await source.close()


async def dial(address: str, node_secret: bytes) -> PeerConnection:
    """Connect as a node with this secret; up to act three."""
    node_id, _, place = address.partition("@")
    host, _, port = place.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    connection = PeerConnection(node_secret, reader, writer)
    initiator = Initiator(node_secret, bytes.fromhex(node_id))
    await connection.raw(initiator.act_one())
    await connection.raw(initiator.act_two(await connection.read(ACT_TWO_SIZE)))
    connection.use(initiator.keys)
    return connection
