"""Approval by hand, over lines of text: numbered questions, answered by "y 3" or "n 3"."""

import asyncio
import itertools
import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from lightning_proxy.wallet.request import ChannelKeysRequest, LeftOpen

_LINE: Final = re.compile(r"\s*(y|yes|n|no)\s*([0-9]{1,9})\s*", re.IGNORECASE)
#: Bytes: an answer is short.
_MAX_LINE: Final = 1024


async def leave_open(_: ChannelKeysRequest) -> bool:
    """Another process of the wallet's is asked, or a later one."""
    raise LeftOpen


class LineApproval:
    """`show` puts a question before the owner, with its number.

    Answers name the number, so that a line typed for a question that has just gone is never taken
    for the next one.
    """

    def __init__(self, show: Callable[[int, ChannelKeysRequest], None]) -> None:
        self._show = show
        self._numbers = itertools.count(1)
        self._open: dict[int, asyncio.Future[bool]] = {}
        self._ended = False

    async def approve(self, request: ChannelKeysRequest) -> bool:
        """Wait for the owner's yes or no; once nobody can answer any more: no."""
        if self._ended:
            return False
        number = next(self._numbers)
        self._open[number] = asyncio.get_running_loop().create_future()
        try:
            self._show(number, request)
            return await self._open[number]
        finally:
            del self._open[number]

    def take(self, line: str) -> str | None:
        """A line was typed; returns a sentence if it answers nothing."""
        match = _LINE.fullmatch(line)
        if match is None:
            return 'Write "y" or "n" and the question\'s number, such as "y 1".' if line else None
        future = self._open.get(int(match[2]))
        if future is None or future.done():
            return f"Question {int(match[2])} is not open (any more)."
        future.set_result(match[1].lower().startswith("y"))
        return None

    def end(self) -> None:
        """Nobody is there to answer: all open questions get a no, and later ones too."""
        self._ended = True
        for future in self._open.values():
            if not future.done():
                future.set_result(False)


def read_lines(
    descriptor: int,
    on_line: Callable[[str], None],
    on_end: Callable[[], None],
    max_line: int = _MAX_LINE,
) -> None:
    """Call back on the running loop for each line of a file, a pipe or a terminal, then at its end.

    Of a longer line only `max_line` bytes are kept.

    By a thread, because a file can't be polled; a daemon, because nothing can stop its reading.
    """
    loop = asyncio.get_running_loop()

    def read() -> None:
        # The loop is closed when the program ends first.
        with suppress(RuntimeError):
            rest = b""
            with suppress(OSError):
                while data := os.read(descriptor, 4096):
                    *lines, rest = (rest + data).split(b"\n")
                    rest = rest[:max_line]
                    for line in lines:
                        text = line[:max_line].decode("utf-8", "replace").rstrip("\r")
                        loop.call_soon_threadsafe(on_line, text)
            loop.call_soon_threadsafe(on_end)

    threading.Thread(target=read, name="wallet-lines", daemon=True).start()
