"""When a wallet is woken: at once, not too often, again while it does not come."""

import asyncio
import errno
import os
import time
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from lightning_proxy.relay.store import Database
from lightning_proxy.relay.wake.adapter import WakeError
from lightning_proxy.relay.wake.identity import Identity
from lightning_proxy.rpc import RpcError, WakeByWebhook, WakeKind, WakeReason
from lightning_proxy.wallet.wake import WebhookRefused, verify_webhook
from tests.support.receivers import Receiver
from tests.unit.relay.wake.conftest import waking

WALLET, OTHER = b"\x02" + bytes(32), b"\x03" + bytes(32)
LOST, ASKED = WakeReason.SESSION_LOST, WakeReason.DELEGATION


def said(body: bytes) -> tuple[str, str]:
    value = msgspec.json.decode(body)
    # Nothing else may ever stand in it.
    assert set(value) == {"reason", "id"}
    return value["reason"], value["id"]


async def quiet(receiver: Receiver, seconds: float = 0.3) -> None:
    await asyncio.sleep(seconds)
    assert receiver.pushes.empty()


async def test_a_wake_is_a_signed_post_that_says_why_and_nothing_else(receiver: Receiver) -> None:
    url = f"{receiver.url}/wake/w1?x=%2F"
    async with waking() as waker:
        target = await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(url))
        assert target.host == "127.0.0.1"
        waker.wake(WALLET, ASKED, "ab" * 16)
        push = await receiver.push()
        assert push.path == "/wake/w1"
        assert said(push.body) == ("delegation", "ab" * 16)
        relay = waker.identity.node_id
        assert verify_webhook(relay, url, push.headers, push.body).reason is ASKED
        with pytest.raises(WebhookRefused, match="for this URL"):
            verify_webhook(relay, f"{receiver.url}/wake/w2", push.headers, push.body)
        with pytest.raises(WebhookRefused, match="for this URL"):
            verify_webhook(relay, url, push.headers, push.body.replace(b"ab", b"ac"))
        with pytest.raises(WebhookRefused, match="for this URL"):
            verify_webhook(OTHER, url, push.headers, push.body)
        with pytest.raises(WebhookRefused, match="not of now"):
            verify_webhook(relay, url, push.headers, push.body, now=time.time() + 3600)
        for headers in ({}, {"X-Lightning-Proxy-Timestamp": "now"}):
            with pytest.raises(WebhookRefused, match="can be read"):
                verify_webhook(relay, url, headers, push.body)


async def test_a_wallet_without_targets_is_not_woken() -> None:
    async with waking() as waker:
        waker.wake(WALLET, ASKED, "ab" * 16)
        waker.came(WALLET)
        assert waker.counters.wakes == 0


async def test_what_happens_within_the_cooldown_goes_with_the_next_push(receiver: Receiver) -> None:
    async with waking(cooldown=0.3, retry_first=50.0) as waker:
        await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(receiver.url))
        waker.wake(WALLET, WakeReason.MESSAGE, "00" * 16)
        await receiver.push()
        for number in range(100):
            waker.wake(WALLET, WakeReason.MESSAGE, f"{number:032x}")
        waker.wake(WALLET, ASKED, "ab" * 16)
        assert said((await receiver.push()).body) == ("delegation", "ab" * 16)
        await quiet(receiver)
        assert waker.counters.wakes == 2


async def test_it_is_woken_again_until_it_comes(receiver: Receiver) -> None:
    async with waking(retry_first=0.05) as waker:
        await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(receiver.url))
        waker.wake(WALLET, LOST, "ab" * 16)
        await receiver.push()
        await receiver.push()
        waker.came(WALLET)
        while not receiver.pushes.empty():
            receiver.pushes.get_nowait()
        await quiet(receiver)


async def test_attempts_end_and_something_new_begins_them_again(receiver: Receiver) -> None:
    async with waking(retry_first=0.01, max_attempts=3) as waker:
        await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(receiver.url))
        waker.wake(WALLET, ASKED, "ab" * 16)
        for _ in range(3):
            await receiver.push()
        await quiet(receiver)
        waker.wake(WALLET, ASKED, "cd" * 16)
        for _ in range(3):
            assert said((await receiver.push()).body)[1] == "cd" * 16
        await quiet(receiver)


