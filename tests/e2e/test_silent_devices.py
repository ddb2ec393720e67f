"""Devices that are connected and do not answer: the wallet is woken as if it were away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from lightning_proxy.api import ApiSettings, Server
from lightning_proxy.api import socket as relay_socket
from lightning_proxy.api.socket import WalletSocket
from lightning_proxy.relay.inbox import Socket
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


async def test_a_live_phone_on_a_slow_link_is_not_taken_for_asleep(
    peer: ScriptedPeer, receiver: Receiver
) -> None:
    """What is said soon after something else has as much time for its pong."""
    settings = {"wallet_pong_timeout": 2.0, "wallet_answer_timeout": NEVER}
    async with serving(**settings) as url, raw_wallet(url, SECRET, autoping=False) as phone:
        await phone.call("wake_by_webhook", url=receiver.url)
        session_id, link = await phone.open_session(peer)
        await phone.call("subscribe", session_id=session_id, raw=True)
        pings = asyncio.Queue[bytes]()
        await freeze(phone)
        phone.listening = asyncio.create_task(listen_and_note_pings(phone, pings))
        await link.send(b"\x80\x01one")
        await phone.socket.pong(await asyncio.wait_for(pings.get(), 10))
        await link.send(b"\x80\x01two")
        second = await asyncio.wait_for(pings.get(), 10)
        await asyncio.sleep(0.5)
        await phone.socket.pong(second)
        await phone.call("sessions")
        assert receiver.pushes.empty()


async def listen_and_note_pings(phone: RawWallet, pings: asyncio.Queue[bytes]) -> None:
    """Who has opened a socket without `autoping` answers them as it likes."""

    async def receive() -> aiohttp.WSMessage:
        while (message := await original()).type is aiohttp.WSMsgType.PING:
            pings.put_nowait(message.data)
        return message

    original = phone.socket.receive
    phone.socket.receive = receive  # type: ignore[method-assign, assignment]
    await phone.listen()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        # It answers no ping, or pings alone.
        ({"wallet_pong_timeout": 0.2, "wallet_answer_timeout": NEVER}, "question"),
        ({"wallet_pong_timeout": 0.2, "wallet_answer_timeout": NEVER}, "message"),
        ({"wallet_pong_timeout": NEVER, "wallet_answer_timeout": 0.3}, "question"),
    ],
)
async def test_who_came_and_fell_asleep_again_is_woken_again(
    peer: ScriptedPeer, receiver: Receiver, settings: dict[str, float], says: str
) -> None:
    async with serving(**settings) as url:
        async with raw_wallet(url, SECRET) as wallet:
            await wallet.call("wake_by_webhook", url=receiver.url)
            session_id, link = await wallet.open_session(peer)
            await wallet.call("subscribe", session_id=session_id, raw=says == "message")
        await link.send(b"\x80\x01odd" if says == "message" else open_channel().encode())
        await receiver.push()
        async with AsyncExitStack() as stack:
            # As often as it does so.
            for _ in range(2):
                pongs = settings["wallet_pong_timeout"] == NEVER
                await stack.enter_async_context(raw_wallet(url, SECRET, autoping=pongs))
                await receiver.push()


async def test_it_is_found_dead_and_nothing_is_lost_by_it(peer: ScriptedPeer) -> None:
    settings: dict[str, Any] = {"wallet_pong_timeout": 0.1, "wallet_answer_timeout": 0.2}
    async with relay(wake=QUICK, **settings) as server, raw_wallet(server.url, SECRET) as frozen:
        _, link = await frozen.open_session(peer)
        (socket,) = server.relay.inbox_of(frozen.node_id).sockets
        await freeze(frozen)
        await link.send(open_channel().encode())
        await released(server, frozen, socket)
        async with raw_wallet(server.url, SECRET) as woken:
            await woken.answer(await woken.event("delegate"), channel_keys())
            assert (await link.receive())[:2] == ACCEPT_CHANNEL


async def released(server: Server, wallet: RawWallet, socket: Socket) -> None:
    """Returns when the relay knows nothing of that socket any more, nor its kernel."""
    assert isinstance(socket, WalletSocket)
    transport = socket._socket._req.transport if socket._socket._req else None
    assert transport is not None
    connection = transport.get_extra_info("socket")
    async with asyncio.timeout(10):
        while server.relay.inbox_of(wallet.node_id).sockets or connection.fileno() != -1:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("how", ["silent", "revoked", "given up by aiohttp"])
async def test_whatever_waits_for_it_a_dead_one_is_released(
    peer: ScriptedPeer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Not a byte goes to it any more, and so no ping and no goodbye."""
    timeout = 0.2 if how == "silent" else NEVER
    if how == "given up by aiohttp":
        monkeypatch.setattr(relay_socket, "_HEARTBEAT", 1.0)
    settings: dict[str, Any] = {
        "wallet_pong_timeout": timeout,
        "wallet_answer_timeout": timeout,
        "wallet_stall_timeout": NEVER if how == "silent" else 0.2,
        # It is not for that that it is cut.
        "max_queued_bytes_per_socket": 1 << 28,
        "max_queued_bytes_per_wallet": 1 << 28,
    }
    async with relay(**settings) as server, raw_wallet(server.url, SECRET) as frozen:
        session_id, link = await frozen.open_session(peer)
        await frozen.call("subscribe", session_id=session_id, raw=True)
        (socket,) = server.relay.inbox_of(frozen.node_id).sockets
        assert isinstance(socket, WalletSocket)
        frozen.stop_reading()
        sent = 0
        async with asyncio.timeout(60):
            # Until it is stuck.
            while not socket._outgoing and server.relay.inbox_of(frozen.node_id).sockets:
                for _ in range(10):
                    await link.send(b"\x80\x01" + bytes(60_000))
                    sent += 1
        if how == "revoked":
            socket.hang_up("this device's key was revoked")
        await released(server, frozen, socket)
        async with raw_wallet(server.url, SECRET) as woken:
            for sequence in range(1, sent + 1):
                assert (await woken.event("message"))["sequence"] == sequence


