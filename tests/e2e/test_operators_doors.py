"""TLS by files, a proxy in front, limits that hold, and no secret in a URL."""

import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from lightning_proxy.api import ApiSettings, SettingsError
from lightning_proxy.api.limits import LimitSettings
from lightning_proxy.wallet import Wallet, WalletKeys
from tests.support.certificates import certificate
from tests.support.peer import ScriptedPeer
from tests.support.relay import ACT_ONE, RpcFailure, raw_wallet, relay

TOKEN = "a-token-of-some-length"


def trusting(certificate_file: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate_file))


async def test_a_wallet_over_tls(tmp_path: Path) -> None:
    files = certificate(tmp_path, "127.0.0.1")
    api = ApiSettings(port=0, tls_certificate=str(files[0]), tls_key=str(files[1]))
    async with relay(api) as server:
        assert server.url.startswith("https://127.0.0.1:")
        async with raw_wallet(server.url, ssl=trusting(files[0])) as wallet:
            assert await wallet.call("sessions") == []
        async with aiohttp.ClientSession() as http:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await http.get(server.url)
            plain = server.url.replace("https", "http")
            with pytest.raises(aiohttp.ClientError):
                await http.get(plain)
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        async with aiohttp.ClientSession() as http, http.get(server.url, ssl=old) as page:
            assert page.status == 200


@pytest.mark.parametrize("half", ["tls_certificate", "tls_key"])
def test_half_of_tls_is_none(half: str) -> None:
    one: dict[str, Any] = {half: "file"}
    with pytest.raises(SettingsError, match="go together"):
        ApiSettings(**one).checked()


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_files_that_are_none(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "file"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match="tls_certificate"):
        ApiSettings(tls_certificate=str(file), tls_key=str(file)).tls()


async def test_behind_a_proxy(peer: ScriptedPeer) -> None:
    public = "https://relay.example.com"
    limits = LimitSettings(requests_per_address_burst=3, requests_per_address=0.001)
    api = ApiSettings(
        port=0,
        access="open",
        origins=[public],
        trusted_proxies=["127.0.0.1/32"],
        limits=limits,
    )
    headers = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "relay.example.com",
        "X-Forwarded-For": "198.51.100.1, 203.0.113.7",
    }
    async with relay(api) as server, aiohttp.ClientSession() as http:
        # The wallet signs for the name that it dialled.
        async with raw_wallet(server.url, authenticated=False, headers=headers) as wallet:
            challenge = await wallet.event("challenge")
            assert challenge["origin"] == public
        for status in (200, 200, 429):
            async with http.get(f"{server.url}/healthz", headers=headers) as response:
                assert response.status == status
        assert float(response.headers["Retry-After"]) > 0
        # Another client's limits are its own; what a client claims for itself counts for nothing.
        other = {**headers, "X-Forwarded-For": "203.0.113.7, 203.0.113.9"}
        async with http.get(f"{server.url}/healthz", headers=other) as response:
            assert response.status == 200


async def test_without_a_trusted_proxy_its_headers_count_for_nothing() -> None:
    headers = {"X-Forwarded-Host": "relay.example.com", "X-Forwarded-For": "203.0.113.7"}
    async with (
        relay() as server,
        raw_wallet(server.url, authenticated=False, headers=headers) as wallet,
    ):
        assert (await wallet.event("challenge"))["origin"] == server.url


@pytest.mark.parametrize("query", ["token", "access_token", "authorization"])
async def test_a_token_in_a_url_opens_nothing(query: str) -> None:
    api = ApiSettings(port=0, access="token", tokens=[TOKEN])
    async with relay(api) as server:
        url = f"{server.url}/v1/wallet?{query}={TOKEN}"
        async with aiohttp.ClientSession() as http:
            with pytest.raises(aiohttp.WSServerHandshakeError) as failure:
                await http.ws_connect(url)
            assert failure.value.status == 401


async def test_a_wallet_that_asks_too_much_is_told_when_to_go_on() -> None:
    limits = LimitSettings(requests_per_wallet_burst=5, requests_per_wallet=0.1)
    async with relay(ApiSettings(port=0, limits=limits)) as server:
        async with raw_wallet(server.url) as wallet:
            for _ in range(5):
                await wallet.call("sessions")
            with pytest.raises(RpcFailure) as failure:
                await wallet.call("sessions")
            assert failure.value.code == "limit"
        # Nobody else has less for that.
        async with Wallet(server.url, WalletKeys.generate()) as other:
            assert await other.sessions() == []


async def test_who_dials_what_is_not_there_is_stopped(unused_tcp_port: int) -> None:
    limits = LimitSettings(failed_dials_per_wallet_burst=2)
    async with (
        relay(ApiSettings(port=0, limits=limits)) as server,
        raw_wallet(server.url) as wallet,
    ):

        async def dial(host: str) -> RpcFailure:
            peer = f"{wallet.node_id.hex()}@{host}:{unused_tcp_port}"
            with pytest.raises(RpcFailure) as failure:
                await wallet.call("connect", peer=peer, act_one=ACT_ONE)
            return failure.value

        assert (await dial("127.0.0.2")).code == "peer_unreachable"
        # The relay's own backoff answers the second time, and nothing is counted.
        assert "a moment ago" in (await dial("127.0.0.2")).sentence
        assert (await dial("127.0.0.3")).code == "peer_unreachable"
        assert (await dial("127.0.0.4")).code == "limit"
