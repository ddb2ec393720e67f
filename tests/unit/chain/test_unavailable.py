"""What waiting may mend, and what it never will: a relay that starts waits for the one only."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from lightning_proxy.chain import ChainError, ChainUnavailable, open_source
from tests.support.certificates import certificate
from tests.unit.chain.fakes import FakeNode, serving
from tests.unit.chain.test_http import Handler, answering


async def failure(url: str) -> ChainError:
    with pytest.raises(ChainError) as error:
        await open_source(url, patience=5.0)
    return error.value


def may_pass(error: ChainError) -> bool:
    return isinstance(error, ChainUnavailable)


async def test_bitcoin_core_while_it_warms_up() -> None:
    node = FakeNode()
    node.errors["getblockhash"] = (-28, "Verifying blocks\u2026")
    async with serving(node.answer) as address:
        error = await failure(f"bitcoind://u:p@{address}")
    assert may_pass(error)
    assert "Verifying blocks" in str(error)


@pytest.mark.parametrize("scheme", ["bitcoind", "btcd+http", "esplora+http"])
async def test_nobody_listens_yet(scheme: str, unused_tcp_port: int) -> None:
    assert may_pass(await failure(f"{scheme}://u:p@127.0.0.1:{unused_tcp_port}"))


@pytest.mark.parametrize("scheme", ["bitcoind", "btcd+http", "esplora+http"])
@pytest.mark.parametrize(
    ("handler", "passes"),
    [
        (answering("", 429), True),
        (answering("Bad Gateway", 502), True),
        (answering("Work queue depth exceeded", 503), True),
        (answering("Gateway Timeout", 504), True),
        # A wrong password, another server, another chain.
        (answering("", 401), False),
        (answering("", 403), False),
        (answering("<html>Welcome</html>"), False),
        (answering("00" * 32), False),
        (answering(f'{{"result": "{"00" * 32}", "error": null, "id": 1}}'), False),
    ],
)
async def test_answers(scheme: str, handler: Handler, passes: bool) -> None:
    async with serving(handler) as address:
        assert may_pass(await failure(f"{scheme}://u:p@{address}")) is passes


@pytest.mark.parametrize(("status", "passes"), [(500, True), (530, True), (404, False)])
async def test_an_explorer_without_its_node(status: int, passes: bool) -> None:
    async with serving(answering("error", status)) as address:
        assert may_pass(await failure(f"esplora+http://{address}")) is passes


async def test_a_cookie_is_written_when_the_node_starts(tmp_path: Path) -> None:
    cookie = tmp_path / ".cookie"
    url = f"bitcoind://127.0.0.1:1?cookie={cookie}"
    assert may_pass(await failure(url))
    cookie.mkdir()
    assert not may_pass(await failure(url))


async def test_so_is_btcds_certificate(tmp_path: Path) -> None:
    cert = tmp_path / "rpc.cert"
    url = f"btcd://u:p@127.0.0.1:1?cert={cert}"
    assert may_pass(await failure(url))
    cert.write_text("no certificate")
    assert not may_pass(await failure(url))


@pytest.fixture
async def tls(tmp_path: Path) -> AsyncIterator[str]:
    """Where somebody with a certificate that nobody trusts speaks https."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(tmp_path, "127.0.0.1"))
    runner = web.AppRunner(web.Application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    yield f"127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_certificate_that_is_not_trusted(tls: str) -> None:
    error = await failure(f"esplora+https://{tls}")
    assert not may_pass(error)
    assert "certificate" in str(error).lower()


@pytest.mark.parametrize("scheme", ["bitcoind", "btcd"])
async def test_another_protocol(scheme: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"-ERR unknown command 'POST'\r\n")  # as Redis does
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert not may_pass(await failure(f"{scheme}://u:p@127.0.0.1:{port}"))
