"""Who is there and who is not, to the second: by a clock that jumps to whatever is next."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_proxy.relay.attention import Attention
from tests.support.clock import JumpingLoop

SECONDS, PATIENCE = 2.0, 5.0
#: What is said within this is asked after by one ping.
SHARE = SECONDS / 8
LATER = 0.001


def timed(test: Callable[["Phone"], Coroutine[Any, Any, None]], phone: "Phone") -> None:
    """Run it within no time."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(test(phone))


def now() -> float:
    return asyncio.get_running_loop().time()


async def until(time: float) -> None:
    await asyncio.sleep(max(0.0, time - now()))


class Phone:
    """`delays` gives how long its pongs take, in turn; None: it sleeps."""

    def __init__(self, *delays: float | None) -> None:
        self.delays = list(delays)
        self.pings: list[bytes] = []
        self.changes: list[tuple[float, bool]] = []
        self.aborted: float | None = None
        self.backlog: list[int | None] = [None]
        self.attention = Attention(self, SECONDS, PATIENCE, self._changed)

    def probe(self, payload: bytes) -> None:
        self.pings.append(payload)
        delay = self.delays.pop(0) if self.delays else None
        if delay is not None:
            asyncio.get_running_loop().call_later(delay, self.attention.heard, payload)

    def taken(self) -> int | None:
        return self.backlog.pop(0) if len(self.backlog) > 1 else self.backlog[0]

    def abort(self, reason: str) -> None:
        assert reason
        self.aborted = now()

    def _changed(self) -> None:
        self.changes.append((now(), self.attention.is_silent))


moments = st.lists(st.floats(0, 4), min_size=1, max_size=30)


@given(moments, st.lists(st.floats(0, SECONDS - 0.1), min_size=40, max_size=40))
def test_a_live_device_on_a_slow_link_is_never_taken_for_asleep(
    gaps: list[float], delays: list[float]
) -> None:
    async def test(phone: Phone) -> None:
        for gap in gaps:
            await asyncio.sleep(gap)
            phone.attention.said()
        await asyncio.sleep(60)
        assert phone.changes == []
        assert phone.aborted is None

    timed(test, Phone(*delays))


@given(moments, st.integers(0, 30))
def test_whatever_was_said_before_a_device_that_sleeps_is_found_out(
    gaps: list[float], awake: int
) -> None:
    async def test(phone: Phone) -> None:
        for gap in gaps[:awake]:
            await asyncio.sleep(gap)
            phone.attention.said()
        phone.delays.clear()
        # The first that it doesn't answer.
        for number, gap in enumerate(gaps[awake:] or [1.0]):
            await asyncio.sleep(gap)
            phone.attention.said()
            if number == 0:
                said = now()
        await until(said + SECONDS + SHARE + LATER)
        assert phone.attention.is_silent
        await asyncio.sleep(60)
        ((since, is_silent),) = phone.changes
        assert is_silent
        assert since <= said + SECONDS + SHARE + LATER
        assert phone.aborted == pytest.approx(since + PATIENCE)

    timed(test, Phone(*[0.1] * 100))


def test_each_ping_has_its_own_time() -> None:
    async def test(phone: Phone) -> None:
        phone.attention.said()
        await until(1.0)
        phone.attention.said()
        # The first was answered, which tells nothing of the second.
        await until(3.0 - LATER)
        assert phone.changes == []
        await until(3.0 + LATER)
        assert phone.attention.is_silent

    timed(test, Phone(1.5, None))


def test_a_pong_for_a_later_ping_answers_the_earlier_ones() -> None:
    async def test(phone: Phone) -> None:
        for _ in range(3):
            phone.attention.said()
            await asyncio.sleep(0.5)
        await asyncio.sleep(60)
        assert len(phone.pings) == 3
        assert phone.changes == []

    timed(test, Phone(None, None, 0.1))


@pytest.mark.parametrize("pong", [None, b"", b"\x00" * 8, b"\xff" * 8])
def test_what_else_comes_answers_no_ping_but_shows_that_it_lives(pong: bytes | None) -> None:
    async def test(phone: Phone) -> None:
        phone.attention.said()
        phone.attention.heard(pong)
        await until(SECONDS + LATER)
        assert phone.attention.is_silent
        await until(SECONDS + PATIENCE - LATER)
        phone.attention.heard(pong)
        await asyncio.sleep(60)
        assert [is_silent for _, is_silent in phone.changes] == [True, False]
        assert phone.aborted is None

    timed(test, Phone())


def test_who_still_takes_what_was_said_is_not_cut() -> None:
    """Its ping is behind much else."""

    async def test(phone: Phone) -> None:
        phone.attention.said()
        phone.backlog = [*range(100, 120), 120]
        await until(SECONDS + 19 * PATIENCE / 2 + LATER)
        assert phone.attention.is_silent
        assert phone.aborted is None
        # Then it takes no more.
        await asyncio.sleep(60)
        assert phone.aborted == pytest.approx(SECONDS + 22 * PATIENCE / 2)

    timed(test, Phone())


def test_however_much_is_said_there_are_few_pings() -> None:
    async def test(phone: Phone) -> None:
        for _ in range(1000):
            phone.attention.said()
            await asyncio.sleep(0.002)
        await asyncio.sleep(60)
        assert len(phone.pings) <= 10
        assert len(set(phone.pings)) == len(phone.pings)
        assert phone.changes == []

    timed(test, Phone(*[1.9] * 10))


def test_after_the_end_nothing_is_asked() -> None:
    async def test(phone: Phone) -> None:
        phone.attention.said()
        phone.attention.said()
        phone.attention.close()
        await asyncio.sleep(60)
        assert len(phone.pings) == 1
        assert phone.changes == []

    timed(test, Phone())
