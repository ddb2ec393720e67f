"""What one session has the disk do for its channels: in order, and with nobody waiting for it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog

from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.relay.store import StoreError

_log = structlog.get_logger()

_FAILED: Final = "the relay can't keep its channels' state"

Work = Callable[[], Awaitable[None]]


class _Session(Protocol):
    def say(self, log: Callable[..., object], event: str, **values: object) -> None: ...
    def abort(self, reason: str) -> None: ...
    def pause_for_disk(self, *, paused: bool) -> None: ...


class DiskWork:
    """A relay that can't read or write lets go of the peer."""

    __slots__ = ("_pausing", "_session", "_tasks", "_turn")

    def __init__(self, session: _Session) -> None:
        self._session = session
        self._tasks: set[asyncio.Task[None]] = set()
        #: What is written later must not be overtaken by what came first.
        self._turn = asyncio.Lock()
        #: How much is under way for which the peer waits.
        self._pausing = 0

    def read(self, work: Work) -> None:
        """Meanwhile the peer goes on."""
        self._start(work)

    def write(self, work: Work) -> None:
        """Likewise; what was to be written before this has been, by then."""

        async def in_turn() -> None:
            async with self._turn:
                await work()

        self._start(in_turn)

    def write_for_peer(self, work: Work, go_on: Callable[[], None]) -> None:
        """One write at a time: who floods waits for the disk, and nobody else does."""

        async def waited_for() -> None:
            try:
                async with self._turn:
                    await work()
            finally:
                self._pausing -= 1
                if not self._pausing:
                    self._session.pause_for_disk(paused=False)
            go_on()

        self._pausing += 1
        self._session.pause_for_disk(paused=True)
        self._start(waited_for)

    def _start(self, work: Work) -> None:
        async def run() -> None:
            try:
                await work()
            except (StoreError, BoltError) as error:
                self._session.say(_log.error, "channel_state_failed", error=str(error))
                self._session.abort(_FAILED)

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
