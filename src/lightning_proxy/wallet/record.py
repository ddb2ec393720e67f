"""The wallet's own record of its channels and answers: written before an answer leaves."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeVar

import msgspec

from lightning_proxy.bolt.channel import Channel, ChannelState, Entry
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.features import Features
from lightning_proxy.bolt.messages import FundingCreated, FundingSigned
from lightning_proxy.rpc import DelegationKind, Slot
from lightning_proxy.wallet import answers, database
from lightning_proxy.wallet.answers import Answer
from lightning_proxy.wallet.request import Refusal, Request

#: Refusals, and answers that only repeat the record, that are remembered; an older one that comes
#: again is judged anew, and costs nothing.
_REPEATS_KEPT: Final = 1000
#: Seconds after which an opening that came to no funding transaction is forgotten: lnd gives up
#: after 10 minutes. Its channel index stays used.
_UNFUNDED_FOR: Final = 86_400.0

#: What both have signed outlives its connection.
SIGNED: Final = frozenset({ChannelState.SIGNED, ChannelState.READY})
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredChannel:
    """One channel with a peer (node id, 33 bytes), as far as it has come."""

    index: int
    #: With the index, what `WalletKeys.channel` takes.
    salt: bytes | None
    peer: bytes
    role: Role
    features: Features
    created: float
    log: tuple[Entry, ...]
    #: The signed transaction, where this wallet opens the channel and has one.
    funding_transaction: bytes | None
    #: Where it began; None: an older version's.
    session_id: str | None
    #: Why it is not gone on with.
    failure: str | None

    @property
    def is_signed(self) -> bool:
        """Whether both first commitments are."""
        return self.channel().state in SIGNED

    @property
    def is_committed(self) -> bool:
        """Whether our signature for the peer's first commitment is made: money may follow."""
        ours = FundingCreated if self.role is Role.OPENER else FundingSigned
        type_ = ours.TYPE.to_bytes(2, "big")
        return any(e.sender is self.role and e.raw.startswith(type_) for e in self.log)

    def channel(self) -> Channel:
        """Its state machine, on the connection on which it was left."""
        return Channel.replay(self.role, self.features, self.log)

    def reconnected(self) -> Channel:
        """Its state machine, on a new connection."""
        channel = self.channel()
        channel.disconnected()
        return channel


@dataclass(frozen=True, slots=True)
class StoredSlot:
    """An answer that was left with a relay; `used`: what for, once that is known."""

    index: int
    salt: bytes | None
    slot: Slot
    used: bytes | None


