"""The relay's channels on disk: written whole, read back in order, owned by one relay."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from lightning_proxy.bolt.channel import Entry
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.features import Feature, Features
from lightning_proxy.relay.store import ChannelStore, StoredChannel, StoreError

WALLET, OTHER_WALLET = b"\x02" + bytes(32), b"\x03" + bytes(32)
PEER, OTHER_PEER = b"\x02" + b"\x01" * 32, b"\x02" + b"\x02" * 32
FEATURES = Features.offering(Feature.OPTION_ANCHORS)
LOG = tuple(
    Entry(role, bytes([0, 32 + index]) + b"raw" * index)
    for index, role in enumerate((Role.OPENER, Role.ACCEPTER, Role.OPENER, Role.ACCEPTER))
)


def channel(
    wallet: bytes = WALLET, peer: bytes = PEER, channel_id: int = 1, log: tuple[Entry, ...] = LOG
) -> StoredChannel:
    return StoredChannel(wallet, bytes([channel_id]) * 32, peer, Role.ACCEPTER, FEATURES, log)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "relay.sqlite"


async def test_what_was_saved_is_there_after_a_restart(path: Path) -> None:
    mine = [channel(), channel(channel_id=2, peer=OTHER_PEER)]
    theirs = channel(OTHER_WALLET)
    async with ChannelStore(path) as store:
        assert await store.counts() == {}
        for each in (*mine, theirs):
            assert await store.save(each)
    async with ChannelStore(path) as store:
        assert await store.counts() == {
            (WALLET, PEER): 1,
            (WALLET, OTHER_PEER): 1,
            (OTHER_WALLET, PEER): 1,
        }
        assert await store.channels(WALLET) == mine
        assert await store.channels(WALLET, PEER) == mine[:1]
        assert await store.channels(OTHER_WALLET, PEER) == [theirs]
        assert await store.channels(OTHER_WALLET, OTHER_PEER) == []
        created = [stored.created for stored in await store.channels(WALLET)]
        assert created == [stored.created for stored in mine]


async def test_saving_again_adds_what_is_new_and_changes_nothing(path: Path) -> None:
    async with ChannelStore(path) as store:
        await store.save(channel(log=LOG[:2]))
        assert not await store.save(channel())
        assert not await store.save(channel(log=(Entry(Role.ACCEPTER, b"other"),)))
        assert await store.channels(WALLET) == [channel()]


async def test_forgetting_takes_the_messages_along(path: Path) -> None:
    async with ChannelStore(path) as store:
        await store.save(channel())
        await store.save(channel(OTHER_WALLET))
        await store.forget(WALLET, channel().channel_id)
        assert await store.channels(WALLET) == []
        assert await store.channels(OTHER_WALLET) == [channel(OTHER_WALLET)]
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM channel_messages").fetchone() == (len(LOG),)
    database.close()


async def test_in_memory() -> None:
    async with ChannelStore(None) as store:
        await store.save(channel())
        assert await store.channels(WALLET) == [channel()]


async def test_one_relay_at_a_time(path: Path) -> None:
    async with ChannelStore(path):
        with pytest.raises(StoreError, match="locked"):
            await ChannelStore(path).__aenter__()


async def test_every_commit_is_synced(path: Path) -> None:
    async with ChannelStore(path) as store, store._transaction() as connection:
        for name, value in (("synchronous", 2), ("journal_mode", "wal"), ("foreign_keys", 1)):
            found = (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one()
            assert found == value


@pytest.mark.parametrize("statement", ["PRAGMA user_version = 99", "PRAGMA application_id = 7"])
async def test_another_programs_file_is_left_alone(path: Path, statement: str) -> None:
    async with ChannelStore(path) as store:
        await store.save(channel())
    database = sqlite3.connect(path)
    database.execute(statement)
    database.close()
    with pytest.raises(StoreError, match="not the state of a relay"):
        await ChannelStore(path).__aenter__()


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"not a database" * 100)
    return tmp_path / "file"


async def test_what_is_no_database(text_file: Path) -> None:
    with pytest.raises(StoreError, match="not a database"):
        await ChannelStore(text_file).__aenter__()


async def test_a_folder_that_cannot_be(text_file: Path) -> None:
    with pytest.raises(StoreError, match="can't be written"):
        await ChannelStore(text_file / "relay.sqlite").__aenter__()


async def test_transactions_do_not_mix(path: Path) -> None:
    async with ChannelStore(path) as store:
        channels = [channel(channel_id=number) for number in range(50)]
        await asyncio.gather(*map(store.save, channels))
        assert await store.channels(WALLET) == channels


async def test_what_comes_after_the_end_is_told_so(path: Path) -> None:
    async with ChannelStore(path) as store:
        saves = asyncio.gather(*(store.save(channel(channel_id=n)) for n in range(3)))
        await asyncio.sleep(0)
    # What was asked before is on the disk, and nothing reopens the file.
    await saves
    with pytest.raises(StoreError, match="closed"):
        await store.counts()
    async with ChannelStore(path) as store:
        assert await store.counts() == {(WALLET, PEER): 3}
