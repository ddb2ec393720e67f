"""Whether a device that seems to be connected is there.

A suspended phone's kernel keeps its connection alive for minutes. So whoever is told something gets
a websocket ping with it; a device whose pong does not come in time counts as away, and one from
which nothing comes after that, either, is gone.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

#: Of what is said within this part of the time limit, one ping asks: that bounds how many are under
#: way, however much a peer has to say.
_SHARE: Final = 8


class Listener(Protocol):
    """One socket of a wallet's; none of its methods waits or raises."""

    def probe(self, payload: bytes) -> None:
        """Send a websocket ping with these 8 bytes, after all that was said."""
        ...

    def taken(self) -> int | None:
        """Of what was said, the bytes that the other side took, about; None: all of it."""
        ...

    def abort(self, reason: str) -> None: ...


class Attention:
    """Of one listener: made when it is first told something.

    Each ping has `seconds` of its own for its pong. A listener that let one pass is silent, until
    anything comes from it. One that stays silent for `patience` seconds is aborted, unless it is
    still taking what was said: its link may be slow. `changed` is called when `is_silent` was.
    """

    __slots__ = (
        "_changed",
        "_due",
        "_last",
        "_listener",
        "_next",
        "_number",
        "_patience",
        "_seconds",
        "_taken",
        "_waiting",
        "_was_asked",
        "is_silent",
    )

    def __init__(
        self, listener: Listener, seconds: float, patience: float, changed: Callable[[], None]
    ) -> None:
        self.is_silent = False
        self._listener = listener
        self._seconds = seconds
        self._patience = patience
        self._changed = changed
        self._number = 0
        #: Loop time of the last ping.
        self._last = float("-inf")
        #: Pings that have no pong, by what they bear, and when that is due.
        self._waiting: deque[tuple[bytes, float]] = deque()
        #: The next ping, where it has to wait; and the next look at those that went.
        self._next: asyncio.TimerHandle | None = None
        self._due: asyncio.TimerHandle | None = None
        #: Of a silent one: what it had taken at the last look, and whether it was asked again.
        self._taken: int | None = None
        self._was_asked = False

    def said(self) -> None:
        """Something was said to it."""
        if self.is_silent or self._next is not None:
            return
        loop = asyncio.get_running_loop()
        due = self._last + self._seconds / _SHARE
        if due > loop.time():
            self._next = loop.call_at(due, self._ping)
        else:
            self._ping()

    def heard(self, pong: bytes | None = None) -> None:
        """Something came from it; `pong`: what the pong bears that it was.

        RFC 6455 §5.5.3: of several pings it may answer the last alone.
        """
        if self.is_silent:
            self.close()
            self.is_silent = False
            self._changed()
            return
        # Other frames may have left it before what was said came there.
        if any(payload == pong for payload, _ in self._waiting):
            while self._waiting.popleft()[0] != pong:
                pass

    def close(self) -> None:
        """Nothing is asked any more of what was said."""
        for timer in (self._next, self._due):
            if timer is not None:
                timer.cancel()
        self._next = self._due = None
        self._waiting.clear()

    def _ping(self) -> None:
        loop = asyncio.get_running_loop()
        self._next = None
        self._last = loop.time()
        due = self._last + self._seconds
        self._waiting.append((self._probe(), due))
        if self._due is None:
            self._due = loop.call_at(due, self._look)

    def _probe(self) -> bytes:
        self._number += 1
        payload = self._number.to_bytes(8, "big")
        self._listener.probe(payload)
        return payload

    def _look(self) -> None:
        """The oldest ping's time is over, or that of one that was answered."""
        loop = asyncio.get_running_loop()
        self._due = None
        if not self._waiting:
            return
        due = self._waiting[0][1]
        if due > loop.time():
            self._due = loop.call_at(due, self._look)
            return
        self.close()
        self.is_silent = True
        self._was_asked = False
        self._look_again(self._listener.taken())
        self._changed()

    def _look_again(self, taken: int | None) -> None:
        self._taken = taken
        loop = asyncio.get_running_loop()
        self._due = loop.call_later(self._patience / 2, self._give_up)

    def _give_up(self) -> None:
        """Not at one look: it may be this process that stood still, and has yet to read."""
        before, now = self._taken, self._listener.taken()
        is_taking = before is not None and now is not None and now > before
        if self._was_asked and not is_taking:
            self._listener.abort("it answers no ping")
            return
        if not is_taking:
            self._probe()
        self._was_asked = not is_taking
        self._look_again(now)
