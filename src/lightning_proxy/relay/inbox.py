"""What the relay holds for one wallet: sessions, open delegations, messages that wait."""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from msgspec import Raw, structs

from lightning_proxy.relay.attention import Attention
from lightning_proxy.relay.counters import Counters
from lightning_proxy.relay.delegation import Delegation, DelegationState
from lightning_proxy.relay.devices import LeaseKey, Leases
from lightning_proxy.relay.due import Due
from lightning_proxy.relay.journal import Journal
from lightning_proxy.relay.presence import Presence
from lightning_proxy.relay.settings import RelaySettings
from lightning_proxy.relay.wake.waker import Waker
from lightning_proxy.rpc import (
    MAX_SENTENCE,
    Closed,
    Delegate,
    ErrorCode,
    LeaseLost,
    Notification,
    PeerMessage,
    RpcError,
    SessionLost,
    SlotUsed,
    Voided,
    WakeReason,
)

if TYPE_CHECKING:
    from lightning_proxy.relay.session import Session

#: Ids of delegations that are over, kept so that a late answer gets a true error.
_REMEMBERED = 256
#: What a queued notification costs beside its message, roughly, in bytes.
_NOTIFICATION_OVERHEAD = 200
_NOBODY: Final[frozenset["Socket"]] = frozenset()
#: What empty inboxes share. Whoever adds puts a container of the inbox's own in its place first;
#: who forgets to gets an error from these.
_NOTHING: Final = cast("dict[str, Any]", MappingProxyType({}))
_EMPTY_QUEUE: Final = cast("deque[Any]", ())

#: What is worth waking a wallet for, and which of its fields the push names.
_WAKES: Final[dict[type, tuple[WakeReason, Callable[[Any], str]]]] = {
    PeerMessage: (WakeReason.MESSAGE, attrgetter("session_id")),
    Closed: (WakeReason.SESSION_LOST, attrgetter("session_id")),
    SessionLost: (WakeReason.SESSION_LOST, attrgetter("session_id")),
    SlotUsed: (WakeReason.SLOT_USED, attrgetter("slot_id")),
}


class Socket(Protocol):
    """One of a wallet's sockets, as the inbox sees it; none of its methods waits or raises."""

    @property
    def device_key(self) -> bytes:
        """33 bytes; the node id, where it is the node key's."""
        ...

    @property
    def can_answer(self) -> bool:
        """Whether its device sees what is asked, and may answer it."""
        ...

    def delegate(self, envelope: Delegate) -> None: ...

    def notify(self, notification: Notification | LeaseLost) -> None: ...

    def hang_up(self, reason: str) -> None: ...

    def abort(self, reason: str) -> None: ...

    #: Whether no frame came from it since it was told something; `Attention`'s to set.
    is_silent: bool

    def probe(self) -> None:
        """Send a websocket ping."""
        ...


@dataclass(slots=True)
class Office:
    """What all inboxes share."""

    settings: RelaySettings
    counters: Counters
    journal: Journal
    waker: Waker
    leases: Leases
    #: Bytes that wait in all inboxes together.
    queued_bytes: int = 0
    #: Set whenever a delegation is over.
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    #: Questions that were asked of a device that seemed to be there.
    unanswered: Due[tuple["Inbox", Delegation]] = field(init=False)

    def __post_init__(self) -> None:
        self.unanswered = Due(
            self.settings.wallet_answer_timeout, lambda asked: asked[0].unanswered(asked[1])
        )


