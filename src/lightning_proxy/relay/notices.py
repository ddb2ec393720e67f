"""What a wallet was told and has not acknowledged, and what of it is worth waking it for."""

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any, Final, cast

from lightning_proxy.relay.wake.waker import URGENCY
from lightning_proxy.rpc import (
    Closed,
    Notification,
    PeerMessage,
    SessionLost,
    SlotUsed,
    WakeReason,
)

#: What a notification costs beside its message, roughly, in bytes.
_OVERHEAD: Final = 200
#: What those share that are empty. Whoever adds puts a queue of its own in its place first.
_EMPTY: Final = cast("deque[Any]", ())

#: What is worth waking a wallet for, and which of its fields the push names.
_WAKES: Final[dict[type, tuple[WakeReason, Callable[[Any], str]]]] = {
    PeerMessage: (WakeReason.MESSAGE, attrgetter("session_id")),
    Closed: (WakeReason.SESSION_LOST, attrgetter("session_id")),
    SessionLost: (WakeReason.SESSION_LOST, attrgetter("session_id")),
    SlotUsed: (WakeReason.SLOT_USED, attrgetter("slot_id")),
}


def cause_of(notification: Notification) -> tuple[WakeReason, str] | None:
    """Why a wallet that is away is woken for this, and the id that the push names."""
    if (cause := _WAKES.get(type(notification))) is None:
        return None
    reason, id_of = cause
    return reason, id_of(notification)


def size_of(notification: Notification) -> int:
    """Bytes that it takes while it waits, about."""
    match notification:
        case PeerMessage(message=message):
            return _OVERHEAD + len(message)
        case SlotUsed(open_channel=offered, accept_channel=accepted):
            return _OVERHEAD + len(offered) + len(accepted)
    return _OVERHEAD


class Notices:
    """Of one wallet; iterated by position."""

    __slots__ = ("_messages", "_others", "size")

    def __init__(self) -> None:
        #: Peers' messages, which may be dropped first, and all the rest.
        self._messages: deque[PeerMessage] = _EMPTY
        self._others: deque[Notification] = _EMPTY
        #: Bytes of all of them.
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self._messages or self._others)

    def __iter__(self) -> Iterator[Notification]:
        return heapq.merge(self._messages, self._others, key=attrgetter("position"))

    @property
    def messages(self) -> Iterator[PeerMessage]:
        """Those of peers, the oldest first."""
        return iter(self._messages)

    def reasons(self) -> list[tuple[WakeReason, str]]:
        """What a wallet that is away is wanted for, the most urgent first: of each the latest.

        Whatever was told since, as that a question is over, takes none of it back.
        """
        latest: dict[WakeReason, str] = {}
        for queue in (self._messages, self._others):
            for notification in reversed(queue):
                if (cause := cause_of(notification)) is not None:
                    latest.setdefault(*cause)
                    if queue is self._messages:
                        break
        return sorted(latest.items(), key=lambda cause: URGENCY[cause[0]])

    def add(self, notification: Notification) -> None:
        if isinstance(notification, PeerMessage):
            if not self._messages:
                self._messages = deque()
            self._messages.append(notification)
        else:
            if not self._others:
                self._others = deque()
            self._others.append(notification)
        self.size += size_of(notification)

    def take_until(self, position: int) -> list[Notification]:
        """Take out all up to this position."""
        taken: list[Notification] = []
        for queue in (self._messages, self._others):
            while queue and queue[0].position <= position:
                taken.append(queue.popleft())
        self.size -= sum(map(size_of, taken))
        return taken

    def spare(self) -> Notification | None:
        """Take out what is missed least: the oldest message, then the oldest notice.

        Never what tells of a used key slot: those have a cap of their own. None: there is no other.
        """
        spared: Notification
        if self._messages:
            spared = self._messages.popleft()
        else:
            for index, spared in enumerate(self._others):
                if not isinstance(spared, SlotUsed):
                    del self._others[index]
                    break
            else:
                return None
        self.size -= size_of(spared)
        return spared