class Ledger:
    """The record within one transaction: what is read here still holds when it is written."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        #: Whether anything was written.
        self.changed = False

    def opening(self, peer: bytes, role: Role, temporary_channel_id: bytes) -> StoredChannel | None:
        """The channel that has this temporary id, in which this wallet has this role."""
        return self._one(
            "peer = ? AND role = ? AND temporary_channel_id = ?",
            (peer, role.value, temporary_channel_id),
        )

    def funded(self, peer: bytes, channel_id: bytes) -> StoredChannel | None:
        """The channel that has this final id."""
        return self._one("peer = ? AND channel_id = ?", (peer, channel_id))

    def offered(self, temporary_channel_id: bytes) -> StoredChannel | None:
        """The channel that this wallet offered by this temporary id, which it drew at random."""
        return self._one(
            "role = ? AND temporary_channel_id = ?", (Role.OPENER.value, temporary_channel_id)
        )

    def with_peer(self, peer: bytes) -> list[StoredChannel]:
        """All channels with this peer, the oldest first."""
        return self._some("peer = ?", (peer,))

    def named(self, peer: bytes, temporary_channel_id: bytes) -> StoredChannel | None:
        """The channel that has, or began with, this temporary id, whoever opened it."""
        return self._one("peer = ? AND temporary_channel_id = ?", (peer, temporary_channel_id))

    def by_index(self, index: int) -> StoredChannel | None:
        """The channel whose secrets have this index."""
        return self._one("channel_index = ?", (index,))

    def channels(self) -> list[StoredChannel]:
        """All of them, the oldest first."""
        return self._some("1", ())

    def next_index(self) -> int:
        """An index that no channel had before."""
        (index,) = self._connection.execute("SELECT next_channel_index FROM wallet").fetchone()
        self._execute("UPDATE wallet SET next_channel_index = ?", (index + 1,))
        return int(index)

    def add(
        self,
        index: int,
        salt: bytes | None,
        peer: bytes,
        session_id: str | None,
        channel: Channel,
    ) -> None:
        """Store a new channel; forget those that nobody came back to fund."""
        now = time.time()
        for (old,) in self._connection.execute(
            "SELECT channel_index FROM channels WHERE channel_id IS NULL AND created < ?",
            (now - _UNFUNDED_FOR,),
        ).fetchall():
            self._execute("DELETE FROM channels WHERE channel_index = ?", (old,))
            self._execute("DELETE FROM answers WHERE channel_index = ?", (old,))
        self._execute(
            "INSERT INTO channels (channel_index, peer, role, features, temporary_channel_id, "
            "created, salt, session_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                index,
                peer,
                channel.role.value,
                channel.features.to_bytes(),
                channel.temporary_channel_id,
                now,
                salt,
                session_id,
            ),
        )
        self._append(index, channel.log, 0)

    def extend(self, stored: StoredChannel, channel: Channel) -> None:
        """Store what was said since; `channel` began as `stored`'s.

        Raises `Refusal` where the wallet has another channel of this id.
        """
        if len(channel.log) == len(stored.log):
            return
        if channel.state in SIGNED and stored.failure is not None and not stored.is_signed:
            # It seemed to be lost with its connection, but the relay had the last word already.
            self._execute(
                "UPDATE channels SET failure = NULL WHERE channel_index = ?", (stored.index,)
            )
        if channel.channel_id != channel.temporary_channel_id:
            try:
                self._execute(
                    "UPDATE channels SET channel_id = ? WHERE channel_index = ?",
                    (channel.channel_id, stored.index),
                )
            except sqlite3.IntegrityError:
                raise Refusal(
                    "another channel of this wallet's has the same funding outpoint"
                ) from None
        self._append(stored.index, channel.log, len(stored.log))

    def fund(self, stored: StoredChannel, transaction: bytes) -> None:
        """Store the signed funding transaction."""
        self._execute(
            "UPDATE channels SET funding_transaction = ? WHERE channel_index = ?",
            (transaction, stored.index),
        )

    def fail(self, stored: StoredChannel, reason: str) -> None:
        """Remember why a channel is not gone on with; the first reason stays."""
        self._execute(
            "UPDATE channels SET failure = ? WHERE channel_index = ? AND failure IS NULL",
            (reason, stored.index),
        )

    # ---- the record itself ----

    @property
    def outdated(self) -> str | None:
        """Why this is an older copy of the record, as far as a relay can be believed."""
        (reason,) = self._connection.execute("SELECT outdated FROM wallet").fetchone()
        return None if reason is None else str(reason)

    def set_outdated(self, reason: str | None) -> None:
        """What the comparison with a relay showed."""
        if reason != self.outdated:
            self._execute("UPDATE wallet SET outdated = ?", (reason,))

    # ---- key slots ----

    def add_slot(self, index: int, salt: bytes, slot: Slot) -> None:
        """Store an answer that is about to be left with a relay."""
        self._execute(
            "INSERT INTO slots (channel_index, funding_pubkey, slot, created, salt) "
            "VALUES (?, ?, ?, ?, ?)",
            (
                index,
                bytes.fromhex(slot.answer.funding_pubkey),
                msgspec.json.encode(slot),
                time.time(),
                salt,
            ),
        )

    def slot(self, funding_pubkey: bytes) -> StoredSlot | None:
        """What was left with this key (33 bytes)."""
        row = self._connection.execute(
            "SELECT channel_index, salt, slot, used FROM slots WHERE funding_pubkey = ?",
            (funding_pubkey,),
        ).fetchone()
        if row is None:
            return None
        index, salt, slot, used = row
        return StoredSlot(index, salt, msgspec.json.decode(slot, type=Slot), used)

    def use_slot(self, index: int, opening: bytes) -> None:
        """It was used, for this opening."""
        self._execute("UPDATE slots SET used = ? WHERE channel_index = ?", (opening, index))

    # ---- inside ----

    def _append(self, index: int, log: list[Entry], start: int) -> None:
        for number, entry in enumerate(log[start:], start):
            self._execute(
                "INSERT INTO messages VALUES (?, ?, ?, ?)",
                (index, number, entry.sender.value, entry.raw),
            )

    def _one(self, where: str, values: tuple[object, ...]) -> StoredChannel | None:
        found = self._some(where, values)
        return found[0] if found else None

    def _some(self, where: str, values: tuple[object, ...]) -> list[StoredChannel]:
        rows = self._connection.execute(
            "SELECT channel_index, salt, peer, role, features, created, funding_transaction, "  # noqa: S608 - `where` is ours
            f"session_id, failure FROM channels WHERE {where} ORDER BY channel_index",
            values,
        ).fetchall()
        return [
            StoredChannel(
                index=index,
                salt=salt,
                peer=peer,
                role=Role(role),
                features=Features.from_bytes(features),
                created=created,
                log=self._log(index),
                funding_transaction=transaction,
                session_id=session_id,
                failure=failure,
            )
            for index, salt, peer, role, features, created, transaction, session_id, failure in rows
        ]

    def _log(self, index: int) -> tuple[Entry, ...]:
        rows = self._connection.execute(
            "SELECT sender, raw FROM messages WHERE channel_index = ? ORDER BY number", (index,)
        )
        return tuple(Entry(Role(sender), raw) for sender, raw in rows)

    def _execute(self, statement: str, values: tuple[object, ...]) -> None:
        self._connection.execute(statement, values)
        self.changed = True


#: Makes an answer: reads and writes what it rests on, and returns the channel's index and the
#: answer's JSON. What it raises undoes all of that.
MakeAnswer = Callable[[Ledger], tuple[int, bytes]]


class Record:
    """One file, for one wallet; several processes may use it at once.

    Every method runs in the record's own thread and returns when the file is on the disk. All
    raise `RecordError`.
    """

    def __init__(self, path: Path, node_id: bytes) -> None:
        """Open an existing record, `create`d for this node id; an older version's is migrated.

        A record that is lost is not simply begun again: it knows which channel secrets are used.
        """
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wallet-record")
        try:
            self._database = self._thread.submit(database.open_existing, path, node_id).result()
        except BaseException:
            self._thread.shutdown()
            raise

    @classmethod
    def create(cls, path: Path, node_id: bytes, *, next_channel_index: int = 0) -> None:
        """Make the file of a new wallet; never in another's place.

        For a wallet that comes back from its seed alone, `next_channel_index` must be above every
        index that it ever used.
        """
        database.create(path, node_id, next_channel_index)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish what is being written and close the file."""
        self._thread.submit(self._database.close).result()
        self._thread.shutdown()

    # ---- answers ----

    async def find(self, delegation_id: str) -> Answer | None:
        """What was answered to this delegation, if it was."""
        return await self._run(lambda: self._find(delegation_id))

    async def answer(self, request: Request, make_answer: MakeAnswer) -> Answer:
        """Make an answer and store it with all that it rests on, in one transaction.

        `make_answer` runs in the record's thread; if it raises, nothing is stored. An answer that
        is there already stays, and is returned instead.
        """
        return await self._run(lambda: self._answer(request, make_answer))

    async def refuse(self, request: Request, reason: str) -> Answer:
        """Store a refusal; an answer that is there already stays, and is returned instead.

        An opening of this wallet's that it does not fund is over with that.
        """
        return await self._run(lambda: self._refuse(request, reason))

    async def channels_since(self, created: float) -> int:
        """How many channels were accepted since then (Unix seconds)."""
        query = "SELECT count(*) FROM answers WHERE lasting AND kind = ? AND created >= ?"
        values = (DelegationKind.CHANNEL_KEYS.value, created)
        return int(await self._run(lambda: self._database.execute(query, values).fetchone()[0]))

    async def latest(self, count: int) -> list[Answer]:
        """The last answers and refusals, newest first."""
        return await self._run(lambda: answers.latest(self._database, count))

    # ---- channels ----

    async def change(self, work: Callable[[Ledger], T]) -> T:
        """Read and write channels in one transaction; what `work` raises undoes it."""

        def run() -> T:
            with database.transaction(self._database):
                return work(Ledger(self._database))

        return await self._run(run)

    async def channels(self) -> list[StoredChannel]:
        """Every channel, the oldest first."""
        return await self.change(Ledger.channels)

    async def fail_opening(self, temporary_channel_id: bytes, reason: str) -> StoredChannel | None:
        """Give up an opening of this wallet's; None: there is none that can be given up.

        Afterwards no process of the wallet signs for it. One that it has signed for already goes
        on, and so does one that failed before.
        """

        def work(ledger: Ledger) -> StoredChannel | None:
            stored = ledger.offered(temporary_channel_id)
            if stored is None or stored.failure is not None or stored.is_committed:
                return None
            ledger.fail(stored, reason)
            return stored

        return await self.change(work)

    async def outdated(self) -> str | None:
        """Why this is an older copy of the record; None as long as nothing shows that."""
        return await self.change(lambda ledger: ledger.outdated)

    async def channel_indices(self) -> list[int]:
        """Every channel index that a channel has, ascending."""
        return await self._run(lambda: answers.channel_indices(self._database))

    # ---- peers ----

    async def remember_peer(self, node_id: bytes, address: str) -> None:
        """Where a peer was reached, "pubkey@host:port"."""
        statement = "INSERT OR REPLACE INTO peers VALUES (?, ?)"
        await self._run(lambda: self._database.execute(statement, (node_id, address)))

    async def peer_addresses(self) -> dict[bytes, str]:
        """Where the peers with whom there are channels were reached last, by node id."""
        query = (
            "SELECT node_id, address FROM peers WHERE node_id IN "
            "(SELECT peer FROM channels WHERE channel_id IS NOT NULL)"
        )
        return await self._run(lambda: dict(self._database.execute(query).fetchall()))

    # ---- in the record's thread ----

    async def _run(self, work: Callable[[], T]) -> T:
        with database.explained(self._path):
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _find(self, delegation_id: str) -> Answer | None:
        return answers.find(self._database, delegation_id)

    def _answer(self, request: Request, make_answer: MakeAnswer) -> Answer:
        with database.transaction(self._database):
            found = self._find(request.delegation_id)
            if found is not None:
                return found
            ledger = Ledger(self._database)
            index, answer = make_answer(ledger)
            return self._insert(request, index, answer, None, lasting=ledger.changed)

    def _refuse(self, request: Request, reason: str) -> Answer:
        with database.transaction(self._database):
            found = self._find(request.delegation_id)
            if found is not None:
                return found
            if request.kind is DelegationKind.FUNDING_CREATED:
                ledger = Ledger(self._database)
                stored = ledger.opening(request.peer, Role.OPENER, request.channel_id)
                if stored is not None and not stored.is_committed:
                    ledger.fail(stored, f"this wallet refused: {reason}")
            return self._insert(request, None, None, reason, lasting=False)

    def _insert(
        self,
        request: Request,
        index: int | None,
        answer: bytes | None,
        refusal: str | None,
        *,
        lasting: bool,
    ) -> Answer:
        if not lasting:
            self._database.execute(
                "DELETE FROM answers WHERE sequence IN (SELECT sequence FROM answers "
                "WHERE NOT lasting ORDER BY sequence DESC LIMIT -1 OFFSET ?)",
                (_REPEATS_KEPT - 1,),
            )
        created = time.time()
        self._database.execute(
            "INSERT INTO answers (delegation_id, kind, digest, session_id, peer, channel_index, "
            "answer, refusal, lasting, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                request.delegation_id,
                request.kind.value,
                request.digest,
                request.session_id,
                request.peer,
                index,
                answer,
                refusal,
                lasting,
                created,
            ),
        )
        return Answer(
            request.delegation_id,
            request.kind,
            request.digest,
            request.peer,
            created,
            index,
            answer,
            refusal,
        )