class Inbox:
    """`node_id` is the wallet's; None: one session's own, made over REST and not yet adopted.

    There may be one for each session, and most are empty: a container is made when it is needed.

    What a wallet is told waits until it acknowledges it, and is told again to each new socket; the
    journal keeps a copy on disk. Open delegations wait likewise until they are over. An unadopted
    session's things have no position and no copy.
    """

    __slots__ = (
        "_attention",
        "_behind",
        "_messages",
        "_notices",
        "_office",
        "_open",
        "_over",
        "_queued_bytes",
        "_silent",
        "node_id",
        "sessions",
        "sockets",
    )

    def __init__(self, node_id: bytes | None, office: Office) -> None:
        self.node_id = node_id
        #: By id; what an unadopted session has for its own lists nothing.
        self.sessions: dict[str, Session] = _NOTHING
        self.sockets: tuple[Socket, ...] = ()
        self._office = office
        self._open: dict[str, Delegation] = _NOTHING
        self._over: dict[str, str] = _NOTHING
        #: What is not acknowledged: peers' messages, which may be dropped, and all the rest.
        self._messages: deque[PeerMessage] = _EMPTY_QUEUE
        self._notices: deque[Notification] = _EMPTY_QUEUE
        self._queued_bytes = 0
        self._behind: frozenset[Socket] = _NOBODY
        #: Those that were spoken to and give no sign of life.
        self._silent: frozenset[Socket] = _NOBODY
        self._attention: Attention[Socket] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing goes on here; messages may still wait."""
        return not (self.sessions or self.sockets or self._open)

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be lost by forgetting it."""
        return self.is_idle and not self._messages and not self._notices

    @property
    def is_attended(self) -> bool:
        """Whether a device is there that can answer, as far as one can tell."""
        return any(self._listeners())

    @property
    def queued_bytes(self) -> int:
        """What waits here to be acknowledged."""
        return self._queued_bytes

    @property
    def delegations(self) -> Iterable[Delegation]:
        """Those that are open, the oldest first."""
        return self._open.values()

    # ---- the wallet's side ----

    def check_room(self) -> None:
        """Raise `RpcError` (limit) where another socket would be too many."""
        if len(self.sockets) >= self._office.settings.max_sockets_per_wallet:
            raise RpcError(
                ErrorCode.LIMIT,
                f"This wallet has {len(self.sockets)} sockets open already; close one.",
            )

    def attach(self, socket: Socket) -> None:
        """A socket of the wallet's came: it gets what waits, in the order in which it came."""
        self.sockets = (*self.sockets, socket)
        if socket.can_answer:
            self._attended()
        asked = ((each.position, each) for each in self._open.values())
        told = ((each.position, each) for each in self._waiting())
        for _, waiting in heapq.merge(asked, told, key=itemgetter(0)):
            if isinstance(waiting, Delegation):
                waiting.was_delivered = True
                socket.delegate(waiting.envelope)
            else:
                socket.notify(waiting)

    def detach(self, socket: Socket) -> None:
        self.sockets = tuple(other for other in self.sockets if other is not socket)
        self.set_behind(socket, behind=False)
        self._silent -= {socket}
        if self._attention is not None and not self.sockets:
            self._attention.close()
            self._attention = None
        if socket.can_answer and not self.is_attended:
            # It may be that nobody read what was sent last.
            self._unattended()

    def heard(self, socket: Socket) -> None:
        """A frame came from this socket: if it was taken for dead, it isn't."""
        if socket in self._silent:
            self._silent -= {socket}
            self._attended()

    def unanswered(self, delegation: Delegation) -> None:
        """A device is there, and says nothing: its owner may not be looking."""
        self._wake(WakeReason.DELEGATION, delegation.id, delegation.due)

    def wake(self) -> None:
        """Wake the wallet for all that waits here, if anything does."""
        for delegation in self._open.values():
            self._wake(WakeReason.DELEGATION, delegation.id, delegation.due)
        for queue in (self._notices, self._messages):
            if queue:
                self._wake_for(queue[-1])

    def set_behind(self, socket: Socket, *, behind: bool) -> None:
        """A socket can't keep up, or can again: meanwhile the wallet's peers are not read."""
        self._behind = self._behind | {socket} if behind else self._behind - {socket}
        for session in self.sessions.values():
            session.pause_for_wallet(paused=bool(self._behind))

    def acknowledge(self, position: int) -> None:
        """The wallet has all notifications up to this position."""
        for queue in (self._messages, self._notices):
            while queue and queue[0].position <= position:
                self._drop(queue)

    def answer(self, socket: Socket, delegation_id: str, answer: Raw) -> None:
        """Settle one of this wallet's delegations; raises `RpcError` if that can't be."""
        delegation = self._find(delegation_id)
        try:
            self._check_lease(socket, delegation)
            delegation.device_key = socket.device_key
            delegation.settle(answer)
        except RpcError:
            self._office.counters.answers_rejected += 1
            raise
        self._settled_by(socket, delegation)
        self._tell_others(socket, Voided(delegation_id, "another device answered"))

    def refuse(self, socket: Socket, delegation_id: str, reason: str) -> None:
        """Refuse one of this wallet's delegations; raises `RpcError` if that can't be."""
        delegation = self._find(delegation_id)
        try:
            self._check_lease(socket, delegation)
        except RpcError:
            self._office.counters.answers_rejected += 1
            raise
        delegation.device_key = socket.device_key
        delegation.refuse(reason)
        self._settled_by(socket, delegation)
        self._tell_others(socket, Voided(delegation_id, "another device refused"))

    def _check_lease(self, socket: Socket, delegation: Delegation) -> None:
        if self.node_id is not None and (lease := delegation.lease) is not None:
            self._office.leases.check(LeaseKey(self.node_id, *lease), socket.device_key)

    def _settled_by(self, socket: Socket, delegation: Delegation) -> None:
        if self.node_id is not None and (lease := delegation.lease) is not None:
            self._office.leases.settled(LeaseKey(self.node_id, *lease), socket.device_key)

    def _tell_others(self, socket: Socket, notification: Voided) -> None:
        for other in self.sockets:
            if other is not socket:
                other.notify(notification)

    def _find(self, delegation_id: str) -> Delegation:
        delegation = self._open.get(delegation_id)
        if delegation is not None:
            return delegation
        self._office.counters.answers_rejected += 1
        outcome = self._over.get(delegation_id)
        if outcome is not None:
            raise RpcError(ErrorCode.DELEGATION_OVER, f"This delegation is over: {outcome}.")
        raise RpcError(ErrorCode.DELEGATION_UNKNOWN, "This wallet has no such delegation.")

    # ---- the sessions' side ----

    def add(self, session: "Session") -> None:
        """List a session of the wallet's."""
        if self.node_id is not None:
            if not self.sessions:
                self.sessions = {}
            self.sessions[session.id] = session

    def remove(self, session: "Session") -> None:
        """A session is over."""
        if self.node_id is not None:
            del self.sessions[session.id]

    def open(self, delegation: Delegation) -> None:
        """Ask the wallet, on every socket that it has."""
        self._office.counters.delegations += 1
        self._hold(delegation)

    def _hold(self, delegation: Delegation) -> None:
        if not self._open:
            self._open = {}
        self._open[delegation.id] = delegation
        if self.node_id is None:
            return
        delegation.position = next(self._office.journal.positions)
        envelope = delegation.envelope
        self._office.journal.delegated(self.node_id, envelope)
        for socket in self.sockets:
            delegation.was_delivered = True
            socket.delegate(envelope)
        if self.is_attended:
            self._said()
            self._office.unanswered.add((self, delegation))
        else:
            self._wake(WakeReason.DELEGATION, delegation.id, delegation.due)
            self._needed_by(delegation.session_id)

    def over(self, delegation: Delegation, sentence: str) -> None:
        """A delegation ended: count it, remember it.

        Where no answer ended it, the wallet is told; of what it never saw it needs not be told.
        """
        if self._open.pop(delegation.id, None) is not None and self.node_id is not None:
            self._office.journal.settled(delegation.id)
            self._office.unanswered.discard((self, delegation))
            self._office.waker.over(self.node_id, delegation.id, self._reason_to_come)
        self._office.counters.outcomes[delegation.state] += 1
        self._office.settled.set()
        if not self._over:
            self._over = {}
        self._over[delegation.id] = sentence
        if len(self._over) > _REMEMBERED:
            del self._over[next(iter(self._over))]
        unanswered = delegation.state in (DelegationState.EXPIRED, DelegationState.VOID)
        if unanswered and delegation.was_delivered:
            self.notify(Voided(delegation.id, sentence[:MAX_SENTENCE]))

    def notify(self, notification: Notification, *, wakes: bool = True) -> None:
        """Tell the wallet, on every socket that it has, and later again until it acknowledges."""
        if self.node_id is not None:
            position = next(self._office.journal.positions)
            notification = structs.replace(notification, position=position)
            self._office.journal.notified(self.node_id, notification)
        self._enqueue(notification)
        for socket in self.sockets:
            socket.notify(notification)
        self._trim()
        if not wakes or type(notification) not in _WAKES:
            return
        if self.is_attended:
            self._said()
            return
        self._wake_for(notification)
        if isinstance(notification, PeerMessage):
            self._needed_by(notification.session_id)

    def restore(self, notifications: Iterable[Notification]) -> None:
        """What waited before a restart, by position."""
        for notification in notifications:
            self._enqueue(notification)
        self._trim()

    def adopt(self, session: "Session") -> None:
        """Take over a session that no wallet had, with all that waits in its own inbox."""
        former = session.inbox
        session.inbox = self
        self.add(session)
        delegations, notifications = former.hand_over()
        for delegation in delegations:
            self._hold(delegation)
        for notification in notifications:
            self.notify(notification)
        session.resume_channels()

    def hand_over(self) -> tuple[list[Delegation], list[Notification]]:
        """All that waits here, in order; then nothing does any more."""
        delegations = list(self._open.values())
        self._open = _NOTHING
        notifications = list(self._waiting())
        for queue in (self._messages, self._notices):
            while queue:
                self._drop(queue)
        return delegations, notifications

    def waits_for(self, session: "Session") -> bool:
        """Whether a device is needed for what came on this session."""
        return not self.is_attended and (
            any(each.session_id == session.id for each in self._open.values())
            or any(each.session_id == session.id for each in self._messages)
        )

    # ---- who is there ----

    def _listeners(self) -> Iterator[Socket]:
        return (each for each in self.sockets if each.can_answer and each not in self._silent)

    def _said(self) -> None:
        """Something was said to devices that seem to be there."""
        if self._attention is None:
            seconds = self._office.settings.wallet_pong_timeout
            self._attention = Attention(self._listeners, seconds, self._went_silent)
        self._attention.said()

    def _went_silent(self, sockets: Collection[Socket]) -> None:
        self._silent |= frozenset(sockets)
        loop = asyncio.get_running_loop()
        for socket in sockets:
            loop.call_later(self._office.settings.wallet_answer_timeout, self._give_up, socket)
        if not self.is_attended:
            self._unattended()

    def _give_up(self, socket: Socket) -> None:
        if socket in self._silent:
            socket.abort("it answers no ping")

    def _attended(self) -> None:
        if self.node_id is not None:
            self._office.waker.came(self.node_id)
            for presence in self._presences():
                presence.attended()

    def _unattended(self) -> None:
        self.wake()
        for presence in self._presences():
            presence.unattended()
            presence.needed()

    def _reason_to_come(self) -> tuple[WakeReason, str, float | None] | None:
        """What else a wallet that is away is wanted for."""
        if self.is_attended:
            return None
        for delegation in self._open.values():
            return WakeReason.DELEGATION, delegation.id, delegation.due
        for queue in (self._notices, self._messages):
            if queue and (cause := _WAKES.get(type(queue[-1]))) is not None:
                reason, id_of = cause
                return reason, id_of(queue[-1]), None
        return None

    # ---- inside ----

    def _presences(self) -> Iterator[Presence]:
        return (each.presence for each in self.sessions.values() if each.presence is not None)

    def _needed_by(self, session_id: str) -> None:
        session = self.sessions.get(session_id)
        if session is not None and session.presence is not None:
            session.presence.needed()

    def _waiting(self) -> Iterator[Notification]:
        return heapq.merge(self._messages, self._notices, key=attrgetter("position"))

    def _enqueue(self, notification: Notification) -> None:
        if isinstance(notification, PeerMessage):
            if not self._messages:
                self._messages = deque()
            self._messages.append(notification)
        else:
            if not self._notices:
                self._notices = deque()
            self._notices.append(notification)
        size = _size_of(notification)
        self._queued_bytes += size
        self._office.queued_bytes += size

    def _trim(self) -> None:
        """Where too much waits, the oldest messages go, then the oldest notices.

        Never delegations, nor what tells of a used key slot: both have caps of their own.
        """
        while self._is_full() and self._messages:
            self._drop(self._messages)
            self._office.counters.notifications_dropped += 1
        kept: list[Notification] = []
        while self._is_full() and self._notices:
            if isinstance(self._notices[0], SlotUsed):
                kept.append(self._notices.popleft())
            else:
                self._drop(self._notices)
                self._office.counters.notifications_dropped += 1
        if kept:
            self._notices.extendleft(reversed(kept))

    def _is_full(self) -> bool:
        settings = self._office.settings
        return (
            self._queued_bytes > settings.max_queued_bytes_per_wallet
            or self._office.queued_bytes > settings.max_queued_bytes
        )

    def _drop(self, queue: deque[Any]) -> None:
        notification: Notification = queue.popleft()
        size = _size_of(notification)
        self._queued_bytes -= size
        self._office.queued_bytes -= size
        if self.node_id is not None:
            self._office.journal.acknowledged(self.node_id, notification.position)

    def _wake_for(self, notification: Notification) -> None:
        cause = _WAKES.get(type(notification))
        if cause is not None:
            reason, id_of = cause
            self._wake(reason, id_of(notification))

    def _wake(self, reason: WakeReason, opaque_id: str, due: float | None = None) -> None:
        if self.node_id is not None:
            self._office.journal.soon()
            self._office.waker.wake(self.node_id, reason, opaque_id, due)


def _size_of(notification: Notification) -> int:
    match notification:
        case PeerMessage(message=message):
            return _NOTIFICATION_OVERHEAD + len(message)
        case SlotUsed(open_channel=offered, accept_channel=accepted):
            return _NOTIFICATION_OVERHEAD + len(offered) + len(accepted)
    return _NOTIFICATION_OVERHEAD
