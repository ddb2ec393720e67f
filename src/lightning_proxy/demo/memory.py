"""Reads the memory of a child process, on Linux."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

#: Bytes read at once.
_BLOCK: Final = 16 << 20
#: The kernel's own pages, which hold a clock and can't be read from outside.
_UNREADABLE: Final = ("[vvar", "[vsyscall]")


class MemoryUnreadable(Exception):
    """The memory can't be read; the sentence says why."""


def can_read() -> bool:
    """Whether this system shows a process's memory as a file."""
    return sys.platform == "linux"


@contextmanager
def stopped(process_id: int) -> Iterator[None]:
    """Hold a process still, so that nothing moves from where it wasn't read to where it was."""
    os.kill(process_id, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process_id, signal.SIGCONT)


def private_mappings(process_id: int) -> Iterator[Iterator[bytes]]:
    """Every readable private mapping of a process, each in blocks; raises `MemoryUnreadable`."""
    folder = Path("/proc") / str(process_id)
    try:
        with (folder / "mem").open("rb", buffering=0) as memory:
            for line in (folder / "maps").read_text().splitlines():
                place, permissions, *rest = line.split(maxsplit=5)
                if permissions[0] != "r" or permissions[3] != "p":
                    continue
                if rest[-1].startswith(_UNREADABLE):
                    continue
                start, end = (int(address, 16) for address in place.split("-"))
                yield _blocks(memory, start, end)
    except OSError as error:
        raise MemoryUnreadable(f"this system does not show it: {error.strerror}") from None


def _blocks(memory: IO[bytes], start: int, end: int) -> Iterator[bytes]:
    memory.seek(start)
    while start < end:
        block = memory.read(min(_BLOCK, end - start))
        if not block:
            raise MemoryUnreadable("a part of it could not be read")
        start += len(block)
        yield block
