"""Who costs nothing to be: sessions that no wallet adopts, and wallets that come once."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from coincurve import PrivateKey

from lightning_proxy.api import ApiSettings, Server
from lightning_proxy.api.limits import LimitSettings
from lightning_proxy.relay import DialSettings
from lightning_proxy.relay.store import tables
from lightning_proxy.transport.handshake import Initiator
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.relay import RpcFailure, raw_wallet, relay

SECRET = b"\x5e" * 32


@asynccontextmanager
async def behind_a_proxy(
    limits: LimitSettings | None = None, **settings: Any
) -> AsyncIterator[Server]:
    """A relay that believes what its clients say about where they come from."""
    api = ApiSettings(
        port=0,
        access="open",
        trusted_proxies=["127.0.0.0/8"],
        limits=limits or LimitSettings(),
    )
    async with relay(api, dial=DialSettings(allow_loopback=True), **settings) as server:
        yield server


async def rest(server: Server, peer: ScriptedPeer, address: str) -> int:
    """Dial over REST as a client of this address; returns the status."""
    act_one = Initiator(SECRET, peer.node_id).act_one().hex()
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            f"{server.url}/api/connect",
            json={"url": peer.address, "message": act_one},
            headers={"X-Forwarded-For": address},
        ) as response,
    ):
        return response.status


@pytest.fixture
async def answering(peer: ScriptedPeer) -> AsyncIterator[ScriptedPeer]:
    """A peer that gives act two to everybody."""

    async def answer() -> None:
        while True:
            connections.append(connection := await peer.accept())
            handshakes.append(asyncio.create_task(connection.handshake()))

    connections: list[PeerConnection] = []
    handshakes: list[asyncio.Task[None]] = []
    task = asyncio.create_task(answer())
    yield peer
    for each in (task, *handshakes):
        each.cancel()
    await asyncio.gather(task, *handshakes, return_exceptions=True)


def by_network(server: Server) -> list[str]:
    return [session.network for session in server.relay.sessions()]


async def test_a_network_has_so_many_sessions_without_a_wallet(answering: ScriptedPeer) -> None:
    async with behind_a_proxy(max_unadopted_sessions_per_network=2) as server:
        assert await rest(server, answering, "203.0.113.1") == 200
        assert await rest(server, answering, "203.0.113.2") == 200
        assert await rest(server, answering, "203.0.113.3") == 429
        assert await rest(server, answering, "198.51.100.1") == 200


async def test_of_too_many_the_largest_network_gives_way(answering: ScriptedPeer) -> None:
    async with behind_a_proxy(max_unadopted_sessions=4) as server:
        for last in range(4):
            assert await rest(server, answering, f"203.0.113.{last}") == 200
        assert await rest(server, answering, "203.0.113.77") == 429
        assert await rest(server, answering, "198.51.100.1") == 200
        async with asyncio.timeout(10):
            while len(by_network(server)) > 4:
                await asyncio.sleep(0.01)
        assert sorted(by_network(server)) == ["c63364", "cb0071", "cb0071", "cb0071"]


async def test_what_nobody_adopts_ends(answering: ScriptedPeer) -> None:
    async with (
        relay(unadopted_for=0.2, act_three_timeout=100.0) as server,
        raw_wallet(server.url) as wallet,
    ):
        act_one = Initiator(wallet.secret, answering.node_id).act_one().hex()
        own = await wallet.call("connect", peer=answering.address, act_one=act_one)
        assert await rest(server, answering, "127.0.0.1") == 200
        async with asyncio.timeout(10):
            while len(by_network(server)) > 1:
                await asyncio.sleep(0.01)
        sessions = await wallet.call("sessions")
        assert [each["session_id"] for each in sessions] == [own["session_id"]]


async def test_a_network_brings_so_many_new_wallets(peer: ScriptedPeer) -> None:
    limits = LimitSettings(
        new_wallets_per_network=1.0, new_wallets_per_network_burst=3, failures_per_address_burst=1
    )
    there = {"X-Forwarded-For": "203.0.113.1"}
    async with behind_a_proxy(limits) as server:
        async with raw_wallet(server.url, SECRET, headers=there) as wallet:
            await wallet.call("wake_by_webhook", url="http://127.0.0.1:1/")
        for number in range(2):
            async with raw_wallet(server.url, bytes([number + 1] * 32), headers=there):
                pass
        for _ in range(3):
            with pytest.raises(RpcFailure) as failure:
                async with raw_wallet(server.url, b"\x77" * 32, headers=there):
                    pass
            assert failure.value.code == "limit"
        # Who has something here, or was here a moment ago, is not new; nor is this a failure that
        # keeps an address out.
        for known in (SECRET, bytes([1] * 32), bytes([2] * 32)):
            async with raw_wallet(server.url, known, headers=there):
                pass
        async with raw_wallet(server.url, b"\x77" * 32, headers={"X-Forwarded-For": "8.8.8.8"}):
            pass


async def test_what_a_wallet_left_that_never_comes_again_is_forgotten(
    server: Server, peer: ScriptedPeer
) -> None:
    others, came = b"\x44" * 32, b"\x45" * 32
    for secret in (SECRET, others, came):
        async with raw_wallet(server.url, secret) as wallet:
            await wallet.call("wake_by_webhook", url=f"{server.url}/nowhere")
            device_key = PrivateKey().public_key.format().hex()
            await wallet.call("add_device", device_key=device_key, name="it", rights=["see"])
            if secret == others:
                # Its session goes on without it.
                await wallet.open_session(peer)
    await _gone(server)
    strangers = server.relay.strangers
    await strangers.look()
    nodes = {each: PrivateKey(each).public_key.format() for each in (SECRET, others, came)}
    assert all(server.relay.knows(node_id) for node_id in nodes.values())
    strangers._forget_after = -1000.0
    # This one will have come after all.
    await strangers._store.seen([nodes[came]], time.time() + 5000.0)
    await strangers.look()
    assert not server.relay.knows(nodes[SECRET])
    assert server.relay.knows(nodes[others])
    assert server.relay.knows(nodes[came])
    for table in (tables.wake_targets, tables.devices, tables.wallets):
        async with server.relay._database.transaction() as connection:
            left = {row.wallet for row in await connection.execute(table.select())}
        assert left == {nodes[others], nodes[came]}


async def _gone(server: Server) -> None:
    async with asyncio.timeout(10):
        while any(inbox.sockets for inbox in server.relay.inboxes()):
            await asyncio.sleep(0.01)
