"""Wallets' devices and leases on disk."""

import time
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, and_, delete, exists, func, select, update

from lightning_proxy.relay.store.database import Database
from lightning_proxy.relay.store.tables import channel_messages, channels, devices, leases
from lightning_proxy.rpc import DeviceRight

#: A channel's log begins with its `open_channel`, in which the temporary id stands after the type
#: and the chain's hash (BOLT #2).
_CHANNEL_OF_LEASE: Final = (
    select(channels.c.channel_id)
    .join(
        channel_messages,
        and_(
            channel_messages.c.wallet == channels.c.wallet,
            channel_messages.c.channel_id == channels.c.channel_id,
        ),
    )
    .where(
        channels.c.wallet == leases.c.wallet,
        channels.c.peer == leases.c.peer,
        channel_messages.c.position == 0,
        func.substr(channel_messages.c.raw, 35, 32) == leases.c.temporary_channel_id,
    )
)


class StoredDevice(NamedTuple):
    """One device of a wallet's (both 33 bytes); times in Unix seconds."""

    wallet: bytes
    device_key: bytes
    name: str
    rights: frozenset[DeviceRight]
    created: float
    revoked: float | None


class StoredLease(NamedTuple):
    """Who settles for a channel of a wallet's with a peer."""

    wallet: bytes
    peer: bytes
    temporary_channel_id: bytes
    device_key: bytes
    fencing: int


class DeviceStore:
    """Every method raises `StoreError`. What it returned for is on the disk."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def devices(self) -> list[StoredDevice]:
        """Those of all wallets, the oldest first."""
        async with self._database.transaction() as connection:
            rows = await connection.execute(select(devices).order_by(devices.c.created))
            return [
                StoredDevice(
                    row.wallet,
                    row.device_key,
                    row.name,
                    frozenset(map(DeviceRight, row.rights.split())),
                    row.created,
                    row.revoked,
                )
                for row in rows
            ]

    async def add(self, device: StoredDevice) -> None:
        row = device._asdict() | {"rights": " ".join(sorted(device.rights))}
        async with self._database.transaction() as connection:
            await connection.execute(devices.insert(), row)

    async def revoke(self, wallet: bytes, device_key: bytes) -> None:
        this = (devices.c.wallet == wallet) & (devices.c.device_key == device_key)
        async with self._database.transaction() as connection:
            await connection.execute(update(devices).where(this), {"revoked": time.time()})

    async def leases(self) -> list[StoredLease]:
        """Those of all wallets; what an opening left that came to nothing is no more."""
        async with self._database.transaction() as connection:
            await connection.execute(delete(leases).where(~exists(_CHANNEL_OF_LEASE)))
            return [StoredLease(*row) for row in await connection.execute(select(leases))]

    async def grant(self, lease: StoredLease) -> None:
        """In the place of the one that there was for this channel."""
        async with self._database.transaction() as connection:
            await connection.execute(delete(leases).where(_this(*lease[:3])))
            await connection.execute(leases.insert(), lease._asdict())

    async def forget(self, wallet: bytes, peer: bytes, temporary_channel_id: bytes) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(
                delete(leases).where(_this(wallet, peer, temporary_channel_id))
            )


def _this(wallet: bytes, peer: bytes, temporary_channel_id: bytes) -> ColumnElement[bool]:
    return and_(
        leases.c.wallet == wallet,
        leases.c.peer == peer,
        leases.c.temporary_channel_id == temporary_channel_id,
    )
