"""The wall's clock jumps by hours, either way: deadlines, cooldowns and positions don't."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightning_proxy.api import Server
from lightning_proxy.relay.wake.settings import WakeSettings
from tests.support.channels import channel_keys, open_channel
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.receivers import Receiver
from tests.support.relay import RawWallet, RpcFailure, raw_wallet, relay

SECRET = b"\x5a" * 32
HOURS = 3600.0
JUMPS = [6 * HOURS, -6 * HOURS]
ERROR, ACCEPT_CHANNEL = b"\x00\x11", b"\x00\x21"

#: Moves the wall's clock by so many seconds.
Jump = Callable[[float], None]


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Jump:
    clock, offset = time.time, 0.0

    def move(seconds: float) -> None:
        nonlocal offset
        offset += seconds

    monkeypatch.setattr(time, "time", lambda: clock() + offset)
    return move


async def asked(wallet: RawWallet, peer: ScriptedPeer) -> tuple[dict[str, Any], PeerConnection]:
    """A question that is open."""
    _, connection = await wallet.open_session(peer)
    await connection.send(open_channel().encode())
    return await wallet.event("delegate"), connection


@pytest.mark.parametrize("seconds", JUMPS)
async def test_a_question_stays_open_until_its_deadline(
    server: Server, peer: ScriptedPeer, jump: Jump, seconds: float
) -> None:
    async with raw_wallet(server.url, SECRET) as wallet:
        first, connection = await asked(wallet, peer)
    jump(seconds)
    async with raw_wallet(server.url, SECRET) as wallet:
        again = await wallet.event("delegate")
        assert again["id"] == first["id"]
        assert 0 < again["remaining"] <= first["remaining"] <= 55
        await wallet.answer(again, channel_keys())
        assert (await connection.receive())[:2] == ACCEPT_CHANNEL


@pytest.mark.parametrize("seconds", JUMPS)
async def test_a_question_expires_at_its_deadline(
    peer: ScriptedPeer, jump: Jump, seconds: float
) -> None:
    async with (
        relay(deadlines={"channel_keys": 0.3}) as server,
        raw_wallet(server.url, SECRET) as wallet,
    ):
        question, connection = await asked(wallet, peer)
        jump(seconds)
        assert (await connection.receive())[:2] == ERROR
        assert (await wallet.event("voided"))["id"] == question["id"]


@pytest.mark.parametrize("seconds", JUMPS)
async def test_a_quiet_peer_is_given_up_in_time_and_no_other(
    jump: Jump, peer: ScriptedPeer, seconds: float
) -> None:
    async with (
        relay(ping_interval=0.1, pong_timeout=0.5) as server,
        raw_wallet(server.url, SECRET) as wallet,
    ):
        _, lively = await wallet.open_session(peer)
        session_id, _ = await wallet.open_session(peer)
        jump(seconds)
        answering = asyncio.create_task(answer_pings(lively))
        closed = await wallet.event("closed")
        assert closed["session_id"] == session_id
        assert "ping" in closed["reason"]
        assert len(await wallet.call("sessions")) == 1
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)


async def answer_pings(connection: PeerConnection) -> None:
    while True:
        message = await connection.receive()
        if message[:2] == b"\x00\x12":
            size = int.from_bytes(message[2:4], "big")
            await connection.send(b"\x00\x13" + size.to_bytes(2, "big") + bytes(size))


@pytest.mark.parametrize("seconds", JUMPS)
async def test_a_peer_is_let_go_when_its_wallet_does_not_come_in_time(
    server: Server, peer: ScriptedPeer, jump: Jump, seconds: float
) -> None:
    async with raw_wallet(server.url, SECRET) as wallet:
        session_id, connection = await wallet.open_session(peer)
        await wallet.call("set_presence", session_id=session_id, policy="disconnect", seconds=0.2)
    await connection.send(open_channel().encode())
    jump(seconds)
    await connection.closed()


@pytest.mark.parametrize("seconds", JUMPS)
async def test_a_sleeping_wallet_is_woken_and_woken_again(
    peer: ScriptedPeer, jump: Jump, seconds: float
) -> None:
    wake = WakeSettings(cooldown=0.05, retry_first=0.1)
    async with Receiver().serve() as receiver, relay(wake=wake) as server:
        async with raw_wallet(server.url, SECRET) as wallet:
            await wallet.call("wake_by_webhook", url=receiver.url)
            _, connection = await wallet.open_session(peer)
        await connection.send(open_channel().encode())
        await receiver.push()
        jump(seconds)
        await receiver.push()


async def test_no_jump_ends_a_cooldown(jump: Jump) -> None:
    async with (
        Receiver().serve() as receiver,
        relay(wake=WakeSettings(cooldown=60)) as server,
        raw_wallet(server.url, SECRET) as wallet,
    ):
        await wallet.call("wake_by_webhook", url=receiver.url)
        await wallet.call("test_wake")
        for seconds in JUMPS:
            jump(seconds)
            with pytest.raises(RpcFailure, match="just woken"):
                await wallet.call("test_wake")


async def test_no_jump_makes_a_cooldown_longer(jump: Jump) -> None:
    async with (
        Receiver().serve() as receiver,
        relay(wake=WakeSettings(cooldown=0.01)) as server,
        raw_wallet(server.url, SECRET) as wallet,
    ):
        await wallet.call("wake_by_webhook", url=receiver.url)
        await wallet.call("test_wake")
        jump(-6 * HOURS)
        async with asyncio.timeout(10):
            while True:
                try:
                    await wallet.call("test_wake")
                except RpcFailure as failure:
                    assert failure.code == "limit"
                    await asyncio.sleep(0.02)
                else:
                    break


@pytest.mark.parametrize("seconds", JUMPS)
async def test_positions_grow_whatever_the_clock_says_at_a_restart(
    peer: ScriptedPeer, tmp_path: Path, jump: Jump, seconds: float
) -> None:
    store = str(tmp_path / "relay.sqlite")
    lost: list[str] = []
    for _ in range(3):
        async with relay(store=store) as server, raw_wallet(server.url, SECRET) as wallet:
            for session_id in lost:
                # In order, which `event` checks.
                assert (await wallet.event("closed"))["session_id"] == session_id
            await wallet.quiet()
            session_id, connection = await wallet.open_session(peer)
            await connection.close()
            assert (await wallet.event("closed"))["session_id"] == session_id
            lost.append(session_id)
        jump(seconds)