async def test_questions_go_before_lost_sessions_and_only_so_many_a_second(
    receiver: Receiver,
) -> None:
    async with waking(rate=50, retry_first=50.0) as waker:
        wallets = [b"\x02" + number.to_bytes(32, "big") for number in range(60)]
        for wallet in wallets:
            await waker.add(wallet, WakeKind.WEBHOOK, WakeByWebhook(receiver.url))
        for wallet in wallets[:-1]:
            waker.wake(wallet, LOST, "ab" * 16)
        waker.wake(wallets[-1], ASKED, "cd" * 16)
        # It is sent first; of those sent with it, some may arrive before it.
        first = [said((await receiver.push()).body)[0] for _ in range(5)]
        assert sorted(first) == ["delegation", *["session_lost"] * 4]
        # At fifty a second, these can't all be there at once.
        assert receiver.pushes.qsize() < 50
        for _ in wallets[len(first) :]:
            assert said((await receiver.push()).body)[0] == "session_lost"


async def test_a_question_takes_a_wallet_that_lost_a_session_to_the_front(
    receiver: Receiver,
) -> None:
    async with waking(rate=50, retry_first=50.0) as waker:
        wallets = [b"\x02" + number.to_bytes(32, "big") for number in range(30)]
        for wallet in wallets:
            await waker.add(wallet, WakeKind.WEBHOOK, WakeByWebhook(receiver.url))
        for wallet in wallets:
            waker.wake(wallet, LOST, "ab" * 16)
        waker.wake(wallets[-1], ASKED, "cd" * 16)
        # It is sent first; of those sent with it, some may arrive before it.
        assert "delegation" in [said((await receiver.push()).body)[0] for _ in range(5)]


async def test_what_is_less_urgent_does_not_take_a_questions_place(receiver: Receiver) -> None:
    async with waking(retry_first=0.1) as waker:
        await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(receiver.url))
        waker.wake(WALLET, ASKED, "ab" * 16)
        await receiver.push()
        waker.wake(WALLET, LOST, "cd" * 16)
        assert said((await receiver.push()).body) == ("delegation", "ab" * 16)


@pytest.mark.parametrize("content", ["", "01", "00" * 32, "no key"])
def test_a_file_without_an_identity_is_told(tmp_path: Path, content: str) -> None:
    file = tmp_path / "key"
    file.write_text(content)
    with pytest.raises(WakeError, match="holds no key"):
        Identity.open(file)


def test_an_identity_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(WakeError, match="No space left"):
            Identity.open(tmp_path / "key")
    assert list(tmp_path.iterdir()) == []
    made = Identity.open(tmp_path / "key")
    assert Identity.open(tmp_path / "key").node_id == made.node_id


async def test_targets_survive_a_restart(receiver: Receiver, tmp_path: Path) -> None:
    store = str(tmp_path / "relay.sqlite")
    identity = str(tmp_path / "key")
    async with Database(store) as database, waking(database, identity=identity) as waker:
        target = await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(receiver.url))
        node_id = waker.identity.node_id
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    async with Database(store) as database, waking(database, identity=identity) as waker:
        assert waker.identity.node_id == node_id
        assert waker.targets(WALLET) == [target]
        waker.wake(WALLET, ASKED, "ab" * 16)
        await receiver.push()
        with pytest.raises(RpcError, match="not woken there"):
            await waker.remove(OTHER, target.target_id)
        await waker.remove(WALLET, target.target_id)
    async with Database(store) as database, waking(database, identity=identity) as waker:
        assert waker.targets(WALLET) == []


async def test_the_same_target_twice_is_one_and_there_are_only_so_many(receiver: Receiver) -> None:
    async with waking(max_targets_per_wallet=2) as waker:
        first = await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(f"{receiver.url}/1"))
        again = await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(f"{receiver.url}/1"))
        assert first == again
        await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(f"{receiver.url}/2"))
        with pytest.raises(RpcError, match="remove one"):
            await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(f"{receiver.url}/3"))
        await waker.add(OTHER, WakeKind.WEBHOOK, WakeByWebhook(f"{receiver.url}/3"))


async def test_a_test_says_how_it_went_and_is_no_hammer(receiver: Receiver) -> None:
    async with waking(cooldown=50.0) as waker:
        await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(receiver.url))
        receiver.answers(500)
        (target,) = await waker.test(WALLET)
        assert target.failure == "it answered with HTTP status 500"
        assert said((await receiver.push()).body)[0] == "test"
        with pytest.raises(RpcError, match="just woken"):
            await waker.test(WALLET)
        await waker.remove(WALLET, target.target_id)
        await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(receiver.url))
        with pytest.raises(RpcError, match="just woken"):
            await waker.test(WALLET)


