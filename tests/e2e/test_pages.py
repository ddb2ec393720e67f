"""The pages beside the API: for people, for Prometheus, for tools."""

import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lightning_proxy.api import ApiSettings, Server, SettingsError
from lightning_proxy.api.openapi import METHODS
from tests.support.channels import channel_keys, open_channel
from tests.support.peer import ScriptedPeer
from tests.support.relay import RawWallet, relay


async def get(server: Server, path: str) -> aiohttp.ClientResponse:
    async with aiohttp.ClientSession() as http, http.get(server.url + path) as response:
        await response.read()
        return response


async def test_the_page(server: Server, wallet: RawWallet, peer: ScriptedPeer) -> None:
    await wallet.open_session(peer)
    response = await get(server, "/")
    assert response.status == 200
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    page = await response.text()
    assert re.search(r'id="sessions">1<', page)
    assert f"ws://127.0.0.1:{server.port}/v1/wallet" in page
    assert "$" not in page


async def test_health(server: Server) -> None:
    response = await get(server, "/healthz")
    assert (await response.json())["status"] == "ok"


async def test_metrics(server: Server, wallet: RawWallet, peer: ScriptedPeer) -> None:
    _, connection = await wallet.open_session(peer)
    await connection.send(open_channel().encode())
    await wallet.answer(await wallet.event("delegate"), channel_keys())
    await connection.receive()
    text = await (await get(server, "/metrics")).text()
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert values["lightning_proxy_handshakes_total",] == 1
    assert values["lightning_proxy_delegations_total",] == 1
    assert values["lightning_proxy_delegation_outcomes_total", "settled"] == 1
    assert values["lightning_proxy_sessions", "ready"] == 1
    assert values["lightning_proxy_wallets",] == 1


async def test_the_schema(server: Server) -> None:
    document = await (await get(server, "/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert {"/api/connect", "/api/handshake/{id}", "/v1/wallet", "/metrics"} <= set(
        document["paths"]
    )
    assert set(document["x-json-rpc"]["methods"]) == set(METHODS)
    schemas = document["components"]["schemas"]

    def check(node: object) -> None:
        if isinstance(node, dict):
            reference = node.get("$ref")
            if reference is not None:
                assert reference.removeprefix("#/components/schemas/") in schemas
            for value in node.values():
                check(value)
        elif isinstance(node, list):
            for value in node:
                check(value)

    check(document)


@pytest.mark.parametrize("path", ["/nothing", "/v1/wallet"])
async def test_what_is_no_page(server: Server, path: str) -> None:
    response = await get(server, path)
    assert response.status in (400, 404)
    assert (await response.json())["code"]


METRICS_TOKEN = "a-token-for-the-metrics"
FRONTED: dict[str, Any] = {"port": 0, "access": "open", "trusted_proxies": ["127.0.0.1/32"]}


@pytest.mark.parametrize(
    ("settings", "header", "status"),
    [
        ({}, None, 403),
        ({"access": "token", "tokens": ["an-access-token-of-the-relay"]}, None, 403),
        ({"metrics": "open"}, None, 200),
        ({"metrics": "token", "metrics_token": METRICS_TOKEN}, None, 401),
        ({"metrics": "token", "metrics_token": METRICS_TOKEN}, "Bearer \xffwrong", 401),
        ({"metrics": "token", "metrics_token": METRICS_TOKEN}, f"Basic {METRICS_TOKEN}", 401),
        ({"metrics": "token", "metrics_token": METRICS_TOKEN}, f"Bearer {METRICS_TOKEN}", 200),
    ],
)
async def test_the_metrics_are_the_operators(
    settings: dict[str, Any], header: str | None, status: int, tmp_path: Path
) -> None:
    admin = tmp_path / "admin"
    api = ApiSettings(**{**FRONTED, **settings, "admin_socket": str(admin)})
    headers = {} if header is None else {"Authorization": header}
    async with relay(api) as server, aiohttp.ClientSession() as http:
        async with http.get(f"{server.url}/metrics", headers=headers) as response:
            assert response.status == status
            assert ("lightning_proxy_" in await response.text()) is (status == 200)
        # Their own user has them in any case.
        connector = aiohttp.UnixConnector(str(admin))
        async with (
            aiohttp.ClientSession(connector=connector) as own,
            own.get("http://relay/metrics") as response,
        ):
            assert "lightning_proxy_sessions" in await response.text()


async def test_a_page_that_names_this_machine_otherwise_reads_no_metrics(server: Server) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{server.url}/metrics", headers={"Host": "rebound.example"}) as response,
    ):
        assert response.status == 403


@pytest.mark.parametrize("half", [{"metrics": "token"}, {"metrics_token": METRICS_TOKEN}])
def test_a_token_for_the_metrics_is_used(half: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="metrics_token go together"):
        ApiSettings(**half).checked()
