"""The relay under attack: `lightning-proxy serve` on a CPU of its own, with default limits."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.interop.lab.process import Child, free_port

HOST: Final = "127.0.0.1"
#: Access is said in so many words, as behind a proxy; loopback stands for the world.
_CONFIG: Final = """
[api]
host = "{host}"
port = {port}
access = "open"
origins = ["http://{host}:{port}"]
trusted_proxies = ["127.0.0.0/8"]
[relay]
store = "{folder}/relay.sqlite"
[relay.dial]
allow_loopback = true
[log]
format = "json"
level = "info"
"""


@dataclass(frozen=True)
class Relay:
    """A running one; `pid` is its process's."""

    url: str
    pid: int
    folder: Path

    @property
    def stored_bytes(self) -> int:
        """Of its store and its log."""
        return sum(each.stat().st_size for each in self.folder.iterdir() if each.is_file())


@asynccontextmanager
async def attacked(folder: Path, cpu: int | None, python: str) -> AsyncIterator[Relay]:
    """By this Python's release of it, with its files in `folder`; raises `LabError`."""
    port = free_port(HOST)
    config = folder / "relay.toml"
    text = _CONFIG.format(host=HOST, port=port, folder=folder)
    config.write_text(text)
    argv: list[str | Path] = [python, "-m", "lightning_proxy", "serve", "--config", config]
    identity = {"LIGHTNING_PROXY_RELAY_WAKE_IDENTITY": str(folder / "relay.key")}
    child = await Child.start(
        "relay", argv, folder / "relay.log", lines=True, env=identity, cwd=folder
    )
    try:
        if cpu is not None:
            os.sched_setaffinity(child.pid, {cpu})
        await child.read_line()
        yield Relay(f"http://{HOST}:{port}", child.pid, folder)
    finally:
        await child.kill()
