"""What the relay holds for one wallet: sessions, open delegations, messages that wait."""

import asyncio
import heapq
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from msgspec import Raw, structs

from lightning_proxy.relay.attention import Attention, Listener
from lightning_proxy.relay.counters import Counters
from lightning_proxy.relay.delegation import Delegation, DelegationState
from lightning_proxy.relay.devices import LeaseKey, Leases
from lightning_proxy.relay.due import Due
from lightning_proxy.relay.journal import Journal
from lightning_proxy.relay.notices import NO_NOTICES, Notices, cause_of, size_of
from lightning_proxy.relay.presence import Presence
from lightning_proxy.relay.room import Room
from lightning_proxy.relay.settings import RelaySettings
from lightning_proxy.relay.wake.waker import Waker
from lightning_proxy.rpc import (
    MAX_SENTENCE,
    Delegate,
    ErrorCode,
    LeaseLost,
    Notification,
    PeerMessage,
    RpcError,
    SlotUsed,
    Voided,
    WakeReason,
)

if TYPE_CHECKING:
    from lightning_proxy.relay.session import Session

#: Bytes for a session that no wallet has adopted: the largest message, and some; all of them have
#: this part of what there is for wallets.
_UNADOPTED: Final = 144 << 10
_UNADOPTED_PART: Final = 16
#: The same for a wallet's notices: some hundreds.
_NOTICES: Final = 128 << 10
_NOTICES_PART: Final = 4
#: Bytes of what waits that a socket is told before it has taken them.
_FED_AT_ONCE: Final = 32 << 10
#: Ids of delegations that are over, kept so that a late answer gets a true error.
_REMEMBERED = 256
_NOBODY: Final[frozenset["Socket"]] = frozenset()
#: What empty inboxes share. Whoever adds puts a container of the inbox's own in its place first;
#: who forgets to gets an error from these.
_NOTHING: Final = cast("dict[Any, Any]", MappingProxyType({}))


class Socket(Listener, Protocol):
    """One of a wallet's sockets, as the inbox sees it; none of its methods waits or raises."""

    @property
    def device_key(self) -> bytes:
        """33 bytes; the node id, where it is the node key's."""
        ...

    @property
    def can_answer(self) -> bool:
        """Whether its device sees what is asked, and may answer it."""
        ...

    #: The position up to which it was told what waits; None: it was told all of it.
    told: int | None

    def delegate(self, envelope: Delegate) -> None: ...

    def notify(self, notification: Notification | LeaseLost) -> None: ...

    def hang_up(self, reason: str) -> None: ...


