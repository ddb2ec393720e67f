"""Many time limits of one length: each has all of its time, whenever it was set."""

import asyncio

import pytest

from lightning_proxy.relay.due import Due
from tests.support.clock import JumpingLoop


def test_who_is_added_anew_has_all_of_its_time_and_holds_nobody_up() -> None:
    over: list[tuple[str, float]] = []

    async def test() -> None:
        loop = asyncio.get_running_loop()
        due = Due[str](5.0, lambda thing: over.append((thing, loop.time())))
        for thing in ("first", "second", "third"):
            due.add(thing)
            await asyncio.sleep(1.0)
        due.add("first")
        due.discard("third")
        assert "first" in due
        assert "third" not in due
        await asyncio.sleep(60)

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(test())
    things, times = zip(*over, strict=True)
    assert things == ("second", "first")
    assert times == pytest.approx((6.0, 8.0))
