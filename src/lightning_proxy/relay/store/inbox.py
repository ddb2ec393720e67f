"""What waits for wallets, on disk: notifications, open delegations, and who holds which session."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Table, and_, bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from lightning_proxy.relay.store.channels import given_up, is_given_up
from lightning_proxy.relay.store.database import Database
from lightning_proxy.relay.store.tables import (
    channels,
    delegations,
    key_slots,
    notifications,
    sessions,
)
from lightning_proxy.relay.text import printable
from lightning_proxy.rpc import (
    MAX_SENTENCE,
    NOTIFICATIONS,
    Delegate,
    FundingRefused,
    Notification,
    SessionLost,
    SlotUsed,
    Voided,
)

_TYPES: Final[dict[str, type[Any]]] = {method: kind for kind, method in NOTIFICATIONS.items()}
_RESTARTED: Final = "the relay was restarted, and the session is lost"


class Held(NamedTuple):
    """A session that the relay holds for a wallet (node id); `peer`: "pubkey@host:port"."""

    wallet: bytes
    peer: str


@dataclass(slots=True)
class Changes:
    """What happened since it was written last; what came and went meanwhile is in none of it."""

    #: By wallet and position.
    notifications: dict[tuple[bytes, int], Notification] = field(default_factory=dict)
    acknowledged: set[tuple[bytes, int]] = field(default_factory=set)
    #: By id, with the wallet.
    delegations: dict[str, tuple[bytes, Delegate]] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    sessions: dict[str, Held] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    #: Slots (wallet, slot's id) whose `slot_used` is in the inbox, or was acknowledged there.
    reported: set[tuple[bytes, str]] = field(default_factory=set)
    #: Channels (wallet, id) that are told in the inbox not to be funded any more.
    given_up: set[tuple[bytes, bytes]] = field(default_factory=set)

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__slots__)

    def __len__(self) -> int:
        return sum(len(getattr(self, name)) for name in self.__slots__)


class InboxStore:
    """Every method raises `StoreError`, and has then changed nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, changes: Changes) -> None:
        """Write all of it or nothing; to write the same again changes nothing."""
        async with self._database.transaction() as connection:
            await self._insert(connection, notifications, _rows(changes.notifications))
            await self._insert(
                connection,
                delegations,
                [
                    {"id": id_, "wallet": wallet, "envelope": msgspec.json.encode(envelope)}
                    for id_, (wallet, envelope) in changes.delegations.items()
                ],
            )
            await self._insert(
                connection,
                sessions,
                [
                    {"session_id": id_, "wallet": held.wallet, "peer": held.peer}
                    for id_, held in changes.sessions.items()
                ],
            )
            if changes.acknowledged:
                await connection.execute(
                    delete(notifications).where(
                        notifications.c.wallet == bindparam("of"),
                        notifications.c.position == bindparam("at"),
                    ),
                    [{"of": wallet, "at": position} for wallet, position in changes.acknowledged],
                )
            await _delete(connection, delegations, "id", changes.settled)
            await _delete(connection, sessions, "session_id", changes.ended)
            if changes.reported:
                await connection.execute(
                    update(key_slots)
                    .where(
                        key_slots.c.wallet == bindparam("of"),
                        key_slots.c.slot_id == bindparam("slot"),
                    )
                    .values(reported=True),
                    [{"of": wallet, "slot": slot_id} for wallet, slot_id in changes.reported],
                )
            if changes.given_up:
                await connection.execute(
                    update(channels)
                    .where(
                        channels.c.wallet == bindparam("of"),
                        channels.c.channel_id == bindparam("which"),
                    )
                    .values(broadcast=None),
                    [{"of": wallet, "which": id_} for wallet, id_ in changes.given_up],
                )

    async def recover(self, positions: Iterator[int]) -> dict[bytes, list[Notification]]:
        """After a restart: all that waits, by wallet and in order.

        What the former run held is turned into notifications, which get the next `positions`:
        `session_lost` for its sessions, `voided` for its open delegations, and the `slot_used` and
        final `funding_refused` that it had no time to report.
        """
        async with self._database.transaction() as connection:
            fresh: dict[tuple[bytes, int], Notification] = {}
            unreported = and_(key_slots.c.used.is_not(None), key_slots.c.reported.is_(False))
            for row in await connection.execute(
                select(key_slots).where(unreported).order_by(key_slots.c.used)
            ):
                notice = msgspec.json.decode(row.notice, type=SlotUsed)
                fresh[row.wallet, next(positions)] = notice
            over = is_given_up()
            for row in await connection.execute(select(channels).where(over)):
                fresh[row.wallet, next(positions)] = FundingRefused(
                    channel_id=row.channel_id.hex(),
                    peer=row.peer.hex(),
                    reason=printable(given_up(row.failure))[:MAX_SENTENCE],
                    final=True,
                )
            for row in await connection.execute(select(delegations)):
                fresh[row.wallet, next(positions)] = Voided(row.id, _RESTARTED)
            for row in await connection.execute(select(sessions)):
                fresh[row.wallet, next(positions)] = SessionLost(row.session_id, row.peer)
            for (wallet, position), notification in fresh.items():
                fresh[wallet, position] = msgspec.structs.replace(notification, position=position)
            await self._insert(connection, notifications, _rows(fresh))
            await connection.execute(delete(delegations))
            await connection.execute(delete(sessions))
            await connection.execute(update(key_slots).where(unreported).values(reported=True))
            await connection.execute(update(channels).where(over).values(broadcast=None))
            waiting: dict[bytes, list[Notification]] = {}
            for row in await connection.execute(
                select(notifications).order_by(notifications.c.wallet, notifications.c.position)
            ):
                waiting.setdefault(row.wallet, []).append(
                    msgspec.json.decode(row.params, type=_TYPES[row.method])
                )
            return waiting

    async def _insert(
        self, connection: AsyncConnection, table: Table, rows: list[dict[str, Any]]
    ) -> None:
        if rows:
            await connection.execute(self._database.insert_new(table), rows)


def _rows(fresh: dict[tuple[bytes, int], Notification]) -> list[dict[str, Any]]:
    return [
        {
            "wallet": wallet,
            "position": position,
            "method": NOTIFICATIONS[type(notification)],
            "params": msgspec.json.encode(notification),
        }
        for (wallet, position), notification in fresh.items()
    ]


async def _delete(connection: AsyncConnection, table: Table, name: str, ids: set[str]) -> None:
    if ids:
        await connection.execute(
            delete(table).where(table.c[name] == bindparam("which")),
            [{"which": id_} for id_ in ids],
        )