@dataclass(slots=True)
class Office:
    """What all inboxes share."""

    settings: RelaySettings
    counters: Counters
    journal: Journal
    waker: Waker
    leases: Leases
    #: Set whenever a delegation is over.
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    #: Questions that were asked of a device that seemed to be there.
    unanswered: Due[tuple["Inbox", Delegation]] = field(init=False)
    #: For what strangers say: to wallets, and to sessions that no wallet has.
    messages: Room["Inbox"] = field(init=False)
    unadopted: Room["Inbox"] = field(init=False)
    #: And for what the relay says, of which no stranger's words take any.
    notices: Room["Inbox"] = field(init=False)
    #: Bytes of what tells of used key slots.
    slots_used: int = 0

    @property
    def queued_bytes(self) -> int:
        """What waits in all inboxes together."""
        rooms = self.messages, self.unadopted, self.notices
        return self.slots_used + sum(room.used for room in rooms)

    def __post_init__(self) -> None:
        each, together = self.settings.max_queued_bytes_per_wallet, self.settings.max_queued_bytes
        self.messages = Room(each, together)
        self.unadopted = Room(min(each, _UNADOPTED), together // _UNADOPTED_PART)
        self.notices = Room(min(each, _NOTICES), together // _NOTICES_PART)
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
        "_notices",
        "_office",
        "_open",
        "_over",
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
        #: What is not acknowledged.
        self._notices = NO_NOTICES
        self._behind: frozenset[Socket] = _NOBODY
        #: Of those that were spoken to.
        self._attention: dict[Socket, Attention] = _NOTHING

    @property
    def is_idle(self) -> bool:
        """Whether nothing goes on here; messages may still wait."""
        return not (self.sessions or self.sockets or self._open)

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be lost by forgetting it."""
        return self.is_idle and not self._notices

    @property
    def is_attended(self) -> bool:
        """Whether a device is there that can answer, as far as one can tell."""
        return any(self._listeners())

    @property
    def is_out_of_reach(self) -> bool:
        """Whether no device is there, and none will come for being woken."""
        return (
            not self.is_attended
            and self.node_id is not None
            and not self._office.waker.reaches(self.node_id)
        )

    @property
    def queued_bytes(self) -> int:
        """What waits here to be acknowledged."""
        return self._notices.size

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
        socket.told = 0
        self.feed(socket)
        if socket.can_answer:
            self._is_there(socket)

    def feed(self, socket: Socket) -> None:
        """Tell a socket more of what waits: again and again, whenever it took that."""
        if socket.told is None:
            return
        asked = ((each.position, each) for each in self._open.values())
        told = ((each.position, each) for each in self._notices)
        size = 0
        for position, waiting in heapq.merge(asked, told, key=itemgetter(0)):
            if position <= socket.told:
                continue
            if size >= _FED_AT_ONCE:
                return
            socket.told = position
            if isinstance(waiting, Delegation):
                waiting.was_delivered = True
                size += waiting.size
                socket.delegate(waiting.envelope)
            else:
                size += size_of(waiting)
                socket.notify(waiting)
        socket.told = None

    def detach(self, socket: Socket) -> None:
        self.sockets = tuple(other for other in self.sockets if other is not socket)
        self.set_behind(socket, behind=False)
        if socket in self._attention:
            self._attention.pop(socket).close()
        if socket.can_answer and not self.is_attended:
            # It may be that nobody read what was sent last.
            self._unattended()

    def heard(self, socket: Socket, pong: bytes | None = None) -> None:
        """A frame came from this socket; `pong`: what the pong bears that it was."""
        if socket in self._attention:
            self._attention[socket].heard(pong)

    def unanswered(self, delegation: Delegation) -> None:
        """A device is there, and says nothing: its owner may not be looking."""
        self._wake(WakeReason.DELEGATION, delegation.id, delegation.due)

    def wake(self) -> None:
        """Wake the wallet for what waits here, if anything does: a push names the most urgent."""
        if (reason := self._reason_to_come()) is not None:
            self._wake(*reason)

    def set_behind(self, socket: Socket, *, behind: bool) -> None:
        """A socket can't keep up, or can again: meanwhile the wallet's peers are not read."""
        self._behind = self._behind | {socket} if behind else self._behind - {socket}
        for session in self.sessions.values():
            session.pause_for_wallet(paused=bool(self._behind))

    def acknowledge(self, position: int) -> None:
        """The wallet has all notifications up to this position."""
        self._take_until(position)

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
            if delegation.question.refused_by_node_only and socket.device_key != self.node_id:
                raise RpcError(
                    ErrorCode.FORBIDDEN, "Only the wallet's node key may deny that channel."
                )
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
        for socket in self._fed():
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
        for socket in self._fed():
            socket.notify(notification)
        self._trim()
        if not wakes or (cause := cause_of(notification)) is None:
            return
        if self.is_attended:
            self._said()
            return
        self._wake(*cause)
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
        notifications = list(self._notices)
        self._take_until(sys.maxsize)
        return delegations, notifications

    def waits_for(self, session: "Session") -> bool:
        """Whether a device is needed for what came on this session."""
        return not self.is_attended and (
            any(each.session_id == session.id for each in self._open.values())
            or any(each.session_id == session.id for each in self._notices.messages)
        )

    # ---- who is there ----

    def _fed(self) -> Iterator[Socket]:
        """Those that were told all that waited; the others come to what is new in its order."""
        return (socket for socket in self.sockets if socket.told is None)

    def _listeners(self) -> Iterator[Socket]:
        for socket in self.sockets:
            attention = self._attention.get(socket)
            if socket.can_answer and not (attention and attention.is_silent):
                yield socket

    def _said(self) -> None:
        """Something was said to devices that seem to be there."""
        for socket in self._listeners():
            self._said_to(socket)

    def _said_to(self, socket: Socket) -> None:
        if not self._attention:
            self._attention = {}
        if socket not in self._attention:
            settings = self._office.settings
            self._attention[socket] = Attention(
                socket,
                settings.wallet_pong_timeout,
                settings.wallet_answer_timeout,
                partial(self._changed, socket),
            )
        self._attention[socket].said()

    def _changed(self, socket: Socket) -> None:
        """It fell silent, or gave a sign of life again."""
        if not self._attention[socket].is_silent:
            self._is_there(socket)
        elif not self.is_attended:
            self._unattended()

    def _is_there(self, socket: Socket) -> None:
        """A device that can answer came, or came back: it was told all that waits, and may fall
        asleep before it reads that.
        """
        if self.node_id is None:
            return
        self._office.waker.came(self.node_id)
        for presence in self._presences():
            presence.attended()
        for delegation in self._open.values():
            self._office.unanswered.add((self, delegation))
        if self._open or self._notices.reasons():
            self._said_to(socket)

    def _unattended(self) -> None:
        self.wake()
        for presence in self._presences():
            presence.unattended()
            presence.needed()

    def _reasons(self) -> Iterator[tuple[WakeReason, str, float | None]]:
        """What the wallet is wanted for beyond what the devices that are there may yet answer."""
        is_attended = self.is_attended
        for delegation in self._open.values():
            if not (is_attended and (self, delegation) in self._office.unanswered):
                yield WakeReason.DELEGATION, delegation.id, delegation.due
        if not is_attended:
            for reason, opaque_id in self._notices.reasons():
                yield reason, opaque_id, None

    def _reason_to_come(self) -> tuple[WakeReason, str, float | None] | None:
        return next(self._reasons(), None)

    # ---- inside ----

    def _presences(self) -> Iterator[Presence]:
        return (each.presence for each in self.sessions.values() if each.presence is not None)

    def _needed_by(self, session_id: str) -> None:
        session = self.sessions.get(session_id)
        if session is not None and session.presence is not None:
            session.presence.needed()

    @property
    def _strangers_room(self) -> Room["Inbox"]:
        return self._office.unadopted if self.node_id is None else self._office.messages

    def _enqueue(self, notification: Notification) -> None:
        before = self._held
        if self._notices is NO_NOTICES:
            self._notices = Notices()
        self._notices.add(notification)
        self._changed_from(before)
        if isinstance(notification, SlotUsed):
            self._office.slots_used += size_of(notification)

    def _take_until(self, position: int) -> None:
        before = self._held
        for notification in self._notices.take_until(position):
            self._dropped(notification)
        self._changed_from(before)

    @property
    def _held(self) -> tuple[int, int]:
        return self._notices.message_bytes, self._notices.notice_bytes

    def _changed_from(self, before: tuple[int, int]) -> None:
        messages, notices = self._held
        self._strangers_room.change(self, before[0], messages)
        self._office.notices.change(self, before[1], notices)

    def _trim(self) -> None:
        """Where too much waits the oldest goes, here or wherever most of its kind waits.

        Never delegations, nor what tells of used key slots: they have caps.
        """
        while self._notices.message_bytes > self._strangers_room.each:
            self.spare_message()
        while self._notices.notice_bytes > self._office.notices.each:
            self.spare_notice()
        while (largest := self._strangers_room.pays()) is not None:
            largest.spare_message()
        while (largest := self._office.notices.pays()) is not None:
            largest.spare_notice()

    def spare_message(self) -> None:
        """Give up the oldest message, for others' sake."""
        self._spare(self._notices.spare_message)

    def spare_notice(self) -> None:
        """Likewise the oldest notice."""
        self._spare(self._notices.spare_notice)

    def _spare(self, take: Callable[[], Notification]) -> None:
        before = self._held
        self._dropped(take())
        self._changed_from(before)
        self._office.counters.notifications_dropped += 1

    def _dropped(self, notification: Notification) -> None:
        """It was taken out."""
        if isinstance(notification, SlotUsed):
            self._office.slots_used -= size_of(notification)
        if self.node_id is not None:
            self._office.journal.acknowledged(self.node_id, notification.position)

    def _wake(self, reason: WakeReason, opaque_id: str, due: float | None = None) -> None:
        if self.node_id is not None:
            self._office.journal.soon()
            self._office.waker.wake(self.node_id, reason, opaque_id, due)
