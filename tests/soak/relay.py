"""The relay as its operator runs it, but killed and started again on the same port and store."""

import asyncio
import os
import random
import socket
import sys
from pathlib import Path
from typing import Final

from tests.interop.lab.process import Child, LabError

HOST: Final = "127.0.0.1"
#: Below the ports that the system gives to connections: nobody may take it while the relay is away.
_PORTS: Final = range(20_000, 30_000)
#: A store may be in use for a moment longer than the relay that was killed.
_STARTS: Final = 20
#: Characters of each end of a line.
_SHOWN: Final = 200
#: Seconds: wallets are woken quickly here, and peers that were cut off are dialled again.
_SETTINGS: Final = {
    "LIGHTNING_PROXY_RELAY_WAKE_COOLDOWN": "0.05",
    "LIGHTNING_PROXY_RELAY_WAKE_RETRY_FIRST": "0.3",
    "LIGHTNING_PROXY_RELAY_WAKE_MAX_ATTEMPTS": "20",
    "LIGHTNING_PROXY_RELAY_DIAL_BACKOFF_FIRST": "0.02",
    "LIGHTNING_PROXY_RELAY_DIAL_BACKOFF_MOST": "0.1",
    # The soak's wallets lose nothing to the cap.
    "LIGHTNING_PROXY_RELAY_MAX_QUEUED_BYTES_PER_WALLET": str(256 << 20),
}


class RelayProcess:
    """`lightning-proxy serve`; `origins` are the URLs under which wallets reach it, if not `url`.

    `store` is a file or a database's URL; None: a file in `folder`.
    """

    def __init__(self, folder: Path, store: str | None = None) -> None:
        self.port = _free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.origins: list[str] = []
        self._store = store or str(folder / "relay.sqlite")
        self._identity = str(folder / "relay.key")
        self._log = folder / "relay.log"
        self._child: Child | None = None

    async def spawn(self) -> None:
        """Start it; it may not be ready for a while."""
        origins = [word for url in (self.url, *self.origins) for word in ("--origin", url)]
        self._child = await Child.start(
            "relay",
            [
                *(sys.executable, "-m", "lightning_proxy", "serve", "--config", os.devnull),
                *("--port", str(self.port), "--store", self._store, *origins),
                *("--log-format", "json", "--log-level", "info"),
            ],
            self._log,
            lines=True,
            env={**_SETTINGS, "LIGHTNING_PROXY_RELAY_WAKE_IDENTITY": self._identity},
        )

    async def start(self) -> None:
        """Start it; returns when it is ready. Raises `LabError`."""
        for attempt in range(_STARTS):
            await self.spawn()
            assert self._child is not None
            try:
                await self._child.read_line()
            except LabError as error:
                await self.kill()
                if "in use by another relay" not in str(error) or attempt == _STARTS - 1:
                    raise
                await asyncio.sleep(0.1)
            else:
                return

    async def kill(self) -> None:
        """Kill it, wherever it is just now."""
        if self._child is not None:
            await self._child.kill()

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def errors(self) -> list[str]:
        """What its log tells of failures of its own: the lines, tracebacks by their ends."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        signs = ('"request_failed"', '"exception"', "Traceback", '"level":"critical"')
        return [
            f"{line[:_SHOWN]} … {line[-_SHOWN:]}"
            for line in lines
            if any(sign in line for sign in signs)
        ]


def _free_port() -> int:
    for port in random.sample(_PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise LabError("no free port")
