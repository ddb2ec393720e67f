"""Key slots on disk: each is used once, and what was used stays known."""

import time
from typing import NamedTuple

import msgspec
from sqlalchemy import and_, func, select, update

from lightning_proxy.relay.store.database import Database
from lightning_proxy.relay.store.tables import key_slots
from lightning_proxy.rpc import ChannelKeys, Slot, SlotInfo, SlotPolicy, SlotUsed

#: Used ones that are shown.
_SHOWN = 100


class FreeSlot(NamedTuple):
    """One that can be used."""

    slot_id: str
    answer: ChannelKeys
    policy: SlotPolicy


class SlotStore:
    """Every method raises `StoreError`. What it returned for is on the disk."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def counts(self) -> dict[bytes, int]:
        """How many free ones each wallet has, where it has any."""
        query = (
            select(key_slots.c.wallet, func.count())
            .where(key_slots.c.used.is_(None))
            .group_by(key_slots.c.wallet)
        )
        async with self._database.transaction() as connection:
            rows = await connection.execute(query)
            return {row[0]: row[1] for row in rows}

    async def total(self, wallet: bytes) -> int:
        """How many this wallet ever left."""
        query = select(func.count()).where(key_slots.c.wallet == wallet)
        async with self._database.transaction() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def add(self, wallet: bytes, slots: dict[str, Slot]) -> bool:
        """Keep these, by id; False, and none of them, where a key was given before."""
        insert = self._database.insert_new(key_slots)
        created = time.time()
        async with self._database.transaction() as connection:
            for slot_id, slot in slots.items():
                row = {
                    "wallet": wallet,
                    "slot_id": slot_id,
                    "funding_pubkey": bytes.fromhex(slot.answer.funding_pubkey),
                    "first_per_commitment_point": bytes.fromhex(
                        slot.answer.first_per_commitment_point
                    ),
                    "answer": msgspec.json.encode(slot.answer),
                    "policy": msgspec.json.encode(slot.policy),
                    "created": created,
                    "reported": False,
                }
                if not (await connection.execute(insert, row)).rowcount:
                    await connection.rollback()
                    return False
        return True

    async def free(self, wallet: bytes) -> list[FreeSlot]:
        """Those that can be used, the oldest first."""
        async with self._database.transaction() as connection:
            rows = await connection.execute(
                select(key_slots)
                .where(key_slots.c.wallet == wallet, key_slots.c.used.is_(None))
                .order_by(key_slots.c.created, key_slots.c.slot_id)
            )
            return [
                FreeSlot(
                    row.slot_id,
                    msgspec.json.decode(row.answer, type=ChannelKeys),
                    msgspec.json.decode(row.policy, type=SlotPolicy),
                )
                for row in rows
            ]

    async def describe(self, wallet: bytes) -> list[SlotInfo]:
        """The free ones, and the last that were used."""
        mine = select(key_slots).where(key_slots.c.wallet == wallet)
        free = mine.where(key_slots.c.used.is_(None)).order_by(key_slots.c.created)
        used = mine.where(key_slots.c.used.is_not(None)).order_by(key_slots.c.used.desc())
        async with self._database.transaction() as connection:
            rows = [
                *await connection.execute(free),
                *await connection.execute(used.limit(_SHOWN)),
            ]
        return [
            SlotInfo(
                slot_id=row.slot_id,
                funding_pubkey=row.funding_pubkey.hex(),
                policy=msgspec.json.decode(row.policy, type=SlotPolicy),
                created=row.created,
                used=row.used,
            )
            for row in rows
        ]

    async def use(self, wallet: bytes, slot_id: str, notice: SlotUsed | None) -> bool:
        """Use a slot up; False where it is used already, or there is no such slot.

        `notice` is what its wallet has to be told, if anything.
        """
        this = and_(
            key_slots.c.wallet == wallet,
            key_slots.c.slot_id == slot_id,
            key_slots.c.used.is_(None),
        )
        values = {
            "used": time.time(),
            "notice": None if notice is None else msgspec.json.encode(notice),
            "reported": notice is None,
        }
        async with self._database.transaction() as connection:
            return bool((await connection.execute(update(key_slots).where(this), values)).rowcount)
