"""`lightning-proxy wallets`: who has something at the running relay."""

from typing import Final

from lightning_proxy.api.admin_rows import WalletRow
from lightning_proxy.cli.admin import make

COLUMNS: Final = (
    *("wallet", "is", "sockets", "sessions", "questions", "bytes queued"),
    *("wake targets", "free slots", "devices"),
)


def row(of: WalletRow) -> tuple[str, ...]:
    """What is shown of one."""
    return (
        of.node_id,
        "there" if of.sockets else "away",
        str(of.sockets),
        str(of.sessions),
        str(of.open_delegations),
        f"{of.queued_bytes:,}",
        str(of.wake_targets),
        str(of.free_slots),
        str(of.devices),
    )


app = make(
    "wallets",
    WalletRow,
    COLUMNS,
    row,
    "List the wallets that have something at the running relay.",
)