async def test_a_wallet_that_came_is_woken_at_once_for_the_next_question(
    receiver: Receiver,
) -> None:
    """LSPS5: the cooldown ends when the client comes."""
    async with waking(cooldown=50.0) as waker:
        await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(receiver.url))
        for number in range(3):
            opaque_id = f"{number:032x}"
            waker.wake(WALLET, ASKED, opaque_id)
            assert said((await receiver.push()).body)[1] == opaque_id
            waker.came(WALLET)


async def test_what_is_over_is_not_pushed_again(receiver: Receiver) -> None:
    async with waking(cooldown=0.01, retry_first=0.05) as waker:
        await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(receiver.url))
        waker.wake(WALLET, ASKED, "ab" * 16)
        await receiver.push()
        waker.over(WALLET, "ab" * 16, lambda: None)
        await quiet(receiver, 0.2)
        # Not even the first, if it is over before it left.
        waker.wake(WALLET, ASKED, "ac" * 16)
        waker.over(WALLET, "ac" * 16, lambda: None)
        await quiet(receiver, 0.2)


async def test_where_something_else_waits_that_is_pushed_instead(receiver: Receiver) -> None:
    async with waking(cooldown=0.01, retry_first=0.05) as waker:
        await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(receiver.url))
        waker.wake(WALLET, ASKED, "ab" * 16)
        await receiver.push()
        waker.over(WALLET, "ab" * 16, lambda: (WakeReason.MESSAGE, "ac" * 16, None))
        assert said((await receiver.push()).body) == ("message", "ac" * 16)
        # What was never its reason changes nothing.
        waker.over(WALLET, "ad" * 16, lambda: None)
        assert said((await receiver.push()).body) == ("message", "ac" * 16)


async def test_a_wallet_that_comes_and_goes_is_not_pushed_to_each_time(receiver: Receiver) -> None:
    async with waking(cooldown=50.0) as waker:
        await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(receiver.url))
        for number in range(5):
            waker.wake(WALLET, ASKED, f"{number:032x}")
            await receiver.push()
            waker.came(WALLET)
        for number in range(5, 20):
            waker.wake(WALLET, ASKED, f"{number:032x}")
            waker.came(WALLET)
        waker.wake(WALLET, ASKED, "ab" * 16)
        await quiet(receiver)


async def test_what_does_not_leave_does_not_count_against_a_wallet(receiver: Receiver) -> None:
    async with waking(cooldown=50.0) as waker:
        await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(receiver.url))
        for number in range(20):
            waker.wake(WALLET, ASKED, f"{number:032x}")
            waker.came(WALLET)
        waker.wake(WALLET, ASKED, "ab" * 16)
        assert said((await receiver.push()).body)[1] == "ab" * 16


async def test_a_peer_that_keeps_talking_does_not_push_for_ever(receiver: Receiver) -> None:
    async with waking(cooldown=0.01, retry_first=10.0, max_attempts=2) as waker:
        await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(receiver.url))
        goes_on = asyncio.Event()

        async def answer(_: web.Request) -> web.StreamResponse:
            await goes_on.wait()
            return web.Response()

        receiver.answer = answer
        # Before the push, while a slow receiver takes it, and after.
        for number in range(5):
            waker.wake(WALLET, WakeReason.MESSAGE, f"{number:032x}")
        await receiver.push()
        for number in range(5, 10):
            waker.wake(WALLET, WakeReason.MESSAGE, f"{number:032x}")
        goes_on.set()
        async with asyncio.timeout(10):
            while not waker.counters.wakes_delivered:
                await asyncio.sleep(0.01)
        for number in range(10, 15):
            waker.wake(WALLET, WakeReason.MESSAGE, f"{number:032x}")
            await asyncio.sleep(0.02)
        await quiet(receiver, 0.1)
        # A question is another matter.
        waker.wake(WALLET, ASKED, "ab" * 16)
        assert said((await receiver.push()).body)[0] == "delegation"


async def test_a_question_that_comes_during_a_push_is_pushed_next(receiver: Receiver) -> None:
    goes_on = asyncio.Event()

    async def answer(_: web.Request) -> web.StreamResponse:
        await goes_on.wait()
        return web.Response()

    receiver.answer = answer
    async with waking(cooldown=0.01, retry_first=50.0) as waker:
        await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(receiver.url))
        waker.wake(WALLET, WakeReason.MESSAGE, "ab" * 16)
        await receiver.push()
        waker.wake(WALLET, ASKED, "cd" * 16)
        goes_on.set()
        assert said((await receiver.push()).body) == ("delegation", "cd" * 16)
