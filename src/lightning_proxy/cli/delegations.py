"""`lightning-proxy delegations`: what the running relay waits for its wallets to answer."""

from lightning_proxy.api.admin_rows import DelegationRow
from lightning_proxy.cli.admin import make


def _row(row: DelegationRow) -> tuple[str, ...]:
    return (
        row.id,
        row.kind,
        row.wallet,
        row.peer,
        row.channel_id,
        f"{row.remaining:.0f} s",
    )


app = make(
    "delegations",
    DelegationRow,
    ("delegation", "kind", "wallet", "peer", "channel", "time left"),
    _row,
    "List the questions that wait for an answer of a wallet's.",
)
