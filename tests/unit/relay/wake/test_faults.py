"""Receivers that are slow, down, gone, elsewhere or too talkative: none costs another a wake-up."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from typer.testing import CliRunner

from lightning_proxy.cli.vapid import app as vapid
from lightning_proxy.relay import DialSettings
from lightning_proxy.relay.dial_policy import DialPolicy
from lightning_proxy.relay.resolver import Resolver
from lightning_proxy.relay.wake.adapter import Delivered, Failed
from lightning_proxy.relay.wake.http import GuardedHttp
from lightning_proxy.relay.wake.settings import WakeSettings
from lightning_proxy.relay.wake.waker import Waker
from lightning_proxy.rpc import RpcError, WakeByWebhook, WakeByWebPush, WakeKind, WakeReason
from tests.support import name_server
from tests.support.certificates import certificate
from tests.support.receivers import Browser, Receiver
from tests.unit.relay.wake.conftest import POLICY, post, waking

WALLET, OTHER = b"\x02" + bytes(32), b"\x03" + bytes(32)
SECRET = "s3cr3t"
ASKED = WakeReason.DELEGATION
STRICT = DialPolicy(DialSettings(), relay_is_local=False)


async def failure(url: str, **settings: Any) -> str:
    async with waking(**settings) as waker:
        await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(url))
        (target,) = await waker.test(WALLET)
        assert target.last_success is None
        return target.failure or ""


async def test_slow(receiver: Receiver) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(5)
        return web.Response()

    receiver.answer = answer
    assert await failure(receiver.url, timeout=0.1) == "it did not answer in time"


async def test_a_kept_connection_that_was_dropped_costs_nothing(receiver: Receiver) -> None:
    """The receiver closes an idle connection just as it is used again: the POST goes anew."""
    drop = False

    async def answer(request: web.Request) -> web.StreamResponse:
        if drop and request.transport in known:
            assert request.transport is not None
            request.transport.abort()
        known.add(request.transport)
        return web.Response()

    known = set[Any]()
    receiver.answer = answer
    async with Resolver() as resolver, GuardedHttp(POLICY, resolver, WakeSettings()) as http:
        assert await post(http, receiver.url, b"1") == Delivered()
        drop = True
        assert await post(http, receiver.url, b"2") == Delivered()
    bodies = [(await receiver.push()).body for _ in range(3)]
    # Seen on the dropped connection, and once more.
    assert bodies == [b"1", b"2", b"2"]


async def test_a_fresh_connection_that_is_dropped_is_a_failure(receiver: Receiver) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    receiver.answer = answer
    async with Resolver() as resolver, GuardedHttp(POLICY, resolver, WakeSettings()) as http:
        outcome = await post(http, receiver.url, b"1")
    assert isinstance(outcome, Failed)
    await receiver.push()
    assert receiver.pushes.empty()


async def test_the_receivers_reason_is_shown_bounded_and_printable(receiver: Receiver) -> None:
    reason = '{"reason":"BadJwtToken"}\n\x1b[2J' + "x" * 5000
    receiver.answers(403, text=reason)
    shown = await failure(receiver.url)
    assert shown.startswith('it answered with HTTP status 403: {"reason":"BadJwtToken"} ?[2Jxxx')
    assert len(shown) < 300


@pytest.mark.parametrize("kind", list(WakeKind))
@pytest.mark.parametrize("status", [307, 403, 410, 500])
async def test_a_receivers_words_are_for_its_wallet_alone(
    receiver: Receiver, tmp_path: Path, kind: WakeKind, status: int
) -> None:
    """Its path is a secret, and it may repeat that."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(
            status=status, text=f"no: {request.path}", headers={"Location": request.path}
        )

    receiver.answer = answer
    url = f"{receiver.url}/{SECRET}"
    by: dict[WakeKind, Any] = {
        WakeKind.WEBHOOK: lambda: WakeByWebhook(url),
        WakeKind.WEB_PUSH: lambda: WakeByWebPush(**Browser().subscription(url)),
    }
    key = tmp_path / "vapid.pem"
    assert CliRunner().invoke(vapid, [str(key)]).exit_code == 0
    wanted = by[kind]()
    assert SECRET not in repr(wanted)
    with capture_logs() as logs:
        async with waking(vapid_key=str(key), vapid_subject="mailto:me@example.com") as waker:
            await waker.add(WALLET, kind, wanted)
            shown = await waker.test(WALLET)
            for target in shown:
                assert target.failure == f"it answered with HTTP status {status}: no: /{SECRET}"
            assert waker.counters.wakes_failed == 1
    (line,) = [each for each in logs if each["event"] == "wake_failed"]
    assert line["why"] == f"it answered with HTTP status {status}"
    assert SECRET not in repr(logs)


