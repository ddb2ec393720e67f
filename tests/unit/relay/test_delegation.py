"""Deadlines: whoever came first is over first, and one failure is nobody else's."""

import asyncio
from typing import cast

import pytest

from lightning_proxy.relay.delegation import Deadlines, Delegation


class Waiting:
    """A delegation as far as its deadline goes."""

    def __init__(self, name: str, *, fails: bool = False) -> None:
        self.name = name
        self.fails = fails

    def expire(self) -> None:
        expired.append(self.name)
        if self.fails:
            raise LookupError("a bug")


expired: list[str] = []


@pytest.fixture(autouse=True)
def _none_yet() -> None:
    expired.clear()


def add(deadlines: Deadlines, name: str, *, fails: bool = False) -> Delegation:
    delegation = cast("Delegation", Waiting(name, fails=fails))
    deadlines.add(delegation)
    return delegation


async def until_expired(count: int) -> None:
    async with asyncio.timeout(10):
        while len(expired) < count:
            await asyncio.sleep(0.005)


async def test_they_expire_in_the_order_in_which_they_came() -> None:
    deadlines = Deadlines(0.02)
    for name in ("first", "second"):
        add(deadlines, name)
    await asyncio.sleep(0.01)
    add(deadlines, "later")
    await until_expired(3)
    add(deadlines, "after a pause")
    await until_expired(4)
    assert expired == ["first", "second", "later", "after a pause"]


async def test_what_is_over_does_not_expire() -> None:
    deadlines = Deadlines(0.02)
    over = add(deadlines, "over")
    add(deadlines, "open")
    deadlines.discard(over)
    deadlines.discard(over)
    await until_expired(1)
    await asyncio.sleep(0.04)
    assert expired == ["open"]


async def test_a_failure_keeps_no_other_from_expiring() -> None:
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: failures.append(context["exception"])
    )
    deadlines = Deadlines(0.02)
    add(deadlines, "faulty", fails=True)
    add(deadlines, "healthy")
    await until_expired(2)
    assert expired == ["faulty", "healthy"]
    assert [type(failure) for failure in failures] == [LookupError]
