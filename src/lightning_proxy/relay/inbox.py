"""What the relay holds for one wallet: sessions, open delegations, messages that wait."""

from collections import deque
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from msgspec import Raw

from lightning_proxy.relay.counters import Counters
from lightning_proxy.relay.delegation import Delegation, DelegationState
from lightning_proxy.relay.settings import RelaySettings
from lightning_proxy.rpc import Closed, Delegate, ErrorCode, PeerMessage, RpcError, Voided

if TYPE_CHECKING:
    from lightning_proxy.relay.session import Session

#: Ids of delegations that are over, kept so that a late answer gets a true error.
_REMEMBERED = 256
#: What an envelope around a queued message costs, roughly, in bytes.
_NOTIFICATION_OVERHEAD = 200
_NOBODY: Final[frozenset["Channel"]] = frozenset()
#: What empty inboxes share. Whoever adds puts a container of the inbox's own in its place first;
#: who forgets to gets an error from these.
_NOTHING: Final = cast("dict[str, Any]", MappingProxyType({}))
_EMPTY_QUEUE: Final = cast("deque[Any]", ())

Notification = PeerMessage | Closed | Voided


@dataclass(slots=True)
class QueueBudget:
    """Bytes that wait in all inboxes together."""

    used: int = 0


class Channel(Protocol):
    """One of a wallet's sockets, as the inbox sees it; none of its methods waits or raises."""

    def delegate(self, envelope: Delegate) -> None: ...

    def notify(self, notification: Notification) -> None: ...


class Inbox:
    """`node_id` is the wallet's; None: one session's own, made over REST and not yet adopted.

    There may be one for each session, and most are empty: a container is made when it is needed.
    """

    __slots__ = (
        "_behind",
        "_budget",
        "_counters",
        "_open",
        "_over",
        "_queue",
        "_queued_bytes",
        "_settings",
        "channels",
        "node_id",
        "sessions",
    )

    def __init__(
        self,
        node_id: bytes | None,
        settings: RelaySettings,
        counters: Counters,
        budget: QueueBudget,
    ) -> None:
        self.node_id = node_id
        #: By id; what an unadopted session has for its own lists nothing.
        self.sessions: dict[str, Session] = _NOTHING
        self.channels: tuple[Channel, ...] = ()
        self._settings = settings
        self._counters = counters
        self._budget = budget
        self._open: dict[str, Delegation] = _NOTHING
        self._over: dict[str, str] = _NOTHING
        self._queue: deque[tuple[int, Notification]] = _EMPTY_QUEUE
        self._queued_bytes = 0
        self._behind: frozenset[Channel] = _NOBODY

    @property
    def is_idle(self) -> bool:
        """Whether nothing goes on here; messages may still wait."""
        return not (self.sessions or self.channels or self._open)

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be lost by forgetting it."""
        return self.is_idle and not self._queue

    # ---- the wallet's side ----

    def check_room(self) -> None:
        """Raise `RpcError` (limit) where another socket would be too many."""
        if len(self.channels) >= self._settings.max_sockets_per_wallet:
            raise RpcError(
                ErrorCode.LIMIT,
                f"This wallet has {len(self.channels)} sockets open already; close one.",
            )

    def attach(self, channel: Channel) -> None:
        """A socket of the wallet's came: it gets what waits, delegations first, in order."""
        self.channels = (*self.channels, channel)
        for delegation in self._open.values():
            channel.delegate(delegation.envelope)
        while self._queue:
            channel.notify(self._dequeue())

    def detach(self, channel: Channel) -> None:
        self.channels = tuple(other for other in self.channels if other is not channel)
        self.set_behind(channel, behind=False)

    def set_behind(self, channel: Channel, *, behind: bool) -> None:
        """A socket can't keep up, or can again: meanwhile the wallet's peers are not read."""
        self._behind = self._behind | {channel} if behind else self._behind - {channel}
        for session in self.sessions.values():
            session.pause(paused=bool(self._behind))

    def answer(self, channel: Channel, delegation_id: str, answer: Raw) -> None:
        """Settle one of this wallet's delegations; raises `RpcError` if that can't be."""
        delegation = self._find(delegation_id)
        try:
            delegation.settle(answer)
        except RpcError:
            self._counters.answers_rejected += 1
            raise
        self._tell_others(channel, Voided(delegation_id, "another device answered"))

    def refuse(self, channel: Channel, delegation_id: str, reason: str) -> None:
        """Refuse one of this wallet's delegations; raises `RpcError` if that can't be."""
        self._find(delegation_id).refuse(reason)
        self._tell_others(channel, Voided(delegation_id, "another device refused"))

    def _tell_others(self, channel: Channel, notification: Voided) -> None:
        for other in self.channels:
            if other is not channel:
                other.notify(notification)

    def _find(self, delegation_id: str) -> Delegation:
        delegation = self._open.get(delegation_id)
        if delegation is not None:
            return delegation
        self._counters.answers_rejected += 1
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
        self._counters.delegations += 1
        self._hold(delegation)

    def _hold(self, delegation: Delegation) -> None:
        if not self._open:
            self._open = {}
        self._open[delegation.id] = delegation
        for channel in self.channels:
            channel.delegate(delegation.envelope)

    def over(self, delegation: Delegation, sentence: str) -> None:
        """A delegation ended: count it, remember it; where no answer ended it, tell the wallet."""
        if delegation.id in self._open:
            del self._open[delegation.id]
        self._counters.outcomes[delegation.state] += 1
        if not self._over:
            self._over = {}
        self._over[delegation.id] = sentence
        if len(self._over) > _REMEMBERED:
            del self._over[next(iter(self._over))]
        if delegation.state in (DelegationState.EXPIRED, DelegationState.VOID):
            self.notify(Voided(delegation.id, sentence))

    def notify(self, notification: Notification) -> None:
        """Tell the wallet, now on every socket or later when it comes."""
        if self.channels:
            for channel in self.channels:
                channel.notify(notification)
            return
        size = _NOTIFICATION_OVERHEAD
        if isinstance(notification, PeerMessage):
            size += len(notification.message)
        if not self._queue:
            self._queue = deque()
        self._queue.append((size, notification))
        self._queued_bytes += size
        self._budget.used += size
        while self._queue and (
            self._queued_bytes > self._settings.max_queued_bytes_per_wallet
            or self._budget.used > self._settings.max_queued_bytes
        ):
            self._dequeue()
            self._counters.notifications_dropped += 1

    def _dequeue(self) -> Notification:
        size, notification = self._queue.popleft()
        self._queued_bytes -= size
        self._budget.used -= size
        return notification

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
        return delegations, [self._dequeue() for _ in range(len(self._queue))]
