"""Time limits of one length for many things, with one timer."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Due(Generic[T]):
    """All get as many `seconds`, so the first to come is due first; `over` is called with it."""

    def __init__(self, seconds: float, over: Callable[[T], None]) -> None:
        self.seconds = seconds
        self._over = over
        self._waiting: OrderedDict[T, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, thing: T) -> float:
        """Returns when it is due, by the event loop's clock, which no jump of the wall's moves.

        Whatever was added before gets all of its time again.
        """
        loop = asyncio.get_running_loop()
        self._waiting[thing] = due = loop.time() + self.seconds
        self._waiting.move_to_end(thing)
        if self._timer is None:
            self._timer = loop.call_at(due, self._look)
        return due

    def __contains__(self, thing: T) -> bool:
        return thing in self._waiting

    def discard(self, thing: T) -> None:
        self._waiting.pop(thing, None)

    def _look(self) -> None:
        """Deal with what is due, then wait for the next."""
        loop = asyncio.get_running_loop()
        self._timer = None
        try:
            while self._waiting:
                thing, due = next(iter(self._waiting.items()))
                if due > loop.time():
                    break
                del self._waiting[thing]
                self._over(thing)
        finally:
            if self._waiting:
                self._timer = loop.call_at(next(iter(self._waiting.values())), self._look)
