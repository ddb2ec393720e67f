"""The file of a wallet's record (SQLite): made, opened, brought up to date, and locked."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from lightning_proxy.wallet.errors import RecordError

_APPLICATION_ID: Final = 0x4C505752  # "LPWR"
_VERSION: Final = 4
#: Seconds to wait for another process that is writing.
_BUSY_TIMEOUT: Final = 5.0

# `salt` is what this record's keys have that no copy of it has; without one they are of an older
# version, by their index alone.
# Answers left with a relay: `used` is the peer's node id and its `open_channel`; the keys of a used
# one are a channel's, or nobody's.
_SLOTS: Final = """
CREATE TABLE slots (
    channel_index INTEGER PRIMARY KEY,
    funding_pubkey BLOB NOT NULL UNIQUE,
    slot BLOB NOT NULL,
    created REAL NOT NULL,
    used BLOB,
    salt BLOB
) STRICT"""
_SCHEMA: Final = (
    # `outdated`: why this record is an older copy of itself, as far as a relay can be believed.
    """
CREATE TABLE wallet (
    node_id BLOB NOT NULL,
    next_channel_index INTEGER NOT NULL,
    outdated TEXT
)""",
    # `lasting`: with this answer something was first said. What only repeats the record, and
    # what was refused, can be told again without it.
    """
CREATE TABLE answers (
    sequence INTEGER PRIMARY KEY,
    delegation_id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    digest BLOB NOT NULL,
    session_id TEXT NOT NULL,
    peer BLOB NOT NULL,
    channel_index INTEGER,
    answer BLOB,
    refusal TEXT,
    lasting INTEGER NOT NULL,
    created REAL NOT NULL,
    CHECK ((answer IS NULL) != (refusal IS NULL)),
    CHECK ((answer IS NULL) = (channel_index IS NULL))
) STRICT""",
    "CREATE INDEX answers_that_last ON answers (kind, created) WHERE lasting",
    "CREATE INDEX answers_that_go ON answers (sequence) WHERE NOT lasting",
    # `channel_id` is the final one, from `funding_created` on; a channel is the wallet's own, and
    # two of them on one outpoint can't be. `session_id` is where it began, and ends if it comes to
    # no signatures; `failure` says why it is not gone on with.
    """
CREATE TABLE channels (
    channel_index INTEGER PRIMARY KEY,
    peer BLOB NOT NULL,
    role TEXT NOT NULL,
    features BLOB NOT NULL,
    temporary_channel_id BLOB NOT NULL,
    channel_id BLOB UNIQUE,
    funding_transaction BLOB,
    created REAL NOT NULL,
    salt BLOB,
    session_id TEXT,
    failure TEXT,
    UNIQUE (peer, role, temporary_channel_id)
) STRICT""",
    """
CREATE TABLE messages (
    channel_index INTEGER NOT NULL REFERENCES channels ON DELETE CASCADE,
    number INTEGER NOT NULL,
    sender TEXT NOT NULL,
    raw BLOB NOT NULL,
    PRIMARY KEY (channel_index, number)
) STRICT, WITHOUT ROWID""",
    """
CREATE TABLE peers (
    node_id BLOB PRIMARY KEY,
    address TEXT NOT NULL
) STRICT""",
    _SLOTS,
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_VERSION}",
)
#: Version 1 knew of answers only, all to `channel_keys`, and of no message: what they began could
#: not be gone on with.
_FROM_VERSION_1: Final = (
    "DROP INDEX answers_by_time",
    "ALTER TABLE answers RENAME TO old_answers",
    "ALTER TABLE wallet RENAME TO old_wallet",
    *_SCHEMA,
    "INSERT INTO wallet SELECT node_id, next_channel_index, NULL FROM old_wallet",
    """
INSERT INTO answers SELECT sequence, delegation_id, kind, digest, session_id, peer, channel_index,
    answer, refusal, answer IS NOT NULL, created FROM old_answers""",
    "DROP TABLE old_wallet",
    "DROP TABLE old_answers",
)
#: Version 3 had no salts, and no word of what failed.
_SINCE_VERSION_3: Final = (
    "ALTER TABLE wallet ADD COLUMN outdated TEXT",
    "ALTER TABLE channels ADD COLUMN salt BLOB",
    "ALTER TABLE channels ADD COLUMN session_id TEXT",
    "ALTER TABLE channels ADD COLUMN failure TEXT",
    f"PRAGMA user_version = {_VERSION}",
)
_FROM_VERSION_3: Final = ("ALTER TABLE slots ADD COLUMN salt BLOB", *_SINCE_VERSION_3)
#: Version 2 left no answers in advance.
_FROM_VERSION_2: Final = (_SLOTS, *_SINCE_VERSION_3)


def create(path: Path, node_id: bytes, next_channel_index: int) -> None:
    """Make the file of a new wallet; never in another's place. Raises `RecordError`."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise RecordError(f"{path} exists already, and is not overwritten.") from None
    except OSError as error:
        raise RecordError(f"{path} can't be written: {error.strerror}.") from None
    with explained(path), closing(_connect(path)) as database, transaction(database):
        _execute_all(database, _SCHEMA)
        database.execute("INSERT INTO wallet VALUES (?, ?, NULL)", (node_id, next_channel_index))


def open_existing(path: Path, node_id: bytes) -> sqlite3.Connection:
    """Open this node's file, bringing an older one up to date; raises `RecordError`."""
    if not path.exists():
        raise RecordError(
            f"The wallet's record {path} is missing. It knows which channel keys are used: bring "
            "it back; beginning a new one could use keys twice."
        )
    with explained(path):
        database = _connect(path)
        try:
            (application_id,) = database.execute("PRAGMA application_id").fetchone()
            if application_id != _APPLICATION_ID or not 1 <= _version_of(database) <= _VERSION:
                raise RecordError(f"{path} is no wallet's record of this version.")
            (owner,) = database.execute("SELECT node_id FROM wallet").fetchone()
            if owner != node_id:
                raise RecordError(f"{path} is another wallet's record, {owner.hex()}'s.")
            _bring_up_to_date(database)
        except BaseException:
            database.close()
            raise
        return database


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """IMMEDIATE: whoever reads something in it is the only writer."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        # After some errors SQLite has rolled back by itself.
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """SQLite's errors become `RecordError`s."""
    try:
        yield
    except sqlite3.Error as error:
        raise RecordError(f"The wallet's record {path} failed: {error}.") from error


def _connect(path: Path) -> sqlite3.Connection:
    # `isolation_level=None`: transactions begin where they are written, not behind our back.
    database = sqlite3.connect(path, timeout=_BUSY_TIMEOUT, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        database.close()
        raise
    return database


def _bring_up_to_date(database: sqlite3.Connection) -> None:
    if _version_of(database) == _VERSION:
        return
    with transaction(database):
        # Another process may have done it just now.
        match _version_of(database):
            case 1:
                _execute_all(database, _FROM_VERSION_1)
            case 2:
                _execute_all(database, _FROM_VERSION_2)
            case 3:
                _execute_all(database, _FROM_VERSION_3)


def _version_of(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _execute_all(database: sqlite3.Connection, statements: tuple[str, ...]) -> None:
    for statement in statements:
        database.execute(statement)
