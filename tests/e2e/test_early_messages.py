"""What a peer says of channels before the relay has them, or knows whose they are, is kept."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from lightning_proxy.api import Server
from lightning_proxy.bolt.channel import Channel
from lightning_proxy.bolt.messages import ChannelReady, Error, Shutdown, UpdateFee
from lightning_proxy.bolt.messages import Warning as PeerWarning
from lightning_proxy.chain.simulated import SimulatedChain
from lightning_proxy.relay.book import ChannelBook
from tests.e2e.test_channels import (
    SECRET,
    Incoming,
    delegated,
    lose,
    received,
    reestablish_answer,
)
from tests.e2e.test_flow import rest_session
from tests.e2e.test_live_channels import opened
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.relay import RawWallet, raw_wallet, relay

PING = b"\x00\x12\x00\x03\x00\x00"


@pytest.fixture
async def chain() -> AsyncIterator[SimulatedChain]:
    async with SimulatedChain() as simulated:
        yield simulated


@pytest.fixture
async def server(chain: SimulatedChain, tmp_path: Path) -> AsyncIterator[Server]:
    store = str(tmp_path / "relay.sqlite")
    async with relay(chain=chain.url, chain_interval=0.02, store=store) as running:
        yield running


@pytest.fixture
async def wallet(server: Server) -> AsyncIterator[RawWallet]:
    async with raw_wallet(server.url, SECRET) as connected:
        yield connected


class SlowStore:
    """A disk that takes its time over reading channels: until `go_on`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go_on = asyncio.Event()
        read = ChannelBook.channels

        async def slowly(book: ChannelBook, wallet: bytes, peer: bytes) -> list[Channel]:
            await self.go_on.wait()
            return await read(book, wallet, peer)

        monkeypatch.setattr(ChannelBook, "channels", slowly)


async def all_read(connection: PeerConnection) -> None:
    """Whatever was sent so far is with the relay."""
    await connection.send(PING)
    while (await connection.receive())[:2] != b"\x00\x13":
        pass


async def state_of(wallet: RawWallet, state: str) -> dict[str, Any]:
    while (info := (await wallet.call("channels"))[0])["state"] != state:
        pass
    return dict(info)


