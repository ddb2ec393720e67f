"""PostgreSQL as the relay's store: all that holds with SQLite, and a server that goes away."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import ModuleType
from typing import Any, Final

import pytest
from structlog.testing import capture_logs

from lightning_proxy.api import ApiSettings, Server
from lightning_proxy.relay import Relay, RelaySettings, StoreError
from lightning_proxy.relay.store import Database, StoreUnavailable
from tests.interop.lab import build
from tests.soak.run import Soak
from tests.soak.tally import Tally
from tests.support.fault_proxy import FaultProxy
from tests.support.numbered import messages, raw_session, said, until_stored
from tests.support.peer import ScriptedPeer
from tests.support.postgres import PostgresServer
from tests.support.relay import RpcFailure, raw_wallet, relay
from tests.unit.cli.commands import TIMEOUT
from tests.unit.relay import test_journal, test_store
from tests.unit.relay.test_journal import Disk, journal

__all__ = ["journal"]

SECRET = b"\x5a" * 32
#: How a test asks for a database: one of these fixtures, which are PostgreSQL's here.
DATABASES: Final = {"where", "disk"}
READ_ONLY: Final = "default_transaction_read_only"


def shared(*modules: ModuleType) -> dict[str, Any]:
    """The tests of these modules that need a database, whichever it is."""
    return {
        name: test
        for module in modules
        for name, test in vars(module).items()
        if name.startswith("test_") and DATABASES & inspect.signature(test).parameters.keys()
    }


globals().update(shared(test_store, test_journal))


async def write(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.exec_driver_sql("UPDATE runs SET started = started + 1")


async def backend(database: Database) -> int:
    """The server's process for the database's connection."""
    async with database.transaction() as connection:
        return int((await connection.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one())


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer(build.home("postgresql") / "bin") as server:
        yield server


@pytest.fixture
async def name(postgres: PostgresServer) -> str:
    """A fresh database's."""
    return await postgres.create()


@pytest.fixture
def where(postgres: PostgresServer, name: str) -> str:
    return postgres.url(name)


@pytest.fixture
async def disk(where: str) -> AsyncIterator[Disk]:
    async with Database(where) as database:
        yield Disk(database)


@pytest.fixture
async def peer() -> AsyncIterator[ScriptedPeer]:
    async with ScriptedPeer(b"\x21" * 32).serve() as listening:
        yield listening


async def test_a_relay_keeps_its_state_over_restarts(peer: ScriptedPeer, where: str) -> None:
    async with relay(store=where) as server:
        async with raw_wallet(server.url, SECRET) as wallet:
            session_id, connection = await raw_session(wallet, peer)
        await said(connection, *range(5))
    async with relay(store=where) as server, raw_wallet(server.url, SECRET) as wallet:
        assert await messages(wallet, 2) == [0, 1]
        await wallet.acknowledge()
        assert await messages(wallet, 3) == [2, 3, 4]
        assert (await wallet.event("session_lost"))["session_id"] == session_id
    async with relay(store=where) as server, raw_wallet(server.url, SECRET) as wallet:
        assert await messages(wallet, 3) == [2, 3, 4]
        await wallet.event("session_lost")
        await wallet.acknowledge()
        await wallet.quiet()


async def test_two_relays_never_share_a_database(where: str) -> None:
    async with relay(store=where):
        with pytest.raises(StoreError, match="in use by another relay") as refusal:
            await Relay(RelaySettings(store=where), is_local=True).__aenter__()
        assert where not in str(refusal.value)


@pytest.mark.parametrize("crash", [False, True])
async def test_a_server_that_is_stopped_and_started_loses_nothing(
    peer: ScriptedPeer, postgres: PostgresServer, where: str, crash: bool
) -> None:
    async with relay(store=where) as server:
        async with raw_wallet(server.url, SECRET) as wallet:
            session_id, connection = await raw_session(wallet, peer)
            await said(connection, 0, 1)
            assert await messages(wallet, 2) == [0, 1]
            await until_stored(wallet)
            postgres.stop(crash=crash)
            try:
                # The session goes on; only what has to be on disk can't be promised.
                await said(connection, 2, 3)
                assert await messages(wallet, 2) == [2, 3]
                with pytest.raises(RpcFailure, match="write its state") as failure:
                    await wallet.call("acknowledge", position=0)
                assert failure.value.code == "unavailable"
                with pytest.raises(RpcFailure, match="write its state"):
                    await wallet.open_session(peer)
                assert (await wallet.event("closed"))["session_id"] != session_id
            finally:
                postgres.start()
            await until_stored(wallet)
        await said(connection, 4)
        async with raw_wallet(server.url, SECRET) as wallet:
            await until_stored(wallet)
            again, other = await wallet.open_session(peer)
            assert again != session_id
            await other.close()
    async with relay(store=where) as server, raw_wallet(server.url, SECRET) as wallet:
        assert await messages(wallet, 4) == [0, 1, 2, 3]
        assert (await wallet.event("closed"))["session_id"] != session_id
        assert await messages(wallet, 1) == [4]


