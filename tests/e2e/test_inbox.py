"""What waits for a wallet: in order, until it is acknowledged, over restarts of the relay."""

from pathlib import Path

import pytest

from lightning_proxy.api import Server
from lightning_proxy.relay import StoreError
from tests.support.channels import channel_keys, open_channel
from tests.support.numbered import messages, numbered, raw_session
from tests.support.peer import ScriptedPeer
from tests.support.relay import RpcFailure, raw_wallet, relay

SECRET = b"\x5a" * 32


async def test_messages_come_again_until_they_are_acknowledged(
    server: Server, peer: ScriptedPeer
) -> None:
    async with raw_wallet(server.url, SECRET) as wallet:
        _, connection = await raw_session(wallet, peer)
        await connection.send(*map(numbered, range(5)))
        assert await messages(wallet, 5) == [0, 1, 2, 3, 4]
    await connection.send(*map(numbered, range(5, 8)))
    async with raw_wallet(server.url, SECRET) as wallet:
        assert await messages(wallet, 3) == [0, 1, 2]
        await wallet.acknowledge()
        assert await messages(wallet, 5) == [3, 4, 5, 6, 7]
    async with raw_wallet(server.url, SECRET) as wallet:
        assert await messages(wallet, 5) == [3, 4, 5, 6, 7]
        await wallet.acknowledge()
    async with raw_wallet(server.url, SECRET) as wallet:
        await wallet.quiet()


async def test_over_restarts_nothing_is_lost_and_lost_sessions_are_told(
    peer: ScriptedPeer, tmp_path: Path
) -> None:
    store = str(tmp_path / "relay.sqlite")
    async with relay(store=store) as server:
        async with raw_wallet(server.url, SECRET) as wallet:
            session_id, connection = await raw_session(wallet, peer)
        await connection.send(*map(numbered, range(3)))
        await connection.send(b"\x00\x12\x00\x00\x00\x00")
        while (await connection.receive())[:2] != b"\x00\x13":
            pass
    for _ in range(2):
        async with relay(store=store) as server, raw_wallet(server.url, SECRET) as wallet:
            assert await messages(wallet, 3) == [0, 1, 2]
            lost = await wallet.event("session_lost")
            assert lost == {"session_id": session_id, "peer": peer.address}
            await wallet.quiet()
    async with relay(store=store) as server, raw_wallet(server.url, SECRET) as wallet:
        assert await messages(wallet, 3) == [0, 1, 2]
        await wallet.event("session_lost")
        await wallet.acknowledge()
        assert server.relay.queued_bytes == 0
    async with relay(store=store) as server, raw_wallet(server.url, SECRET) as wallet:
        await wallet.quiet()


async def test_a_question_of_a_former_run_is_void(peer: ScriptedPeer, tmp_path: Path) -> None:
    store = str(tmp_path / "relay.sqlite")
    async with relay(store=store) as server:
        async with raw_wallet(server.url, SECRET) as wallet:
            _, connection = await wallet.open_session(peer)
            await connection.send(open_channel().encode())
            question = await wallet.event("delegate")
        await server.relay.journal.flush()
    async with relay(store=store) as server, raw_wallet(server.url, SECRET) as wallet:
        assert (await wallet.event("voided"))["id"] == question["id"]
        await wallet.event("session_lost")
        await wallet.answer(question, channel_keys())
        assert (await wallet.event("rejected"))["code"] == "delegation_unknown"


async def test_what_waits_comes_in_the_order_in_which_it_came(
    server: Server, peer: ScriptedPeer
) -> None:
    async with raw_wallet(server.url, SECRET) as wallet:
        session_id, connection = await wallet.open_session(peer)
    offer = open_channel()
    await connection.send(
        b"\x00\x01" + bytes(32) + b"\x00\x01a",
        offer.encode(),
        b"\x00\x01" + bytes(32) + b"\x00\x01b",
    )
    async with raw_wallet(server.url, SECRET) as wallet:
        came = [await wallet.event_body() for _ in range(3)]
        assert [body["method"] for body in came] == ["message", "delegate", "message"]
        # What is over before the wallet ever saw it is none of its business.
        await wallet.call("close", session_id=session_id)
        await wallet.event("voided")


async def test_a_question_that_nobody_saw_ends_in_silence(peer: ScriptedPeer) -> None:
    async with relay(deadlines={"channel_keys": 0.05}) as server:
        async with raw_wallet(server.url, SECRET) as wallet:
            _, connection = await wallet.open_session(peer)
        await connection.send(open_channel().encode())
        assert (await connection.receive())[:2] == b"\x00\x11"
        async with raw_wallet(server.url, SECRET) as wallet:
            await wallet.quiet()


async def test_a_session_counts_only_when_it_would_be_reported(
    peer: ScriptedPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with relay() as server, raw_wallet(server.url, SECRET) as wallet:

        async def refuse(_: object) -> None:
            raise StoreError("The disk is full.")

        monkeypatch.setattr(server.relay.journal._store, "write", refuse)
        with pytest.raises(RpcFailure, match="write its state") as failure:
            await wallet.open_session(peer)
        assert failure.value.code == "unavailable"
