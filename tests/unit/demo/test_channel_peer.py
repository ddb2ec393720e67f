"""The demo's peer as a real node: openings both ways over BOLT 8, with real transactions."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
from coincurve import PrivateKey
from msgspec.structs import replace

from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.channel import ChannelState
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.features import DEFAULT_FEATURES, Features
from lightning_proxy.bolt.messages import (
    AcceptChannel,
    ChannelReady,
    ChannelReestablish,
    Error,
    FundingCreated,
    FundingSigned,
    GossipTimestampFilter,
    Init,
    Message,
    OpenChannel,
    UpdateFee,
    decode,
)
from lightning_proxy.bolt.messages import Warning as PeerWarning
from lightning_proxy.bolt.signing import parse_transaction
from lightning_proxy.chain.simulated import SimulatedChain
from lightning_proxy.demo.channel_peer import MINIMUM_DEPTH, Opening, view_of
from tests.support.channel_peer import (
    RunningPeer,
    channel_peer,
    dial,
    hangs_up_at,
    ready_too_early,
    silent_at,
    twice,
    wrong_signature,
)
from tests.support.opening import Side
from tests.support.peer import PeerConnection
from tests.unit.bolt.pair import TYPES

M = TypeVar("M", bound=Message)

FUNDING_SAT = 500_000
PUSH_MSAT = 12_345_678
#: What a relay says right after it has read our `init`.
_FILTER = GossipTimestampFilter(
    chain_hash=CHAIN_HASHES["regtest"], first_timestamp=0, timestamp_range=0
).encode()


@pytest.fixture
async def chain() -> AsyncIterator[SimulatedChain]:
    async with SimulatedChain() as simulated:
        yield simulated


class Other:
    """The node at the other end: one channel, its own state machine, one connection at a time."""

    def __init__(self, running: RunningPeer, role: Role) -> None:
        self.running = running
        self.side = Side(role)
        self.node_secret = PrivateKey().secret
        self.connections: list[PeerConnection] = []

    @property
    def connection(self) -> PeerConnection:
        return self.connections[-1]

    async def connect(self) -> None:
        self.connections.append(await dial(self.running.address, self.node_secret))
        init = Init(globalfeatures=b"", features=DEFAULT_FEATURES.to_bytes())
        await self.connection.send(init.encode(), _FILTER)
        assert isinstance(decode(await self.connection.receive()), Init)

    async def lose(self) -> None:
        """The connection breaks, and both sides know."""
        await self.connection.close()
        await self.running.peer.until_alone()
        self.side.channel.disconnected()

    async def say(self, message: Message) -> None:
        await self.connection.send(self.side.say(message))

    async def hear(self, kind: type[M]) -> M:
        """The next message, which has to be of this class; the state machine takes it."""
        raw = await self.connection.receive()
        message = decode(raw)
        assert isinstance(message, kind), message
        self.side.hear(raw)
        return message

    async def get(self, kind: type[M]) -> M:
        """The same, for messages that the state machine doesn't know."""
        message = decode(await self.connection.receive())
        assert isinstance(message, kind), message
        return message

    async def reestablish(self) -> None:
        await self.connect()
        await self.hear(ChannelReestablish)
        await self.say(self.side.channel.reestablish())

    async def accept(self) -> None:
        """As the accepter, up to `funding_signed`."""
        await self.hear(OpenChannel)
        await self.say(self.side.accept_channel(minimum_depth=MINIMUM_DEPTH))
        await self.hear(FundingCreated)
        await self.say(self.side.funding_signed())

    async def open(self, **changes: Any) -> bytes:
        """As the opener, up to `funding_signed`; returns the transaction, not yet broadcast."""
        side = self.side
        await self.say(side.open_channel(funding_satoshis=FUNDING_SAT, **changes))
        await self.hear(AcceptChannel)
        chain = SimulatedChain()
        transaction, index = chain.faucet(side.channel.funding_scriptpubkey, FUNDING_SAT)
        await self.say(side.funding_created(parse_transaction(transaction).id[::-1], index))
        await self.hear(FundingSigned)
        return transaction

    async def seen(self, confirmations: int | None) -> None:
        """Wait until the peer has seen its one channel so deep."""
        (held,) = self.running.peer.channels
        async with asyncio.timeout(10):
            while held.channel.confirmations != confirmations:
                await self.running.peer.look()

    def confirm(self, chain: SimulatedChain) -> None:
        """See on the chain what really is there."""
        channel = self.side.channel
        created = channel.funding_created
        tx = chain.transaction(created.funding_txid[::-1])
        block = chain.block_of(created.funding_txid[::-1])
        assert tx is not None
        assert block is not None
        output = tx.vout[created.funding_output_index]
        channel.observe(
            output.script_pub_key.script, output.value, chain.tip.height - block.height + 1
        )


