"""The answers in a wallet's record: read without what its channels need."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lightning_proxy.rpc import DelegationKind
from lightning_proxy.wallet import database

_SELECT: Final = (
    "SELECT delegation_id, kind, digest, peer, created, channel_index, answer, refusal FROM answers"
)
_INDICES: Final = (
    "SELECT channel_index FROM channels UNION SELECT channel_index FROM answers "
    "WHERE channel_index IS NOT NULL UNION SELECT channel_index FROM slots "
    "WHERE used IS NOT NULL ORDER BY 1"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered to a delegation: `answer` (the result's JSON) or `refusal` (the reason)."""

    delegation_id: str
    kind: DelegationKind
    digest: bytes
    peer: bytes
    created: float
    channel_index: int | None
    answer: bytes | None
    refusal: str | None


def find(connection: sqlite3.Connection, delegation_id: str) -> Answer | None:
    """What was answered to this delegation, if it was."""
    row = connection.execute(f"{_SELECT} WHERE delegation_id = ?", (delegation_id,)).fetchone()
    return None if row is None else _answer_of(row)


def latest(connection: sqlite3.Connection, count: int) -> list[Answer]:
    """The last answers and refusals, newest first."""
    query = f"{_SELECT} ORDER BY sequence DESC LIMIT ?"
    return [_answer_of(row) for row in connection.execute(query, (count,))]


def channel_indices(connection: sqlite3.Connection) -> list[int]:
    """Every channel index that a channel has, ascending."""
    return [row[0] for row in connection.execute(_INDICES)]


def look(path: Path, node_id: bytes, count: int) -> tuple[int, list[Answer]]:
    """How many channels the record in `path` has, and its last answers; raises `RecordError`."""
    with database.explained(path), closing(database.open_existing(path, node_id)) as connection:
        return len(channel_indices(connection)), latest(connection, count)


def _answer_of(row: tuple[Any, ...]) -> Answer:
    delegation_id, kind, *rest = row
    return Answer(delegation_id, DelegationKind(kind), *rest)
