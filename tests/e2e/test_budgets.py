"""A budget belongs to whoever uses it: what strangers do takes nothing of anybody else's."""

import asyncio
from pathlib import Path
from sys import getsizeof

import pytest

from lightning_proxy.api import ApiSettings, Server
from lightning_proxy.api.limits import LimitSettings
from lightning_proxy.api.socket import WalletSocket
from lightning_proxy.bolt.messages import ChannelReady, Error, FundingCreated
from lightning_proxy.bolt.messages import Warning as PeerWarning
from lightning_proxy.chain.simulated import SimulatedChain
from tests.e2e.test_channels import received
from tests.e2e.test_live_channels import opened
from tests.support.channels import channel_keys, open_channel, point
from tests.support.numbered import numbered, raw_session
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.relay import RawWallet, RpcFailure, raw_wallet, relay

SECRET, OTHER = b"\x61" * 32, b"\x62" * 32
#: An odd TLV record that nobody knows.
LONG = b"\xfd\x7f\xff\xfd\x0f\xa0" + bytes(4000)


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


async def test_an_opening_fails_by_what_is_too_long(server: Server, peer: ScriptedPeer) -> None:
    async with raw_wallet(server.url, SECRET) as wallet:
        _, connection = await wallet.open_session(peer)
        offer = open_channel()
        await connection.send(offer.encode())
        await wallet.answer(await wallet.event("delegate"), channel_keys())
        await connection.receive()
        created = FundingCreated(
            temporary_channel_id=offer.temporary_channel_id,
            funding_txid=bytes(32),
            funding_output_index=0,
            signature=bytes(64),
        )
        await connection.send(created.encode() + LONG)
        error = await received(connection, Error)
        assert (error.channel_id, error.data) == (
            offer.temporary_channel_id,
            b"this funding_created is too long",
        )
        await still_there(connection)
        assert await wallet.call("channels") == []


async def test_no_live_channel_fails_by_what_is_too_long(
    peer: ScriptedPeer, tmp_path: Path
) -> None:
    async with (
        SimulatedChain() as chain,
        relay(chain=chain.url, chain_interval=0.02, store=str(tmp_path / "r.sqlite")) as server,
        raw_wallet(server.url, SECRET) as wallet,
    ):
        opening, connection = await opened(wallet, peer, chain)
        ready = ChannelReady(
            channel_id=opening.peer.channel.channel_id, second_per_commitment_point=point()
        )
        await connection.send(ready.encode() + LONG)
        warning = await received(connection, PeerWarning)
        assert b"too long" in warning.data
        await wallet.event_of("closed")
        assert [each["state"] for each in await wallet.call("channels")] == ["ready"]


async def test_a_socket_that_reads_nothing_is_not_told_everything(
    server: Server, peer: ScriptedPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, count = 10_000, 40
    queued = [0]
    post = WalletSocket._post

    def watched(socket: WalletSocket, text: str) -> None:
        post(socket, text)
        queued.append(socket._outgoing_bytes)

    monkeypatch.setattr(WalletSocket, "_post", watched)
    async with raw_wallet(server.url, SECRET) as wallet:
        _, connection = await raw_session(wallet, peer)
    await away(server, wallet)
    await connection.send(*(numbered(number, size) for number in range(count)))
    await still_there(connection)
    async with raw_wallet(server.url, SECRET, authenticated=False) as wallet:
        await wallet.authenticate()
        for number in range(count):
            assert (await wallet.event("message"))["message"] == numbered(number, size).hex()
        await connection.send(numbered(count))
        assert (await wallet.event("message"))["message"] == numbered(count).hex()
        assert max(queued) < 100_000


async def test_a_wallet_names_so_many_channels_at_most(
    server: Server, peer: ScriptedPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_proxy.api.methods._MAX_SHORT_CHANNEL_IDS", 1500)
    async with raw_wallet(server.url, SECRET) as wallet:
        first, _ = await wallet.open_session(peer)
        second, _ = await wallet.open_session(peer)
        ids = list(range(1000))
        for _ in range(2):
            await wallet.call("subscribe", session_id=first, raw=False, short_channel_ids=ids)
        with pytest.raises(RpcFailure, match="too many channels"):
            await wallet.call("subscribe", session_id=second, raw=False, short_channel_ids=ids)
        assert (
            getsizeof(
                server.relay.find(server.relay.inbox_of(wallet.node_id), first).short_channel_ids
            )
            < 10_000
        )


async def test_answers_to_nothing_count_against_the_limits() -> None:
    limits = LimitSettings(requests_per_wallet_burst=5, requests_per_wallet=0.1)
    async with (
        relay(ApiSettings(port=0, limits=limits)) as server,
        raw_wallet(server.url, SECRET) as wallet,
    ):
        for _ in range(6):
            await wallet.answer({"id": "0" * 32}, {})
        for _ in range(5):
            assert (await wallet.event("rejected"))["code"] == "delegation_unknown"
        assert (await wallet.event_body())["error"]["data"]["code"] == "limit"
