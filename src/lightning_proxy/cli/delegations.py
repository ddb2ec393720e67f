"""`lightning-proxy delegations`: what the running relay waits for its wallets to answer."""

from typing import Final

from lightning_proxy.api.admin_rows import DelegationRow
from lightning_proxy.cli.admin import make

COLUMNS: Final = ("delegation", "kind", "wallet", "peer", "channel", "time left")


def row(of: DelegationRow) -> tuple[str, ...]:
    """What is shown of one."""
    return (
        of.id,
        of.kind,
        of.wallet,
        of.peer,
        of.channel_id,
        f"{of.remaining:.0f} s",
    )


app = make(
    "delegations",
    DelegationRow,
    COLUMNS,
    row,
    "List the questions that wait for an answer of a wallet's.",
)
