"""`lightning-proxy sessions`: the connections to peers that the running relay holds."""

from lightning_proxy.api.admin_rows import SessionRow
from lightning_proxy.cli.admin import make


def _row(row: SessionRow) -> tuple[str, ...]:
    session = row.session
    return (
        session.session_id,
        row.wallet or "(nobody's yet)",
        session.peer,
        session.state,
        session.presence,
        f"{session.messages_received:,}",
        f"{session.messages_sent:,}",
        str(session.open_delegations),
    )


app = make(
    "sessions",
    SessionRow,
    ("session", "wallet", "peer", "state", "presence", "received", "sent", "open questions"),
    _row,
    "List the sessions that the running relay holds.",
)
