"""What an operator sees: the admin socket's commands, the metrics' list, the audit log."""

import asyncio
import json
import os
import re
import resource
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from lightning_proxy.api import ApiSettings, SettingsError
from lightning_proxy.api.admin_rows import PAGE
from lightning_proxy.audit import AuditLog, audit
from lightning_proxy.cli.admin import show
from tests.support.certificates import certificate
from tests.support.channels import channel_keys, open_channel, point
from tests.support.peer import ScriptedPeer
from tests.support.relay import raw_wallet, relay
from tests.support.serving import serving
from tests.unit.cli.commands import TIMEOUT, environ

SECRET = b"\x5e" * 32
README = Path("README.md").read_text("utf-8")


def slot() -> dict[str, Any]:
    """A key slot for any channel that is not too large."""
    answer = channel_keys()
    del answer["channel_type"]
    return {"answer": answer, "policy": {"max_funding_sat": 2_000_000}}


async def run(folder: Path, *arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lightning_proxy", *arguments),
        env=environ(folder),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), TIMEOUT)
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
def folder() -> Iterator[Path]:
    """pytest's own lie too deep for a socket's name."""
    with tempfile.TemporaryDirectory(prefix="relay-") as name:
        yield Path(name)


async def test_what_the_relay_holds_is_listed(peer: ScriptedPeer, folder: Path) -> None:
    path = folder / "below" / "relay.admin"
    api = ApiSettings(port=0, admin_socket=str(path))
    async with relay(api) as server, raw_wallet(server.url, SECRET) as wallet:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await run(folder, "sessions", "--socket", str(path)) == (0, "No sessions.\n", "")
        session_id, connection = await wallet.open_session(peer)
        await wallet.call("add_slots", slots=[slot(), slot()])
        await wallet.call("add_device", device_key=point().hex(), name="phone", rights=["see"])
        await connection.send(open_channel().encode())
        question = await wallet.event("delegate")
        wanted = {"sessions": session_id, "wallets": "there", "delegations": question["id"]}
        flags = ("--socket", str(path))
        tables = [await run(folder, name, *flags) for name in wanted]
        listed = [await run(folder, name, *flags, "--json") for name in wanted]
        for (code, out, err), text in zip(tables, wanted.values(), strict=True):
            assert (code, err) == (0, "")
            assert text in out
            assert wallet.node_id.hex() in out
        # What is between wallet and peer stays there.
        assert not any(question["messages"][0] in out for _, out, _ in (*tables, *listed))
        sessions, wallets, delegations = (json.loads(out) for _, out, _ in listed)
        assert sessions["session"]["session_id"] == session_id
        assert wallets["open_delegations"] == 1
        assert (wallets["free_slots"], wallets["devices"]) == (2, 1)
        assert delegations["kind"] == "channel_keys"
    assert not path.exists()


async def test_many_rows_come_page_by_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "relay.admin"
    monkeypatch.setattr("lightning_proxy.api.admin.PAGE", 2)
    async with relay(ApiSettings(port=0, admin_socket=str(path))) as server:
        for _ in range(5):
            server.relay.inbox_of(os.urandom(33))
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as http:

            async def page(skip: str) -> Any:
                async with http.get(f"http://relay/wallets?skip={skip}") as response:
                    return await response.json() if response.status == 200 else response.status

            assert [len(await page(skip)) for skip in ("0", "2", "4", "6")] == [2, 2, 1, 0]
            assert await page("-1") == await page("0")
            assert await page("x") == 400


async def test_all_pages_are_listed(folder: Path) -> None:
    path = folder / "relay.admin"
    async with relay(ApiSettings(port=0, admin_socket=str(path))) as server:
        held = [os.urandom(33) for _ in range(PAGE + 1)]
        for node_id in held:
            server.relay.inbox_of(node_id)
        code, out, err = await run(folder, "wallets", "--json", "--socket", str(path))
    assert (code, err) == (0, "")
    listed = [json.loads(line)["node_id"] for line in out.splitlines()]
    assert listed == [node_id.hex() for node_id in held]


