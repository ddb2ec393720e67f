"""A budget belongs to whoever uses it: what strangers do takes nothing of anybody else's."""

import asyncio

import pytest

from lightning_proxy.api import Server
from lightning_proxy.bolt.messages import Init, Shutdown
from lightning_proxy.rpc import SessionState
from tests.e2e.test_flow import rest_session
from tests.support.channels import Incoming, channel_keys, delegated, open_channel
from tests.support.numbered import numbered, raw_session
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.relay import PEER_INIT, RawWallet, RpcFailure, raw_wallet, relay

SECRET, OTHER = b"\x61" * 32, b"\x62" * 32
LONG = b"\xff\x03\xfd\x0f\xa0" + bytes(4000)


async def still_there(connection: PeerConnection) -> None:
    await connection.send(b"\x00\x12\x00\x03\x00\x00")
    while (await connection.receive())[:2] != b"\x00\x13":
        pass


async def away(server: Server, wallet: RawWallet) -> None:
    while server.relay.inbox_of(wallet.node_id).sockets:
        await asyncio.sleep(0.01)


async def test_the_largest_holder_pays_and_nobody_else_misses_anything(peer: ScriptedPeer) -> None:
    least = 65_536
    async with relay(max_queued_bytes=least, max_queued_bytes_per_wallet=least) as server:
        async with raw_wallet(server.url, OTHER) as flooded:
            _, flood = await raw_session(flooded, peer)
        await away(server, flooded)
        async with raw_wallet(server.url, SECRET) as victim:
            session_id, connection = await raw_session(victim, peer)
        await away(server, victim)
        await flood.send(*(b"\x80\x01" + bytes(1000) for _ in range(60)))
        await still_there(flood)
        await connection.send(*map(numbered, range(20)))
        await still_there(connection)
        await flood.send(*(b"\x80\x01" + bytes(1000) for _ in range(60)))
        await still_there(flood)
        await connection.close()
        async with raw_wallet(server.url, SECRET) as victim:
            for number in range(20):
                assert (await victim.event("message"))["message"] == numbered(number).hex()
            assert (await victim.event("closed"))["session_id"] == session_id
        assert server.relay.queued_bytes < 2 * least


async def test_notices_have_room_of_their_own(peer: ScriptedPeer) -> None:
    least = 65_536
    async with relay(max_queued_bytes=least, max_queued_bytes_per_wallet=least) as server:
        async with raw_wallet(server.url, SECRET) as wallet:
            first, connection = await raw_session(wallet, peer)
            _, talker = await raw_session(wallet, peer)
        await away(server, wallet)
        await connection.close()
        while len(list(server.relay.sessions())) > 1:
            await asyncio.sleep(0.01)
        await talker.send(*(b"\x80\x01" + bytes(1000) for _ in range(60)))
        await still_there(talker)
        async with raw_wallet(server.url, SECRET) as wallet:
            assert (await wallet.event_of("closed"))["session_id"] == first
