"""What the operator's view answers with: rows, and how many at once."""

from typing import Final

from msgspec import Struct

from lightning_proxy.rpc import SessionInfo

#: Rows of one answer; who wants more asks for those after it.
PAGE: Final = 1000


class SessionRow(Struct, frozen=True):
    """One session, and whose it is; None: made over REST, and nobody's yet."""

    wallet: str | None
    session: SessionInfo


class WalletRow(Struct, frozen=True, kw_only=True):
    """One wallet that has something here."""

    node_id: str
    sockets: int
    sessions: int
    open_delegations: int
    queued_bytes: int
    wake_targets: int
    free_slots: int
    devices: int


class DelegationRow(Struct, frozen=True, kw_only=True):
    """One open question; `remaining` in seconds."""

    id: str
    wallet: str
    session_id: str
    peer: str
    channel_id: str
    kind: str
    created: float
    remaining: float
