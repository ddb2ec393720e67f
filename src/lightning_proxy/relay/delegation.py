"""One question that only the wallet can answer: its life from open to its one outcome."""

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

import structlog
from msgspec import Raw

from lightning_proxy.bolt.messages import Message, to_dict
from lightning_proxy.relay.text import printable
from lightning_proxy.rpc import Delegate, DelegationKind

_log = structlog.get_logger()


class DelegationState(StrEnum):
    """`OPEN`, then exactly one of the others."""

    OPEN = "open"
    SETTLED = "settled"
    REFUSED = "refused"
    EXPIRED = "expired"
    VOID = "void"


class Question(Protocol):
    """What a kind of delegation makes of each outcome: the message that the peer then gets."""

    kind: DelegationKind
    channel_id: bytes

    def settle(self, answer: Raw) -> bytes:
        """Check the answer; raises `RpcError` if it is wrong."""

    def refuse(self, reason: str) -> bytes:
        """The wallet won't."""

    def expire(self) -> bytes:
        """The wallet did not answer in time."""


class Delegation:
    """Asks one `Question`; whatever races, one outcome wins and every later one is told so.

    `messages` are the peer's, each raw and decoded. `deadlines` are those of the question's kind.
    `send` takes the message for the peer; `on_over` is called once, with a sentence.
    """

    def __init__(
        self,
        question: Question,
        *,
        session_id: str,
        peer: bytes,
        sequence: int,
        messages: list[tuple[bytes, Message]],
        deadlines: "Deadlines",
        send: Callable[[bytes], None],
        on_over: Callable[["Delegation", str], None],
    ) -> None:
        self.id = secrets.token_hex(16)
        self.question = question
        self.state = DelegationState.OPEN
        self._send = send
        self._on_over = on_over
        created = time.time()
        self.envelope = Delegate(
            id=self.id,
            session_id=session_id,
            peer=peer.hex(),
            channel_id=question.channel_id.hex(),
            kind=question.kind,
            sequence=sequence,
            created=created,
            deadline=created + deadlines.seconds,
            messages=[raw.hex() for raw, _ in messages],
            decoded=[to_dict(message) for _, message in messages],
        )
        self._deadlines = deadlines
        deadlines.add(self)

    def settle(self, answer: Raw) -> None:
        """Take the wallet's answer; raises `RpcError`, and stays open, if it is wrong."""
        message = self.question.settle(answer)
        _log.debug("answered", session_id=self.envelope.session_id, delegation_id=self.id)
        self._send(message)
        self._end(DelegationState.SETTLED, "the wallet answered")

    def refuse(self, reason: str) -> None:
        """Take the wallet's no; of a long reason only a sentence is passed on and kept."""
        reason = printable(reason)
        self._send(self.question.refuse(reason))
        self._end(DelegationState.REFUSED, f"the wallet refused: {reason}")

    def void(self, reason: str) -> None:
        """The question is gone: the peer, or the session, went away."""
        if self.state is DelegationState.OPEN:
            self._end(DelegationState.VOID, reason)

    def expire(self) -> None:
        """The deadline has come."""
        self._send(self.question.expire())
        self._end(DelegationState.EXPIRED, "the wallet did not answer in time")

    def _end(self, state: DelegationState, sentence: str) -> None:
        self.state = state
        self._deadlines.discard(self)
        self._on_over(self, sentence)


class Deadlines:
    """Expires the delegations of one kind: all get as many `seconds`, so the first to come is due
    first, and one timer serves them all.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._open: OrderedDict[Delegation, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, delegation: Delegation) -> None:
        loop = asyncio.get_running_loop()
        self._open[delegation] = due = loop.time() + self.seconds
        if self._timer is None:
            self._timer = loop.call_at(due, self._look)

    def discard(self, delegation: Delegation) -> None:
        self._open.pop(delegation, None)

    def _look(self) -> None:
        """Expire what is due, then wait for the next."""
        loop = asyncio.get_running_loop()
        self._timer = None
        try:
            while self._open:
                delegation, due = next(iter(self._open.items()))
                if due > loop.time():
                    break
                del self._open[delegation]
                delegation.expire()
        finally:
            if self._open:
                self._timer = loop.call_at(next(iter(self._open.values())), self._look)
