"""What becomes of a session while its wallet is away, as the wallet chose."""

import asyncio

import pytest

from lightning_proxy.api import Server
from tests.support.channels import channel_keys, open_channel
from tests.support.peer import ScriptedPeer
from tests.support.relay import RawWallet, RpcFailure, raw_wallet

SECRET = b"\x5b" * 32


async def gone(server: Server) -> None:
    """Wait until the relay knows that no socket is left."""
    async with asyncio.timeout(10):
        while any(inbox.sockets for inbox in server.relay.inboxes()):
            await asyncio.sleep(0.01)


async def chosen(wallet: RawWallet, session_id: str, policy: str, seconds: float) -> None:
    info = await wallet.call("set_presence", session_id=session_id, policy=policy, seconds=seconds)
    assert info.get("presence", "stay") == policy


async def test_a_peer_is_let_go_when_the_wallet_is_needed_and_does_not_come(
    server: Server, peer: ScriptedPeer
) -> None:
    async with raw_wallet(server.url, SECRET) as wallet:
        session_id, connection = await wallet.open_session(peer)
        await chosen(wallet, session_id, "disconnect", 0.1)
    await gone(server)
    # Nothing waits, so the session stays.
    await asyncio.sleep(0.3)
    assert len(list(server.relay.sessions())) == 1
    await connection.send(open_channel().encode())
    await connection.closed()
    async with raw_wallet(server.url, SECRET) as wallet:
        assert (await wallet.event("closed"))["reason"] == "the wallet can't be reached"


async def test_a_wallet_that_comes_in_time_keeps_its_session(
    server: Server, peer: ScriptedPeer
) -> None:
    async with raw_wallet(server.url, SECRET) as wallet:
        session_id, connection = await wallet.open_session(peer)
        await chosen(wallet, session_id, "disconnect", 0.5)
    await gone(server)
    await connection.send(open_channel().encode())
    async with raw_wallet(server.url, SECRET) as wallet:
        question = await wallet.event("delegate")
        await asyncio.sleep(0.7)
        await wallet.answer(question, channel_keys())
        assert (await connection.receive())[:2] == b"\x00\x21"


async def test_what_the_peer_takes_back_needs_nobody(server: Server, peer: ScriptedPeer) -> None:
    async with raw_wallet(server.url, SECRET) as wallet:
        session_id, connection = await wallet.open_session(peer)
        await chosen(wallet, session_id, "disconnect", 0.3)
        # An `error` is a message that waits, too: this wallet has it before it goes.
        offer = open_channel()
        await connection.send(offer.encode())
        question = await wallet.event("delegate")
    await gone(server)
    async with raw_wallet(server.url, SECRET) as wallet:
        assert (await wallet.event("delegate"))["id"] == question["id"]
        await wallet.refuse(question, "no")
        assert (await connection.receive())[:2] == b"\x00\x11"
    await gone(server)
    await asyncio.sleep(0.5)
    assert len(list(server.relay.sessions())) == 1


async def test_only_while_a_device_is_connected(server: Server, peer: ScriptedPeer) -> None:
    async with raw_wallet(server.url, SECRET) as wallet:
        session_id, connection = await wallet.open_session(peer)
        await chosen(wallet, session_id, "attended", 0.1)
        async with raw_wallet(server.url, SECRET):
            pass
        await asyncio.sleep(0.3)
        assert len(list(server.relay.sessions())) == 1
    await connection.closed()
    async with raw_wallet(server.url, SECRET) as wallet:
        closed = await wallet.event("closed")
        assert closed["reason"] == "no device of the wallet's is connected"


async def test_a_choice_can_be_taken_back(server: Server, peer: ScriptedPeer) -> None:
    async with raw_wallet(server.url, SECRET) as wallet:
        session_id, _ = await wallet.open_session(peer)
        await chosen(wallet, session_id, "attended", 0.0)
        await chosen(wallet, session_id, "stay", 0.0)
    await gone(server)
    await asyncio.sleep(0.2)
    assert len(list(server.relay.sessions())) == 1


@pytest.mark.parametrize("changes", [{"policy": "never"}, {"seconds": -1}, {"seconds": 1e9}])
async def test_what_is_no_policy(
    wallet: RawWallet, peer: ScriptedPeer, changes: dict[str, object]
) -> None:
    session_id, _ = await wallet.open_session(peer)
    params = {"session_id": session_id, "policy": "stay", **changes}
    with pytest.raises(RpcFailure) as failure:
        await wallet.call("set_presence", **params)
    assert failure.value.code == "invalid_params"
