"""A part of a benchmark in a process of its own: asked over a pipe, one thing at a time."""

import asyncio
import multiprocessing
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, Final

import uvloop

from benchmarks.load import cpu_seconds

Answer = Callable[..., Awaitable[Any]]
#: Seconds for an answer.
_PATIENCE: Final = 300.0


class Part:
    """The other end of a pipe; what it fails by, is raised here."""

    def __init__(self, pipe: Connection, pid: int) -> None:
        self._pipe = pipe
        self.pid = pid

    def ask(self, *words: Any) -> Any:
        """Returns what the part answers."""
        self._pipe.send(words)
        if not self._pipe.poll(_PATIENCE):
            raise TimeoutError(f"no answer to {words[0]}")
        well, answer = self._pipe.recv()
        if not well:
            raise RuntimeError(answer)
        return answer

    def cpu_seconds(self) -> float:
        """User and system time of all its threads so far."""
        return cpu_seconds(self.pid)


@contextmanager
def part(make: Callable[..., Awaitable[Answer]], *arguments: Any) -> Iterator[Part]:
    """A process that runs what `make` returns for each question, until the context ends.

    It is forked: `arguments` may be anything.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs, make, arguments), daemon=True)
    process.start()
    theirs.close()
    assert process.pid is not None
    try:
        yield Part(ours, process.pid)
    finally:
        process.kill()
        process.join()


def _run(pipe: Connection, make: Callable[..., Awaitable[Answer]], arguments: Any) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        failed: asyncio.Future[str] = loop.create_future()

        def on_exception(_: object, context: dict[str, Any]) -> None:
            error = context.get("exception")
            if not failed.done():
                failed.set_result(f"{context['message']}: {error!r}")

        loop.set_exception_handler(on_exception)
        answer = await make(*arguments)
        while True:
            words = await loop.run_in_executor(None, pipe.recv)
            work = asyncio.ensure_future(answer(*words))
            await asyncio.wait((work, failed), return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                pipe.send((False, failed.result()))
                return
            pipe.send(
                (False, repr(work.exception())) if work.exception() else (True, work.result())
            )

    try:
        uvloop.run(serve())
    except (EOFError, KeyboardInterrupt):
        # The benchmark is over.
        return
