"""Connections that say nothing, or half of something: each has a time limit, and there is a cap."""

import asyncio
import os
import resource
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from lightning_proxy.api import ApiSettings
from lightning_proxy.api.door import Door
from lightning_proxy.api.limits import LimitSettings
from tests.support.certificates import certificate
from tests.support.relay import raw_wallet, relay

HALF_A_HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
HALF_A_BODY = (
    b"POST /api/connect HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
    b'Content-Length: 400\r\n\r\n{"url": '
)
A_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n"
#: What a connection gets here where its time is not the point.
LONG = 60.0

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def ended(reader: asyncio.StreamReader) -> bytes:
    """All that came until the relay hung up."""
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionResetError:
        return b""


async def dialled(port: int) -> Stream:
    return await asyncio.open_connection("127.0.0.1", port)


async def asked(stream: Stream, port: int) -> bytes:
    """The status line of the answer to one request."""
    reader, writer = stream
    writer.write(A_REQUEST % port)
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"}")
    return head.partition(b"\r\n")[0]


@pytest.mark.parametrize("said", [b"", HALF_A_HEAD])
@pytest.mark.parametrize("tls", [False, True])
async def test_a_head_has_to_come_in_time(tmp_path: Path, said: bytes, tls: bool) -> None:
    files = certificate(tmp_path, "127.0.0.1") if tls else (None, None)
    api = ApiSettings(
        port=0,
        request_timeout=0.4,
        tls_certificate=None if files[0] is None else str(files[0]),
        tls_key=None if files[1] is None else str(files[1]),
    )
    trusting = ssl.create_default_context(cafile=str(files[0])) if tls else None
    async with relay(api) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trusting)
        writer.write(said)
        assert await ended(reader) == b""
        writer.close()


async def test_a_handshake_of_tls_has_to_come_in_time(tmp_path: Path) -> None:
    files = certificate(tmp_path, "127.0.0.1")
    api = ApiSettings(
        port=0, request_timeout=0.2, tls_certificate=str(files[0]), tls_key=str(files[1])
    )
    async with relay(api) as server:
        # Nothing, and the beginning of a ClientHello.
        for said in (b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"):
            reader, writer = await dialled(server.port)
            writer.write(said)
            assert await ended(reader) == b""
            writer.close()


async def test_a_body_has_to_come_in_time() -> None:
    async with relay(ApiSettings(port=0, request_timeout=0.2)) as server:
        reader, writer = await dialled(server.port)
        writer.write(HALF_A_BODY % server.port)
        answer = await ended(reader)
        assert b"400" in answer.partition(b"\r\n")[0]
        assert b"did not come in time" in answer
        writer.close()


async def test_who_has_asked_is_left_alone() -> None:
    """Websockets above all, and connections that are kept."""
    async with (
        relay(ApiSettings(port=0, request_timeout=0.1)) as server,
        raw_wallet(server.url) as wallet,
    ):
        stream = await dialled(server.port)
        assert b"200" in await asked(stream, server.port)
        await asyncio.sleep(0.4)
        assert await wallet.call("sessions") == []
        assert b"200" in await asked(stream, server.port)
        stream[1].close()


@pytest.mark.parametrize("said", [b"", HALF_A_HEAD])
async def test_a_kept_connection_is_not_kept_for_ever(said: bytes) -> None:
    api = ApiSettings(port=0, request_timeout=0.1, keepalive_timeout=0.2)
    async with relay(api) as server:
        stream = await dialled(server.port)
        assert b"200" in await asked(stream, server.port)
        stream[1].write(said)
        assert await ended(stream[0]) == b""
        stream[1].close()


async def test_who_takes_no_answer_is_cut() -> None:
    api = ApiSettings(port=0, request_timeout=0.1, keepalive_timeout=0.2)
    many = 400
    async with relay(api) as server:
        end = socket.socket()
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        end.setblocking(False)
        await asyncio.get_running_loop().sock_connect(end, ("127.0.0.1", server.port))
        reader, writer = await asyncio.open_connection(sock=end, limit=1024)
        # Nothing more than that is read, and so far nothing of it.
        request = b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % server.port
        writer.write(request * many)
        await asyncio.sleep(1.5)
        taken = bytearray()
        with suppress(ConnectionResetError):
            async with asyncio.timeout(30):
                while piece := await reader.read(1 << 20):
                    taken += piece
        assert taken.count(b"HTTP/1.1 200 OK") < many
        writer.close()


@pytest.mark.parametrize("tls", [False, True])
async def test_of_too_many_silent_connections_the_oldest_goes(tmp_path: Path, tls: bool) -> None:
    """Before a handshake of TLS, too; and who speaks gets in, however many say nothing."""
    files = certificate(tmp_path, "127.0.0.1") if tls else (None, None)
    api = ApiSettings(
        port=0,
        request_timeout=LONG,
        limits=LimitSettings(silent_connections=20),
        tls_certificate=None if files[0] is None else str(files[0]),
        tls_key=None if files[1] is None else str(files[1]),
    )
    trusting = ssl.create_default_context(cafile=str(files[0])) if tls else True
    async with relay(api) as server:
        silent = [await dialled(server.port) for _ in range(30)]
        for reader, _ in silent[:10]:
            assert await ended(reader) == b""
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{server.url}/healthz", ssl=trusting) as response,
        ):
            assert response.status == 200
        assert await ended(silent[10][0]) == b""
        # Those are left alone.
        for reader, _ in silent[-5:]:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.01)
        for _, writer in silent:
            writer.close()


