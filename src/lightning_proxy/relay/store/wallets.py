"""When wallets came last, on disk, and the end of what strangers left."""

from collections.abc import Collection, Iterable
from typing import Final

from sqlalchemy import bindparam, delete, exists, select, update

from lightning_proxy.relay.store.database import Database
from lightning_proxy.relay.store.tables import (
    channels,
    devices,
    key_slots,
    leases,
    notifications,
    wake_targets,
    wallets,
)

#: What a wallet may leave here.
_LEFT_IN: Final = (notifications, wake_targets, key_slots, devices, leases, wallets)
#: Wallets that are forgotten at once: others wait for the database meanwhile.
_AT_ONCE: Final = 200


class WalletStore:
    """Every method raises `StoreError`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def seen(self, node_ids: Iterable[bytes], now: float) -> None:
        """These came (Unix seconds)."""
        rows = [{"wallet": node_id, "seen": now} for node_id in node_ids]
        if not rows:
            return
        again = [{"of": row["wallet"], "at": now} for row in rows]
        async with self._database.transaction() as connection:
            await connection.execute(self._database.insert_new(wallets), rows)
            await connection.execute(
                update(wallets)
                .where(wallets.c.wallet == bindparam("of"))
                .values(seen=bindparam("at")),
                again,
            )

    async def forget(self, before: float, here: Collection[bytes]) -> list[bytes]:
        """Forget some that never had a channel, have not come since, and are not `here`.

        Returns them.
        """
        has_channel = exists(select(channels.c.wallet).where(channels.c.wallet == wallets.c.wallet))
        query = select(wallets.c.wallet).where(wallets.c.seen < before, ~has_channel)
        async with self._database.transaction() as connection:
            found = (row.wallet for row in await connection.execute(query.order_by(wallets.c.seen)))
            gone = [wallet for wallet in found if wallet not in here][:_AT_ONCE]
            for table in _LEFT_IN if gone else ():
                await connection.execute(
                    delete(table).where(table.c.wallet == bindparam("of")),
                    [{"of": wallet} for wallet in gone],
                )
            return gone
