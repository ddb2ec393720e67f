"""The command itself."""

import subprocess
import sys
from pathlib import Path

from lightning_proxy import __version__
from tests.unit.cli.commands import environ, invoke, run


def test_version(tmp_path: Path) -> None:
    result = run(tmp_path, "--version")
    assert (result.returncode, result.stdout) == (0, f"lightning-proxy {__version__}\n")


def test_help_names_every_command(tmp_path: Path) -> None:
    result = invoke(tmp_path, "--help")
    assert result.exit_code == 0
    for name in ("serve", "wallet", "demo", "bench", "doctor"):
        assert name in result.stdout
        assert invoke(tmp_path, name, "--help").exit_code == 0


def test_help_imports_no_command(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom lightning_proxy.cli import main\n"
        "try:\n    main()\nfinally:\n    print([m for m in sys.modules if m == 'aiohttp'])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        env=environ(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "doctor" in result.stdout
    assert result.stdout.endswith("[]\n")


def test_an_unknown_command(tmp_path: Path) -> None:
    result = invoke(tmp_path, "server")
    assert result.exit_code == 2
    assert "server" in result.stderr
