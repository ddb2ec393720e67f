"""What the relay rests on may start beside it: it waits, and says so."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
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
        settings = {"chain": f"bitcoind://u:p@{address}", "store": str(tmp_path / "relay.sqlite")}
        with capture_logs() as said:
            async with relay(**settings):
                pass
        waited = [line["reason"] for line in said if line["event"] == "waiting_to_start"]
        assert waited == ["the node is starting: Loading block index\u2026"] * 2
        async with Database(settings["store"]) as database:
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


async def test_a_signal_ends_the_waiting(tmp_path: Path, unused_tcp_port: int) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lightning_proxy", "serve", "--port", "0", "--log-format", "json"),
        *("--chain", f"esplora+http://127.0.0.1:{unused_tcp_port}"),
        env=environ(tmp_path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    said = b""
    while b"waiting_to_start" not in said:
        said = await asyncio.wait_for(process.stdout.readline(), TIMEOUT)
        assert said, "it ended"
    process.send_signal(signal.SIGINT)
    rest, _ = await asyncio.wait_for(process.communicate(), TIMEOUT)
    assert process.returncode == 0, rest
    assert b"stopped" in rest
