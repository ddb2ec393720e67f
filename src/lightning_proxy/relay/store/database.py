"""The database below the relay's state: SQLite by a file's name, PostgreSQL by a URL."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self

import structlog
from sqlalchemy import Connection, Insert, Table, event, inspect, select, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from lightning_proxy.relay.private import make_private
from lightning_proxy.relay.store import migrations, tables
from lightning_proxy.relay.store.where import IN_MEMORY, is_url, parse_url

_log = structlog.get_logger()

#: SQLite's `application_id`, and the number that PostgreSQL's advisory lock is known by.
_APPLICATION_ID: Final = 0x4C505352  # "LPSR"
#: SQLite's `user_version` before there were migrations, and what those call that state.
_BEFORE_MIGRATIONS: Final = 1
_FIRST_REVISION: Final = "0001"
#: Where Alembic writes down how far a database has come.
_VERSIONS: Final = "alembic_version"
#: Seconds; a relay that is just going away lets go within that.
_BUSY_TIMEOUT: Final = 1.0
#: Seconds that PostgreSQL gets for a connection, and for a statement.
_CONNECT_TIMEOUT: Final = 5.0
_STATEMENT_TIMEOUT: Final = 10.0
#: PostgreSQL's codes (class 08, and these) for a server that another connection may reach again:
#: shutting down, crashed, starting, full, or a standby, which a former primary becomes.
_CONNECTION_LOST: Final = "08"
_AWAY: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "53300", "25006"})
#: PostgreSQL's own code for a lock that wasn't to be had in time.
_LOCK_NOT_AVAILABLE: Final = "55P03"
_KEEPALIVE: Final = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}


class StoreError(Exception):
    """The relay's state can't be read or written; the text says where and why."""


class StoreUnavailable(StoreError):
    """The database can't be used now: it is not there, or starting, or not the one that writes."""


class Database:
    """Use as an async context manager. Every method raises `StoreError`.

    `where` is a file, IN_MEMORY, or a URL "postgresql://user:password@host/database". What a
    transaction wrote is on the disk when it ends. One relay at a time may use a database: two would
    each sign for the other's sessions.

    There is one connection: on it SQLite has its exclusive lock and PostgreSQL its advisory lock,
    so that nothing can be written after the lock was lost.
    """

    #: The number of this run, larger than that of every run before; known once it is entered.
    run: int
    #: 128 random bits, hex; those of a database that replaces this one are others.
    identity: str

    def __init__(self, where: str) -> None:
        self._is_postgresql = is_url(where)
        #: For sentences: without the user and the password.
        self.name = where
        if self._is_postgresql:
            self._url = parse_url(where)
            # Several hosts, or a socket's folder, are options.
            hosts = self._url.host or ",".join(self._url.normalized_query.get("host", ()))
            self.name = f"{hosts}/{self._url.database}"
        self._where = where
        self._engine: AsyncEngine
        self._is_open = False
        self._failures = 0
        # One connection has one transaction at a time.
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        async with self._explained():
            self._engine = self._postgresql() if self._is_postgresql else self._sqlite()
            try:
                async with self._engine.begin() as connection:
                    if not self._is_postgresql:
                        await self._check_sqlite(connection)
                    await connection.run_sync(_migrate)
                    known = await connection.execute(select(tables.runs.c.identity).limit(1))
                    self.identity = known.scalar() or secrets.token_hex(16)
                    started = await connection.execute(
                        tables.runs.insert().returning(tables.runs.c.number),
                        {"started": time.time(), "identity": self.identity},
                    )
                    self.run = started.scalar_one()
            except BaseException:
                await self._engine.dispose()
                raise
        self._is_open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        async with self._lock:
            self._is_open = False
            await self._engine.dispose()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """What is done inside is done as a whole, and on the disk afterwards; or not at all."""
        async with self._lock, self._explained():
            if not self._is_open:
                raise StoreError("The relay's state is closed.")
            try:
                async with self._engine.begin() as connection:
                    try:
                        yield connection
                    except BaseException as error:
                        if self._is_postgresql and _is_away(error):
                            # A server that became a standby stays there and answers: only another
                            # connection can reach its successor.
                            await connection.invalidate()
                        raise
            except (SQLAlchemyError, OSError, StoreError) as error:
                self._failed(error)
                raise
            self._succeeded()

    def insert_new(self, table: Table) -> Insert:
        """An INSERT that leaves rows alone that are there."""
        if self._is_postgresql:
            # Memory that who has SQLite need not spend.
            from sqlalchemy.dialects import postgresql  # noqa: PLC0415

            return postgresql.insert(table).on_conflict_do_nothing()
        return sqlite.insert(table).on_conflict_do_nothing()

    # ---- inside ----

    def _sqlite(self) -> AsyncEngine:
        if self._where != IN_MEMORY:
            file = Path(self._where)
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            make_private(file)
        engine = create_async_engine(
            f"sqlite+aiosqlite:///{self._where}",
            poolclass=StaticPool,
            connect_args={"timeout": _BUSY_TIMEOUT},
        )
        event.listen(engine.sync_engine, "connect", _set_up_sqlite)
        event.listen(engine.sync_engine, "begin", _begin)
        return engine

    def _postgresql(self) -> AsyncEngine:
        engine = create_async_engine(
            self._url,
            pool_size=1,
            max_overflow=0,
            # After the server was away, the first transaction finds that out, and connects again.
            pool_pre_ping=True,
            connect_args={
                "timeout": _CONNECT_TIMEOUT,
                "command_timeout": _STATEMENT_TIMEOUT,
                # Of several hosts, and of those that change roles, the one that writes.
                "target_session_attrs": "read-write",
                # The server lets go of a relay's lock that is gone without a word, too.
                "server_settings": _KEEPALIVE,
            },
        )
        event.listen(engine.sync_engine, "connect", self._lock_postgresql)
        return engine

    def _lock_postgresql(self, connection: Any, _: object) -> None:
        """For each new connection: after the server was away, another relay may have come."""
        cursor = connection.cursor()
        try:
            cursor.execute(f"SET LOCAL lock_timeout = {round(_BUSY_TIMEOUT * 1000)}")
            try:
                cursor.execute(f"SELECT pg_advisory_lock({_APPLICATION_ID})")
            except connection.dbapi.Error as error:
                if error.sqlstate != _LOCK_NOT_AVAILABLE:
                    raise
                raise StoreError(f"{self.name} is in use by another relay.") from None
            if self._is_open:
                cursor.execute("SELECT max(number) FROM runs")
                newest = cursor.fetchone()[0] or 0
                if newest > self.run:
                    raise StoreError(f"{self.name} was used by another relay meanwhile.")
                if newest < self.run:
                    # What was promised since is not there: it must not be gone on with.
                    raise StoreError(
                        f"{self.name} is older than what this relay wrote: its server was replaced "
                        "by one that had not got all of it."
                    )
            connection.commit()
        except BaseException:
            # The pool would leave it open, and the lock with it.
            connection.close()
            raise
        cursor.close()

    async def _check_sqlite(self, connection: AsyncConnection) -> None:
        application_id = await _pragma(connection, "application_id")
        version = await _pragma(connection, "user_version")
        is_new = application_id == version == 0
        if not is_new and (application_id, version) != (_APPLICATION_ID, _BEFORE_MIGRATIONS):
            raise StoreError(f"{self.name} is not the state of a relay of this version.")
        await connection.exec_driver_sql(f"PRAGMA application_id = {_APPLICATION_ID}")
        await connection.exec_driver_sql(f"PRAGMA user_version = {_BEFORE_MIGRATIONS}")

    def _failed(self, error: Exception) -> None:
        """Tell the operator once how it began; the rest is what each caller makes of it."""
        if not self._failures:
            _log.error("store_failed", store=self.name, reason=_reason(error))
        self._failures += 1

    def _succeeded(self) -> None:
        if self._failures:
            _log.info("store_works_again", store=self.name, failures=self._failures)
        self._failures = 0

    @asynccontextmanager
    async def _explained(self) -> AsyncIterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            kind = StoreUnavailable if self._is_postgresql and _is_away(error) else StoreError
            raise kind(f"The relay's state in {self.name} failed: {_reason(error)}.") from None
        except OSError as error:
            kind = StoreUnavailable if self._is_postgresql else StoreError
            raise kind(f"{self.name} can't be written: {_reason(error)}.") from None


