"""Writes what happens in the wallets' inboxes to disk, a moment later and many at a time."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, Self

import structlog

from lightning_proxy.relay.store import StoreError
from lightning_proxy.relay.store.inbox import Changes, Held, InboxStore
from lightning_proxy.rpc import Delegate, FundingRefused, Notification, SlotUsed

_log = structlog.get_logger()

#: Seconds. What a wallet that is there settles or acknowledges meanwhile needs no disk at all;
#: what waits for one that is away is only kept for others to be written with it.
_DELAY: Final = 1.0
_SHORT_DELAY: Final = 0.02
#: Changes that are written at once: the event loop must not wait for too many to be encoded.
_BATCH: Final = 2000
#: Seconds between attempts while the disk or the database server fails.
_RETRY: Final = 1.0
#: Positions of one run; JSON's integers are good for 2**20 runs of them.
_POSITIONS: Final = 1 << 33
#: Seconds that the last changes get at shutdown.
_CLOSE_TIMEOUT: Final = 3.0


class Journal:
    """Use as an async context manager, within the database's.

    Nothing here waits for the disk but `flush`. What is not written yet is bounded by what the
    inboxes may hold: whatever came and went in between is forgotten. Each change is written again
    until that succeeds; a batch that was written twice is written once.
    """

    def __init__(self, store: InboxStore, run: int) -> None:
        #: The positions of this run's notifications: above those of every run before.
        self.positions: Iterator[int] = itertools.count(run * _POSITIONS)
        #: How many changes were written.
        self.written = 0
        self._store = store
        self._pending = Changes()
        self._writing = Changes()
        self._some = asyncio.Event()
        self._soon = asyncio.Event()
        self._hurry = asyncio.Event()
        self._closing = False
        self._waiters: list[asyncio.Future[None]] = []
        self._failing = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        self._some.set()
        self._soon.set()
        self._hurry.set()
        done, _pending = await asyncio.wait([self._task], timeout=_CLOSE_TIMEOUT)
        if not done:
            _log.error("journal_unwritten", changes=self.pending)
            self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def pending(self) -> int:
        """Changes that are not on the disk yet."""
        return len(self._pending) + len(self._writing)

    async def flush(self) -> None:
        """Returns when all that happened before is on the disk.

        Raises `StoreError` when that fails; it is tried again all the same.
        """
        if not self.pending:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._some.set()
        self._soon.set()
        self._hurry.set()
        await waiter

    def soon(self) -> None:
        """A wallet that is away has something in what is pending."""
        self._soon.set()

    # ---- what happens ----

    def notified(self, wallet: bytes, notification: Notification) -> None:
        """Something waits for a wallet (node id)."""
        self._pending.notifications[wallet, notification.position] = notification
        if isinstance(notification, SlotUsed):
            self._pending.reported.add((wallet, notification.slot_id))
        elif isinstance(notification, FundingRefused) and notification.final:
            self._pending.given_up.add((wallet, bytes.fromhex(notification.channel_id)))
        self._changed()

    def acknowledged(self, wallet: bytes, position: int) -> None:
        """That one waits no more."""
        if self._pending.notifications.pop((wallet, position), None) is None:
            self._pending.acknowledged.add((wallet, position))
            self._changed()

    def delegated(self, wallet: bytes, envelope: Delegate) -> None:
        """A question is open."""
        self._pending.delegations[envelope.id] = wallet, envelope
        self._changed()

    def settled(self, delegation_id: str) -> None:
        """A question has its outcome."""
        if self._pending.delegations.pop(delegation_id, None) is None:
            self._pending.settled.add(delegation_id)
            self._changed()

    def held(self, session_id: str, wallet: bytes, peer: str) -> None:
        """The relay holds a session for a wallet (node id)."""
        self._pending.sessions[session_id] = Held(wallet, peer)
        self._changed()

    def ended(self, session_id: str) -> None:
        """A session is over."""
        if self._pending.sessions.pop(session_id, None) is None:
            self._pending.ended.add(session_id)
            self._changed()

    # ---- inside ----

    def _changed(self) -> None:
        self._some.set()
        if len(self._pending.notifications) + len(self._pending.delegations) >= _BATCH:
            self._soon.set()
            self._hurry.set()

    async def _run(self) -> None:
        while not (self._closing and not self.pending):
            await self._some.wait()
            await _set_within(self._soon, _DELAY)
            await _set_within(self._hurry, _SHORT_DELAY)
            for event in (self._some, self._soon, self._hurry):
                event.clear()
            await self._write()

    async def _write(self) -> None:
        """Write all that is pending now; the waiters are those who wait for just that."""
        self._writing, self._pending = self._pending, Changes()
        waiters, self._waiters = self._waiters, []
        while self._writing:
            try:
                await self._store.write(self._writing)
            except StoreError as error:
                if not self._failing:
                    self._failing = True
                    _log.error("journal_failing", error=str(error))
                _end(waiters, error)
                waiters = []
                await self._pause()
            else:
                self.written += len(self._writing)
                self._writing = Changes()
        if self._failing:
            self._failing = False
            _log.info("journal_writes_again")
        _end(waiters, None)

    async def _pause(self) -> None:
        """Until the next attempt; who comes meanwhile is told at once."""
        until = asyncio.get_running_loop().time() + _RETRY
        while (left := until - asyncio.get_running_loop().time()) > 0:
            self._hurry.clear()
            await _set_within(self._hurry, left)
            waiters, self._waiters = self._waiters, []
            _end(waiters, StoreError("The relay can't write its state at the moment."))


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    """Wait until it is set, for so long at most."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _end(waiters: list[asyncio.Future[None]], error: StoreError | None) -> None:
    for waiter in waiters:
        if not waiter.done():
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
