"""What the scripts of pages, apps and extensions can do: no headers, and origins of all kinds."""

import base64
from collections.abc import AsyncIterator

import aiohttp
import pytest
from structlog.testing import capture_logs

from lightning_proxy.api import ApiSettings, Server
from lightning_proxy.rpc import SUBPROTOCOL
from lightning_proxy.wallet import RelayError, Wallet, WalletKeys
from tests.support.relay import relay

TOKEN = "a-token-with-ümlauts-and-more"
OTHER = "another-token-of-the-operators"
ORIGIN = "https://wallet.example"


def offered(token: str) -> str:
    """As a script writes it: btoa, URL-safe, without padding."""
    return "token." + base64.urlsafe_b64encode(token.encode()).rstrip(b"=").decode()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    api = ApiSettings(port=0, access="token", tokens=[TOKEN, OTHER], web_origins=[ORIGIN])
    async with relay(api) as running:
        yield running


async def opened(server: Server, *protocols: str, **headers: str) -> str | None:
    """`new WebSocket(url, protocols)`; the one that the relay chose."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(
            f"{server.url}/v1/wallet", protocols=protocols, headers={"Origin": ORIGIN, **headers}
        ) as socket,
    ):
        assert (await socket.receive_json())["method"] == "challenge"
        return socket.protocol


async def refused(server: Server, *protocols: str, **headers: str) -> int:
    with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
        await opened(server, *protocols, **headers)
    return raised.value.status


async def test_a_token_as_a_subprotocol(server: Server) -> None:
    with capture_logs() as logs:
        for token in (TOKEN, OTHER):
            assert await opened(server, SUBPROTOCOL, offered(token)) == SUBPROTOCOL
            assert await opened(server, offered(token), SUBPROTOCOL) == SUBPROTOCOL
    assert offered(TOKEN) not in repr(logs)


@pytest.mark.parametrize(
    "protocols",
    [
        (SUBPROTOCOL,),
        (SUBPROTOCOL, offered("a-token-of-nobody-at-all")),
        (SUBPROTOCOL, "token."),
        (SUBPROTOCOL, "token.***"),
        (SUBPROTOCOL, "token.A"),
        (SUBPROTOCOL, offered("x" * 5000)),
        # One right one among wrong ones is a guess.
        (SUBPROTOCOL, offered(TOKEN), offered("a-token-of-nobody-at-all")),
    ],
)
async def test_another_is_none(server: Server, protocols: tuple[str, ...]) -> None:
    assert await refused(server, *protocols) == 401


async def test_both_ways_have_to_agree(server: Server) -> None:
    right = {"Authorization": f"Bearer {OTHER}"}
    assert await opened(server, SUBPROTOCOL, offered(OTHER), **right) == SUBPROTOCOL
    wrong = {"Authorization": "Bearer a-token-of-nobody-at-all"}
    assert await refused(server, SUBPROTOCOL, offered(OTHER), **wrong) == 401


async def test_the_sdk_has_its_header(server: Server) -> None:
    async with Wallet(server.url, WalletKeys.generate(), token=OTHER) as wallet:
        assert await wallet.sessions() == []
    with pytest.raises(RelayError, match="access token"):
        await Wallet(server.url, WalletKeys.generate()).__aenter__()


APPS = [
    "capacitor://localhost",
    "ionic://localhost",
    "tauri://localhost",
    "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
    "moz-extension://0b5b7f0c-6b6e-4d0e-9a53-0123456789ab",
]


@pytest.mark.parametrize("origin", APPS)
async def test_apps_and_extensions(origin: str) -> None:
    async with relay(ApiSettings(port=0, web_origins=[origin])) as server:
        assert await opened(server, SUBPROTOCOL, Origin=origin) == SUBPROTOCOL
        for other in ("null", origin + "x", "https://localhost", "capacitor://elsewhere"):
            assert await refused(server, SUBPROTOCOL, Origin=other) == 403
        async with aiohttp.ClientSession() as http:
            headers = {"Origin": origin, "Access-Control-Request-Headers": "authorization"}
            response = await http.options(f"{server.url}/api/connect", headers=headers)
            assert response.headers["Access-Control-Allow-Origin"] == origin
            assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
