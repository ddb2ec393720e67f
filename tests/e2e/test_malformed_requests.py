"""What is no HTTP gets an answer and a place in the metrics, and next to none in the log."""

import asyncio
import logging
import ssl
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from lightning_proxy.api import ApiSettings, Server
from lightning_proxy.api.limits import LimitSettings
from tests.support.certificates import certificate
from tests.support.relay import relay

_POST = b"POST /api/connect HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
MALFORMED = {
    "nothing known": b"\0\1\2\r\n\r\n",
    "a method": b"G@T / HTTP/1.1\r\n\r\n",
    "a version": b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a URL": b"GET http://[::1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a header": b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    "a long header": b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),
    "a length": _POST + b"Content-Length: -1\r\n\r\n",
    "a chunk": _POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a later chunk": _POST + b'Transfer-Encoding: chunked\r\n\r\n2\r\n{"\r\nzz\r\n',
    "an encoding": _POST + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
}


async def answer(port: int, data: bytes, source: str = "127.0.0.1", *, ends: bool = False) -> bytes:
    """All that the relay says to this; nothing where it hangs up at once."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        writer.write(data.replace(b"%d", b"%d" % port))
        if ends:
            writer.write_eof()
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def counted(server: Server) -> int:
    return server.relay.counters.requests_malformed


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
async def test_each_is_answered_and_counted(
    server: Server, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with capture_logs() as logs:
        for number in (1, 2, 3):
            said = await answer(server.port, data)
            assert b" 400 Bad Request\r\n" in said
            assert b'"code":"invalid_request"' in said
            assert counted(server) == number
    assert [record.getMessage() for record in caplog.records] == []
    # Said once, and not again for a minute.
    assert [log["event"] for log in logs] == ["requests_malformed"]
    assert logs[0]["address"] == "127.0.0.1"


async def test_what_is_no_tls_is_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = certificate(tmp_path, "127.0.0.1")
    api = ApiSettings(port=0, tls_certificate=str(files[0]), tls_key=str(files[1]))
    caplog.set_level(logging.WARNING)
    async with relay(api) as server:
        with capture_logs() as logs:
            for data in MALFORMED.values():
                await answer(server.port, data, ends=True)
            # Half a handshake that ends is no better.
            with pytest.raises(ssl.SSLError):
                await asyncio.open_connection(
                    "127.0.0.1", server.port, ssl=ssl.create_default_context()
                )
    assert [record.getMessage() for record in caplog.records] == []
    assert logs == []


@pytest.fixture
def by_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if loopback were any other network."""
    monkeypatch.setattr("lightning_proxy.api.door.network_of", lambda address: address)


GOOD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n\r\n"


@pytest.mark.usefixtures("by_address")
@pytest.mark.parametrize("trusted", [[], ["127.0.0.1/32"]])
async def test_who_sends_much_of_it_is_not_let_in(trusted: list[str]) -> None:
    limits = LimitSettings(malformed_per_address=0.001, malformed_per_address_burst=3)
    api = ApiSettings(port=0, access="open", trusted_proxies=trusted, limits=limits)
    async with relay(api) as server:
        for data in list(MALFORMED.values())[:3]:
            assert await answer(server.port, data)
        for data in (*MALFORMED.values(), GOOD):
            # Behind a proxy there are many, and most mean well.
            assert bool(await answer(server.port, data)) is bool(trusted)
        assert counted(server) == 3 + bool(trusted) * len(MALFORMED)
        # Others are.
        assert b" 200 OK\r\n" in await answer(server.port, GOOD, source="127.0.0.2")


@pytest.mark.usefixtures("by_address")
async def test_good_requests_cost_nothing_of_it() -> None:
    limits = LimitSettings(malformed_per_address=0.001, malformed_per_address_burst=1)
    async with relay(ApiSettings(port=0, limits=limits)) as server:
        for _ in range(3):
            assert b" 200 OK\r\n" in await answer(server.port, GOOD)
        assert b" 400 Bad Request\r\n" in await answer(server.port, MALFORMED["a method"])
        assert await answer(server.port, GOOD) == b""
