"""`lightning-proxy wallets`: who has something at the running relay."""

from lightning_proxy.api.admin_rows import WalletRow
from lightning_proxy.cli.admin import make


def _row(row: WalletRow) -> tuple[str, ...]:
    return (
        row.node_id,
        "there" if row.sockets else "away",
        str(row.sockets),
        str(row.sessions),
        str(row.open_delegations),
        f"{row.queued_bytes:,}",
        str(row.wake_targets),
        str(row.free_slots),
        str(row.devices),
    )


app = make(
    "wallets",
    WalletRow,
    (
        *("wallet", "is", "sockets", "sessions", "open questions", "bytes waiting"),
        *("wake targets", "free slots", "devices"),
    ),
    _row,
    "List the wallets that have something at the running relay.",
)