async def test_what_is_no_answer_is_not_repeated(receiver: Receiver) -> None:
    """Bytes that are no HTTP, with the path in them."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    with capture_logs() as logs:
        async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            shown = await failure(f"http://127.0.0.1:{port}/{SECRET}")
    assert "can't be reached" in shown
    assert [each["event"] for each in logs] == ["wake_failed"]
    assert SECRET not in repr(logs)


async def test_down(unused_tcp_port: int) -> None:
    assert "can't be reached" in await failure(f"http://127.0.0.1:{unused_tcp_port}/")


async def test_gone_is_removed(receiver: Receiver) -> None:
    receiver.answers(410)
    async with waking() as waker:
        await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(receiver.url))
        waker.wake(WALLET, ASKED, "ab" * 16)
        await receiver.push()
        async with asyncio.timeout(10):
            while waker.targets(WALLET):
                await asyncio.sleep(0.01)
        assert waker.counters.wake_targets_gone == 1
        waker.wake(WALLET, ASKED, "cd" * 16)
        await asyncio.sleep(0.2)
        assert receiver.pushes.empty()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_not_followed(receiver: Receiver, status: int) -> None:
    async with Receiver().serve() as elsewhere:
        receiver.answers(status, headers={"Location": elsewhere.url})
        assert f"status {status}" in await failure(receiver.url)
        assert elsewhere.pushes.empty()


async def test_an_oversized_answer_is_not_read(receiver: Receiver) -> None:
    sent = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while sent < 1 << 30:
            await response.write(bytes(65536))
            sent += 65536
        return response

    receiver.answer = answer
    async with waking() as waker:
        await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(receiver.url))
        (target,) = await waker.test(WALLET)
        assert target.last_success is not None
    assert sent < 64 << 20


async def test_an_answer_of_endless_headers(receiver: Receiver) -> None:
    receiver.answers(200, headers={"X-Endless": "x" * 1_000_000})
    assert "can't be reached" in await failure(receiver.url)


async def test_who_asks_for_peace_gets_it(receiver: Receiver) -> None:
    receiver.answers(429, headers={"Retry-After": "3600"})
    async with waking(retry_first=0.01) as waker:
        await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(receiver.url))
        waker.wake(WALLET, ASKED, "ab" * 16)
        await receiver.push()
        await asyncio.sleep(0.3)
        assert receiver.pushes.empty()


async def test_a_webhook_that_is_not_found_may_be_back(receiver: Receiver) -> None:
    receiver.answers(404)
    assert "status 404" in await failure(receiver.url)


async def test_peace_costs_no_attempts(receiver: Receiver) -> None:
    receiver.answers(429, headers={"Retry-After": "1"})
    async with waking(retry_first=0.01, cooldown=0.01, max_attempts=2) as waker:
        await waker.add(WALLET, WakeKind.WEBHOOK, WakeByWebhook(receiver.url))
        waker.wake(WALLET, ASKED, "ab" * 16)
        await receiver.push()
        receiver.answer = None
        await receiver.push()
        assert waker.counters.wakes == 2


async def test_a_slow_host_holds_nobody_else_up(receiver: Receiver) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    receiver.answer = answer
    async with Receiver().serve("127.0.0.2") as healthy, waking(max_concurrent=64) as waker:
        for number in range(300):
            slow = b"\x02" + number.to_bytes(32, "big")
            await waker.add(slow, WakeKind.WEBHOOK, WakeByWebhook(f"{receiver.url}/{number}"))
            waker.wake(slow, ASKED, "ab" * 16)
        async with asyncio.timeout(10):
            while waker.counters.wakes < 300:
                await asyncio.sleep(0.01)
        await waker.add(OTHER, WakeKind.WEBHOOK, WakeByWebhook(healthy.url))
        waker.wake(OTHER, ASKED, "cd" * 16)
        await healthy.push()


async def test_who_came_while_the_push_waited_for_its_turn_is_not_pushed(
    receiver: Receiver,
) -> None:
    async with one_at_a_time(receiver) as (waker, goes_on):
        waker.wake(WALLET, ASKED, "ab" * 16)
        await wakes(waker, 2)
        waker.wake(OTHER, ASKED, "cd" * 16)
        await wakes(waker, 3)
        waker.came(WALLET)
        goes_on.set()
        # Its place is the next one's.
        assert [(await receiver.push()).path for _ in range(2)] == ["/first", "/other"]
        async with asyncio.timeout(10):
            while waker.counters.wakes_delivered < 2:
                await asyncio.sleep(0.01)
        assert receiver.pushes.empty()
        (target,) = waker.targets(WALLET)
        assert (target.last_attempt, target.failure) == (None, None)


async def test_what_is_over_while_the_push_waits_for_its_turn_is_not_pushed(
    receiver: Receiver,
) -> None:
    async with one_at_a_time(receiver) as (waker, goes_on):
        waker.wake(WALLET, ASKED, "ab" * 16)
        waker.wake(OTHER, ASKED, "cd" * 16)
        await wakes(waker, 3)
        waker.over(WALLET, "ab" * 16, lambda: None)
        waker.over(OTHER, "cd" * 16, lambda: (WakeReason.MESSAGE, "ef" * 16, None))
        goes_on.set()
        assert (await receiver.push()).path == "/first"
        # What else it is wanted for takes its place, at once.
        push = await receiver.push()
        assert push.path == "/other"
        assert b"ef" * 16 in push.body
        async with asyncio.timeout(10):
            while waker.counters.wakes_delivered < 2:
                await asyncio.sleep(0.01)
        assert receiver.pushes.empty()


@asynccontextmanager
async def one_at_a_time(receiver: Receiver) -> AsyncIterator[tuple[Waker, asyncio.Event]]:
    """The receiver's only place is taken until the event is set."""
    goes_on = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/first":
            await goes_on.wait()
        return web.Response()

    receiver.answer = answer
    first = b"\x02" + b"\x01" * 32
    async with waking(max_concurrent_per_host=1, retry_first=50.0, cooldown=0.01) as waker:
        for wallet, path in ((first, "first"), (WALLET, "wallet"), (OTHER, "other")):
            await waker.add(wallet, WakeKind.WEBHOOK, WakeByWebhook(f"{receiver.url}/{path}"))
        waker.wake(first, ASKED, "00" * 16)
        await wakes(waker, 1)
        yield waker, goes_on


