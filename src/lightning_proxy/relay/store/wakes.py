"""Where wallets are woken, on disk."""

from dataclasses import dataclass

from sqlalchemy import delete, select

from lightning_proxy.relay.store.database import Database
from lightning_proxy.relay.store.tables import wake_targets
from lightning_proxy.rpc import WakeKind


@dataclass(frozen=True, slots=True)
class StoredTarget:
    """`target` is its adapter's own JSON; `created` Unix seconds."""

    target_id: str
    wallet: bytes
    kind: WakeKind
    target: bytes
    created: float


class WakeStore:
    """Every method raises `StoreError`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[StoredTarget]:
        """Those of all wallets, the oldest first."""
        async with self._database.transaction() as connection:
            rows = await connection.execute(select(wake_targets).order_by(wake_targets.c.created))
            return [
                StoredTarget(row.target_id, row.wallet, WakeKind(row.kind), row.target, row.created)
                for row in rows
            ]

    async def add(self, target: StoredTarget) -> None:
        row = {
            "target_id": target.target_id,
            "wallet": target.wallet,
            "kind": target.kind.value,
            "target": target.target,
            "created": target.created,
        }
        async with self._database.transaction() as connection:
            await connection.execute(wake_targets.insert(), row)

    async def remove(self, target_id: str) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(
                delete(wake_targets).where(wake_targets.c.target_id == target_id)
            )