async def test_who_is_given_up_has_not_come(
    peer: ScriptedPeer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That aiohttp has had no pong is no sign of life, and no end of the cooldown."""
    monkeypatch.setattr(relay_socket, "_HEARTBEAT", 0.6)
    wake = WakeSettings(cooldown=NEVER, retry_first=NEVER)
    settings: dict[str, Any] = {"wallet_pong_timeout": 0.1, "wallet_answer_timeout": NEVER}
    async with (
        relay(wake=wake, **settings) as server,
        raw_wallet(server.url, SECRET, autoping=False) as frozen,
    ):
        await frozen.call("wake_by_webhook", url=receiver.url)
        _, link = await frozen.open_session(peer)
        (socket,) = server.relay.inbox_of(frozen.node_id).sockets
        await link.send(open_channel().encode())
        await receiver.push()
        await released(server, frozen, socket)
        await asyncio.sleep(0.2)
        assert receiver.pushes.empty()


async def test_what_is_told_after_the_end_of_a_session_does_not_hide_it(
    peer: ScriptedPeer, receiver: Receiver
) -> None:
    """That a question is void is worth no push, and takes none away."""
    settings: dict[str, Any] = {"wallet_pong_timeout": NEVER, "wallet_answer_timeout": NEVER}
    async with serving(**settings, deadlines={"channel_keys": 0.2}) as url:
        async with raw_wallet(url, SECRET) as wallet:
            await wallet.call("wake_by_webhook", url=receiver.url)
            session_id, link = await wallet.open_session(peer)
            _, other = await wallet.open_session(peer)
            await link.close()
            assert (await wallet.event("closed"))["session_id"] == session_id
            await other.send(open_channel().encode())
            await wallet.event("delegate")
            await wallet.event("voided")
        push = await receiver.push()
        assert push.body == f'{{"reason":"session_lost","id":"{session_id}"}}'.encode()


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
