"""Web Push as a push service and a browser see it."""

import json
import re
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lightning_proxy.cli.vapid import app
from lightning_proxy.relay.wake.adapter import WakeError
from lightning_proxy.relay.wake.web_push import VapidKey, is_contact
from lightning_proxy.rpc import RpcError, WakeByWebPush, WakeKind, WakeReason
from tests.support.receivers import Browser, Receiver, b64, check_vapid, unb64
from tests.unit.relay.wake.conftest import waking

WALLET = b"\x02" + bytes(32)
SUBJECT = "mailto:operator@example.com"


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    file = tmp_path / "vapid.pem"
    assert CliRunner().invoke(app, [str(file)]).exit_code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    return str(file)


async def test_a_browser_reads_it_and_the_push_service_knows_the_relay(
    receiver: Receiver, key_file: str
) -> None:
    browser = Browser()
    async with waking(vapid_key=key_file, vapid_subject=SUBJECT) as waker:
        subscription = WakeByWebPush(**browser.subscription(f"{receiver.url}/push/1"))
        assert "auth" not in repr(subscription)
        await waker.add(WALLET, WakeKind.WEB_PUSH, subscription)
        waker.wake(WALLET, WakeReason.SLOT_USED, "ab" * 16)
        push = await receiver.push()
        assert browser.open(push) == {"reason": "slot_used", "id": "ab" * 16}
        assert waker.vapid_public_key is not None
        claims = check_vapid(push, waker.vapid_public_key, receiver.url, time.time())
        assert claims["sub"] == SUBJECT
        assert int(push.headers["TTL"]) > 0
        assert push.headers["Urgency"] == "high"
        assert push.headers["Topic"] == "wake"
        with pytest.raises(Exception, match=r"[Dd]ecrypt"):
            Browser().open(push)


async def test_without_a_key_there_is_no_web_push(receiver: Receiver) -> None:
    async with waking() as waker:
        assert waker.vapid_public_key is None
        with pytest.raises(RpcError, match="no Web Push"):
            await waker.add(
                WALLET, WakeKind.WEB_PUSH, WakeByWebPush(**Browser().subscription(receiver.url))
            )


async def test_a_point_that_is_none_is_refused(receiver: Receiver, key_file: str) -> None:
    subscription = Browser().subscription(receiver.url) | {"p256dh": b64(b"\x04" + bytes(64))}
    async with waking(vapid_key=key_file, vapid_subject=SUBJECT) as waker:
        with pytest.raises(RpcError, match="P-256"):
            await waker.add(WALLET, WakeKind.WEB_PUSH, WakeByWebPush(**subscription))


@pytest.mark.parametrize(
    "subject",
    [
        None,
        "mailto:",
        "mailto:nobody",
        "mailto:nobody@invalid",
        "mailto:ops@localhost",
        "mailto: ops@example.com",
        "mailto:ops@example.com ",
        "mailto:ops@@example.com",
        "mailto:ops@127.0.0.1",
        "mailto:ops@relay.local",
        "mailto:Ops <ops@example.com>",
        "https://localhost",
        "https://127.0.0.1/contact",
        "https://[::1]/",
        "https://example.com/with space",
        "https://example.com/<contact>",
        "https://user@example.com/",
        "https:///contact",
    ],
)
async def test_a_subject_that_push_services_refuse_is_told_at_once(
    key_file: str, subject: str | None
) -> None:
    with pytest.raises(WakeError, match="vapid_subject"):
        async with waking(vapid_key=key_file, vapid_subject=subject):
            pass


@pytest.mark.parametrize("status", [404, 410])
async def test_a_subscription_that_is_over_is_removed(
    receiver: Receiver, key_file: str, status: int
) -> None:
    receiver.answers(status)
    async with waking(vapid_key=key_file, vapid_subject=SUBJECT) as waker:
        subscription = WakeByWebPush(**Browser().subscription(receiver.url))
        await waker.add(WALLET, WakeKind.WEB_PUSH, subscription)
        assert await waker.test(WALLET) == []


@pytest.mark.parametrize("content", [None, "", "no key", "-----BEGIN PRIVATE KEY-----\n"])
def test_a_file_without_a_key_is_told(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "vapid.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(WakeError, match=r"vapid\.pem"):
        VapidKey(file)


def test_the_command_shows_a_key_that_is_there_and_replaces_it_only_when_told(
    tmp_path: Path,
) -> None:
    file = tmp_path / "vapid.pem"
    outputs = [
        CliRunner().invoke(app, [str(file), *options]).output
        for options in ([], [], ["--force"], ["--json"])
    ]
    keys = [output.split()[-1].rstrip("}").rpartition(":")[2].strip('"') for output in outputs]
    assert outputs[0].startswith("Made")
    assert keys[0] == keys[1] != keys[2] == keys[3]


@pytest.mark.parametrize(
    "subject",
    [
        "mailto:operator+relay@mail.example.co.uk",
        "https://example.com",
        "https://example.com/contact",
        "https://example.com?contact",
        "https://relay.example.com:8443/contact?who=1#now",
        "https://xn--fa-hia.example/",
    ],
)
async def test_a_subject_that_reaches_somebody_is_what_the_push_service_gets(
    receiver: Receiver, key_file: str, subject: str
) -> None:
    browser = Browser()
    async with waking(vapid_key=key_file, vapid_subject=subject) as waker:
        subscription = WakeByWebPush(**browser.subscription(f"{receiver.url}/push/1"))
        await waker.add(WALLET, WakeKind.WEB_PUSH, subscription)
        (target,) = await waker.test(WALLET)
        assert target.failure is None
        push = await receiver.push()
        assert browser.open(push)["reason"] == "test"
        assert waker.vapid_public_key is not None
        claims = check_vapid(push, waker.vapid_public_key, receiver.url, time.time())
        assert claims["sub"] == subject


async def test_what_the_error_recommends_is_taken(key_file: str) -> None:
    with pytest.raises(WakeError) as error:
        async with waking(vapid_key=key_file, vapid_subject="https://localhost"):
            pass
    recommended = re.findall(r"(?:mailto:|https://)[^\s,]+", str(error.value))
    assert len(recommended) == 2
    assert all(map(is_contact, recommended))


def test_a_push_service_without_a_name(key_file: str) -> None:
    """An IPv6 address makes an origin as any name does."""
    token = VapidKey(Path(key_file)).headers("https://[2001:db8::1]:8443/push", SUBJECT)
    claims = token["Authorization"].split(".")[1]
    assert json.loads(unb64(claims))["aud"] == "https://[2001:db8::1]:8443"
