import asyncio
import os

import pytest

from lightning_proxy.wallet.approval import LineApproval, read_lines
from tests.unit.wallet.samples import request


class Desk:
    """An approval, and the numbers that it showed."""

    def __init__(self) -> None:
        self.shown: list[int] = []
        self.approval = LineApproval(lambda number, _: self.shown.append(number))

    async def ask(self, number: int = 1) -> asyncio.Task[bool]:
        task = asyncio.create_task(self.approval.approve(request(number)))
        await asyncio.sleep(0)
        return task


@pytest.mark.parametrize(
    ("line", "approved"),
    [("y 1", True), ("yes 1", True), (" Y1 ", True), ("n 1", False), ("NO 1", False)],
)
async def test_yes_and_no(line: str, approved: bool) -> None:
    desk = Desk()
    task = await desk.ask()
    assert desk.approval.take(line) is None
    assert await task is approved


async def test_questions_are_answered_in_any_order() -> None:
    desk = Desk()
    tasks = [await desk.ask(number) for number in range(3)]
    assert desk.shown == [1, 2, 3]
    for line in ("y 3", "n 1", "y 2"):
        assert desk.approval.take(line) is None
    assert await asyncio.gather(*tasks) == [False, True, True]


async def test_an_answer_to_a_question_that_went_is_not_the_next_ones() -> None:
    desk = Desk()
    first = await desk.ask()
    first.cancel()
    await asyncio.wait([first])
    second = await desk.ask(2)
    assert "not open" in (desk.approval.take("y 1") or "")
    await asyncio.sleep(0)
    assert not second.done()
    desk.approval.take("n 2")
    assert await second is False


@pytest.mark.parametrize("line", ["y", "1", "maybe 1", "y 1 please", "y " + "1" * 5000])
async def test_anything_else_answers_nothing(line: str) -> None:
    desk = Desk()
    task = await desk.ask()
    assert "number" in (desk.approval.take(line) or "")
    assert desk.approval.take("") is None
    assert not task.done()
    desk.approval.end()
    assert await task is False


async def test_twice_answered_is_once_answered() -> None:
    desk = Desk()
    task = await desk.ask()
    assert desk.approval.take("n 1") is None
    assert "not open" in (desk.approval.take("y 1") or "")
    assert await task is False


async def test_without_anybody_to_ask_the_answer_is_no() -> None:
    desk = Desk()
    waiting = await desk.ask()
    desk.approval.end()
    assert await waiting is False
    assert await desk.approval.approve(request(2)) is False
    assert desk.shown == [1]


async def test_lines_are_read_from_a_pipe_to_its_end() -> None:
    reader, writer = os.pipe()
    lines: list[str] = []
    ended = asyncio.Event()
    read_lines(reader, lines.append, ended.set)
    os.write(writer, b"y 1\r\n\nn ")
    os.write(writer, b"2\n" + b"x" * 3000 + b"\nunfinished")
    os.close(writer)
    await asyncio.wait_for(ended.wait(), 10)
    os.close(reader)
    assert lines == ["y 1", "", "n 2", "x" * 1024]
