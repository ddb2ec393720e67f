"""How channels that move are stored: together, the latest of each, and what is awaited is there."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from lightning_proxy.bolt.channel import Entry
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.features import DEFAULT_FEATURES
from lightning_proxy.relay.snapshots import Key, Snapshots
from lightning_proxy.relay.store import ChannelStore, Database, StoredChannel, StoreError

WALLET, PEER = b"\x02" * 33, b"\x03" * 33


class Disk:
    """Writes when it is let, and notes each batch."""

    def __init__(self) -> None:
        self.batches: list[dict[Key, bytes]] = []
        self.may_write = asyncio.Event()
        self.fails = False

    async def write(self, snapshots: Mapping[Key, bytes]) -> None:
        self.batches.append(dict(snapshots))
        await self.may_write.wait()
        if self.fails:
            raise StoreError("the disk is full")


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_comes_while_one_batch_is_written_is_the_next() -> None:
    disk = Disk()
    snapshots = Snapshots(disk.write)
    over: list[int] = []

    async def save(number: int, channel: bytes, snapshot: bytes) -> None:
        await snapshots.save(WALLET, channel, snapshot)
        over.append(number)

    async with asyncio.TaskGroup() as group:
        group.create_task(save(0, b"a", b"1"))
        await turn()
        for number in range(1, 4):
            group.create_task(save(number, b"abb"[number - 1 : number], b"%d" % (number + 1)))
        await turn()
        assert disk.batches == [{(WALLET, b"a"): b"1"}]
        assert over == []
        disk.may_write.set()
    assert disk.batches[1:] == [{(WALLET, b"a"): b"2", (WALLET, b"b"): b"4"}]
    # Who came first is let go first: what is said on a channel keeps its order.
    assert over == [0, 1, 2, 3]


async def test_a_disk_that_fails_fails_all_who_wait_and_works_again() -> None:
    disk = Disk()
    snapshots = Snapshots(disk.write)
    disk.fails = True
    disk.may_write.set()
    saves = [snapshots.save(WALLET, channel, b"1") for channel in (b"a", b"b")]
    results = await asyncio.gather(*saves, return_exceptions=True)
    assert [type(result) for result in results] == [StoreError, StoreError]
    disk.fails = False
    await snapshots.save(WALLET, b"a", b"2")


async def test_who_gives_up_waiting_takes_nobody_along() -> None:
    disk = Disk()
    snapshots = Snapshots(disk.write)
    one, other = (
        asyncio.create_task(snapshots.save(WALLET, channel, b"1")) for channel in (b"a", b"b")
    )
    await turn()
    one.cancel()
    disk.may_write.set()
    await other
    with pytest.raises(asyncio.CancelledError):
        await one


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "relay.sqlite")


def stored(channel_id: bytes, peer: bytes = PEER) -> StoredChannel:
    return StoredChannel(
        WALLET, channel_id, peer, Role.OPENER, DEFAULT_FEATURES, (Entry(Role.OPENER, b"\x00\x20"),)
    )


async def test_on_disk(path: str) -> None:
    one, other, third = (bytes([number]) * 32 for number in range(3))
    async with Database(path) as database:
        store = ChannelStore(database)
        for channel in (stored(one), stored(other), stored(third, b"\x02" * 33)):
            await store.save(channel)
        assert await store.snapshots(WALLET, PEER) == {}
        await store.save_snapshots({(WALLET, one): b"1", (WALLET, third): b"3"})
        await store.save_snapshots({(WALLET, one): b"2"})
    async with Database(path) as database:
        store = ChannelStore(database)
        assert await store.snapshots(WALLET, PEER) == {one: b"2"}
        # A log that grows later leaves it alone.
        await store.save(stored(one))
        assert await store.snapshots(WALLET, PEER) == {one: b"2"}


async def test_none_or_all(path: str) -> None:
    keys = [bytes([number]) * 32 for number in range(2)]
    async with Database(path) as database:
        store = ChannelStore(database)
        for key in keys:
            await store.save(stored(key))
        with pytest.raises(StoreError):
            await store.save_snapshots(
                {(WALLET, keys[0]): b"1", (WALLET, keys[1]): object()}  # type: ignore[dict-item]
            )
        assert await store.snapshots(WALLET, PEER) == {}
