import asyncio
import sqlite3
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from lightning_proxy.wallet import database as database_module
from lightning_proxy.wallet import record as record_module
from lightning_proxy.wallet.errors import RecordError
from lightning_proxy.wallet.record import Ledger, Record
from tests.unit.wallet.openings import Opening, SigningWallet
from tests.unit.wallet.samples import PEER, request

OWNER = b"\x02" * 33


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "wallet.record"
    Record.create(path, OWNER)
    return path


@pytest_asyncio.fixture
async def record(path: Path) -> AsyncIterator[Record]:
    async with Record(path, OWNER) as record:
        yield record


def answer_for(ledger: Ledger) -> tuple[int, bytes]:
    index = ledger.next_index()
    return index, b"answer %d" % index


async def test_an_answer_is_stored_and_stays(record: Record) -> None:
    first = await record.answer(request(1), answer_for)
    assert (first.answer, first.channel_index, first.refusal) == (b"answer 0", 0, None)
    assert (first.peer, first.digest) == (PEER, request(1).digest)
    assert await record.answer(request(1), lambda _: (7, b"another")) == first
    assert await record.refuse(request(1), "no") == first
    assert await record.find(request(1).delegation_id) == first
    assert await record.find(request(2).delegation_id) is None


async def test_a_refusal_is_stored_and_uses_no_index(record: Record) -> None:
    refusal = await record.refuse(request(1), "not today")
    assert (refusal.answer, refusal.channel_index, refusal.refusal) == (None, None, "not today")
    assert await record.answer(request(1), answer_for) == refusal
    assert (await record.answer(request(2), answer_for)).channel_index == 0


async def test_answers_outlive_the_process(path: Path) -> None:
    async with Record(path, OWNER) as record:
        before = await record.answer(request(1), answer_for)
    async with Record(path, OWNER) as record:
        assert await record.find(request(1).delegation_id) == before
        assert (await record.answer(request(2), answer_for)).channel_index == 1


async def test_concurrent_answers_never_share_an_index(path: Path) -> None:
    """Two processes' worth of records, on one file."""
    async with Record(path, OWNER) as first, Record(path, OWNER) as second:
        answers = await asyncio.gather(
            *(
                (first, second)[number % 2].answer(request(number), answer_for)
                for number in range(40)
            )
        )
        assert sorted(answer.channel_index or 0 for answer in answers) == list(range(40))
        again = await asyncio.gather(
            *(
                (second, first)[number % 2].answer(request(number), answer_for)
                for number in range(40)
            )
        )
        assert again == answers
        assert await first.channel_indices() == list(range(40))


async def test_a_failed_answer_leaves_nothing(record: Record) -> None:
    def fail(ledger: Ledger) -> tuple[int, bytes]:
        ledger.next_index()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await record.answer(request(1), fail)
    assert await record.find(request(1).delegation_id) is None
    assert (await record.answer(request(1), answer_for)).channel_index == 0


async def test_old_refusals_go_and_answers_stay(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_module, "_REPEATS_KEPT", 3)
    await record.answer(request(100), answer_for)
    for number in range(10):
        await record.refuse(request(number), "no")
    kept = [answer.delegation_id for answer in await record.latest(100)]
    assert kept == [request(number).delegation_id for number in (9, 8, 7, 100)]


async def test_channels_are_counted_by_time(record: Record) -> None:
    before = time.time()
    await record.answer(request(1), answer_for)
    await record.answer(request(2), answer_for)
    await record.refuse(request(3), "no")
    assert await record.channels_since(before) == 2
    assert await record.channels_since(time.time() + 1) == 0


async def test_a_restored_wallet_begins_above_its_old_indices(tmp_path: Path) -> None:
    path = tmp_path / "restored.record"
    Record.create(path, OWNER, next_channel_index=7)
    async with Record(path, OWNER) as record:
        assert (await record.answer(request(1), answer_for)).channel_index == 7


async def test_it_waits_for_the_disk(record: Record) -> None:
    assert record._thread.submit(
        lambda: [
            record._database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous")
        ]
    ).result() == ["wal", 2]


