"""The journal: what came and went needs no disk, the rest is on it, whatever fails in between."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from lightning_proxy.relay import journal as journal_module
from lightning_proxy.relay.journal import Journal
from lightning_proxy.relay.store import Database, StoreError
from lightning_proxy.relay.store.inbox import Changes, InboxStore
from lightning_proxy.rpc import (
    Closed,
    Delegate,
    DelegationKind,
    Notification,
    PeerMessage,
    SessionLost,
    Voided,
)

WALLET, OTHER = b"\x02" + bytes(32), b"\x03" + bytes(32)
PEER = f"{'02' * 33}@127.0.0.1:9735"


def message(position: int) -> PeerMessage:
    return PeerMessage(f"{1:032x}", position, "8001", position)


def question(number: int) -> Delegate:
    return Delegate(
        id=f"{number:032x}",
        session_id=f"{1:032x}",
        peer="02" * 33,
        channel_id="00" * 32,
        kind=DelegationKind.CHANNEL_KEYS,
        sequence=number,
        created=0.0,
        deadline=1.0,
        messages=["0020"],
    )


class Disk(InboxStore):
    """A store that counts, and fails while it is told to."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.fails = False
        self.writes: list[Changes] = []

    async def write(self, changes: Changes) -> None:
        if self.fails:
            raise StoreError("The disk is full.")
        self.writes.append(replace(changes))
        await super().write(changes)


@pytest.fixture
async def disk() -> AsyncIterator[Disk]:
    async with Database(":memory:") as database:
        yield Disk(database)


@pytest.fixture
async def journal(disk: Disk) -> AsyncIterator[Journal]:
    async with Journal(disk, 1) as running:
        yield running


async def after_restart(disk: Disk) -> dict[bytes, list[Notification]]:
    return await disk.recover(Journal(disk, 2).positions)


async def test_what_was_flushed_waits_after_a_restart(journal: Journal, disk: Disk) -> None:
    for position in (1, 2, 3):
        journal.notified(WALLET, message(position))
    journal.notified(OTHER, Closed(f"{1:032x}", "gone", 4))
    await journal.flush()
    assert (journal.pending, journal.written) == (0, 4)
    journal.acknowledged(WALLET, 1)
    await journal.flush()
    assert await after_restart(disk) == {
        WALLET: [message(2), message(3)],
        OTHER: [Closed(f"{1:032x}", "gone", 4)],
    }


async def test_what_came_and_went_needs_no_disk(journal: Journal, disk: Disk) -> None:
    journal.notified(WALLET, message(1))
    journal.acknowledged(WALLET, 1)
    journal.delegated(WALLET, question(1))
    journal.settled(question(1).id)
    journal.held("1" * 32, WALLET, PEER)
    journal.ended("1" * 32)
    await journal.flush()
    assert disk.writes == []


async def test_a_former_runs_sessions_are_lost_and_its_questions_void(
    journal: Journal, disk: Disk
) -> None:
    journal.held("1" * 32, WALLET, PEER)
    journal.held("2" * 32, OTHER, PEER)
    journal.delegated(WALLET, question(1))
    journal.delegated(WALLET, question(2))
    journal.notified(WALLET, message(7))
    await journal.flush()
    journal.ended("2" * 32)
    journal.settled(question(2).id)
    await journal.flush()
    waiting = await after_restart(disk)
    assert set(waiting) == {WALLET}
    kept, voided, lost = waiting[WALLET]
    assert kept == message(7)
    assert isinstance(voided, Voided)
    assert voided.id == question(1).id
    assert lost == SessionLost("1" * 32, PEER, lost.position)
    assert kept.position < voided.position < lost.position
    # And it is said once, however often the relay restarts before it is acknowledged.
    assert await disk.recover(Journal(disk, 3).positions) == waiting


async def test_positions_grow_over_restarts() -> None:
    async with Database(":memory:") as database:
        store = InboxStore(database)
        runs = [Journal(store, run).positions for run in (1, 2)]
        assert [next(runs[0]) for _ in range(1000)][-1] < next(runs[1])


async def test_a_full_disk_is_told_and_what_waits_is_written_later(
    journal: Journal, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "_RETRY", 0.05)
    disk.fails = True
    journal.notified(WALLET, message(1))
    with pytest.raises(StoreError):
        await journal.flush()
    journal.notified(WALLET, message(2))
    with pytest.raises(StoreError):
        await journal.flush()
    assert journal.pending == 2
    disk.fails = False
    async with asyncio.timeout(10):
        while journal.pending:
            await asyncio.sleep(0.01)
    assert await after_restart(disk) == {WALLET: [message(1), message(2)]}


async def test_leaving_writes_what_is_pending(disk: Disk) -> None:
    async with Journal(disk, 1) as journal:
        journal.notified(WALLET, message(1))
    assert await after_restart(disk) == {WALLET: [message(1)]}


async def test_a_batch_that_was_written_twice_is_written_once(disk: Disk) -> None:
    changes = Changes()
    changes.notifications[WALLET, 1] = message(1)
    changes.acknowledged.add((WALLET, 2))
    changes.delegations[question(1).id] = WALLET, question(1)
    await disk.write(changes)
    await disk.write(changes)
    assert len((await after_restart(disk))[WALLET]) == 2
