"""The command line, in a process of its own or in the test's, away from this machine's settings."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from typer.testing import CliRunner, Result

from lightning_proxy.cli import app

TIMEOUT = 60.0


def environ(folder: Path) -> dict[str, str]:
    """Ours without settings; configuration files are looked for in an empty folder."""
    kept = {name: value for name, value in os.environ.items() if "LIGHTNING_PROXY" not in name}
    return {**kept, "XDG_CONFIG_HOME": str(folder), "XDG_STATE_HOME": str(folder), "COLUMNS": "200"}


def invoke(folder: Path, *arguments: str, variables: dict[str, str] | None = None) -> Result:
    """Run a command that starts nothing to its end, in this process."""
    hidden: dict[str, str | None] = dict.fromkeys(set(os.environ) - set(environ(folder)))
    return CliRunner().invoke(
        app, arguments, env={**hidden, **environ(folder), **(variables or {})}
    )


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `lightning-proxy` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "lightning_proxy", *arguments],
        env=environ(folder),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


class Serving(NamedTuple):
    """A relay that is ready."""

    process: subprocess.Popen[str]
    url: str

    def end(self, signal: int) -> tuple[int, str]:
        """Send it this signal; its exit code, and what it wrote to stderr."""
        self.process.send_signal(signal)
        _, errors = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, errors


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[Serving]:
    """`lightning-proxy serve --log-format json` on a free port."""
    command = [sys.executable, "-m", "lightning_proxy", "serve", "--log-format", "json"]
    with subprocess.Popen(
        [*command, "--port", "0", *arguments],
        env=environ(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            ready: dict[str, Any] = json.loads(line) if line else {}
            assert ready.get("event") == "ready", process.communicate()[1]
            yield Serving(process, ready["url"])
        finally:
            process.kill()