@asynccontextmanager
async def connected(
    chain: SimulatedChain, opening: Opening | None = None, **options: Any
) -> AsyncIterator[Other]:
    """A peer, and the other end: the accepter of what the peer opens, or else the opener."""
    async with channel_peer(chain, opening, **options) as running:
        other = Other(running, Role.ACCEPTER if opening else Role.OPENER)
        try:
            await other.connect()
            yield other
        finally:
            for connection in other.connections:
                await connection.close()


async def mined(other: Other, chain: SimulatedChain) -> None:
    """The peer's funding transaction gets the blocks that it needs."""
    await other.running.events.until("broadcast")
    assert chain.mempool == (other.side.channel.funding_created.funding_txid,)
    chain.mine(MINIMUM_DEPTH)
    other.confirm(chain)


async def ready(other: Other) -> None:
    """`channel_ready` both ways, the peer's first."""
    await other.hear(ChannelReady)
    await other.say(other.side.channel_ready())
    assert other.side.channel.state is ChannelState.READY


@pytest.mark.parametrize("push_msat", [0, PUSH_MSAT])
@pytest.mark.parametrize("channel_type", TYPES)
async def test_the_peer_opens(chain: SimulatedChain, channel_type: str, push_msat: int) -> None:
    opening = Opening(FUNDING_SAT, push_msat, channel_type)
    async with connected(chain, opening) as other:
        await other.accept()
        await mined(other, chain)
        await ready(other)
        view = await other.running.events.until("channel")
        assert view == {
            "channel_id": other.side.channel.channel_id.hex(),
            "role": "opener",
            "channel_type": str(Features.from_bytes(TYPES[channel_type])),
            "state": "ready",
            "capacity_sat": FUNDING_SAT,
            "our_balance_msat": 1000 * FUNDING_SAT - push_msat,
            "peer_balance_msat": push_msat,
            "confirmations": MINIMUM_DEPTH,
        }
        ours = view_of(other.side.channel)
        assert ours.peer_balance_msat == view["our_balance_msat"]
        assert ours.channel_id == view["channel_id"]
        (held,) = other.running.peer.channels
        assert held.channel.log == other.side.channel.log


@pytest.mark.parametrize("channel_type", TYPES)
async def test_the_peer_accepts(chain: SimulatedChain, channel_type: str) -> None:
    async with connected(chain) as other:
        transaction = await other.open(channel_type=TYPES[channel_type], push_msat=PUSH_MSAT)
        # The same coin on the chain that both see.
        elsewhere = SimulatedChain()
        elsewhere.faucet(other.side.channel.funding_scriptpubkey, FUNDING_SAT)
        chain._sources.update(elsewhere._sources)
        chain.add_transaction(transaction)
        chain.mine(MINIMUM_DEPTH)
        other.confirm(chain)
        await ready(other)
        view = await other.running.events.until("channel")
        assert view["our_balance_msat"] == PUSH_MSAT
        assert view["role"] == "accepter"
        assert view["channel_type"] == str(Features.from_bytes(TYPES[channel_type]))


@pytest.mark.parametrize("blocks", range(MINIMUM_DEPTH))
async def test_the_peer_waits_for_its_own_chain(chain: SimulatedChain, blocks: int) -> None:
    async with connected(chain, Opening(FUNDING_SAT)) as other:
        await other.accept()
        await other.running.events.until("broadcast")
        chain.mine(blocks)
        await other.seen(blocks)
        assert other.running.events.of("channel_ready_sent") == []
        chain.mine(MINIMUM_DEPTH - blocks)
        await other.hear(ChannelReady)


async def test_a_reorganisation_before_channel_ready(chain: SimulatedChain) -> None:
    async with connected(chain, Opening(FUNDING_SAT)) as other:
        await other.accept()
        await other.running.events.until("broadcast")
        chain.mine(MINIMUM_DEPTH - 1)
        await other.seen(MINIMUM_DEPTH - 1)
        chain.reorg(MINIMUM_DEPTH)
        await other.seen(0)
        assert other.running.events.of("channel_ready_sent") == []
        chain.mine(MINIMUM_DEPTH)
        await other.hear(ChannelReady)


