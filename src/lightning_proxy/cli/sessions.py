"""`lightning-proxy sessions`: the connections to peers that the running relay holds."""

from typing import Final

from lightning_proxy.api.admin_rows import SessionRow
from lightning_proxy.cli.admin import make

COLUMNS: Final = (
    "session",
    "wallet",
    "peer",
    "at",
    "state",
    "presence",
    "received",
    "sent",
    "questions",
)


def row(of: SessionRow) -> tuple[str, ...]:
    """What is shown of one."""
    session = of.session
    return (
        session.session_id,
        of.wallet or "(nobody's yet)",
        # Apart each fits a line of 80 columns.
        *session.peer.partition("@")[::2],
        session.state,
        session.presence,
        f"{session.messages_received:,}",
        f"{session.messages_sent:,}",
        str(session.open_delegations),
    )


app = make(
    "sessions",
    SessionRow,
    COLUMNS,
    row,
    "List the sessions that the running relay holds.",
)
