"""A command imports what it needs: what is slow to import, and of no use to it, stays away."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.commands import environ

#: HTTP, databases, push, transactions and charts.
HEAVY = {"aiohttp", "sqlalchemy", "alembic", "pywebpush", "btclib", "btclib_wallet", "matplotlib"}

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


def imported(folder: Path, *arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(arguments=list(arguments))],
        env=environ(folder),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.rpartition("IMPORTED")[2].split())


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (("--version",), set()),
        (("wallet", "--help"), set()),
        (("wallet", "info", "--help"), {"btclib"}),
        (("wallet", "create", "--help"), {"btclib"}),
        (("doctor", "--help"), set()),
        (("serve", "--help"), {"aiohttp", "sqlalchemy", "btclib"}),
        (("serve", "--print-config"), {"aiohttp", "sqlalchemy", "btclib"}),
    ],
)
def test_no_more_than_that(tmp_path: Path, arguments: tuple[str, ...], needed: set[str]) -> None:
    assert HEAVY & imported(tmp_path, *arguments) <= needed


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