async def test_an_error_while_the_channels_are_read(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, connection = await opened(wallet, peer, chain)
    channel_id = opening.peer.channel.channel_id
    await lose(wallet, connection)
    slow = SlowStore(monkeypatch)
    _, connection = await wallet.open_session(peer)
    said = [
        PeerWarning(channel_id=channel_id, data=b"mind you").encode(),
        ChannelReady(
            channel_id=channel_id,
            second_per_commitment_point=opening.peer.keys.per_commitment_point(1),
        ).encode(),
        Error(channel_id=channel_id, data=b"internal error").encode(),
    ]
    await connection.send(*said)
    await all_read(connection)
    await wallet.quiet()
    slow.go_on.set()
    info = await state_of(wallet, "failed")
    assert info["failure"] == "the peer failed it: internal error"
    # In order; the channel_ready says nothing new.
    told = [await wallet.event_of("message"), await wallet.event_of("message")]
    assert [each["message"] for each in told] == [said[0].hex(), said[2].hex()]


async def test_an_error_by_which_a_peer_takes_its_leave(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, connection = await opened(wallet, peer, chain)
    channel_id = opening.peer.channel.channel_id
    await lose(wallet, connection)
    slow = SlowStore(monkeypatch)
    _, connection = await wallet.open_session(peer)
    error = Error(channel_id=channel_id, data=b"internal error").encode()
    await connection.send(error)
    await all_read(connection)
    await connection.close()
    # As it came: before the end.
    assert (await wallet.event("message"))["message"] == error.hex()
    await wallet.event("closed")
    slow.go_on.set()
    info = await state_of(wallet, "failed")
    assert info["failure"] == "the peer failed it: internal error"


async def test_the_wallets_own_error_while_the_channels_are_read(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, connection = await opened(wallet, peer, chain)
    await lose(wallet, connection)
    slow = SlowStore(monkeypatch)
    session_id, connection = await wallet.open_session(peer)
    error = Error(channel_id=opening.peer.channel.channel_id, data=b"as the owner wants")
    await wallet.call("send", session_id=session_id, message=error.encode().hex())
    assert await received(connection, Error) == error
    slow.go_on.set()
    assert (await state_of(wallet, "failed"))["failure"] == "this wallet failed it"
    await wallet.quiet()


async def test_channel_ready_before_channel_reestablish(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lnd does so (4006), and may do it before the relay has read a thing."""
    _, connection = await wallet.open_session(peer)
    opening = Incoming(chain)
    await opening.accept(wallet, connection)
    await opening.sign(wallet, connection, await opening.create(wallet, connection))
    await lose(wallet, connection)
    chain.mine()
    slow = SlowStore(monkeypatch)
    _, connection = await wallet.open_session(peer)
    opening.peer.channel.disconnected()
    opening.peer.confirm()
    ready = ChannelReady(
        channel_id=opening.peer.channel.channel_id,
        second_per_commitment_point=opening.peer.keys.per_commitment_point(1),
    )
    await connection.send(ready.encode(), opening.peer.channel.reestablish().encode())
    await all_read(connection)
    slow.go_on.set()
    question = await delegated(wallet, "reestablish")
    await wallet.answer(question, reestablish_answer(opening.wallet))
    assert await connection.receive() == opening.wallet.channel.reestablish().encode()
    question = await delegated(wallet, "channel_ready")
    assert question["channel_id"] == ready.channel_id.hex()


async def test_what_comes_early_is_bounded(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, connection = await opened(wallet, peer, chain)
    await lose(wallet, connection)
    slow = SlowStore(monkeypatch)
    _, connection = await wallet.open_session(peer)
    long = Shutdown(channel_id=opening.peer.channel.channel_id, scriptpubkey=bytes(60_000))
    for _ in range(18):
        await connection.send(long.encode())
    warning = await received(connection, PeerWarning)
    assert b"too many messages" in warning.data
    assert "too many messages" in (await wallet.event_of("closed"))["reason"]
    slow.go_on.set()


# ---- sessions that no wallet has adopted ----


async def test_a_known_channel_on_a_session_that_is_adopted_later(
    server: Server, wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    opening, connection = await opened(wallet, peer, chain)
    await lose(wallet, connection)
    opening.peer.channel.disconnected()
    async with aiohttp.ClientSession() as http:
        connection = await rest_session(http, server, peer)
    reestablish = opening.peer.say(opening.peer.channel.reestablish())
    await connection.send(reestablish)
    await all_read(connection)
    await wallet.call("adopt", session_id=connection.session_id)
    question = await delegated(wallet, "reestablish")
    assert question["channel_id"] == opening.peer.channel.channel_id.hex()
    await wallet.answer(question, reestablish_answer(opening.wallet))
    assert await connection.receive() == opening.wallet.channel.reestablish().encode()
    # It went both ways.
    assert (await received(connection, ChannelReady)).channel_id.hex() == question["channel_id"]
    # No other question was asked, of a channel that would be unknown.
    await wallet.quiet_but("message")


async def test_an_error_on_a_session_that_is_adopted_later(
    server: Server, wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    opening, connection = await opened(wallet, peer, chain)
    await lose(wallet, connection)
    async with aiohttp.ClientSession() as http:
        connection = await rest_session(http, server, peer)
    error = Error(channel_id=opening.peer.channel.channel_id, data=b"internal error")
    await connection.send(error.encode())
    await all_read(connection)
    await wallet.call("adopt", session_id=connection.session_id)
    info = await state_of(wallet, "failed")
    assert info["failure"] == "the peer failed it: internal error"
    assert (await wallet.event_of("message"))["message"] == error.encode().hex()


async def test_an_unknown_channel_on_a_session_that_is_adopted_later(
    server: Server, wallet: RawWallet, peer: ScriptedPeer
) -> None:
    async with aiohttp.ClientSession() as http:
        connection = await rest_session(http, server, peer)
    fee = UpdateFee(channel_id=b"\x0c" * 32, feerate_per_kw=300)
    await connection.send(fee.encode())
    await all_read(connection)
    await wallet.call("adopt", session_id=connection.session_id)
    assert (await wallet.event("message"))["message"] == fee.encode().hex()
    question = await delegated(wallet, "unknown_channel")
    await wallet.refuse(question, "this node has no such channel")
    assert (await received(connection, Error)).channel_id == fee.channel_id


async def test_what_waits_for_a_wallet_is_bounded(server: Server, peer: ScriptedPeer) -> None:
    async with aiohttp.ClientSession() as http:
        connection = await rest_session(http, server, peer)
    for number in range(500):
        fee = UpdateFee(channel_id=number.to_bytes(32, "big"), feerate_per_kw=300)
        await connection.send(fee.encode())
    while (raw := await connection.receive())[:2] != PeerWarning.TYPE.to_bytes(2, "big"):
        pass
    assert b"too many messages" in raw
