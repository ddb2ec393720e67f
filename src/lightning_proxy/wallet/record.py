"""The wallet's own record of what it answered: written before the answer leaves (SQLite)."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeVar

from lightning_proxy.rpc import DelegationKind
from lightning_proxy.wallet.errors import RecordError
from lightning_proxy.wallet.request import ChannelKeysRequest

_APPLICATION_ID: Final = 0x4C505752  # "LPWR"
_VERSION: Final = 1
#: Refusals that are remembered; an older one that comes again is judged anew, and costs nothing.
_REFUSALS_KEPT: Final = 1000
#: Seconds to wait for another process that is writing.
_BUSY_TIMEOUT: Final = 5.0

_SCHEMA: Final = f"""
BEGIN;
CREATE TABLE wallet (
    node_id BLOB NOT NULL,
    next_channel_index INTEGER NOT NULL
);
CREATE TABLE answers (
    sequence INTEGER PRIMARY KEY,
    delegation_id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    digest BLOB NOT NULL,
    session_id TEXT NOT NULL,
    peer BLOB NOT NULL,
    channel_index INTEGER UNIQUE,
    answer BLOB,
    refusal TEXT,
    created REAL NOT NULL,
    CHECK ((answer IS NULL) != (refusal IS NULL)),
    CHECK ((answer IS NULL) = (channel_index IS NULL))
) STRICT;
CREATE INDEX answers_by_time ON answers (created) WHERE answer IS NOT NULL;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_VERSION};
COMMIT;
"""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered to a delegation: `answer` (the result's JSON) or `refusal` (the reason)."""

    delegation_id: str
    digest: bytes
    peer: bytes
    created: float
    channel_index: int | None
    answer: bytes | None
    refusal: str | None


class Record:
    """One file, for one wallet; several processes may use it at once.

    Every method runs in the record's own thread and returns when the file is on the disk. All
    raise `RecordError`.
    """

    def __init__(self, path: Path, node_id: bytes) -> None:
        """Open an existing record, `create`d for this node id.

        A record that is lost is not simply begun again: it knows which channel secrets are used.
        """
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wallet-record")
        try:
            self._database = self._thread.submit(_open, path, node_id).result()
        except BaseException:
            self._thread.shutdown()
            raise

    @classmethod
    def create(cls, path: Path, node_id: bytes, *, next_channel_index: int = 0) -> None:
        """Make the file of a new wallet; never in another's place.

        For a wallet that comes back from its seed alone, `next_channel_index` must be above every
        index that it ever used.
        """
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            raise RecordError(f"{path} exists already, and is not overwritten.") from None
        except OSError as error:
            raise RecordError(f"{path} can't be written: {error.strerror}.") from None
        with _explained(path), closing(_connect(path)) as database:
            database.executescript(_SCHEMA)
            with _transaction(database):
                database.execute("INSERT INTO wallet VALUES (?, ?)", (node_id, next_channel_index))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish what is being written and close the file."""
        self._thread.submit(self._database.close).result()
        self._thread.shutdown()

    async def find(self, delegation_id: str) -> Answer | None:
        """What was answered to this delegation, if it was."""
        return await self._run(lambda: self._find(delegation_id))

    async def answer(
        self, request: ChannelKeysRequest, make_answer: Callable[[int], bytes]
    ) -> Answer:
        """Take the next channel index, make the answer for it, and store both in one transaction.

        `make_answer` runs in the record's thread; if it raises, no index is used and nothing is
        stored. An answer that is there already stays, and is returned instead.
        """
        return await self._run(lambda: self._answer(request, make_answer))

    async def refuse(self, request: ChannelKeysRequest, reason: str) -> Answer:
        """Store a refusal; an answer that is there already stays, and is returned instead."""
        return await self._run(lambda: self._refuse(request, reason))

    async def channels_since(self, created: float) -> int:
        """How many channels were accepted since then (Unix seconds)."""
        query = "SELECT count(*) FROM answers WHERE answer IS NOT NULL AND created >= ?"
        return int(await self._run(lambda: self._database.execute(query, (created,)).fetchone()[0]))

    async def channel_indices(self) -> list[int]:
        """Every channel index that was used, ascending."""
        query = "SELECT channel_index FROM answers WHERE answer IS NOT NULL ORDER BY 1"
        return await self._run(lambda: [row[0] for row in self._database.execute(query)])

    async def latest(self, count: int) -> list[Answer]:
        """The last answers and refusals, newest first."""
        query = f"{_SELECT} ORDER BY sequence DESC LIMIT ?"
        return await self._run(
            lambda: [Answer(*row) for row in self._database.execute(query, (count,))]
        )

    # ---- in the record's thread ----

    async def _run(self, work: Callable[[], T]) -> T:
        with _explained(self._path):
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _find(self, delegation_id: str) -> Answer | None:
        query = f"{_SELECT} WHERE delegation_id = ?"
        row = self._database.execute(query, (delegation_id,)).fetchone()
        return None if row is None else Answer(*row)

    def _answer(self, request: ChannelKeysRequest, make_answer: Callable[[int], bytes]) -> Answer:
        with _transaction(self._database):
            found = self._find(request.delegation_id)
            if found is not None:
                return found
            (index,) = self._database.execute("SELECT next_channel_index FROM wallet").fetchone()
            self._database.execute("UPDATE wallet SET next_channel_index = ?", (index + 1,))
            return self._insert(request, index, make_answer(index), None)

    def _refuse(self, request: ChannelKeysRequest, reason: str) -> Answer:
        with _transaction(self._database):
            found = self._find(request.delegation_id)
            if found is not None:
                return found
            self._database.execute(
                "DELETE FROM answers WHERE sequence IN (SELECT sequence FROM answers "
                "WHERE refusal IS NOT NULL ORDER BY sequence DESC LIMIT -1 OFFSET ?)",
                (_REFUSALS_KEPT - 1,),
            )
            return self._insert(request, None, None, reason)

    def _insert(
        self,
        request: ChannelKeysRequest,
        index: int | None,
        answer: bytes | None,
        refusal: str | None,
    ) -> Answer:
        created = time.time()
        self._database.execute(
            "INSERT INTO answers (delegation_id, kind, digest, session_id, peer, channel_index, "
            "answer, refusal, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                request.delegation_id,
                DelegationKind.CHANNEL_KEYS.value,
                request.digest,
                request.session_id,
                request.peer,
                index,
                answer,
                refusal,
                created,
            ),
        )
        return Answer(
            request.delegation_id, request.digest, request.peer, created, index, answer, refusal
        )


_SELECT: Final = (
    "SELECT delegation_id, digest, peer, created, channel_index, answer, refusal FROM answers"
)


def _open(path: Path, node_id: bytes) -> sqlite3.Connection:
    if not path.exists():
        raise RecordError(
            f"The wallet's record {path} is missing. It knows which channel keys are used: bring "
            "it back; beginning a new one could use keys twice."
        )
    with _explained(path):
        database = _connect(path)
        try:
            (application_id,) = database.execute("PRAGMA application_id").fetchone()
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if (application_id, version) != (_APPLICATION_ID, _VERSION):
                raise RecordError(f"{path} is no wallet's record of this version.")
            (owner,) = database.execute("SELECT node_id FROM wallet").fetchone()
            if owner != node_id:
                raise RecordError(f"{path} is another wallet's record, {owner.hex()}'s.")
        except BaseException:
            database.close()
            raise
        return database


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


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    """IMMEDIATE: whoever reads an index in it is the only writer."""
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
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise RecordError(f"The wallet's record {path} failed: {error}.") from error
