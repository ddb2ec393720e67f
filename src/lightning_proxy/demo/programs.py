"""The demo's child processes: their lines, the end of their logs, and never one left behind."""

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Self

import msgspec

from lightning_proxy.demo.lines import MAX_LINE

#: Seconds from SIGTERM to SIGKILL; the relay takes up to ten.
_STOP_TIMEOUT: Final = 12.0
#: Lines of each log that are kept for a failure.
_TAIL: Final = 20
_MAX_SHOWN: Final = 500

#: Takes one JSON line of a program's, or None at its end.
Take = Callable[["Program", dict[str, Any] | None], None]


def environ_without_settings() -> dict[str, str]:
    """Ours, without settings of another relay or wallet."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("LIGHTNING_PROXY_") or name == "LIGHTNING_PROXY_KERNEL"
    }


class Program:
    """A running `python -m module`; use as an async context manager, which stops it.

    Both its stdout and its stderr may hold JSON lines, which `take` gets; other lines are kept for
    `tail`.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        take: Take,
        *,
        environ: Mapping[str, str],
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.name = name
        self._arguments = arguments
        self._take = take
        self._environ = environ
        self._pass_fds = pass_fds
        self._tail: deque[str] = deque(maxlen=_TAIL)

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *self._arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(self._environ),
            limit=MAX_LINE,
            pass_fds=tuple(self._pass_fds),
            # Ctrl-C is for the demo, which then ends its children in order.
            start_new_session=True,
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def process_id(self) -> int:
        """Its id, for as long as it was not stopped."""
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; it has to be running."""
        self._process.send_signal(number)

    async def stop(self) -> None:
        """End it: politely, then by force; harmless where it has ended."""
        process = self._process
        try:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                async with asyncio.timeout(_STOP_TIMEOUT):
                    await process.wait()
        except TimeoutError:
            pass
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            await self._reading

    def tail(self) -> list[str]:
        """The last lines that it wrote, cut to a readable length."""
        return [f"{self.name}: {line[:_MAX_SHOWN]}" for line in self._tail]

    async def _read(self) -> None:
        process = self._process
        await asyncio.gather(self._read_from(process.stdout), self._read_from(process.stderr))
        await process.wait()
        self._take(self, None)

    async def _read_from(self, stream: asyncio.StreamReader | None) -> None:
        assert stream is not None  # noqa: S101 - for the type checker: both are pipes
        while True:
            try:
                line = await stream.readline()
            except ValueError:
                self._tail.append("(a line that is too long)")
                continue
            if not line:
                return
            try:
                value = msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.MsgspecError:
                self._tail.append(line.decode("utf-8", "replace").rstrip())
                continue
            if value.get("event") != "frame":
                self._tail.append(line.decode("utf-8", "replace").rstrip())
            self._take(self, value)