async def test_it_comes_back_at_each_step(chain: SimulatedChain) -> None:
    """The state survives a connection: `channel_reestablish`, then on from where it was."""
    async with connected(chain, Opening(FUNDING_SAT)) as other:
        await other.accept()
        await other.running.events.until("broadcast")
        await other.lose()
        await other.reestablish()
        await mined(other, chain)
        await other.hear(ChannelReady)
        # Lost before ours arrived: the peer says its own again.
        await other.lose()
        await other.reestablish()
        again = await other.hear(ChannelReady)
        await other.say(other.side.channel_ready())
        await other.running.events.until("channel")
        await other.lose()
        await other.reestablish()
        assert await other.hear(ChannelReady) == again
        (held,) = other.running.peer.channels
        assert held.channel.state is ChannelState.READY
        # One transaction, and one only.
        assert len(chain.mempool) == 0


async def test_the_transaction_goes_out_again_if_the_chain_never_showed_it(
    chain: SimulatedChain,
) -> None:
    async with connected(chain, Opening(FUNDING_SAT)) as other:
        await other.accept()
        await other.running.events.until("broadcast")
        txid = other.side.channel.funding_created.funding_txid
        chain.mine()
        await other.seen(1)
        # With the block, nothing but the funding is forgotten: its coin is deeper.
        chain.reorg(1, keep=False)
        await other.seen(None)
        await other.lose()
        await other.reestablish()
        await other.running.events.until("broadcast", 2)
        assert chain.mempool == (txid,)


async def test_what_is_not_signed_is_forgotten(chain: SimulatedChain) -> None:
    async with connected(chain, Opening(FUNDING_SAT)) as other:
        first = await other.hear(OpenChannel)
        await other.say(other.side.accept_channel())
        await other.hear(FundingCreated)
        await other.lose()
        assert other.running.peer.channels == []
        assert chain.mempool == ()
        # On the next connection it begins anew, with other keys.
        other.side = Side(Role.ACCEPTER)
        await other.connect()
        second = await other.hear(OpenChannel)
        assert second.temporary_channel_id != first.temporary_channel_id
        assert second.funding_pubkey != first.funding_pubkey


async def test_a_second_connection_takes_over(chain: SimulatedChain) -> None:
    async with connected(chain, Opening(FUNDING_SAT)) as other:
        await other.accept()
        await other.running.events.until("broadcast")
        former = other.connection
        other.side.channel.disconnected()
        await other.reestablish()
        await former.closed()
        await mined(other, chain)
        await ready(other)


# ---- others' faults ----


async def test_a_wrong_signature_of_ours(chain: SimulatedChain) -> None:
    async with connected(chain, Opening(FUNDING_SAT)) as other:
        await other.hear(OpenChannel)
        await other.say(other.side.accept_channel())
        await other.hear(FundingCreated)
        signed = replace(other.side.funding_signed(), signature=secrets.token_bytes(64))
        await other.connection.send(signed.encode())
        error = await other.get(Error)
        assert error.channel_id == signed.channel_id
        assert b"signature: funding_signed signs another first commitment" in error.data
        assert other.running.peer.channels == []
        assert chain.mempool == ()


async def test_an_offer_that_bolt_2_forbids(chain: SimulatedChain) -> None:
    async with connected(chain) as other:
        offer = other.side.open_channel(dust_limit_satoshis=1)
        await other.connection.send(offer.encode())
        error = await other.get(Error)
        assert error.channel_id == offer.temporary_channel_id
        assert b"dust_limit_satoshis" in error.data
        assert other.running.peer.channels == []
        # The connection lives on.
        await other.open()


async def test_the_same_temporary_id_twice(chain: SimulatedChain) -> None:
    async with connected(chain) as other:
        await other.say(other.side.open_channel())
        await other.hear(AcceptChannel)
        await other.connection.send(other.side.channel.open_channel.encode())
        assert b"in use" in (await other.get(Error)).data


async def test_channels_that_nobody_has(chain: SimulatedChain) -> None:
    async with connected(chain) as other:
        point = PrivateKey().public_key.format()
        unknown = ChannelReady(channel_id=b"\x07" * 32, second_per_commitment_point=point)
        await other.connection.send(unknown.encode())
        error = await other.get(Error)
        assert (error.channel_id, error.data) == (b"\x07" * 32, b"channel_ready: unknown channel")


