"""One client for all calls: a kept connection that was dropped, and bounds for the rest."""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from lightning_proxy.http import Client
from tests.unit.chain.fakes import serving

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def dropping(before: float = 0.0, after: float = 0.0) -> Handler:
    """Takes its time, and drops a connection that is used again; a fresh one has an answer."""
    known = set[asyncio.Transport | None]()

    async def answer(request: web.Request) -> web.StreamResponse:
        if not known:
            known.add(request.transport)
        elif request.transport in known:
            await asyncio.sleep(before)
            assert request.transport is not None
            request.transport.abort()
        else:
            await asyncio.sleep(after)
        return web.Response(text="here")

    return answer


async def test_who_was_dropped_on_a_kept_connection_asks_again_on_a_fresh_one() -> None:
    async with serving(dropping()) as address, Client(10.0, 100) as client:
        for _ in range(2):
            answer = await client.ask("POST", f"http://{address}/", b"body", {})
            assert (answer.status, answer.body, answer.is_whole) == (200, b"here", True)


async def test_both_tries_have_one_time_limit() -> None:
    """Each alone would come in time."""
    async with serving(dropping(0.3, 0.3)) as address, Client(0.5, 100) as client:
        await client.ask("POST", f"http://{address}/", b"body", {})
        with pytest.raises(TimeoutError):
            await client.ask("POST", f"http://{address}/", b"body", {})


async def test_who_is_dropped_on_a_fresh_connection_does_not_ask_again() -> None:
    asked = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with serving(answer) as address, Client(10.0, 100) as client:
        with pytest.raises(aiohttp.ClientError):
            await client.ask("POST", f"http://{address}/", b"body", {})
    assert asked == 1


@pytest.mark.parametrize("size", [0, 99, 100, 101, 1 << 20])
async def test_of_a_long_answer_there_is_the_beginning(size: int) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * size)

    async with serving(answer) as address, Client(10.0, 100) as client:
        got = await client.ask("GET", f"http://{address}/", None, {})
        assert got.body == b"x" * min(size, 100)
        assert got.is_whole is (size <= 100)


async def test_an_answer_in_pieces_is_read_to_its_end() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=403)
        await response.prepare(request)
        for piece in (b"in ", b"three ", b"pieces"):
            await response.write(piece)
            await asyncio.sleep(0.01)
        return response

    async with serving(answer) as address, Client(10.0, 100) as client:
        got = await client.ask("GET", f"http://{address}/", None, {})
        assert got.body == b"in three pieces"


async def test_an_answer_that_does_not_end_is_too_late() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.01)

    async with serving(answer) as address, Client(0.2, 1 << 20) as client:
        with pytest.raises(TimeoutError):
            await client.ask("GET", f"http://{address}/", None, {})