def _is_away(error: BaseException) -> bool:
    """Whether the server, or this connection to it, is of no use any more."""
    if isinstance(error, OSError):  # a TimeoutError is one, too
        return True
    cause = getattr(error, "orig", None)
    state = getattr(cause, "sqlstate", None) or ""
    return (
        state in _AWAY
        or state.startswith(_CONNECTION_LOST)
        or isinstance(getattr(cause, "__cause__", None), OSError)
        or _finds_standbys_only(error)
        or bool(getattr(error, "connection_invalidated", False))
    )


def _finds_standbys_only(error: BaseException) -> bool:
    """Whether a server was there, and none that writes: their primary is still to be chosen."""
    cause = getattr(getattr(error, "orig", None), "__cause__", None)
    if cause is None:
        return False
    from asyncpg.exceptions import (  # noqa: PLC0415 - of no use to who has SQLite
        TargetServerAttributeNotMatched,
    )

    return isinstance(cause, TargetServerAttributeNotMatched)


def _reason(error: Exception) -> str:
    """The cause's first line alone: what follows, and SQLAlchemy's text, repeat values."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, StoreError):
        return str(error)
    if _finds_standbys_only(error):
        return "it can only be read, as a standby or a primary that is being replaced"
    return str(getattr(error, "orig", None) or type(error).__name__).partition("\n")[0]


def _set_up_sqlite(connection: Any, _: object) -> None:
    # `_begin` begins: sqlite3 itself would leave schema changes outside any transaction.
    connection.isolation_level = None
    cursor = connection.cursor()
    # What is promised to a peer or a wallet must survive a power cut, so every commit is synced;
    # an exclusive lock lets no other relay in.
    for pragma in (
        "locking_mode = EXCLUSIVE",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _migrate(connection: Connection) -> None:
    """Bring the schema to what this version needs, inside the caller's transaction."""
    present = inspect(connection).get_table_names()
    if _VERSIONS in present and _revision(connection) == migrations.newest():
        return
    # It takes long to import and much memory for good, and is of use for a moment.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "lightning_proxy.relay.store:migrations")
    config.attributes["connection"] = connection
    if _VERSIONS not in present and tables.channels.name in present:
        command.stamp(config, _FIRST_REVISION)
    command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    revision = connection.execute(text(f"SELECT version_num FROM {_VERSIONS}")).scalar()  # noqa: S608 - ours
    return None if revision is None else str(revision)


async def _pragma(connection: AsyncConnection, name: str) -> int:
    return int((await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one())
