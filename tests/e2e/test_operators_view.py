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
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from lightning_proxy.api import ApiSettings
from lightning_proxy.audit import AuditLog
from tests.support.channels import channel_keys, open_channel
from tests.support.peer import ScriptedPeer
from tests.support.relay import raw_wallet, relay
from tests.unit.cli.commands import TIMEOUT, environ

SECRET = b"\x5e" * 32
README = Path("README.md").read_text("utf-8")


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
        with pytest.raises(OSError, match="another relay's"):
            async with relay(ApiSettings(port=0, admin_socket=str(path))):
                pass


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


@asynccontextmanager
async def serving(folder: Path, *flags: str) -> AsyncIterator[tuple[Any, str]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lightning_proxy", "serve", "--port", "0"),
        *("--log-format", "json", *flags),
        env=environ(folder),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        ready = json.loads(await asyncio.wait_for(process.stdout.readline(), TIMEOUT))
        yield process, ready["url"]
    finally:
        process.terminate()
        await process.communicate()


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
        # The state is beside the store: other operators' tools find it by the configuration.
        code, out, err = await run(folder, "wallets", "--json")
        assert (code, err) == (0, "")
        assert json.loads(out)["node_id"] == node_id


async def test_a_file_that_can_not_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    flags = ("--audit", str(tmp_path / "file" / "audit.jsonl"), "--store", ":memory:")
    code, _, err = await run(tmp_path, "serve", "--port", "0", *flags)
    assert code == 2
    assert "log.audit" in err


def test_a_full_disk_is_counted_and_costs_nothing_else(tmp_path: Path) -> None:
    log = AuditLog()
    log("before", wallet=b"\x02")
    log.open(tmp_path / "audit.jsonl")
    log("first", wallet=b"\x02")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        with capture_logs() as said:
            log("lost")
            log("lost")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    log("last")
    assert log.failures == 2
    assert [line["event"] for line in said] == ["audit_failing"]
    assert [line["event"] for line in lines(tmp_path / "audit.jsonl")] == ["first", "last"]
    log.close()
    log.close()