@pytest.mark.parametrize("width", [None, 60])
def test_a_table_shows_every_value_whole(
    width: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Neither markup nor emoji, though they look like it.
    peers = ["[fe80::1]:9735", "[2001:b::1]:9735"]
    if width is not None:
        monkeypatch.setattr(os, "isatty", lambda _: True)
        monkeypatch.setenv("COLUMNS", str(width))
    show(("id", "peer"), [("a" * 64, peer) for peer in peers])
    out = capsys.readouterr().out
    assert all(peer in out for peer in peers)
    assert out.count("a") == 2 * 64


async def test_where_no_relay_runs(tmp_path: Path) -> None:
    code, out, err = await run(tmp_path, "sessions", "--socket", str(tmp_path / "nothing"))
    assert (code, out) == (1, "")
    assert "no relay answers" in err


async def test_a_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not(
    folder: Path,
) -> None:
    path = folder / "relay.admin"
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(path))
    left.close()
    async with relay(ApiSettings(port=0, admin_socket=str(path))):
        with pytest.raises(SettingsError, match="another relay's"):
            async with relay(ApiSettings(port=0, admin_socket=str(path))):
                pass
        assert await run(folder, "sessions", "--socket", str(path)) == (0, "No sessions.\n", "")


async def test_a_place_that_can_not_be_is_told(folder: Path) -> None:
    (folder / "file").write_text("an operator's")
    for place in (folder / "file", folder / "file" / "x", folder / ("x" * 200)):
        with pytest.raises(SettingsError, match=r"api\.admin_socket"):
            async with relay(ApiSettings(port=0, admin_socket=str(place))):
                pass
    assert (folder / "file").read_text() == "an operator's"


async def test_the_readme_lists_every_metric() -> None:
    rows = re.findall(r"^\| `(lightning_proxy_\w+)` \| (\w+) \| (.+?) \|$", README, re.MULTILINE)
    async with (
        relay() as server,
        aiohttp.ClientSession() as http,
        http.get(f"{server.url}/metrics") as response,
    ):
        text = await response.text()
    exposed = [
        (metric.name, metric.type, metric.documentation)
        for metric in text_string_to_metric_families(text)
        if metric.name.startswith("lightning_proxy_")
    ]
    assert sorted(rows) == sorted(exposed)


# ---- the audit log ----


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_every_outcome_is_a_line(peer: ScriptedPeer, folder: Path) -> None:
    path = folder / "audit.jsonl"
    async with serving(folder, "--audit", str(path)) as (process, url):
        async with raw_wallet(url, SECRET) as wallet:
            node_id = wallet.node_id.hex()
            _, connection = await wallet.open_session(peer)
            for _ in range(2):
                await connection.send(open_channel().encode())
            first, second = await wallet.event("delegate"), await wallet.event("delegate")
            answer = channel_keys()
            await wallet.answer(first, answer)
            await wallet.refuse(second, "not today")
            await wallet.quiet()
        async with raw_wallet(url, SECRET, authenticated=False) as stranger:
            with pytest.raises(Exception, match="signature"):
                await stranger.authenticate(signature="d" * 104)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        said = lines(path)
        assert [line["event"] for line in said] == [
            *("authenticated", "delegation_settled", "delegation_refused"),
            "authentication_failed",
        ]
        assert said[0]["wallet"] == said[0]["device"] == node_id
        assert said[1]["delegation_id"] == first["id"]
        assert (said[1]["kind"], said[1]["device"]) == ("channel_keys", node_id)
        assert "not today" in said[2]["reason"]
        assert answer["funding_pubkey"] not in path.read_text()
        # As logrotate does it.
        path.rename(folder / "old.jsonl")
        process.send_signal(signal.SIGHUP)
        while b'"reloaded"' not in await asyncio.wait_for(process.stderr.readline(), TIMEOUT):
            pass
        async with raw_wallet(url, SECRET):
            pass
        assert [line["event"] for line in lines(path)] == ["authenticated"]
        assert len(lines(folder / "old.jsonl")) == 4
        # The admin socket is beside the store: the commands find it by the configuration.
        admin = folder / "lightning-proxy" / "relay.sqlite.admin"
        assert stat.S_IMODE(admin.stat().st_mode) == 0o600
        code, out, err = await run(folder, "wallets", "--json")
        assert (code, err) == (0, "")
        assert json.loads(out)["node_id"] == node_id


async def test_a_broken_certificate_holds_no_log_open(folder: Path) -> None:
    path = folder / "audit.jsonl"
    certificate_file, key_file = certificate(folder, "127.0.0.1")
    flags = ("--tls-certificate", str(certificate_file), "--tls-key", str(key_file))
    async with serving(folder, "--audit", str(path), *flags) as (process, _):
        key_file.write_text("broken")
        path.rename(folder / "old.jsonl")
        process.send_signal(signal.SIGHUP)
        while b'"not_reloaded"' not in await asyncio.wait_for(process.stderr.readline(), TIMEOUT):
            pass
        assert path.exists()