async def test_there_is_room_for_so_many(
    chain: SimulatedChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_proxy.demo.channel_peer._MAX_CHANNELS", 1)
    async with connected(chain) as other:
        await other.say(other.side.open_channel())
        await other.hear(AcceptChannel)
        await other.connection.send(Side(Role.OPENER).open_channel().encode())
        assert b"all the channels it can" in (await other.get(Error)).data


async def test_an_error_ends_an_opening_and_no_more(chain: SimulatedChain) -> None:
    async with connected(chain, Opening(FUNDING_SAT)) as other:
        offer = await other.hear(OpenChannel)
        await other.connection.send(Error(channel_id=bytes(31) + b"\x01", data=b"another").encode())
        await other.connection.send(
            Error(channel_id=offer.temporary_channel_id, data=b"no, thanks").encode()
        )
        said = await other.running.events.until("failed", 2)
        assert said["reason"] == "an error came: no, thanks"
        assert other.running.peer.channels == []


async def test_a_live_channel_is_never_failed(chain: SimulatedChain) -> None:
    """A message that breaks a rule ends the connection, with a warning; the channel stays."""
    async with connected(chain, Opening(FUNDING_SAT)) as other:
        await other.accept()
        await mined(other, chain)
        await ready(other)
        point = other.side.keys.per_commitment_point(5)
        wrong = replace(other.side.channel_ready(), second_per_commitment_point=point)
        await other.connection.send(wrong.encode())
        warning = await other.get(PeerWarning)
        assert b"second_per_commitment_point: not the one sent before" in warning.data
        await other.connection.closed()
        other.side.channel.disconnected()
        await other.reestablish()
        await other.hear(ChannelReady)


async def test_what_it_does_not_know_it_passes_over(chain: SimulatedChain) -> None:
    async with connected(chain, Opening(FUNDING_SAT)) as other:
        await other.connection.send(b"\x99\x99what is this?")
        fee = UpdateFee(channel_id=bytes(32), feerate_per_kw=253)
        await other.connection.send(fee.encode())
        await other.accept()


# ---- faults of its own, for other tests ----


async def test_faults(chain: SimulatedChain) -> None:
    """Each does what it says, and to one message only."""
    opening = Opening(FUNDING_SAT)

    async with connected(chain, opening, fault=wrong_signature) as other:
        await other.hear(OpenChannel)
        await other.say(other.side.accept_channel())
        with pytest.raises(Exception, match="signature"):
            await other.hear(FundingCreated)

    async with connected(chain, opening, fault=twice(FundingCreated)) as other:
        await other.hear(OpenChannel)
        await other.say(other.side.accept_channel())
        created = await other.hear(FundingCreated)
        assert await other.get(FundingCreated) == created

    async with connected(chain, opening, fault=ready_too_early) as other:
        await other.hear(OpenChannel)
        await other.say(other.side.accept_channel())
        await other.hear(FundingCreated)
        await other.get(ChannelReady)

    async with connected(chain, opening, fault=silent_at(FundingCreated)) as other:
        await other.hear(OpenChannel)
        await other.say(other.side.accept_channel())
        await other.running.events.until("accept_channel_received")
        await other.connection.send(b"\x00\x12\x00\x01\x00\x00")
        assert (await other.connection.receive())[:2] == b"\x00\x13"


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("kind", [OpenChannel, FundingCreated, ChannelReady])
async def test_hanging_up(chain: SimulatedChain, kind: type[Message], before: bool) -> None:
    fault = hangs_up_at(kind, before=before)
    async with connected(chain, Opening(FUNDING_SAT), fault=fault) as other:

        async def until_lost() -> None:
            await other.accept()
            if kind is ChannelReady:
                await mined(other, chain)
                await other.hear(ChannelReady)
            await other.connection.receive()

        with pytest.raises(EOFError):
            await until_lost()
        other.side.channel.disconnected()
        if kind is not ChannelReady:
            # The peer's state, if not ours: it has no `funding_signed`, and forgets.
            other.side = Side(Role.ACCEPTER)
            await other.connect()
            await other.accept()
            await mined(other, chain)
        else:
            await other.reestablish()
        await ready(other)
