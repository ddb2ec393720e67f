"""Channels on disk: what both nodes said about each, so that a restart loses none (SQLite)."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import (
    Column,
    Float,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    and_,
    delete,
    event,
    func,
    select,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from lightning_proxy.bolt.channel import ChannelState, Entry
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.features import Features
from lightning_proxy.bolt.messages import ChannelReady, OpenChannel, decode
from lightning_proxy.rpc import ChannelInfo

_APPLICATION_ID: Final = 0x4C505352  # "LPSR"
_VERSION: Final = 1
#: Seconds; a relay that is just going away lets go of the file within that.
_BUSY_TIMEOUT: Final = 1.0

_metadata: Final = MetaData()
_channels: Final = Table(
    "channels",
    _metadata,
    Column("wallet", LargeBinary, primary_key=True),
    # Two wallets of one relay may have a channel with each other: the id alone says too little.
    Column("channel_id", LargeBinary, primary_key=True),
    Column("peer", LargeBinary, nullable=False),
    Column("role", String, nullable=False),
    Column("features", LargeBinary, nullable=False),
    Column("created", Float, nullable=False),
)
_messages: Final = Table(
    "channel_messages",
    _metadata,
    Column("wallet", LargeBinary, primary_key=True),
    Column("channel_id", LargeBinary, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("sender", String, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    ForeignKeyConstraint(
        ("wallet", "channel_id"),
        ("channels.wallet", "channels.channel_id"),
        ondelete="CASCADE",
    ),
)


class StoreError(Exception):
    """The relay's state can't be read or written; the text says which file and why."""


@dataclass(frozen=True, slots=True)
class StoredChannel:
    """One channel of a wallet's (node id, 33 bytes) with a peer (likewise), by its messages."""

    wallet: bytes
    channel_id: bytes
    peer: bytes
    role: Role
    features: Features
    log: tuple[Entry, ...]
    #: When it was stored first, in Unix seconds.
    created: float = field(default_factory=time.time, compare=False)

    def describe(self) -> ChannelInfo:
        """What the API shows of a channel that is on no connection."""
        said = [decode(entry.raw) for entry in self.log]
        opened = said[0]
        assert isinstance(opened, OpenChannel)  # noqa: S101 - nothing else begins a channel
        ready = {
            e.sender for e, m in zip(self.log, said, strict=True) if m.TYPE == ChannelReady.TYPE
        }
        return ChannelInfo(
            channel_id=self.channel_id.hex(),
            temporary_channel_id=opened.temporary_channel_id.hex(),
            peer=self.peer.hex(),
            state=ChannelState.READY if ready == set(Role) else ChannelState.SIGNED,
            messages=[entry.raw.hex() for entry in self.log if entry.sender is not self.role],
        )


class ChannelStore:
    """Use as an async context manager. Every method raises `StoreError`.

    What `save` returned for is on the disk. `path` None: in memory, for as long as this lasts. One
    relay at a time may use a file: two would each sign for the other's sessions.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._engine: AsyncEngine
        self._is_open = False
        # One connection has one transaction at a time.
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        async with self._explained():
            if self._path is not None:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # One connection: SQLite has one writer anyway, and an exclusive lock lets no other in.
            self._engine = create_async_engine(
                f"sqlite+aiosqlite:///{self._path or ':memory:'}",
                poolclass=StaticPool,
                connect_args={"timeout": _BUSY_TIMEOUT},
            )
            event.listen(self._engine.sync_engine, "connect", _set_up)
            try:
                async with self._engine.begin() as connection:
                    await self._open(connection)
            except BaseException:
                await self._engine.dispose()
                raise
        self._is_open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        async with self._lock:
            self._is_open = False
            await self._engine.dispose()

    async def counts(self) -> dict[tuple[bytes, bytes], int]:
        """How many channels each wallet has with each peer (node ids), where there are any."""
        query = select(_channels.c.wallet, _channels.c.peer, func.count()).group_by(
            _channels.c.wallet, _channels.c.peer
        )
        async with self._transaction() as connection:
            return {
                (wallet, peer): count for wallet, peer, count in await connection.execute(query)
            }

    async def channels(self, wallet: bytes, peer: bytes | None = None) -> list[StoredChannel]:
        """A wallet's channels: all, or those with this peer."""
        mine = _channels.c.wallet == wallet
        if peer is not None:
            mine = and_(mine, _channels.c.peer == peer)
        query = (
            select(_channels, _messages.c.sender, _messages.c.raw)
            .join(_messages)
            .where(mine)
            .order_by(_channels.c.channel_id, _messages.c.position)
        )
        async with self._transaction() as connection:
            rows = (await connection.execute(query)).all()
        return _channels_of(rows)

    async def save(self, channel: StoredChannel) -> bool:
        """Write a channel, or the messages that it has more than it had; whether it is new."""
        key = {"wallet": channel.wallet, "channel_id": channel.channel_id}
        row = {
            **key,
            "peer": channel.peer,
            "role": channel.role.value,
            "features": channel.features.to_bytes(),
            "created": channel.created,
        }
        entries = [
            {**key, "position": position, "sender": entry.sender.value, "raw": entry.raw}
            for position, entry in enumerate(channel.log)
        ]
        async with self._transaction() as connection:
            added = await connection.execute(insert(_channels).on_conflict_do_nothing(), row)
            await connection.execute(insert(_messages).on_conflict_do_nothing(), entries)
            return bool(added.rowcount)

    async def forget(self, wallet: bytes, channel_id: bytes) -> None:
        """Remove a channel."""
        this = and_(_channels.c.wallet == wallet, _channels.c.channel_id == channel_id)
        async with self._transaction() as connection:
            await connection.execute(delete(_channels).where(this))

    # ---- inside ----

    async def _open(self, connection: AsyncConnection) -> None:
        application_id = await _pragma(connection, "application_id")
        version = await _pragma(connection, "user_version")
        if application_id == version == 0:
            await connection.run_sync(_metadata.create_all)
            await connection.exec_driver_sql(f"PRAGMA application_id = {_APPLICATION_ID}")
            await connection.exec_driver_sql(f"PRAGMA user_version = {_VERSION}")
        elif (application_id, version) != (_APPLICATION_ID, _VERSION):
            raise StoreError(f"{self._path} is not the state of a relay of this version.")

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        async with self._lock, self._explained():
            if not self._is_open:
                raise StoreError("The relay's state is closed.")
            async with self._engine.begin() as connection:
                yield connection

    @asynccontextmanager
    async def _explained(self) -> AsyncIterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            # The cause alone: SQLAlchemy's text repeats the statement's values.
            reason = getattr(error, "orig", None) or type(error).__name__
            raise StoreError(f"The relay's state in {self._path} failed: {reason}.") from None
        except OSError as error:
            raise StoreError(f"{self._path} can't be written: {error.strerror}.") from None


def _set_up(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    # What is promised to a peer or a wallet must survive a power cut, so every commit is synced.
    for pragma in (
        "locking_mode = EXCLUSIVE",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


async def _pragma(connection: AsyncConnection, name: str) -> int:
    return int((await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one())


def _channels_of(rows: Sequence[Any]) -> list[StoredChannel]:
    logs: dict[bytes, list[Entry]] = {}
    for row in rows:
        logs.setdefault(row.channel_id, []).append(Entry(Role(row.sender), row.raw))
    first = {row.channel_id: row for row in reversed(rows)}
    return [
        StoredChannel(
            row.wallet,
            channel_id,
            row.peer,
            Role(row.role),
            Features.from_bytes(row.features),
            tuple(logs[channel_id]),
            row.created,
        )
        for channel_id, row in sorted(first.items())
    ]
