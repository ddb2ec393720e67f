"""A wallet that sleeps is woken: what its receiver gets, and what it then finds."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lightning_proxy.bolt.keys import recover_message_signer
from lightning_proxy.cli.vapid import app as vapid
from lightning_proxy.relay.wake.settings import WakeSettings
from lightning_proxy.rpc import DelegationKind
from lightning_proxy.rpc.webhook import SIGNATURE_HEADER, TIMESTAMP_HEADER, webhook_text
from tests.support.channels import channel_keys, open_channel
from tests.support.fault_proxy import Direction, FaultProxy, at_random, byte_by_byte, slowly
from tests.support.peer import ScriptedPeer
from tests.support.receivers import Browser, Push, Receiver
from tests.support.relay import raw_wallet, relay

SECRET = b"\x5b" * 32
ACCEPT_CHANNEL = b"\x00\x21"
QUICK = WakeSettings(cooldown=0.05, retry_first=0.1, timeout=0.5)


@pytest.fixture
async def to_receiver(receiver: Receiver) -> AsyncIterator[FaultProxy]:
    """Between the relay and the wallet's receiver."""
    async with FaultProxy(("127.0.0.1", receiver.port), seed=3) as proxy:
        yield proxy


async def test_a_browsers_push_lives_as_long_as_the_question(
    peer: ScriptedPeer, receiver: Receiver, tmp_path: Path
) -> None:
    key = tmp_path / "vapid.pem"
    assert CliRunner().invoke(vapid, [str(key)]).exit_code == 0
    browser = Browser()
    wake = WakeSettings(vapid_key=str(key), vapid_subject="mailto:operator@example.com")
    deadlines = {DelegationKind.CHANNEL_KEYS: 25.0}
    async with relay(wake=wake, deadlines=deadlines) as server:
        async with raw_wallet(server.url, SECRET) as wallet:
            await wallet.call("wake_by_web_push", **browser.subscription(f"{receiver.url}/push"))
            _, connection = await wallet.open_session(peer)
        await connection.send(open_channel().encode())
        push = await receiver.push()
        async with raw_wallet(server.url, SECRET) as wallet:
            question = await wallet.event("delegate")
            assert browser.open(push) == {"reason": "delegation", "id": question["id"]}
            # RFC 8030 §5.2: whole seconds.
            assert math.ceil(question["remaining"]) - 1 <= int(push.headers["TTL"]) <= 25
            await wallet.answer(question, channel_keys())
            assert (await connection.receive())[:2] == ACCEPT_CHANNEL


def signer(push: Push, url: str) -> bytes:
    text = webhook_text(push.headers[TIMESTAMP_HEADER], url, push.body.decode())
    return recover_message_signer(push.headers[SIGNATURE_HEADER], text)


@pytest.mark.parametrize("fault", [byte_by_byte, at_random, slowly])
async def test_however_the_network_cuts_it_a_push_arrives_whole(
    peer: ScriptedPeer,
    receiver: Receiver,
    to_receiver: FaultProxy,
    fault: Callable[[Direction], None],
) -> None:
    fault(to_receiver.up)
    fault(to_receiver.down)
    url = f"http://{to_receiver.netloc}/wake"
    async with relay() as server:
        async with raw_wallet(server.url, SECRET) as wallet:
            await wallet.call("wake_by_webhook", url=url)
            _, connection = await wallet.open_session(peer)
        await connection.send(open_channel().encode())
        assert signer(await receiver.push(), url) == server.relay.waker.identity.node_id
        async with asyncio.timeout(10):
            while not server.relay.waker.counters.wakes_delivered:
                await asyncio.sleep(0.01)
        assert server.relay.waker.counters.wakes_failed == 0


def cut_at_once(proxy: FaultProxy) -> None:
    proxy.accepting = False


def cut_within_the_push(proxy: FaultProxy) -> None:
    proxy.up.cut_after = 100


def cut_within_the_answer(proxy: FaultProxy) -> None:
    proxy.down.cut_after = 10


def stall_the_push(proxy: FaultProxy) -> None:
    proxy.up.stall()


def stall_the_answer(proxy: FaultProxy) -> None:
    proxy.down.stall()


@pytest.mark.parametrize(
    "fault",
    [cut_at_once, cut_within_the_push, cut_within_the_answer, stall_the_push, stall_the_answer],
)
async def test_a_push_that_the_network_takes_is_pushed_again_and_the_question_waits(
    peer: ScriptedPeer,
    receiver: Receiver,
    to_receiver: FaultProxy,
    fault: Callable[[FaultProxy], None],
) -> None:
    async with relay(wake=QUICK) as server:
        counters = server.relay.waker.counters
        async with raw_wallet(server.url, SECRET) as wallet:
            await wallet.call("wake_by_webhook", url=f"http://{to_receiver.netloc}/wake")
            _, connection = await wallet.open_session(peer)
        fault(to_receiver)
        await connection.send(open_channel().encode())
        async with asyncio.timeout(10):
            while not counters.wakes_failed:
                await asyncio.sleep(0.01)
        to_receiver.heal()
        async with asyncio.timeout(10):
            while not counters.wakes_delivered:
                await asyncio.sleep(0.01)
        await receiver.push()
        async with raw_wallet(server.url, SECRET) as wallet:
            (target,) = await wallet.call("wake_targets")
            assert "failure" not in target
            await wallet.answer(await wallet.event("delegate"), channel_keys())
            assert (await connection.receive())[:2] == ACCEPT_CHANNEL
            await wallet.quiet()
