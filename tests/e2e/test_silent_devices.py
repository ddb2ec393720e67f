"""Devices that are connected and do not answer: the wallet is woken as if it were away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lightning_proxy.api import ApiSettings
from lightning_proxy.relay.wake.settings import WakeSettings
from lightning_proxy.wallet import Wallet, WalletKeys, connection
from lightning_proxy.wallet.events import Disconnected
from tests.support.channels import channel_keys, open_channel
from tests.support.fault_proxy import FaultProxy
from tests.support.peer import ScriptedPeer
from tests.support.receivers import Receiver
from tests.support.relay import RawWallet, raw_wallet, relay

SECRET = b"\x5c" * 32
ACCEPT_CHANNEL = b"\x00\x21"
#: Where one of the two must not be what wakes the wallet.
NEVER = 60.0
QUICK = WakeSettings(cooldown=0.05, retry_first=60.0)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver().serve() as listening:
        yield listening


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[str]:
    async with relay(wake=QUICK, **settings) as server:
        yield server.url


async def freeze(wallet: RawWallet) -> None:
    """Its socket stays open, and nobody reads: pings are not answered, either."""
    wallet.listening.cancel()
    await asyncio.gather(wallet.listening, return_exceptions=True)


async def test_a_suspended_phone_is_woken_and_answers_the_same_question(
    peer: ScriptedPeer, receiver: Receiver
) -> None:
    settings = {"wallet_pong_timeout": 0.2, "wallet_answer_timeout": NEVER}
    async with serving(**settings) as url, raw_wallet(url, SECRET) as frozen:
        await frozen.call("wake_by_webhook", url=receiver.url)
        _, link = await frozen.open_session(peer)
        await freeze(frozen)
        await link.send(open_channel().encode())
        push = await receiver.push()
        async with raw_wallet(url, SECRET) as woken:
            question = await woken.event("delegate")
            assert question["id"] in push.body.decode()
            await woken.answer(question, channel_keys())
            assert (await link.receive())[:2] == ACCEPT_CHANNEL


async def test_it_is_found_dead(peer: ScriptedPeer) -> None:
    settings = {"wallet_pong_timeout": 0.1, "wallet_answer_timeout": 0.2}
    async with serving(**settings) as url, raw_wallet(url, SECRET) as frozen:
        _, link = await frozen.open_session(peer)
        await freeze(frozen)
        await link.send(open_channel().encode())
        async with raw_wallet(url, SECRET) as other:
            while True:
                devices = await other.call("devices")
                sockets = sum(each.get("sockets", 0) for each in devices)
                if sockets <= 1 and await frozen_is_cut(frozen):
                    break
                await asyncio.sleep(0.02)


async def frozen_is_cut(frozen: RawWallet) -> bool:
    connection = frozen.socket._conn
    return connection is None or connection.transport is None or connection.transport.is_closing()


async def test_a_message_wakes_it_too(peer: ScriptedPeer, receiver: Receiver) -> None:
    settings = {"wallet_pong_timeout": 0.2, "wallet_answer_timeout": NEVER}
    async with serving(**settings) as url, raw_wallet(url, SECRET) as frozen:
        await frozen.call("wake_by_webhook", url=receiver.url)
        session_id, link = await frozen.open_session(peer)
        await frozen.call("subscribe", session_id=session_id, raw=True)
        await freeze(frozen)
        await link.send(b"\x80\x01odd")
        assert b'"message"' in (await receiver.push()).body


async def test_a_device_that_says_it_is_there_and_answers_nothing(
    peer: ScriptedPeer, receiver: Receiver
) -> None:
    """Its owner may look at another device; the one that is there is not cut off."""
    settings = {"wallet_pong_timeout": 0.1, "wallet_answer_timeout": 0.3}
    async with serving(**settings) as url, raw_wallet(url, SECRET) as wallet:
        await wallet.call("wake_by_webhook", url=receiver.url)
        _, link = await wallet.open_session(peer)
        await link.send(open_channel().encode())
        question = await wallet.event("delegate")
        assert question["id"] in (await receiver.push()).body.decode()
        await wallet.answer(question, channel_keys())
        assert (await link.receive())[:2] == ACCEPT_CHANNEL
        assert not wallet.ended.is_set()


async def test_who_answers_in_time_is_not_woken(peer: ScriptedPeer, receiver: Receiver) -> None:
    settings = {"wallet_pong_timeout": 0.1, "wallet_answer_timeout": 0.2}
    async with serving(**settings) as url, raw_wallet(url, SECRET) as wallet:
        await wallet.call("wake_by_webhook", url=receiver.url)
        _, link = await wallet.open_session(peer)
        for _ in range(3):
            await link.send(open_channel().encode())
            await wallet.answer(await wallet.event("delegate"), channel_keys())
            assert (await link.receive())[:2] == ACCEPT_CHANNEL
            await asyncio.sleep(0.15)
        await asyncio.sleep(0.3)
        assert receiver.pushes.empty()


async def test_one_of_two_devices_is_enough(peer: ScriptedPeer, receiver: Receiver) -> None:
    settings = {"wallet_pong_timeout": 0.1, "wallet_answer_timeout": NEVER}
    async with serving(**settings) as url, raw_wallet(url, SECRET) as frozen:
        await frozen.call("wake_by_webhook", url=receiver.url)
        _, link = await frozen.open_session(peer)
        async with raw_wallet(url, SECRET) as awake:
            await freeze(frozen)
            await link.send(open_channel().encode())
            await awake.event("delegate")
            await asyncio.sleep(0.4)
            assert receiver.pushes.empty()
        # Now nobody is there that answers.
        await receiver.push()


async def test_no_push_for_a_question_that_is_over(peer: ScriptedPeer, receiver: Receiver) -> None:
    wake = WakeSettings(cooldown=0.05, retry_first=0.4)
    async with relay(wake=wake, deadlines={"channel_keys": 0.3}) as server:
        async with raw_wallet(server.url, SECRET) as wallet:
            await wallet.call("wake_by_webhook", url=receiver.url)
            _, link = await wallet.open_session(peer)
        await link.send(open_channel().encode())
        await receiver.push()
        # It expires, and the peer is told.
        assert (await link.receive())[:2] == b"\x00\x11"
        await asyncio.sleep(0.6)
        assert receiver.pushes.empty()


async def test_a_wallet_finds_a_relay_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads at the other end, and no connection breaks."""
    # A ping, and half as long for its pong.
    assert connection._HEARTBEAT * 1.5 <= 15
    monkeypatch.setattr(connection, "_HEARTBEAT", 0.2)
    async with (
        FaultProxy(("127.0.0.1", 0), seed=1) as proxy,
        relay(ApiSettings(port=0, origins=[f"http://{proxy.netloc}"])) as server,
    ):
        proxy.target = ("127.0.0.1", server.port)
        async with Wallet(f"http://{proxy.netloc}", WalletKeys.generate()) as wallet:
            proxy.down.stall()
            async for event in wallet.events():
                if isinstance(event, Disconnected):
                    assert "PONG" in event.reason
                    break
