"""Whatever a source's server does, there is a `ChainError` with no credential in it."""

import asyncio
import gzip
from base64 import b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from lightning_proxy.chain import ChainError, open_source
from lightning_proxy.chain.http import MAX_ANSWER, HttpClient
from lightning_proxy.chain.url import SourceURL
from tests.unit.chain.fakes import GENESIS, FakeNode, serving

SECRET = "s3cr3t"
SCHEMES = ("bitcoind", "btcd+http", "esplora+http")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def answering(text: str, status: int = 200) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text, status=status)

    return answer


async def refused(scheme: str, address: str, patience: float = 15.0) -> str:
    with pytest.raises(ChainError) as error:
        await open_source(f"{scheme}://lab:{SECRET}@{address}", patience=patience)
    assert SECRET not in repr(error.value)
    assert b64encode(f"lab:{SECRET}".encode()).decode() not in repr(error.value)
    assert error.value.__cause__ is None
    return str(error.value)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    "handler",
    [
        answering("", 401),
        answering("", 403),
        answering("<html>Internal Server Error</html>", 500),
        answering("<html>Welcome</html>"),
        answering("Work queue depth exceeded", 503),
        answering(""),
        answering("{"),
        answering("null"),
        answering("[]"),
        answering("[" * 100_000),
        answering('{"result": 5, "error": null, "id": 1}'),
        answering('{"result": "00", "error": null, "id": 1}'),
        answering(f'{{"result": "{GENESIS}", "error": null, "id": 7}}'),
        answering('{"error": {"code": "none", "message": null}, "id": 1}'),
        # No chain that we know.
        answering("00" * 32),
        answering(f'{{"result": "{"00" * 32}", "error": null, "id": 1}}'),
        answering("\u0660" * 64),
    ],
)
async def test_senseless(scheme: str, handler: Handler) -> None:
    async with serving(handler) as address:
        await refused(scheme, address)


async def test_the_sentence_says_what_happened() -> None:
    async with serving(answering("", 401)) as address:
        assert await refused("bitcoind", address) == f"{address} refuses us: HTTP status 401"
    # Nobody listens there any more.
    assert f"can't ask {address}: " in await refused("bitcoind", address)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_too_slow(scheme: str) -> None:
    over = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await over.wait()
        return response

    async with serving(answer) as address:
        assert await refused(scheme, address, 0.05) == f"{address} doesn't answer within 0.05 s"
        over.set()


async def test_not_http() -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await refused("bitcoind", f"127.0.0.1:{port}")
        # https, too, where somebody speaks something else.
        await refused("btcd", f"127.0.0.1:{port}")


@pytest.mark.parametrize("declared", [True, False])
async def test_oversize(declared: bool) -> None:
    sent = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        if declared:
            response.content_length = 1 << 40
        await response.prepare(request)
        while sent < 64 << 20:
            await response.write(bytes(1 << 16))
            sent += 1 << 16
        return response

    url = f"esplora+http://lab:{SECRET}@"
    async with serving(answer) as address:
        client = HttpClient(SourceURL.parse(url + address), 15.0, max_answer=1 << 20)
        with pytest.raises(ChainError, match="more than 1048576 bytes"):
            await client.get("/")
        await client.close()
    # It hung up, instead of reading on.
    assert sent < 64 << 20
    assert MAX_ANSWER > 8_000_000


async def test_nothing_is_unpacked() -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.headers["Accept-Encoding"] == "identity"
        packed = gzip.compress(GENESIS.encode())
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    async with serving(answer) as address:
        await refused("esplora+http", address)


async def test_no_redirect_gets_the_password() -> None:
    asked = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request)
        return web.Response(text=GENESIS)

    async with serving(elsewhere) as trap:

        async def answer(_: web.Request) -> web.Response:
            raise web.HTTPTemporaryRedirect(f"http://{trap}/")

        async with serving(answer) as address:
            for scheme in SCHEMES:
                assert "307" in await refused(scheme, address)
    assert asked == []


async def test_a_key_in_the_path_stays_there() -> None:
    async with serving(answering("", 503)) as address:
        with pytest.raises(ChainError) as error:
            await open_source(f"esplora+http://{address}/{SECRET}")
    assert SECRET not in repr(error.value)


async def test_nor_does_who_is_no_http_server_get_it_into_a_sentence() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The request's line, as if it were an answer's.
        writer.write(await reader.readline())
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(ChainError, match=f"can't ask {address}: ") as error:
            await open_source(f"esplora+http://{address}/{SECRET}")
    assert SECRET not in repr(error.value)


async def test_credentials() -> None:
    node = FakeNode()
    async with serving(node.answer) as address:
        source = await open_source(f"bitcoind://us%20er:p%3A%40@{address}")
        assert node.authorization == "Basic " + b64encode(b"us er:p:@").decode()
        await source.close()


async def test_the_cookie_may_be_another_next_time(tmp_path: Path) -> None:
    node = FakeNode()
    cookie = tmp_path / ".cookie"
    cookie.write_text("__cookie__:one\n")
    async with serving(node.answer) as address:
        source = await open_source(f"bitcoind://{address}?cookie={cookie}")
        assert node.authorization == "Basic " + b64encode(b"__cookie__:one").decode()
        cookie.write_text("__cookie__:two")
        await source.tip()
        assert node.authorization == "Basic " + b64encode(b"__cookie__:two").decode()
        cookie.unlink()
        with pytest.raises(ChainError, match=r"can't read the cookie .*: No such file"):
            await source.tip()
        await source.close()


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_no_certificate(tmp_path: Path, content: str | None) -> None:
    cert = tmp_path / "rpc.cert"
    if content is not None:
        cert.write_text(content)
    with pytest.raises(ChainError, match="can't read the certificate"):
        await open_source(f"btcd://u:{SECRET}@127.0.0.1:1?cert={cert}")
