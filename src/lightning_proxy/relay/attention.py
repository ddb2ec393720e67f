"""Whether a wallet's devices, which seem to be connected, are there.

A suspended phone's kernel keeps its connection alive for minutes. So whoever is told something gets
a websocket ping with it; from whom nothing comes back in time counts as away.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Generic, Protocol, TypeVar


class Listener(Protocol):
    """One socket of a wallet's; none of its methods waits or raises."""

    #: Whether nothing came from it since it was spoken to. (Not times: the event loop's have
    #: milliseconds, in which much can happen.)
    is_silent: bool

    def probe(self) -> None:
        """Ask for a sign of life."""
        ...


L = TypeVar("L", bound=Listener)


class Attention(Generic[L]):
    """Of one wallet: made when it is first told something while it seems to be there.

    `listeners` gives those that matter now. `silent` is told of those that have not been heard
    `seconds` after something was said to them.
    """

    __slots__ = ("_listeners", "_said", "_seconds", "_silent", "_timer")

    def __init__(
        self,
        listeners: Callable[[], Iterable[L]],
        seconds: float,
        silent: Callable[[Collection[L]], None],
    ) -> None:
        self._listeners = listeners
        self._seconds = seconds
        self._silent = silent
        #: When something was said last.
        self._said = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def said(self) -> None:
        """Something was said to all listeners."""
        loop = asyncio.get_running_loop()
        self._said = loop.time()
        for listener in self._listeners():
            listener.is_silent = True
            if self._timer is None:
                listener.probe()
        if self._timer is None:
            self._timer = loop.call_at(self._said + self._seconds, self._look)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        silent = [each for each in self._listeners() if each.is_silent]
        if not silent:
            return
        due = self._said + self._seconds
        if due > loop.time():
            # More was said after the ping: that it was answered tells nothing of now.
            for listener in silent:
                listener.probe()
            self._timer = loop.call_at(due, self._look)
        else:
            self._silent(silent)