def test_only_the_owner_may_read_it(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_is_overwritten(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(RecordError, match="exists already"):
        Record.create(path, OWNER)
    assert path.read_bytes() == before


def test_a_lost_record_is_not_begun_again(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="could use keys twice"):
        Record(tmp_path / "none.record", OWNER)
    assert not list(tmp_path.iterdir())


def test_another_wallets_record_is_refused(path: Path) -> None:
    with pytest.raises(RecordError, match="another wallet's record"):
        Record(path, b"\x03" * 33)


def test_another_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE wallet (node_id BLOB)")
    database.close()
    with pytest.raises(RecordError, match="no wallet's record"):
        Record(path, OWNER)


def test_a_damaged_file_is_told(path: Path) -> None:
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(RecordError, match="failed"):
        Record(path, OWNER)


async def test_a_failing_disk_is_told_and_the_record_goes_on(record: Record) -> None:
    pages = record._thread.submit(
        lambda: record._database.execute("PRAGMA page_count").fetchone()[0]
    ).result()
    limit = f"PRAGMA max_page_count = {pages}"
    record._thread.submit(lambda: record._database.execute(limit).fetchone()).result()
    with pytest.raises(RecordError, match="full"):
        await record.answer(request(1), lambda _: (0, bytes(100_000)))
    assert await record.find(request(1).delegation_id) is None
    assert (await record.answer(request(2), answer_for)).channel_index == 0


# ---- a file of version 1 ----

_VERSION_1 = """
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
PRAGMA application_id = 0x4C505752;
PRAGMA user_version = 1;
COMMIT;
"""


@pytest.fixture
def old_path(tmp_path: Path) -> Path:
    """As the first release left it: one channel accepted, one refused."""
    path = tmp_path / "old.record"
    database = sqlite3.connect(path)
    database.executescript(_VERSION_1)
    database.execute("INSERT INTO wallet VALUES (?, 8)", (OWNER,))
    for number, index, answer, refusal in ((1, 7, b"answer 7", None), (2, None, None, "no")):
        asked = request(number)
        database.execute(
            "INSERT INTO answers VALUES (?, ?, 'channel_keys', ?, ?, ?, ?, ?, ?, ?)",
            (
                number,
                asked.delegation_id,
                asked.digest,
                asked.session_id,
                asked.peer,
                index,
                answer,
                refusal,
                time.time(),
            ),
        )
    database.commit()
    database.close()
    return path


async def test_an_older_file_is_brought_up_to_date(old_path: Path) -> None:
    for _ in range(2):
        async with Record(old_path, OWNER) as record:
            found = await record.answer(request(1), answer_for)
            assert (found.answer, found.channel_index) == (b"answer 7", 7)
            assert found.digest == request(1).digest
            assert (await record.answer(request(2), answer_for)).refusal == "no"
            assert await record.channels() == []
            assert await record.channels_since(0.0) == 1
    async with Record(old_path, OWNER) as record:
        assert (await record.answer(request(3), answer_for)).channel_index == 8
        assert await record.channel_indices() == [7, 8]


async def test_two_processes_bring_it_up_to_date_once(old_path: Path) -> None:
    opened = await asyncio.gather(*(asyncio.to_thread(Record, old_path, OWNER) for _ in range(4)))
    answers = await asyncio.gather(*(record.answer(request(3), answer_for) for record in opened))
    assert {answer.channel_index for answer in answers} == {8}
    for record in opened:
        record.close()


def test_a_migration_that_breaks_off_leaves_the_old_file(
    old_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = (*database_module._FROM_VERSION_1, "nonsense")
    with monkeypatch.context() as patched:
        patched.setattr(database_module, "_FROM_VERSION_1", broken)
        with pytest.raises(RecordError, match="nonsense"):
            Record(old_path, OWNER)
    Record(old_path, OWNER).close()


def test_a_newer_file_is_refused(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 5")
    database.close()
    with pytest.raises(RecordError, match="of this version"):
        Record(path, OWNER)


async def test_peers_are_remembered_where_there_are_channels(
    record: Record, tmp_path: Path
) -> None:
    await record.remember_peer(PEER, "old")
    await record.remember_peer(PEER, "new")
    assert await record.peer_addresses() == {}
    async with SigningWallet(tmp_path / "with channels") as wallet:
        opening = Opening(wallet)
        await opening.accept()
        await wallet.record.remember_peer(PEER, "new")
        assert await wallet.record.peer_addresses() == {}
        await opening.sign()
        assert await wallet.record.peer_addresses() == {PEER: "new"}
