"""The servers that a load meets: the real relay, and whichever of its rivals is there."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import repeat
from typing import Final, Protocol

import uvloop

from benchmarks.load import Load, Process, pin
from benchmarks.rivals import RivalMissing, server
from benchmarks.wallets import RestWallet

RELAY: Final = "the relay"
ECHO: Final = "plain uvloop echo"
RIVALS: Final = ("lnd brontide", "LDK")
#: Set-ups under way at once.
_CONCURRENCY = 40


class Server(Protocol):
    """A process that answers pings."""

    @property
    def pid(self) -> int: ...

    def set_up(self, load: Load, sessions: int) -> None:
        """So many more sessions between it and the load."""


class Relay(Process):
    """`lightning-proxy serve` as an operator runs it, with room for 16,000 REST sessions."""

    def __init__(self) -> None:
        super().__init__(
            *("lightning_proxy", "serve", "--port", "0", "--store", ":memory:"),
            *("--log-format", "json", "--log-level", "warning"),
            environment={"LIGHTNING_PROXY_RELAY_MAX_UNADOPTED_SESSIONS": "16000"},
        )
        self._host, port = self.ready["url"].removeprefix("http://").rsplit(":", 1)
        self._port = int(port)

    def set_up(self, load: Load, sessions: int) -> None:
        """Sessions over REST to the load's peer."""
        uvloop.run(self._set_up(load, sessions))

    async def _set_up(self, load: Load, sessions: int) -> None:
        peers = repeat(load.address, sessions)
        loop = asyncio.get_running_loop()

        async def some() -> None:
            transport, wallet = await loop.create_connection(
                lambda: RestWallet(f"{self._host}:{self._port}"), self._host, self._port
            )
            await wallet.set_up(peers)
            transport.close()

        async with asyncio.TaskGroup() as group:
            for _ in range(_CONCURRENCY):
                group.create_task(some())


class Echo(Process):
    """The plain uvloop `Protocol` that sends back what comes: the event loop, and nothing else."""

    def __init__(self) -> None:
        super().__init__("benchmarks.load.echo")

    def set_up(self, load: Load, sessions: int) -> None:
        """Connections of the load's."""
        load.dial_raw(self.ready["port"], sessions)


class Rival:
    """A server of Lightning's transport that the load dials."""

    def __init__(self, address: str, pid: int) -> None:
        self._address = address
        self._pid = pid

    @property
    def pid(self) -> int:
        return self._pid

    def set_up(self, load: Load, sessions: int) -> None:
        """Sessions that the load dials."""
        load.dial(self._address, sessions)


@contextmanager
def _rival(name: str) -> Iterator[Rival]:
    with server(name) as running:
        yield Rival(running.address, running.pid)


def serving(name: str) -> AbstractContextManager[Server]:
    """A server by its name; entering raises `RivalMissing` where it can't run here."""
    if name == RELAY:
        return Relay()
    return Echo() if name == ECHO else _rival(name)


@contextmanager
def contest(name: str, cpus: tuple[int, int]) -> Iterator[tuple[Server, Load]]:
    """A server and a load of its own, each kept on its CPU."""
    with ExitStack() as stack:
        running = stack.enter_context(serving(name))
        pin(running.pid, cpus[0])
        load = stack.enter_context(Load())
        pin(load.pid, cpus[1])
        yield running, load


__all__ = ["ECHO", "RELAY", "RIVALS", "RivalMissing", "Server", "contest"]
