"""`wallet wake`, `presence`, `devices` and the rest, as programs of their own, at a real relay."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lightning_proxy.api import Server
from tests.support.receivers import Receiver
from tests.support.relay import relay as real_relay
from tests.unit.wallet.program import run


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with real_relay() as server:
        yield server


@pytest.fixture
def there(wallet: dict[str, str], server: Server) -> dict[str, str]:
    """The environment of a wallet that has this relay."""
    return {**wallet, "LIGHTNING_PROXY_RELAY": server.url}


async def test_where_it_is_woken(there: dict[str, str]) -> None:
    code, out, err = await run("wake", **there)
    assert (code, err) == (0, "")
    assert "Nowhere" in out
    async with Receiver().serve() as receiver:
        code, out, _ = await run("wake", "--webhook", receiver.url, "--test", "--json", **there)
        assert code == 0
        target = json.loads(out)
        assert target["last_success"] > 0
        assert (await receiver.push()).headers["X-Lightning-Proxy-Signature"]
    code, out, _ = await run("wake", **there)
    assert target["target_id"] in out
    code, out, _ = await run("wake", "--remove", target["target_id"], **there)
    assert (code, "Nowhere" in out) == (0, True)
    code, out, err = await run("wake", "--webhook", "ftp://127.0.0.1/", **there)
    assert (code, out) == (1, "")
    assert "https" in err


async def test_devices_come_and_go(there: dict[str, str], tmp_path: Path) -> None:
    file = str(tmp_path / "phone.key")
    assert "No devices" in (await run("devices", **there))[1]
    code, out, _ = await run("device-key", file, "--json", **there)
    assert code == 0
    key = json.loads(out)["device_key"]
    assert (await run("device-key", file, **there))[0] == 1
    code, _, err = await run("devices", "--device", file, **there)
    assert code == 1
    assert "none of this wallet" in err
    code, out, _ = await run("add-device", key, "phone", "--right", "see", **there)
    assert (code, key in out) == (0, True)
    code, out, _ = await run("devices", "--device", file, "--json", **there)
    assert code == 0
    device = json.loads(out)
    assert (device["name"], device["rights"], device["sockets"]) == ("phone", ["see"], 1)
    code, _, err = await run("take-over", "11" * 32, "--device", file, **there)
    assert code == 1
    assert "lacks the right" in err
    code, _, err = await run("take-over", "11" * 32, **there)
    assert (code, "no such channel" in err) == (1, True)
    assert (await run("revoke-device", key, **there))[0] == 0
    assert (await run("devices", "--device", file, **there))[0] == 1
    assert (await run("add-device", "abc", "x", **there))[0] == 2


async def test_presence(there: dict[str, str], server: Server) -> None:
    code, _, err = await run("presence", "11" * 16, "attended", **there)
    assert code == 1
    assert "no such session" in err
    assert (await run("presence", "11" * 16, "sometimes", **there))[0] == 2
