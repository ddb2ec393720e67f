"""The relay as its users run it, in a process of its own, and what it takes of the machine."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.load import cpu_seconds


@dataclass(frozen=True)
class Relay:
    """A running `lightning-proxy serve`."""

    url: str
    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """User and system time of all its threads so far, by the scheduler's own clock."""
        return cpu_seconds(self.pid)


@contextmanager
def relay(*arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Relay]:
    """A relay with its default settings but for these; its log is written, and not kept."""
    options = ("--port", "0", "--store", ":memory:", "--log-format", "json")
    command = ["lightning_proxy", "serve", *options, *arguments]
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the relay ended with the exit code {process.wait()}")
        url = json.loads(line)["url"]
        yield Relay(url, int(url.rpartition(":")[2]), process.pid)
    finally:
        process.terminate()
        process.wait(10)
