"""Channels on disk: what both nodes said about each, so that a restart loses none."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, delete, not_, or_, select, true, update

from lightning_proxy.bolt.channel import ChannelState, Entry
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.features import Features
from lightning_proxy.bolt.messages import ChannelReady, OpenChannel, decode
from lightning_proxy.chain import GIVEN_UP_AFTER
from lightning_proxy.relay.store.database import Database, StoreError
from lightning_proxy.relay.store.tables import channel_messages, channels
from lightning_proxy.rpc import ChannelInfo

#: The state that a failed channel is shown in, whatever it had come to.
FAILED: Final = "failed"


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
    #: Why it failed, if it did.
    failure: str | None = None

    def describe(self) -> ChannelInfo:
        """What the API shows of a channel that is on no connection."""
        said = [decode(entry.raw) for entry in self.log]
        opened = said[0]
        assert isinstance(opened, OpenChannel)  # noqa: S101 - nothing else begins a channel
        ready = {
            e.sender for e, m in zip(self.log, said, strict=True) if m.TYPE == ChannelReady.TYPE
        }
        lives = ChannelState.READY if ready == set(Role) else ChannelState.SIGNED
        return ChannelInfo(
            channel_id=self.channel_id.hex(),
            temporary_channel_id=opened.temporary_channel_id.hex(),
            peer=self.peer.hex(),
            state=FAILED if self.failure is not None else lives,
            failure=self.failure,
            messages=[entry.raw.hex() for entry in self.log if entry.sender is not self.role],
        )


class ChannelStore:
    """Every method raises `StoreError`. What `save` returned for is on the disk."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def owners(self) -> dict[tuple[bytes, bytes], bytes]:
        """The peer (node id) of each channel, by its wallet (node id) and its id."""
        return await self._peers(true())

    async def failed(self) -> dict[tuple[bytes, bytes], bytes]:
        """The same of those that failed."""
        return await self._peers(channels.c.failure.is_not(None))

    async def _peers(self, which: ColumnElement[bool]) -> dict[tuple[bytes, bytes], bytes]:
        query = select(channels.c.wallet, channels.c.channel_id, channels.c.peer).where(which)
        async with self._database.transaction() as connection:
            return {
                (wallet, channel_id): peer
                for wallet, channel_id, peer in await connection.execute(query)
            }

    async def channels(self, wallet: bytes, peer: bytes) -> list[StoredChannel]:
        """A wallet's channels with this peer."""
        return await self._read(and_(channels.c.wallet == wallet, channels.c.peer == peer))

    async def some_channels(self, wallet: bytes, after: bytes, count: int) -> list[StoredChannel]:
        """So many of a wallet's channels, by their ids, from the one that follows this id."""
        ids = (
            select(channels.c.channel_id)
            .where(channels.c.wallet == wallet, channels.c.channel_id > after)
            .order_by(channels.c.channel_id)
            .limit(count)
        )
        return await self._read(and_(channels.c.wallet == wallet, channels.c.channel_id.in_(ids)))

    async def _read(self, which: ColumnElement[bool]) -> list[StoredChannel]:
        query = (
            select(channels, channel_messages.c.sender, channel_messages.c.raw)
            .join(channel_messages)
            .where(which)
            .order_by(channels.c.channel_id, channel_messages.c.position)
        )
        async with self._database.transaction() as connection:
            rows = (await connection.execute(query)).all()
        return _channels_of(rows)

    async def save(self, channel: StoredChannel) -> bool:
        """Write a channel, or the messages that it has more than it had; whether it is new.

        Nothing is written where the wallet has that channel with another peer.
        """
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
        async with self._database.transaction() as connection:
            this = and_(
                channels.c.wallet == channel.wallet, channels.c.channel_id == channel.channel_id
            )
            owner = (await connection.execute(select(channels.c.peer).where(this))).scalar()
            if owner not in (None, channel.peer):
                raise StoreError("This wallet has that channel with another peer.")
            added = await connection.execute(self._database.insert_new(channels), row)
            await connection.execute(self._database.insert_new(channel_messages), entries)
            return bool(added.rowcount)

    async def fail(self, wallet: bytes, peer: bytes, channel_id: bytes, reason: str) -> None:
        """Note why a channel with this peer failed; the first reason stays."""
        this = and_(
            channels.c.wallet == wallet,
            channels.c.channel_id == channel_id,
            channels.c.peer == peer,
            channels.c.failure.is_(None),
        )
        async with self._database.transaction() as connection:
            await connection.execute(update(channels).where(this).values(failure=reason))

    async def broadcasting(self) -> set[tuple[bytes, bytes]]:
        """Channels (wallet, id) whose funding transactions are being published."""
        marked = channels.c.broadcast.is_not(None)
        return set(await self._peers(and_(marked, not_(is_given_up()))))

    async def mark_broadcast(self, wallet: bytes, channel_id: bytes, now: float) -> float:
        """Note that a channel's funding transaction is being published; since when it is."""
        this = and_(channels.c.wallet == wallet, channels.c.channel_id == channel_id)
        fresh = and_(this, channels.c.broadcast.is_(None))
        async with self._database.transaction() as connection:
            await connection.execute(update(channels).where(fresh).values(broadcast=now))
            since = (await connection.execute(select(channels.c.broadcast).where(this))).scalar()
            return now if since is None else since

    async def unmark_broadcast(self, wallet: bytes, channel_id: bytes) -> None:
        """It was seen."""
        this = and_(channels.c.wallet == wallet, channels.c.channel_id == channel_id)
        async with self._database.transaction() as connection:
            await connection.execute(update(channels).where(this).values(broadcast=None))

    async def forget(self, wallet: bytes, peer: bytes, channel_id: bytes) -> None:
        """Remove a channel with this peer."""
        this = and_(
            channels.c.wallet == wallet,
            channels.c.channel_id == channel_id,
            channels.c.peer == peer,
        )
        async with self._database.transaction() as connection:
            await connection.execute(delete(channels).where(this))


def is_given_up() -> ColumnElement[bool]:
    """Of which channels the funding transaction was being published, and is no more."""
    over = or_(channels.c.failure.is_not(None), channels.c.broadcast < time.time() - GIVEN_UP_AFTER)
    return and_(channels.c.broadcast.is_not(None), over)


def given_up(failure: str | None) -> str:
    """Why that is; `failure`: why the channel failed, if it did."""
    if failure is None:
        return "it is published no more: the chain did not take it in all this time"
    return f"it is published no more, for the channel failed: {failure}"


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
            row.failure,
        )
        for channel_id, row in sorted(first.items())
    ]