async def test_a_connection_that_is_cut_comes_back(
    peer: ScriptedPeer, postgres: PostgresServer, name: str
) -> None:
    async with FaultProxy(postgres.address) as proxy:
        url = postgres.url(name, proxy.port)
        async with relay(store=url) as server:
            async with raw_wallet(server.url, SECRET) as wallet:
                _, connection = await raw_session(wallet, peer)
                for number in range(10):
                    await said(connection, number)
                    assert proxy.cut(reset=number % 2 == 0) == 1
                    await until_stored(wallet)
            assert proxy.connections == 11
        async with relay(store=url) as server, raw_wallet(server.url, SECRET) as wallet:
            assert await messages(wallet, 10) == list(range(10))


@pytest.mark.parametrize("crash", [False, True])
async def test_the_first_transaction_after_a_restart_connects_again(
    postgres: PostgresServer, where: str, crash: bool
) -> None:
    async with Database(where) as database:
        postgres.stop(crash=crash)
        with pytest.raises(StoreError):
            async with database.transaction():
                pass
        postgres.start()
        async with database.transaction() as connection:
            runs = await connection.exec_driver_sql("SELECT count(*) FROM runs")
            assert runs.scalar() == 1
        postgres.stop(crash=crash)
        postgres.start()
        async with database.transaction() as connection:
            await connection.exec_driver_sql("SELECT count(*) FROM runs")


async def test_a_primary_that_became_a_standby_is_left_for_its_successor(
    postgres: PostgresServer, name: str
) -> None:
    """It stays there, and answers each write with 25006: only another connection helps."""

    async def write(database: Database) -> None:
        async with database.transaction() as connection:
            await connection.exec_driver_sql("UPDATE runs SET started = started")

    async with FaultProxy(postgres.address) as proxy:
        with capture_logs() as logs:
            async with Database(postgres.url(name, proxy.port)) as database:
                await write(database)
                before = proxy.connections
                try:
                    await postgres.execute("ALTER SYSTEM SET default_transaction_read_only = on")
                    await postgres.execute("SELECT pg_reload_conf()")
                    async with asyncio.timeout(10):
                        with pytest.raises(StoreUnavailable, match="read-only"):
                            while True:
                                await write(database)
                    for _ in range(3):
                        with pytest.raises(StoreUnavailable):
                            await write(database)
                    # Each looked for one that writes.
                    assert proxy.connections >= before + 3
                finally:
                    await postgres.execute("ALTER SYSTEM RESET default_transaction_read_only")
                    await postgres.execute("SELECT pg_reload_conf()")
                async with asyncio.timeout(10):
                    while True:
                        try:
                            await write(database)
                            break
                        except StoreUnavailable:
                            await asyncio.sleep(0.05)
        events = [entry["event"] for entry in logs]
        assert events.count("store_failed") == events.count("store_works_again") == 1


async def test_it_waits_for_a_server_that_starts(postgres: PostgresServer, where: str) -> None:
    postgres.stop()
    server = Server(RelaySettings(store=where), ApiSettings(port=0))
    starting = asyncio.create_task(server.__aenter__())
    await asyncio.sleep(0.3)
    assert not starting.done()
    postgres.start()
    await asyncio.wait_for(starting, 20)
    await server.__aexit__(None, None, None)


async def test_a_server_behind_a_bad_network(
    peer: ScriptedPeer, postgres: PostgresServer, name: str
) -> None:
    async with FaultProxy(postgres.address) as proxy:
        for direction in (proxy.up, proxy.down):
            direction.split, direction.random_split, direction.delay = 60, True, 0.001
        url = postgres.url(name, proxy.port)
        async with relay(store=url) as server, raw_wallet(server.url, SECRET) as wallet:
            _, connection = await raw_session(wallet, peer)
            for number in range(10):
                await said(connection, number)
                await until_stored(wallet)
        proxy.heal()
        async with relay(store=url) as server, raw_wallet(server.url, SECRET) as wallet:
            assert await messages(wallet, 10) == list(range(10))


async def test_whom_another_relay_replaced_writes_no_more(
    postgres: PostgresServer, name: str, where: str
) -> None:
    """Its connection was cut, and before it was back another relay had come and gone."""
    async with FaultProxy(postgres.address) as proxy:
        async with Database(postgres.url(name, proxy.port)) as database:
            proxy.cut()
            async with Database(where):
                pass
            for _ in range(3):
                with pytest.raises(StoreError):
                    async with database.transaction() as connection:
                        await connection.exec_driver_sql("DELETE FROM runs")
        async with Database(where) as database, database.transaction() as connection:
            runs = await connection.exec_driver_sql("SELECT count(*) FROM runs")
            assert runs.scalar() == 3


