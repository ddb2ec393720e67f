"""A command imports what it needs: what is slow to import, and of no use to it, stays away."""

import subprocess
import sys
from pathlib import Path

import pytest

from lightning_proxy import cli
from lightning_proxy.cli import wallet as wallet_commands
from lightning_proxy.wallet import files
from tests.unit.cli.commands import environ

#: HTTP, databases, push, transactions, names, cryptography, logs.
HEAVY = {
    *("aiohttp", "sqlalchemy", "alembic", "asyncpg", "aiosqlite", "pywebpush", "requests"),
    *("btclib", "btclib_wallet", "aiodns", "Crypto", "coincurve", "structlog", "matplotlib"),
}

_PROGRAM = """
import sys
from lightning_proxy.cli import main
sys.argv[1:] = {arguments!r}
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("IMPORTED", *sys.modules)
"""


def imported(folder: Path, *arguments: str, variables: dict[str, str]) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(arguments=list(arguments))],
        env={**environ(folder), **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.rpartition("IMPORTED")[2].split())


@pytest.fixture(scope="module")
def wallet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wallet's file, its record beside it."""
    path = tmp_path_factory.mktemp("imports") / "wallet.json"
    files.create(path, "passphrase", cost=10)
    return path


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (("--version",), set()),
        (("--help",), set()),
        (("wallet", "--help"), set()),
        (("wallet", "info"), set()),
        # The record is replayed; only for --chain or --relay does anybody speak HTTP.
        (("wallet", "channels"), {"btclib", "btclib_wallet", "Crypto", "coincurve"}),
        (("wallet", "payments"), {"btclib", "btclib_wallet", "Crypto", "coincurve"}),
        (("wallet", "create", "--help"), {"Crypto", "coincurve"}),
        # It compares frames with the reference implementation.
        (("doctor",), {"Crypto", "coincurve"}),
        # What it asks, it asks by HTTP.
        (("sessions", "--help"), {"aiohttp", "aiodns", "coincurve"}),
    ],
)
def test_no_more_than_that(
    tmp_path: Path, wallet: Path, arguments: tuple[str, ...], needed: set[str]
) -> None:
    variables = {"LIGHTNING_PROXY_WALLET_FILE": str(wallet), "LIGHTNING_PROXY_API_PORT": "0"}
    assert HEAVY & imported(tmp_path, *arguments, variables=variables) <= needed


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_is_there(name: str) -> None:
    assert cli.Commands.load(name).callback is not None


@pytest.mark.parametrize("name", wallet_commands.COMMANDS)
def test_every_command_of_the_wallets_is_there(name: str) -> None:
    assert wallet_commands.Commands.load(name).callback is not None


def test_every_name_of_a_lazy_package_is_there() -> None:
    code = (
        "import lightning_proxy.wallet, lightning_proxy.chain, lightning_proxy.relay\n"
        "import lightning_proxy.api, lightning_proxy.relay.store as store\n"
        "for package in (lightning_proxy.wallet, lightning_proxy.chain, lightning_proxy.relay,\n"
        "                lightning_proxy.api, store):\n"
        "    for name in package.__all__:\n"
        "        value = getattr(package, name)\n"
        "        assert type(value).__name__ != 'module', name\n"
        "    try:\n"
        "        package.nothing\n"
        "    except AttributeError:\n"
        "        continue\n"
        "    raise AssertionError(package)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
