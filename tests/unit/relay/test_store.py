"""The relay's state on disk: written whole, read back in order, owned by one relay.

What takes `where` holds on any database: tests/interop/test_postgresql.py runs it on PostgreSQL.
"""

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, select

from lightning_proxy.bolt.channel import Entry
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.features import Feature, Features
from lightning_proxy.relay.store import (
    IN_MEMORY,
    ChannelStore,
    Database,
    StoredChannel,
    StoreError,
    migrations,
    tables,
)
from lightning_proxy.relay.store.wakes import StoredTarget, WakeStore
from lightning_proxy.relay.store.wallets import WalletStore
from lightning_proxy.rpc import WakeKind

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


@asynccontextmanager
async def stored(where: Path | str) -> AsyncIterator[ChannelStore]:
    async with Database(str(where)) as database:
        yield ChannelStore(database)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "relay.sqlite"


@pytest.fixture
def where(path: Path) -> str:
    """An empty database."""
    return str(path)


async def test_what_was_saved_is_there_after_a_restart(where: str) -> None:
    mine = [channel(), channel(channel_id=2, peer=OTHER_PEER)]
    theirs = channel(OTHER_WALLET)
    async with stored(where) as store:
        assert await store.owners() == {}
        for each in (*mine, theirs):
            assert await store.save(each)
    async with stored(where) as store:
        assert await store.owners() == {
            (each.wallet, each.channel_id): each.peer for each in (*mine, theirs)
        }
        assert await store.some_channels(WALLET, b"", 100) == mine
        assert await store.channels(WALLET, PEER) == mine[:1]
        assert await store.channels(OTHER_WALLET, PEER) == [theirs]
        assert await store.channels(OTHER_WALLET, OTHER_PEER) == []
        created = [each.created for each in await store.some_channels(WALLET, b"", 100)]
        assert created == [each.created for each in mine]


async def test_saving_again_adds_what_is_new_and_changes_nothing(where: str) -> None:
    async with stored(where) as store:
        await store.save(channel(log=LOG[:2]))
        assert not await store.save(channel())
        assert not await store.save(channel(log=(Entry(Role.ACCEPTER, b"other"),)))
        assert await store.some_channels(WALLET, b"", 100) == [channel()]


async def test_one_peer_never_touches_anothers_channel(where: str) -> None:
    async with stored(where) as store:
        await store.save(channel())
        spoiled = channel(peer=OTHER_PEER, log=(*LOG, Entry(Role.ACCEPTER, b"more")))
        with pytest.raises(StoreError, match="another peer"):
            await store.save(spoiled)
        await store.forget(WALLET, OTHER_PEER, channel().channel_id)
        assert await store.some_channels(WALLET, b"", 100) == [channel()]


async def test_forgetting_takes_the_messages_along(where: str) -> None:
    async with Database(where) as database:
        store = ChannelStore(database)
        await store.save(channel())
        await store.save(channel(OTHER_WALLET))
        await store.forget(WALLET, channel().peer, channel().channel_id)
        assert await store.some_channels(WALLET, b"", 100) == []
        assert await store.some_channels(OTHER_WALLET, b"", 100) == [channel(OTHER_WALLET)]
        async with database.transaction() as connection:
            count = select(func.count()).select_from(tables.channel_messages)
            assert (await connection.execute(count)).scalar() == len(LOG)


async def test_in_memory() -> None:
    async with stored(IN_MEMORY) as store:
        await store.save(channel())
        assert await store.some_channels(WALLET, b"", 100) == [channel()]


async def test_one_relay_at_a_time(where: str) -> None:
    async with stored(where) as store:
        with pytest.raises(StoreError, match=r"locked|in use by another relay"):
            await Database(where).__aenter__()
        await store.save(channel())
    async with stored(where) as store:
        assert await store.some_channels(WALLET, b"", 100) == [channel()]


async def test_a_transaction_that_fails_has_done_nothing(where: str) -> None:
    async with Database(where) as database:
        with pytest.raises(StoreError, match="failed"):
            async with database.transaction() as connection:
                await connection.execute(tables.runs.insert(), {"started": 1.0, "identity": "1"})
                await connection.execute(tables.runs.insert(), {"started": 1.0, "identity": None})
        async with database.transaction() as connection:
            assert (
                await connection.execute(select(func.count(tables.runs.c.number)))
            ).scalar() == 1


async def test_every_commit_is_synced(path: Path) -> None:
    async with Database(str(path)) as database, database.transaction() as connection:
        for name, value in (("synchronous", 2), ("journal_mode", "wal"), ("foreign_keys", 1)):
            found = (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one()
            assert found == value


@pytest.mark.parametrize("statement", ["PRAGMA user_version = 99", "PRAGMA application_id = 7"])
async def test_another_programs_file_is_left_alone(path: Path, statement: str) -> None:
    async with stored(path) as store:
        await store.save(channel())
    database = sqlite3.connect(path)
    database.execute(statement)
    database.close()
    with pytest.raises(StoreError, match="not the state of a relay"):
        await Database(str(path)).__aenter__()


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"not a database" * 100)
    return tmp_path / "file"


