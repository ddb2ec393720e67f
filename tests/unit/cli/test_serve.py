"""The relay as a program: its start, its end, and what it refuses."""

import json
import signal
import socket
from pathlib import Path

import aiohttp
import pytest

from tests.unit.cli.commands import invoke, run, serving


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_until_it_is_told_to_stop(tmp_path: Path, number: int) -> None:
    with serving(tmp_path) as relay:
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{relay.url}/healthz") as response,
        ):
            assert (await response.json())["status"] == "ok"
        code, errors = relay.end(number)
    assert code == 0
    lines = [json.loads(line) for line in errors.splitlines()]
    assert [line["event"] for line in lines] == ["stopping", "stopped"]
    assert all(line["timestamp"].endswith("Z") for line in lines)


async def test_a_wallets_socket_does_not_keep_it(tmp_path: Path) -> None:
    with serving(tmp_path) as relay:
        async with aiohttp.ClientSession() as http, http.ws_connect(f"{relay.url}/v1/wallet"):
            assert relay.end(signal.SIGTERM)[0] == 0


def test_it_does_not_start_open_to_the_world_unasked(tmp_path: Path) -> None:
    result = invoke(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0", "--access", "open")
    assert result.exit_code == 2
    assert "anybody on the network could use this relay" in result.stderr


def test_the_port_is_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run(tmp_path, "serve", "--port", str(port))
    assert result.returncode == 1
    assert f"127.0.0.1 port {port}" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--port", "70000"], "--port: Expected int <= 65535"),
        (["--access", "everybody"], "--access: "),
        (["--access", "token"], "needs at least one token"),
        (["--config", "nowhere.toml"], "nowhere.toml can't be read"),
        (["--allow-node", "02ab"], "--allow-node: "),
    ],
)
def test_wrong_settings(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    result = invoke(tmp_path, "serve", *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr


SECRET = "a-secret-of-nobody-else"
NOWHERE = ("--audit", "/dev/null/audit")


@pytest.mark.parametrize(
    ("flag", "value", "setting"),
    [
        ("--token", SECRET, "LIGHTNING_PROXY_API_TOKENS"),
        ("--chain", f"bitcoind://a:{SECRET}@127.0.0.1:1", "LIGHTNING_PROXY_RELAY_CHAIN_FILE"),
        ("--store", f"postgresql://a:{SECRET}@127.0.0.1:1/b", "LIGHTNING_PROXY_RELAY_STORE"),
        ("--store", f"postgres://127.0.0.1:1/b?password={SECRET}", "LIGHTNING_PROXY_RELAY_STORE"),
    ],
)
def test_a_secret_among_the_arguments_is_told(
    tmp_path: Path, flag: str, value: str, setting: str
) -> None:
    # It ends at once, for there is no such place to write to.
    result = run(tmp_path, "serve", flag, value, "--log-format", "json", *NOWHERE)
    (warning, error) = result.stderr.splitlines()
    told = json.loads(warning)
    assert (told["event"], told["flag"]) == ("secret_in_process_list", flag)
    assert setting in told["reason"]
    assert error.startswith("Error: log.audit")
    assert SECRET not in result.stderr


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--chain", "bitcoind://127.0.0.1:1?cookie=/tmp/cookie"),
        ("--chain", "esplora+http://127.0.0.1:1"),
        ("--store", "postgresql://127.0.0.1:1/b"),
        ("--store", "relay.sqlite"),
    ],
)
def test_what_is_no_secret_is_not_told(tmp_path: Path, flag: str, value: str) -> None:
    result = run(tmp_path, "serve", flag, value, *NOWHERE)
    assert result.stderr.startswith("Error: log.audit")


def test_print_config(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text("[api]\ntokens = ['a-token-of-nobody-else']\n[log]\nlevel = 'debug'\n")
    result = invoke(
        tmp_path,
        "serve",
        "--print-config",
        *("--port", "4000", "--origin", "https://a.example", "--origin", "https://b.example"),
        variables={"LIGHTNING_PROXY_CONFIG": str(file), "LIGHTNING_PROXY_API_HOST": "::1"},
    )
    assert result.exit_code == 0
    shown = json.loads(result.stdout)
    assert (shown["api"]["host"], shown["api"]["port"]) == ("::1", 4000)
    assert shown["api"]["origins"] == ["https://a.example", "https://b.example"]
    assert shown["log"]["level"] == "debug"
    assert "nobody-else" not in result.stdout