@pytest.fixture
def audited(tmp_path: Path) -> Iterator[Path]:
    """Where the audit log of this process goes."""
    path = tmp_path / "audit.jsonl"
    audit.open(path)
    yield path
    audit.close()


async def test_devices_slots_and_leases_are_lines(
    peer: ScriptedPeer, folder: Path, audited: Path
) -> None:
    device = point().hex()
    async with relay() as server:
        async with raw_wallet(server.url, SECRET) as wallet:
            node_id = wallet.node_id.hex()
            session_id, connection = await wallet.open_session(peer)
            await wallet.call("add_device", device_key=device, name="phone", rights=["see"])
            await wallet.call("revoke_device", device_key=device)
            left = await wallet.call("add_slots", slots=[slot(), slot()])
            await wallet.call("remove_slot", slot_id=left[0]["slot_id"])
            await connection.send(open_channel().encode())
            question = await wallet.event("delegate")
            await wallet.answer(question, channel_keys())
            await connection.receive()
            await wallet.call("take_over", channel_id=question["channel_id"])
        async with asyncio.timeout(TIMEOUT):
            while any(inbox.sockets for inbox in server.relay.inboxes()):
                await asyncio.sleep(0.01)
        await connection.send((offer := open_channel()).encode())
        await connection.receive()
    said = {line.pop("event"): line for line in lines(audited)}
    for line in said.values():
        assert line.pop("time") > 0
        assert line.pop("wallet") == node_id
    del said["authenticated"], said["delegation_settled"]
    # All of one call; they are as old as each other.
    added = said.pop("slots_added")["slot_ids"]
    assert sorted(added) == sorted(info["slot_id"] for info in left)
    temporary_id = question["channel_id"]
    assert said == {
        "device_authorised": {"device": device, "rights": ["see"]},
        "device_revoked": {"device": device},
        "slot_removed": {"slot_id": left[0]["slot_id"]},
        "lease_taken": {
            "peer": peer.node_id.hex(),
            "channel_id": temporary_id,
            "device": node_id,
            "fencing": 1,
        },
        "slot_used": {
            "slot_id": left[1]["slot_id"],
            "session_id": session_id,
            "peer": peer.node_id.hex(),
            "channel_id": offer.temporary_channel_id.hex(),
        },
    }


async def test_an_answer_that_was_not_taken_is_nobodys_outcome(
    peer: ScriptedPeer, audited: Path
) -> None:
    async with relay() as server, raw_wallet(server.url, SECRET) as wallet:
        _, connection = await wallet.open_session(peer)
        await connection.send(open_channel().encode())
        question = await wallet.event("delegate")
        await wallet.answer(question, {"funding_pubkey": "wrong"})
        await wallet.event("rejected")
        await connection.close()
        assert (await wallet.event_of("voided"))["id"] == question["id"]
    (line,) = (line for line in lines(audited) if line["event"] == "delegation_void")
    assert (line["delegation_id"], line["device"]) == (question["id"], None)


async def test_a_file_that_can_not_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    flags = ("--audit", str(tmp_path / "file" / "audit.jsonl"), "--store", ":memory:")
    code, _, err = await run(tmp_path, "serve", "--port", "0", *flags)
    assert code == 2
    assert "log.audit" in err


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """As on a full disk: no file of this process grows beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_full_disk_is_counted_and_costs_nothing_else(tmp_path: Path) -> None:
    log = AuditLog()
    log("before", wallet=b"\x02")
    log.open(tmp_path / "audit.jsonl")
    log("first", wallet=b"\x02")
    with files_up_to(1), capture_logs() as said:
        log("lost")
        log("lost")
    log("last")
    assert log.failures == 2
    assert [line["event"] for line in said] == ["audit_failing"]
    assert [line["event"] for line in lines(tmp_path / "audit.jsonl")] == ["first", "last"]
    log.close()
    log.close()


@pytest.mark.parametrize("room", [10, 200])
def test_a_disk_that_is_full_in_the_midst_of_a_line_costs_that_line(
    tmp_path: Path, room: int
) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog()
    log.open(path)
    log("first")
    with files_up_to(path.stat().st_size + room), capture_logs():
        log("torn", reason="x" * 1000)
        assert path.stat().st_size == path.read_bytes().index(b"\n") + 1 + room
        log("lost")
    log("second")
    log("last")
    log.close()
    assert log.failures == 2
    first, _, *after = path.read_text().splitlines()
    assert [json.loads(line)["event"] for line in (first, *after)] == ["first", "second", "last"]
