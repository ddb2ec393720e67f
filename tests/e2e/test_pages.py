"""The pages beside the API: for people, for Prometheus, for tools."""

import re

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lightning_proxy.api import Server
from lightning_proxy.api.openapi import METHODS
from tests.support.channels import channel_keys, open_channel
from tests.support.peer import ScriptedPeer
from tests.support.relay import RawWallet


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