async def wakes(waker: Waker, number: int) -> None:
    async with asyncio.timeout(10):
        while waker.counters.wakes < number:
            await asyncio.sleep(0.01)


async def test_tls_has_to_be_for_that_name(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(tmp_path, "elsewhere.example"))
    async with Receiver().serve(ssl=context) as receiver:
        assert "can't be reached" in await failure(receiver.url)
        assert receiver.pushes.empty()


# ---- where the relay must not be sent to ----


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "https:///nowhere",
        "https://user:secret@example.com/",
        "https://example.com/#part",
        "https://127.0.0.1/",
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://0.0.0.0/",
        "https://169.254.169.254/latest/meta-data",
        "https://[fe80::1]/",
        "https://224.0.0.1/",
        "http://127.0.0.1/",
        "http://localhost/",
        "not a url",
        "https://example.com/a b",
        "https://example.com/\r\nHost: elsewhere",
        "https://b\u00fccher.example/",
    ],
)
async def test_what_is_no_receiver(url: str) -> None:
    async with Resolver() as resolver, GuardedHttp(STRICT, resolver, WakeSettings()) as http:
        if "localhost" in url:
            # A name is only known for what it is when it was resolved.
            outcome = await post(http, url)
            assert "does not call" in str(outcome)
        else:
            with pytest.raises(RpcError):
                http.check(url)


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "127.1",
        "127.0.0.1.",
        "0x7f.0.0.1",
        "0x7f000001",
        "017700000001",
        "0177.0.0.1",
        "0",
        "localhost",
        "LOCALHOST",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[::1%25lo]",
    ],
)
async def test_spellings_of_loopback_are_no_way_in(host: str) -> None:
    async with Resolver() as resolver, GuardedHttp(STRICT, resolver, WakeSettings()) as http:
        outcome = await post(http, f"https://{host}/")
        # By ourselves, whatever the HTTP library makes of it.
        assert "can't be reached" not in str(outcome)
        assert isinstance(outcome, Failed)


async def test_a_name_is_resolved_once_and_that_address_is_called(receiver: Receiver) -> None:
    asked: list[str] = []

    def rebinding(host: str) -> list[str]:
        asked.append(host)
        return ["1.1.1.1" if len(asked) == 1 else "127.0.0.1"]

    async with (
        name_server.resolver(rebinding) as resolver,
        GuardedHttp(STRICT, resolver, WakeSettings(timeout=0.2)) as http,
    ):
        await post(http, f"https://rebinding.example:{receiver.port}/")
        outcome = await post(http, f"https://rebinding.example:{receiver.port}/")
        assert "does not call" in str(outcome)
    assert asked == ["rebinding.example"] * 2
    assert receiver.pushes.empty()


async def test_names_that_never_resolve_hold_up_nobody(receiver: Receiver) -> None:
    settings = WakeSettings(timeout=2)
    async with (
        name_server.resolver(lambda host: None if host[0] == "s" else ["127.0.0.1"]) as resolver,
        GuardedHttp(POLICY, resolver, settings) as http,
    ):
        slow = [
            asyncio.create_task(post(http, f"https://s{number}.example/")) for number in range(100)
        ]
        await asyncio.sleep(0)
        outcome = await post(http, f"http://localhost:{receiver.port}/")
        assert isinstance(outcome, Delivered)
        assert await resolver.resolve("quick.example", 80) == ["127.0.0.1"]
        assert not any(task.done() for task in slow)
        assert all(isinstance(each, Failed) for each in await asyncio.gather(*slow))


@given(st.text(max_size=60) | st.builds("https://{}".format, st.text(max_size=60)))
async def test_any_text_is_a_url_or_an_error(text: str) -> None:
    http = GuardedHttp(STRICT, Resolver(), WakeSettings())
    try:
        assert http.check(text)
    except RpcError as error:
        assert error.sentence
