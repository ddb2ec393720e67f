"""The fast part of the random-kill suite (`make soak` runs all of it), and the faults it finds."""

import io
from typing import Any

import pytest
from rich.console import Console

from tests.soak.__main__ import table
from tests.soak.ledger import FROM_PEER, Ledger, Said, numbered
from tests.soak.notices import Held, Notices
from tests.soak.run import Soak
from tests.soak.tally import Fault, Tally

KILLS = 4
SESSION = "5e" * 16


async def test_killed_at_random_moments_the_relay_loses_and_doubles_nothing() -> None:
    tally = Tally(seed=6)
    await Soak(tally, KILLS, lambda: None).run()
    assert tally.sentences == []
    assert tally.is_good, tally.numbers()
    # And something went on: the rest is the dice's.
    assert tally.kills == KILLS + 1
    for what in (tally.sent, tally.delivered, tally.settled, tally.accepted, tally.wakes):
        assert what > 0, tally.numbers()


# ---- what the suite finds ----


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(Tally(seed=0))


@pytest.fixture
def notices(ledger: Ledger) -> Notices:
    notices = Notices(ledger)
    notices.sessions[SESSION] = Held(SESSION, is_established=True)
    ledger.said[SESSION] = Said(sent=10, stored=3)
    return notices


def message(number: int, position: int | None = None) -> dict[str, Any]:
    return {
        "method": "message",
        "params": {
            "session_id": SESSION,
            "sequence": number + 1,
            "message": numbered(FROM_PEER, SESSION, number).hex(),
            "position": 1 + number if position is None else position,
        },
    }


def lost(position: int) -> dict[str, Any]:
    params = {"session_id": SESSION, "peer": "somebody", "position": position}
    return {"method": "session_lost", "params": params}


def faults(ledger: Ledger) -> dict[Fault, int]:
    return dict(ledger.tally.faults)


def test_what_is_right_is_no_fault(ledger: Ledger, notices: Notices) -> None:
    for number in (0, 1, 2):
        notices.take(message(number))
    notices.acknowledge(2)
    notices.connected()
    for body in (message(2), lost(9)):
        notices.take(body)
    # The relay was killed before the first was acknowledged.
    notices.connected()
    for body in (message(2), lost(9), lost(20)):
        notices.take(body)
    assert faults(ledger) == {}
    assert (ledger.tally.delivered, ledger.tally.acknowledged) == (3, 2)


def test_a_gap(ledger: Ledger, notices: Notices) -> None:
    for number in (0, 3):
        notices.take(message(number))
    assert faults(ledger) == {Fault.LOST: 2}


def test_what_was_stored_and_never_came(ledger: Ledger, notices: Notices) -> None:
    for body in (message(0), lost(9)):
        notices.take(body)
    assert faults(ledger) == {Fault.LOST: 2}


def test_what_was_acknowledged_and_comes_again(ledger: Ledger, notices: Notices) -> None:
    notices.take(message(0))
    notices.acknowledge(1)
    notices.connected()
    notices.take(message(0))
    assert faults(ledger) == {Fault.DOUBLED: 1}


def test_what_comes_again_at_another_position(ledger: Ledger, notices: Notices) -> None:
    notices.take(message(0))
    notices.take(message(0, position=7))
    assert faults(ledger) == {Fault.REORDERED: 1}


def test_an_end_that_is_told_twice(ledger: Ledger, notices: Notices) -> None:
    for number in range(3):
        notices.take(message(number))
    notices.take(lost(8))
    notices.acknowledge(8)
    notices.take(lost(9))
    assert faults(ledger) == {Fault.DOUBLED: 1}


def test_positions_that_fall(ledger: Ledger, notices: Notices) -> None:
    notices.take(message(0, position=5))
    notices.take(message(1, position=4))
    assert Fault.REORDERED in faults(ledger)


def test_another_message_at_the_same_position(ledger: Ledger, notices: Notices) -> None:
    notices.take(message(0))
    notices.connected()
    notices.take(message(1, position=1))
    assert faults(ledger) == {Fault.WRONG: 1}


def test_a_message_that_nobody_sent(ledger: Ledger, notices: Notices) -> None:
    body = message(0)
    body["params"]["message"] += "00"
    notices.take(body)
    assert faults(ledger) == {Fault.WRONG: 1}


def test_the_table_shows_the_faults() -> None:
    tally = Tally(seed=3, sent=1234, finished=True)
    verdicts = [tally.is_good]
    tally.found(Fault.LOST, "a message", 2)
    assert [*verdicts, tally.is_good] == [True, False]
    console = Console(record=True, width=80, file=io.StringIO())
    console.print(table(tally))
    shown = [line.replace(" ", "") for line in console.export_text().splitlines()]
    assert {"│sent│1,234│", "│lost│2│", "│doubled│0│"} <= set(shown)