async def test_what_is_no_database(text_file: Path) -> None:
    with pytest.raises(StoreError, match="not a database"):
        await Database(str(text_file)).__aenter__()


async def test_a_folder_that_cannot_be(text_file: Path) -> None:
    with pytest.raises(StoreError, match="can't be written"):
        await Database(str(text_file / "relay.sqlite")).__aenter__()


async def test_transactions_do_not_mix(where: str) -> None:
    async with stored(where) as store:
        channels = [channel(channel_id=number) for number in range(50)]
        await asyncio.gather(*map(store.save, channels))
        assert await store.some_channels(WALLET, b"", 100) == channels
        some = await store.some_channels(WALLET, channels[9].channel_id, 3)
        assert some == channels[10:13]
        assert await store.some_channels(WALLET, channels[-1].channel_id, 3) == []


async def test_what_comes_after_the_end_is_told_so(where: str) -> None:
    async with stored(where) as store:
        saves = asyncio.gather(*(store.save(channel(channel_id=n)) for n in range(3)))
        await asyncio.sleep(0)
    # What was asked before is on the disk, and nothing reopens the file.
    await saves
    with pytest.raises(StoreError, match="closed"):
        await store.owners()
    async with stored(where) as store:
        assert set((await store.owners()).values()) == {PEER}
        assert len(await store.owners()) == 3


async def test_state_from_before_there_were_migrations(path: Path) -> None:
    async with stored(path) as store:
        await store.save(channel())
    database = sqlite3.connect(path)
    for (table,) in database.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table'"
    ).fetchall():
        if table not in ("channels", "channel_messages", "sqlite_sequence"):
            database.execute(f"DROP TABLE {table}")
    # As it was then.
    for column in ("failure", "broadcast"):
        database.execute(f"ALTER TABLE channels DROP COLUMN {column}")
    database.close()
    async with stored(path) as store:
        assert await store.some_channels(WALLET, b"", 100) == [channel()]


async def test_wallets_from_before_it_was_noted_when_they_came_came_just_now(path: Path) -> None:
    async with Database(str(path)) as database:
        await WakeStore(database).add(StoredTarget("7a", WALLET, WakeKind.WEBHOOK, b"{}", 1.0))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE wallets")
        connection.execute("UPDATE alembic_version SET version_num = '0004'")
        connection.commit()
    began = time.time()
    async with Database(str(path)) as database:
        store = WalletStore(database)
        assert await store.forget(began - 1.0, ()) == []
        assert await store.forget(time.time() + 1.0, {WALLET}) == []
        assert await store.forget(time.time() + 1.0, ()) == [WALLET]
        assert await WakeStore(database).all() == []


async def test_the_migrations_make_the_tables_that_the_code_knows(where: str) -> None:
    async with Database(where) as database, database.transaction() as connection:

        def differences(sync: Connection) -> list[object]:
            return list(compare_metadata(MigrationContext.configure(sync), tables.metadata))

        assert await connection.run_sync(differences) == []


async def test_a_migration_that_was_cut_short_has_done_nothing(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(command, "upgrade", cut)
        with pytest.raises(StoreError, match="No space left"):
            await Database(where).__aenter__()
    async with stored(where) as store:
        assert await store.owners() == {}


async def test_runs_are_counted(where: str) -> None:
    runs = []
    for _ in range(3):
        async with Database(where) as database:
            runs.append(database.run)
    assert runs == sorted(set(runs))
    assert len(runs) == 3


@pytest.mark.parametrize(
    "url",
    ["postgresql://", "postgresql://user:hunter2@host", "postgresql://user:hunter2@host:port/name"],
)
def test_a_url_that_is_none_is_told_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="database") as failure:
        Database(url)
    assert "hunter2" not in str(failure.value)


def test_the_newest_migration_is_known_without_alembic() -> None:
    config = Config()
    config.set_main_option("script_location", "lightning_proxy.relay.store:migrations")
    assert migrations.newest() == ScriptDirectory.from_config(config).get_current_head()


def test_alembic_is_for_migrations_only(path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from lightning_proxy.relay.store import Database\n"
        "async def main():\n"
        "    async with Database(sys.argv[1]):\n"
        "        print('alembic' in sys.modules, 'mako' in sys.modules)\n"
        "asyncio.run(main())\n"
    )
    run = (sys.executable, "-c", program, str(path))
    said = [
        subprocess.run(run, capture_output=True, text=True, check=True).stdout for _ in range(2)
    ]
    assert said == ["True True\n", "False False\n"]
