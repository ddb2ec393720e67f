"""Connections that say nothing, or half of something: each has a time limit, and there is a cap."""

import asyncio
import socket

import aiohttp
import pytest

from lightning_proxy.api import ApiSettings
from lightning_proxy.api.limits import LimitSettings
from tests.support.relay import raw_wallet, relay

HALF_A_HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
HALF_A_BODY = (
    b"POST /api/connect HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
    b'Content-Length: 400\r\n\r\n{"url": '
)


async def ended(reader: asyncio.StreamReader) -> bytes:
    """All that came until the relay hung up."""
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("said", [b"", HALF_A_HEAD])
async def test_a_head_has_to_come_in_time(said: bytes) -> None:
    async with relay(ApiSettings(port=0, request_timeout=0.2)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(said)
        assert await ended(reader) == b""
        writer.close()


async def test_a_body_has_to_come_in_time() -> None:
    async with relay(ApiSettings(port=0, request_timeout=0.2)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(HALF_A_BODY % server.port)
        async with asyncio.timeout(10):
            answer = await reader.read(2000)
        assert b"400" in answer.partition(b"\r\n")[0]
        assert b"did not come in time" in answer
        writer.close()


async def test_who_has_asked_is_left_alone() -> None:
    """Websockets above all, and connections that are kept."""
    async with (
        relay(ApiSettings(port=0, request_timeout=0.1)) as server,
        raw_wallet(server.url) as wallet,
        aiohttp.ClientSession() as http,
    ):
        async with http.get(f"{server.url}/healthz") as response:
            assert response.status == 200
        await asyncio.sleep(0.4)
        assert await wallet.call("sessions") == []
        async with http.get(f"{server.url}/healthz") as response:
            assert response.status == 200


async def test_too_many_silent_connections_are_cut_before_they_cost_anything() -> None:
    limits = LimitSettings(silent_connections=20)
    async with relay(ApiSettings(port=0, limits=limits)) as server:
        first = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(20)]
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await ended(reader) == b""
        writer.close()
        # One that goes makes room.
        first.pop()[1].close()
        async with asyncio.timeout(10):
            while True:
                try:
                    async with (
                        aiohttp.ClientSession() as http,
                        http.get(f"{server.url}/healthz") as response,
                    ):
                        assert response.status == 200
                        break
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.01)
        for _, each in first:
            each.close()


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
