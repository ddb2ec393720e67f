"""Child processes of the lab: each in a group of its own, logged to a file, never left behind."""

import asyncio
import atexit
import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

STOP_TIMEOUT = 20.0
READY_TIMEOUT = 90.0

# A line holds a whole Lightning message in hex.
LINE_LIMIT = 1 << 20

T = TypeVar("T")

# Outlives this process by a moment: kills what is left when its standard input ends, for whatever
# reason that may be (a signal, too).
_REAPER = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    sign, group = line[0], int(line[1:])
    groups.add(group) if sign == "+" else groups.discard(group)
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""


class LabError(Exception):
    """A lab process isn't ready, died, or refused; the message holds the end of its log."""


@functools.cache
def _reaper() -> IO[str]:
    """Where the reaper is told of process groups that begin (``+id``) and end (``-id``)."""
    process = subprocess.Popen(
        [sys.executable, "-c", _REAPER],
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    # Also waits for it.
    atexit.register(process.communicate)
    return process.stdin


def _tell_reaper(word: str) -> None:
    print(word, file=_reaper(), flush=True)


def free_port(host: str) -> int:
    """A TCP port that nobody listens on at `host` just now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


class Child:
    """A running program. With `lines`, its standard output is JSON lines, else it joins the log."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @classmethod
    async def start(
        cls,
        name: str,
        argv: list[str | Path],
        log: Path,
        *,
        lines: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Self:
        """Starts `argv`; its standard input stays open until it is stopped."""
        with log.open("ab") as sink:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE if lines else sink,
                stderr=sink,
                env=os.environ | (env or {}),
                cwd=cwd,
                start_new_session=True,
                limit=LINE_LIMIT,
            )
        _tell_reaper(f"+{process.pid}")
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        """The program's."""
        return self._process.pid

    def log_tail(self, lines: int = 30) -> str:
        """The last lines of the log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def check(self) -> None:
        """Raises LabError when the program has ended."""
        if self._process.returncode is not None:
            status = self._process.returncode
            raise LabError(f"{self.name} ended with status {status}:\n{self.log_tail()}")

    async def read_line(self) -> dict[str, Any]:
        """The next JSON object from standard output; LabError at its end."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            await self._process.wait()
            self.check()
        event: dict[str, Any] = json.loads(line)
        return event

    async def write_line(self, message: Mapping[str, object]) -> None:
        """Sends a JSON object to standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        await self._process.stdin.drain()

    async def kill(self) -> None:
        """Ends the program as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self.stop()

    async def stop(self) -> None:
        """Asks the program to end, kills it when it doesn't, and sweeps up what it started."""
        process = self._process
        assert process.stdin is not None
        process.stdin.close()
        try:
            if process.returncode is None:
                process.terminate()
            async with asyncio.timeout(STOP_TIMEOUT):
                await process.wait()
        except TimeoutError:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            _tell_reaper(f"-{process.pid}")


class Part:
    """A part of the lab as an async context manager: `_start` fills the stack, leaving empties it.

    What was started before a failure is stopped. `child` is the part's program.
    """

    child: Child
    _stack: AsyncExitStack

    async def _start(self, stack: AsyncExitStack) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def restart(self) -> None:
        """Kills what runs, and starts it again in the same folder, at the same address."""
        await self.child.kill()
        await self._stack.aclose()
        await self.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()


async def until(
    what: str,
    probe: Callable[[], Awaitable[T | None]],
    *children: Child,
    patience: float = READY_TIMEOUT,
    interval: float = 0.05,
) -> T:
    """Asks `probe` until it gives a true value, which it returns.

    LabError names `what` when that doesn't happen within `patience` seconds, or when one of the
    `children` that it depends on ends.
    """
    last: Exception | None = None
    try:
        async with asyncio.timeout(patience):
            while True:
                for child in children:
                    child.check()
                try:
                    if value := await probe():
                        return value
                except (LabError, OSError) as error:
                    last = error
                await asyncio.sleep(interval)
    except TimeoutError:
        logs = "\n".join(f"--- {child.name}\n{child.log_tail()}" for child in children)
        raise LabError(f"waited {patience:.0f} s for {what} ({last})\n{logs}") from None