async def test_idle_connections_count_as_silent_ones() -> None:
    api = ApiSettings(port=0, limits=LimitSettings(silent_connections=3))
    async with relay(api) as server:
        kept = [await dialled(server.port) for _ in range(3)]
        for stream in kept:
            assert b"200" in await asked(stream, server.port)
        newcomer = await dialled(server.port)
        assert await ended(kept[0][0]) == b""
        assert b"200" in await asked(newcomer, server.port)
        assert b"200" in await asked(kept[1], server.port)
        for _, writer in (*kept, newcomer):
            writer.close()


@pytest.mark.parametrize("trusted", [[], ["127.0.0.1/32"]])
async def test_each_address_has_its_own_cap_but_for_proxies(
    monkeypatch: pytest.MonkeyPatch, trusted: list[str]
) -> None:
    # As if loopback were any other network.
    monkeypatch.setattr("lightning_proxy.api.door.network_of", lambda address: address)
    api = ApiSettings(
        port=0,
        access="open",
        request_timeout=LONG,
        trusted_proxies=trusted,
        limits=LimitSettings(silent_connections_per_address=3),
    )
    async with relay(api) as server:
        silent = [await dialled(server.port) for _ in range(4)]
        last = silent.pop()
        assert b"200" in await asked(last, server.port)
        if trusted:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(silent[0][0].read(1), 0.1)
        else:
            assert await ended(silent[0][0]) == b""
        for _, writer in (*silent, last):
            writer.close()


async def test_the_operators_socket_has_the_same_limits(tmp_path: Path) -> None:
    path = tmp_path / "admin"
    async with relay(ApiSettings(port=0, request_timeout=0.2, admin_socket=str(path))):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(HALF_A_HEAD)
        assert await ended(reader) == b""
        writer.close()


@contextmanager
def no_file_left() -> Iterator[None]:
    """This process can open none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 1, hard))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for each in taken:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_without_a_file_left_connections_wait_and_cost_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts = 0
    accept = Door._accept

    def counting(door: Door) -> None:
        nonlocal attempts
        attempts += 1
        accept(door)

    monkeypatch.setattr(Door, "_accept", counting)
    async with relay() as server:
        # The kernel takes them; nobody has looked at them yet.
        waiting = socket.create_connection(("127.0.0.1", server.port))
        with no_file_left(), capture_logs() as said:
            await asyncio.sleep(1.2)
        assert [line["event"] for line in said] == ["connections_wait"]
        assert 1 < attempts < 10
        waiting.setblocking(False)
        stream = await asyncio.open_connection(sock=waiting)
        assert b"200" in await asked(stream, server.port)
        stream[1].close()


async def test_an_ipv4_proxy_is_trusted_on_a_socket_of_both_families() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.fail("this machine has no IPv6")
    public = "https://relay.example.com"
    api = ApiSettings(
        host="::",
        port=0,
        access="open",
        open_to_the_world=True,
        origins=[public],
        trusted_proxies=["127.0.0.1/32"],
    )
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "relay.example.com"}
    async with relay(api) as server:
        url = f"http://127.0.0.1:{server.port}"
        async with raw_wallet(url, authenticated=False, headers=headers) as wallet:
            assert (await wallet.event("challenge"))["origin"] == public
