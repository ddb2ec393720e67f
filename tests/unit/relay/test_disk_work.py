"""What one session has the disk do: in order where order matters."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from lightning_proxy.relay.disk_work import DiskWork
from lightning_proxy.relay.store import StoreError


class Session:
    def __init__(self) -> None:
        self.aborted: list[str] = []

    def say(self, log: Callable[..., object], event: str, **values: object) -> None: ...

    def abort(self, reason: str) -> None:
        self.aborted.append(reason)

    def pause_for_disk(self, *, paused: bool) -> None: ...


async def test_what_is_written_beside_waits_for_what_came_before_and_holds_up_nobody() -> None:
    """A channel's first move comes after the `channel_ready` that is being written."""
    disk = DiskWork(Session())
    events: list[str] = []
    gates = {name: asyncio.Event() for name in ("ready", "move", "other move", "later")}

    def work(name: str) -> Callable[[], Awaitable[None]]:
        async def write() -> None:
            events.append(name)
            await gates[name].wait()

        return write

    def said(name: str) -> Callable[[], None]:
        return lambda: events.append(f"{name} is said")

    async def turn() -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    disk.write_for_peer(work("ready"), said("ready"))
    disk.write_beside(work("move"), said("move"))
    disk.write_beside(work("other move"), said("other move"))
    disk.write(work("later"))
    await turn()
    assert events == ["ready"]
    gates["ready"].set()
    await turn()
    assert events == ["ready", "ready is said", "move", "other move", "later"]
    for name in ("other move", "move", "later"):
        gates[name].set()
        await turn()
    assert events[5:] == ["other move is said", "move is said"]


async def test_a_disk_that_fails_ends_the_session_and_nothing_is_said() -> None:
    session = Session()
    disk = DiskWork(session)
    said: list[Any] = []

    async def full() -> None:
        raise StoreError("the disk is full")

    disk.write_beside(full, lambda: said.append(None))
    for _ in range(10):
        await asyncio.sleep(0)
    assert session.aborted == ["the relay can't keep its channels' state"]
    assert said == []
