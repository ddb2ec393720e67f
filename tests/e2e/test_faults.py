"""A bad network between wallet and relay, and between relay and peer: nothing lost or doubled."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import aiohttp
import pytest

from lightning_proxy.api import ApiSettings, Server
from lightning_proxy.transport.handshake import ACT_TWO_SIZE, Initiator
from tests.support.channels import channel_keys, open_channel
from tests.support.fault_proxy import Direction, FaultProxy, at_random, byte_by_byte, slowly
from tests.support.numbered import messages, number_of, numbered, raw_session
from tests.support.peer import ScriptedPeer
from tests.support.relay import (
    RpcFailure,
    handshake_params,
    raw_wallet,
    relay,
    take,
)

SECRET = b"\x5a" * 32
ACCEPT_CHANNEL = b"\x00\x21"


@pytest.fixture
async def to_peer(peer: ScriptedPeer) -> AsyncIterator[FaultProxy]:
    """Between the relay and the peer, whose address leads here from now on."""
    async with FaultProxy(("127.0.0.1", peer.port), seed=1) as proxy:
        peer.address = f"{peer.node_id.hex()}@{proxy.netloc}"
        yield proxy


@pytest.fixture
async def to_relay() -> AsyncIterator[FaultProxy]:
    """Between the wallet and the relay."""
    async with FaultProxy(("127.0.0.1", 0), seed=2) as proxy:
        yield proxy


@pytest.fixture
async def server(to_relay: FaultProxy) -> AsyncIterator[Server]:
    async with relay(ApiSettings(port=0, origins=[f"http://{to_relay.netloc}"])) as running:
        to_relay.target = ("127.0.0.1", running.port)
        running.url = f"http://{to_relay.netloc}"
        yield running


@pytest.mark.parametrize("fault", [byte_by_byte, at_random, slowly])
async def test_however_the_network_cuts_it_all_arrives(
    server: Server,
    peer: ScriptedPeer,
    to_peer: FaultProxy,
    to_relay: FaultProxy,
    fault: Callable[[Direction], None],
) -> None:
    """The handshake, messages both ways and an opening; on both connections, in both directions."""
    for proxy in (to_peer, to_relay):
        fault(proxy.up)
        fault(proxy.down)
    async with raw_wallet(server.url, SECRET) as wallet:
        session_id, connection = await raw_session(wallet, peer)
        await connection.send(*(numbered(number, 100 * number) for number in range(10)))
        assert await messages(wallet, 10) == list(range(10))
        for number in range(10):
            await wallet.call("send", session_id=session_id, message=numbered(number, 200).hex())
        assert [await connection.receive() for _ in range(10)] == [
            numbered(number, 200) for number in range(10)
        ]
        await wallet.call("subscribe", session_id=session_id, raw=False)
        await connection.send(open_channel().encode())
        await wallet.answer(await wallet.event("delegate"), channel_keys())
        assert (await connection.receive())[:2] == ACCEPT_CHANNEL
        await wallet.quiet()


@pytest.mark.parametrize("reset", [True, False])
async def test_a_wallet_whose_socket_is_cut_gets_all_again(
    server: Server, peer: ScriptedPeer, to_relay: FaultProxy, reset: bool
) -> None:
    async with raw_wallet(server.url, SECRET) as wallet:
        _, connection = await raw_session(wallet, peer)
        await connection.send(*map(numbered, range(3)))
        assert await messages(wallet, 3) == [0, 1, 2]
        await wallet.acknowledge()
        to_relay.cut(reset=reset)
        await asyncio.wait_for(wallet.ended.wait(), 10)
    await connection.send(*map(numbered, range(3, 6)))
    async with raw_wallet(server.url, SECRET) as wallet:
        assert await messages(wallet, 3) == [3, 4, 5]
        await wallet.quiet()


@pytest.mark.parametrize("after", [1, 150, 333, 1000, 4000])
async def test_a_socket_that_is_cut_within_a_message(
    server: Server, peer: ScriptedPeer, to_relay: FaultProxy, after: int
) -> None:
    """What came whole stays with the wallet; the rest comes on the next socket, in order."""
    async with raw_wallet(server.url, SECRET) as wallet:
        _, connection = await raw_session(wallet, peer)
        to_relay.down.cut_after = after
        await connection.send(*(numbered(number, 100) for number in range(20)))
        await asyncio.wait_for(wallet.ended.wait(), 10)
        came = [wallet.events.get_nowait()["params"] for _ in range(wallet.events.qsize())]
    assert [number_of(each) for each in came] == list(range(len(came)))
    assert len(came) < 20
    async with raw_wallet(server.url, SECRET) as wallet:
        assert await messages(wallet, 20) == list(range(20))


async def test_an_answer_that_never_arrived_is_asked_for_again(
    server: Server, peer: ScriptedPeer, to_relay: FaultProxy
) -> None:
    async with raw_wallet(server.url, SECRET) as wallet:
        _, connection = await wallet.open_session(peer)
        await connection.send(open_channel().encode())
        first = await wallet.event("delegate")
        to_relay.up.cut_after = 100
        with suppress(aiohttp.ClientError, ConnectionError):
            await wallet.answer(first, channel_keys())
        await asyncio.wait_for(wallet.ended.wait(), 10)
    async with raw_wallet(server.url, SECRET) as wallet:
        again = await wallet.event("delegate")
        assert (again["id"], again["messages"]) == (first["id"], first["messages"])
        await wallet.answer(again, channel_keys())
        assert (await connection.receive())[:2] == ACCEPT_CHANNEL
        await wallet.quiet()


async def test_an_answer_whose_sender_never_learns_of_it_is_taken_once(
    server: Server, peer: ScriptedPeer, to_relay: FaultProxy
) -> None:
    async with raw_wallet(server.url, SECRET) as wallet:
        _, connection = await wallet.open_session(peer)
        await connection.send(open_channel().encode())
        question = await wallet.event("delegate")
        answer = channel_keys()
        to_relay.down.stall()
        await wallet.answer(question, answer)
        assert bytes.fromhex(answer["funding_pubkey"]) in await connection.receive()
        to_relay.cut()
        to_relay.heal()
        await asyncio.wait_for(wallet.ended.wait(), 10)
    async with raw_wallet(server.url, SECRET) as wallet:
        await wallet.quiet()
        await wallet.answer(question, answer)
        assert (await wallet.event("rejected"))["code"] == "delegation_over"


@pytest.mark.parametrize("reset", [True, False])
async def test_a_session_that_the_network_cuts_is_over_after_what_came(
    server: Server, peer: ScriptedPeer, to_peer: FaultProxy, reset: bool
) -> None:
    async with raw_wallet(server.url, SECRET) as wallet:
        session_id, connection = await raw_session(wallet, peer)
        await connection.send(*map(numbered, range(3)))
        assert await messages(wallet, 3) == [0, 1, 2]
        to_peer.cut(reset=reset)
        assert (await wallet.event("closed"))["session_id"] == session_id
        await wallet.quiet()


async def test_a_peer_that_cannot_be_reached_any_more_is_given_up(peer: ScriptedPeer) -> None:
    """A stall in one direction looks like a peer that answers no ping."""
    async with (
        FaultProxy(("127.0.0.1", peer.port)) as proxy,
        relay(ping_interval=0.1, pong_timeout=0.2) as server,
        raw_wallet(server.url, SECRET) as wallet,
    ):
        peer.address = f"{peer.node_id.hex()}@{proxy.netloc}"
        await wallet.open_session(peer)
        proxy.down.stall()
        assert "ping" in (await wallet.event("closed"))["reason"]


@pytest.mark.parametrize("said", [0, 20, 50])
async def test_a_handshake_that_breaks_off_ends_in_an_error(
    peer: ScriptedPeer, to_peer: FaultProxy, said: int
) -> None:
    """Act two is 50 bytes: none of it came, some, or the `init` is missing."""
    async with relay() as server, raw_wallet(server.url, SECRET) as wallet:
        to_peer.down.cut_after = said
        answering = asyncio.create_task(take(peer))
        initiator = Initiator(SECRET, peer.node_id)
        with pytest.raises(RpcFailure) as failure:
            connected = await wallet.call(
                "connect", peer=peer.address, act_one=initiator.act_one().hex()
            )
            assert said == ACT_TWO_SIZE
            await wallet.call("handshake", **handshake_params(initiator, connected))
        assert failure.value.code == "peer_failed"
        assert await wallet.call("sessions") == []
        await wallet.quiet()
        with pytest.raises((EOFError, ConnectionError)):
            await answering