@pytest.fixture
async def demoted(postgres: PostgresServer) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Called, it makes connections that there are read-only, and fresh ones not.

    So it is behind an address that moved to the new primary: who stays connected stays with the
    old one, which goes on as a standby.
    """

    async def demote() -> None:
        await postgres.execute("ALTER ROLE relay SET default_transaction_read_only = off")
        await postgres.set(READ_ONLY, "on")

    yield demote
    await postgres.set(READ_ONLY, None)
    await postgres.execute("ALTER ROLE relay RESET default_transaction_read_only")


async def test_a_relay_goes_on_with_the_new_primary(
    peer: ScriptedPeer, where: str, demoted: Callable[[], Awaitable[None]]
) -> None:
    async with relay(store=where) as server, raw_wallet(server.url, SECRET) as wallet:
        _, connection = await raw_session(wallet, peer)
        await until_stored(wallet)
        await demoted()
        await said(connection, 0, 1)
        assert await messages(wallet, 2) == [0, 1]
        await until_stored(wallet)
        await wallet.acknowledge()


async def test_of_several_hosts_the_one_that_is_there_is_taken(
    postgres: PostgresServer, name: str, unused_tcp_port: int
) -> None:
    account, _, _ = postgres.url(name).rpartition("@")
    hosts = [f"127.0.0.1:{unused_tcp_port}", f"127.0.0.1:{postgres.port}"]
    async with Database(f"{account}@/{name}?host={hosts[0]}&host={hosts[1]}") as database:
        await write(database)
        assert database.name == f"{hosts[0]},{hosts[1]}/{name}"


async def test_while_all_servers_are_standbys_a_relay_waits_to_start(
    postgres: PostgresServer, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_proxy.api.server._FIRST_PAUSE", 0.05)
    server = Server(RelaySettings(store=where), ApiSettings(port=0))
    await postgres.set(READ_ONLY, "on")
    try:
        with capture_logs() as lines:
            starting = asyncio.create_task(server.__aenter__())
            async with asyncio.timeout(TIMEOUT):
                while not lines:
                    await asyncio.sleep(0.01)
        assert "can only be read" in lines[0]["reason"]
        assert not starting.done()
    finally:
        await postgres.set(READ_ONLY, None)
    await asyncio.wait_for(starting, TIMEOUT)
    await server.__aexit__(None, None, None)


async def test_a_connection_that_its_administrator_ended_comes_back(
    postgres: PostgresServer, where: str
) -> None:
    async with Database(where) as database:
        for _ in range(3):
            process = await backend(database)
            await postgres.execute(f"SELECT pg_terminate_backend({process})")
            await write(database)
            assert await backend(database) != process


@pytest.mark.parametrize("at", ["before", "within"])
async def test_a_server_that_is_gone_without_a_word_holds_nobody_up(
    postgres: PostgresServer, name: str, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_proxy.relay.store.database._STATEMENT_TIMEOUT", 0.3)
    monkeypatch.setattr("lightning_proxy.relay.store.database._CONNECT_TIMEOUT", 0.3)
    async with (
        FaultProxy(postgres.address) as proxy,
        Database(postgres.url(name, proxy.port)) as database,
    ):
        async with asyncio.timeout(TIMEOUT):
            if at == "before":
                proxy.up.stall()
            with pytest.raises(StoreUnavailable):
                async with database.transaction() as connection:
                    await connection.exec_driver_sql("UPDATE runs SET started = started + 1")
                    proxy.up.stall()
            with pytest.raises(StoreUnavailable):
                await write(database)
            proxy.heal()
            while True:
                try:
                    await write(database)
                    break
                except StoreError:
                    # The server still has the old connection, and with it the lock.
                    await asyncio.sleep(0.05)


async def test_a_replica_that_had_not_got_all_is_not_gone_on_with(
    postgres: PostgresServer, name: str
) -> None:
    async with (
        FaultProxy(postgres.address) as proxy,
        Database(postgres.url(name, proxy.port)) as database,
    ):
        async with database.transaction() as connection:
            await connection.exec_driver_sql("DELETE FROM runs")
        proxy.cut()
        with capture_logs() as lines:
            for _ in range(2):
                with pytest.raises(StoreError, match="older than what this relay wrote"):
                    await write(database)
        assert [line["event"] for line in lines] == ["store_failed"]
        assert "older than" in lines[0]["reason"]


async def test_a_wrong_password_is_told_without_it(postgres: PostgresServer, where: str) -> None:
    wrong = where.replace(":", ":hunter2", 2).replace(":hunter2", ":", 1)
    with pytest.raises(StoreError, match="password") as failure:
        await Database(wrong).__aenter__()
    assert "hunter2" not in str(failure.value)


async def test_killed_at_random_moments_the_relay_loses_and_doubles_nothing(where: str) -> None:
    tally = Tally(seed=11)
    await Soak(tally, 5, lambda: None, where).run()
    assert tally.sentences == []
    assert tally.is_good, tally.numbers()
    assert tally.settled > 0
