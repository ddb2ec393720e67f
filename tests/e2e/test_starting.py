"""What the relay rests on may start beside it: it waits, and says so."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from lightning_proxy.api import ApiSettings, Server
from lightning_proxy.chain import ChainError, ChainUnavailable
from lightning_proxy.chain.simulated import SimulatedChain
from lightning_proxy.relay import RelaySettings
from lightning_proxy.relay.store import Database
from tests.support.fault_proxy import FaultProxy
from tests.support.relay import relay
from tests.unit.chain.fakes import FakeNode, serving
from tests.unit.cli.commands import TIMEOUT, environ

#: What Kubernetes says of a service that is named as the relay is.
KUBERNETES = {
    "LIGHTNING_PROXY_RELAY_PORT": "tcp://10.96.0.7:3000",
    "LIGHTNING_PROXY_API_PORT": "tcp://10.96.0.7:3000",
    "LIGHTNING_PROXY_RELAY_SERVICE_HOST": "10.96.0.7",
}


def port_of(chain: SimulatedChain) -> int:
    return int(chain.url.rpartition(":")[2].partition("/")[0])


def url_by(chain: SimulatedChain, proxy: FaultProxy) -> str:
    return chain.url.replace(f":{port_of(chain)}", f":{proxy.port}")


async def answer(port: int) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{port}/healthz") as response,
    ):
        return response.status, await response.json()


async def test_it_waits_for_its_chain_source(
    monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.setattr("lightning_proxy.api.server._FIRST_PAUSE", 0.05)
    async with SimulatedChain() as chain, FaultProxy(("127.0.0.1", 1)) as proxy:
        settings = RelaySettings(chain=url_by(chain, proxy))
        server = Server(settings, ApiSettings(port=unused_tcp_port))
        starting = asyncio.create_task(server.__aenter__())
        async with asyncio.timeout(10):
            while True:
                try:
                    status, body = await answer(unused_tcp_port)
                    break
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.01)
        assert (status, body["status"]) == (503, "starting")
        assert not starting.done()
        proxy.target = ("127.0.0.1", port_of(chain))
        await asyncio.wait_for(starting, 10)
        status, body = await answer(unused_tcp_port)
        assert (status, body["status"]) == (200, "ok")
        await server.__aexit__(None, None, None)


async def test_who_comes_while_it_starts_as_usual_is_answered_when_it_is_ready(
    unused_tcp_port: int,
) -> None:
    """A client that never heard of 503 loses nothing by a restart."""
    asked = asyncio.Event()
    slow = asyncio.Event()

    async def fault(_: web.Request) -> None:
        asked.set()
        await slow.wait()

    async with SimulatedChain() as chain:
        chain.fault = fault
        server = Server(RelaySettings(chain=chain.url), ApiSettings(port=unused_tcp_port))
        starting = asyncio.create_task(server.__aenter__())
        await asyncio.wait_for(asked.wait(), 10)
        asking = asyncio.create_task(answer(unused_tcp_port))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asking), 0.2)
        slow.set()
        status, body = await asyncio.wait_for(asking, 10)
        assert (status, body["status"]) == (200, "ok")
        await starting
        await server.__aexit__(None, None, None)


async def test_bitcoin_core_may_still_be_loading(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What came to nothing counts as no run: positions would run out of numbers."""
    monkeypatch.setattr("lightning_proxy.api.server._FIRST_PAUSE", 0.02)
    node = FakeNode()
    node.errors["getblockhash"] = (-28, "Loading block index\u2026")

    def before(method: str) -> None:
        if node.called(method) == 3:
            node.errors.clear()

    node.before = before
    async with serving(node.answer) as address:
        store = str(tmp_path / "relay.sqlite")
        with capture_logs() as lines:
            async with relay(chain=f"bitcoind://u:p@{address}", store=store):
                pass
        waited = [line["reason"] for line in lines if line["event"] == "waiting_to_start"]
        assert waited == ["the node is starting: Loading block index\u2026"] * 2
        async with Database(store) as database:
            assert database.run == 2


async def test_it_does_not_wait_for_ever() -> None:
    async with SimulatedChain() as chain, FaultProxy(("127.0.0.1", 1)) as proxy:
        settings = RelaySettings(chain=url_by(chain, proxy), start_timeout=0.2)
        with pytest.raises(ChainUnavailable):
            await Server(settings, ApiSettings(port=0)).__aenter__()


async def test_what_waiting_does_not_mend_ends_it_at_once() -> None:
    async with SimulatedChain() as chain:
        # There is somebody, and it is no Esplora.
        settings = RelaySettings(chain=f"{chain.url}/nothing/here", start_timeout=60)
        with pytest.raises(ChainError):
            async with asyncio.timeout(10):
                await Server(settings, ApiSettings(port=0)).__aenter__()


@asynccontextmanager
async def waiting(folder: Path, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A relay whose chain source isn't there."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lightning_proxy", "serve", "--port", "0", "--log-format", "json"),
        *("--chain", f"esplora+http://127.0.0.1:{port}", "--audit", str(folder / "audit.jsonl")),
        env=environ(folder) | KUBERNETES,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def said(process: asyncio.subprocess.Process, event: str) -> Any:
    """The next line that tells of this."""
    assert process.stdout is not None
    while True:
        line = await asyncio.wait_for(process.stdout.readline(), TIMEOUT)
        assert line, "it ended"
        values = json.loads(line)
        if values["event"] == event:
            return values


async def test_a_signal_ends_the_waiting(tmp_path: Path, unused_tcp_port: int) -> None:
    async with waiting(tmp_path, unused_tcp_port) as process:
        ignored = await said(process, "variables_ignored")
        assert ignored["names"] == sorted(KUBERNETES)
        await said(process, "waiting_to_start")
        process.send_signal(signal.SIGINT)
        rest, _ = await asyncio.wait_for(process.communicate(), TIMEOUT)
    assert process.returncode == 0, rest
    assert b"stopped" in rest


async def test_a_rotated_log_does_not_end_the_waiting(tmp_path: Path, unused_tcp_port: int) -> None:
    async with waiting(tmp_path, unused_tcp_port) as process:
        await said(process, "waiting_to_start")
        (tmp_path / "audit.jsonl").rename(tmp_path / "old.jsonl")
        process.send_signal(signal.SIGHUP)
        assert (await said(process, "reloaded"))["what"] == ["audit log"]
        assert (tmp_path / "audit.jsonl").exists()
        await said(process, "waiting_to_start")
