"""The end of a relay: wallets are told, peers are hung up on cleanly, nothing is left running."""

import asyncio

import pytest

from lightning_proxy.api import ApiSettings, Server
from lightning_proxy.relay import RelaySettings
from tests.support.channels import channel_keys, open_channel
from tests.support.peer import ScriptedPeer
from tests.support.relay import ACT_ONE, RpcFailure, raw_wallet


async def test_shutdown_tells_everybody(peer: ScriptedPeer) -> None:
    before = asyncio.all_tasks()
    server = Server(RelaySettings(), ApiSettings(port=0))
    await server.__aenter__()
    async with raw_wallet(server.url) as wallet:
        _, connection = await wallet.open_session(peer)
        await connection.send(open_channel().encode())
        delegation = await wallet.event("delegate")
        stopping = asyncio.create_task(server.__aexit__(None, None, None))
        assert (await wallet.event("voided"))["id"] == delegation["id"]
        assert "shutting down" in (await wallet.event("closed"))["reason"]
        await asyncio.wait_for(wallet.ended.wait(), 10)
        assert wallet.socket.close_code == 1001
        assert await connection.closed() == b""
        await stopping
    assert not list(server.relay.sessions())
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before


async def test_what_is_being_answered_is_finished(peer: ScriptedPeer) -> None:
    server = Server(RelaySettings(answers_timeout=10.0), ApiSettings(port=0))
    await server.__aenter__()
    async with raw_wallet(server.url) as wallet:
        _, connection = await wallet.open_session(peer)
        await connection.send(open_channel().encode())
        delegation = await wallet.event("delegate")
        stopping = asyncio.create_task(server.__aexit__(None, None, None))
        with pytest.raises(RpcFailure) as failure:
            while True:
                await wallet.call("connect", peer=peer.address, act_one=ACT_ONE)
        assert failure.value.code in ("shutting_down", "peer_failed", "peer_timeout")
        await wallet.answer(delegation, channel_keys())
        assert (await connection.receive())[:2] == b"\x00\x21"
        assert "shutting down" in (await wallet.event("closed"))["reason"]
        assert await connection.closed() == b""
        await stopping
