"""Watching outputs: one source is asked, block by block, and who cares hears of what changed."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import structlog

from lightning_proxy.chain import checks
from lightning_proxy.chain.source import ChainError, ChainSource, Output, Tip

#: Asked for at once.
CONCURRENCY: Final = 8

_LONGEST_PAUSE: Final = 120.0
# So that many watches don't ask their one source in the same instant.
_JITTER: Final = 0.1

Outpoint = tuple[bytes, int]

_log = structlog.get_logger(__name__)

#: Hears what its output is now; None when the source knows no such output (any more).
WatchCallback = Callable[[Output | None], None]


class WatchedOutput:
    """One wish to hear of an output, until `unwatch`."""

    __slots__ = ("_callback", "_watch", "due", "outpoint", "seen")

    def __init__(self, watch: "OutputWatch", outpoint: Outpoint, callback: WatchCallback) -> None:
        self._watch: OutputWatch | None = watch
        self._callback = callback
        self.outpoint: Final = outpoint
        #: What was last told.
        self.seen: Output | None = None
        #: Whether it is asked for even if the chain stays as it is.
        self.due = True

    def unwatch(self) -> None:
        """Hear no more; twice is as good as once."""
        if self._watch is not None:
            self._watch.forget(self)
            self._watch = None

    def tell(self, output: Output | None) -> None:
        """Hand on what changed; an exception of whoever listens is logged and goes no further."""
        self.due = False
        if self._watch is None or output == self.seen:
            return
        self.seen = output
        try:
            self._callback(output)
        except Exception:  # noqa: BLE001 - one listener's fault is not the others'
            txid, index = self.outpoint
            _log.exception("chain watch: a listener failed", txid=txid[::-1].hex(), index=index)


class OutputWatch:
    """Watches outputs by asking one source; ``async with OutputWatch(source) as watch``.

    Every `interval` seconds it asks for the tip; when that is another block (higher or not), it
    asks for each output again. An unconfirmed transaction that appears between two blocks is
    noticed with the next block, or by `poke`. A source that fails is asked more and more rarely,
    and never given up. The source stays its owner's to close.
    """

    def __init__(self, source: ChainSource, *, interval: float = 10.0) -> None:
        self._source = source
        self._interval = interval
        self._watched: dict[Outpoint, list[WatchedOutput]] = {}
        self._tip: Tip | None = None
        self._failures = 0
        self._failing: set[Outpoint] = set()
        self._wake = asyncio.Event()
        self._pokes: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._answer(self._pokes)

    def watch(self, txid: bytes, index: int, callback: WatchCallback) -> WatchedOutput:
        """Hear of an output of a transaction (32 bytes, as in messages) whenever it changes.

        The callback is called from the event loop, first when the source knows the output, then
        with each block (`confirmations` change), also when a reorg takes some or all of it away,
        and when it is spent. Raises `ValueError` for what is no outpoint.
        """
        checks.check_outpoint(txid, index)
        watched = WatchedOutput(self, (txid, index), callback)
        self._watched.setdefault(watched.outpoint, []).append(watched)
        self._wake.set()
        return watched

    def forget(self, watched: WatchedOutput) -> None:
        """What `WatchedOutput.unwatch` does here."""
        same = self._watched[watched.outpoint]
        same.remove(watched)
        if not same:
            del self._watched[watched.outpoint]
            self._failing.discard(watched.outpoint)

    def poke(self) -> asyncio.Future[None]:
        """Look at every output now, whether or not there is another tip.

        What is returned may be awaited: it is done when that look is over, well or not.
        """
        poke = asyncio.get_running_loop().create_future()
        self._pokes.append(poke)
        self._wake.set()
        return poke

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            pokes, self._pokes = self._pokes, []
            try:
                await self._look(everything=bool(pokes))
            except Exception as error:  # noqa: BLE001 - that a watch ended would be noticed by nobody
                self._failed(error)
            else:
                self._succeeded()
            finally:
                self._answer(pokes)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()

    async def _look(self, *, everything: bool) -> None:
        tip = await self._source.tip()
        everything = everything or tip != self._tip
        asked = [
            outpoint
            for outpoint, same in self._watched.items()
            if everything or any(watched.due for watched in same)
        ]
        for watched in (watched for outpoint in asked for watched in self._watched[outpoint]):
            watched.due = True
        # From here on, what fails is due by itself.
        self._tip = tip
        # Last, what failed so far: the others shall not wait for it.
        look = _Look(iter(sorted(asked, key=self._failing.__contains__)))
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(self._ask(look))
        failing_now = (look.errors.keys() & self._watched.keys()) - self._failing
        self._failing |= failing_now
        if look.failed_in_a_row >= CONCURRENCY:
            raise next(reversed(look.errors.values()))
        for outpoint in failing_now:
            txid, index = outpoint
            _log.warning(
                "chain watch: no answer for one output",
                txid=txid[::-1].hex(),
                index=index,
                error=str(look.errors[outpoint]),
            )

    async def _ask(self, look: "_Look") -> None:
        for outpoint in look.outpoints:
            try:
                output = await self._source.output(*outpoint)
            except ChainError as error:
                look.errors[outpoint] = error
                look.failed_in_a_row += 1
                if look.failed_in_a_row >= CONCURRENCY:
                    # It's the source that fails; the rest would only wait for nothing.
                    return
                continue
            look.failed_in_a_row = 0
            self._failing.discard(outpoint)
            for watched in tuple(self._watched.get(outpoint, ())):
                watched.tell(output)

    def _succeeded(self) -> None:
        if self._failures:
            _log.info("chain watch: the source answers again", failures=self._failures)
        self._failures = 0

    def _failed(self, error: Exception) -> None:
        if not self._failures:
            _log.warning(
                "chain watch: the source fails",
                error=str(error),
                # A fault of ours, unlike the source's, needs more than a sentence.
                exc_info=None if isinstance(error, ChainError) else error,
            )
        self._failures += 1

    def _pause(self) -> float:
        longest = max(self._interval, _LONGEST_PAUSE)
        pause = min(self._interval * 2.0 ** min(self._failures, 16), longest)
        return pause * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret

    @staticmethod
    def _answer(pokes: list[asyncio.Future[None]]) -> None:
        for poke in pokes:
            if not poke.done():
                poke.set_result(None)


@dataclass(slots=True)
class _Look:
    """One round through what is asked for."""

    outpoints: Iterator[Outpoint]
    errors: dict[Outpoint, ChainError] = field(default_factory=dict)
    failed_in_a_row: int = 0
