"""One question that only the wallet can answer: its life from open to its one outcome."""

import asyncio
import secrets
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, Protocol

import msgspec
import structlog
from msgspec import Raw, structs

from lightning_proxy.bolt.messages import decode, to_dict
from lightning_proxy.relay.due import Due
from lightning_proxy.relay.questions import Question
from lightning_proxy.relay.text import printable
from lightning_proxy.rpc import DECODED_BYTES, Delegate, FundingSeen

_log = structlog.get_logger()


#: Bytes of an envelope beside its messages, about.
_ENVELOPE: Final = 1000


class DelegationState(StrEnum):
    """`OPEN`, then exactly one of the others."""

    OPEN = "open"
    SETTLED = "settled"
    REFUSED = "refused"
    EXPIRED = "expired"
    VOID = "void"


class Delegation:
    """Asks one `Question`; whatever races, one outcome wins and every later one is told so.

    `messages` are the peer's. `deadlines` are those of the question's kind. `on_over` is called
    once, with a sentence and the messages that the peer is to get.
    """

    def __init__(
        self,
        question: Question,
        *,
        session_id: str,
        peer: bytes,
        sequence: int,
        messages: list[bytes],
        funding: FundingSeen | None,
        deadlines: "Deadlines",
        on_over: Callable[["Delegation", str, list[bytes]], None],
    ) -> None:
        self.id = secrets.token_hex(16)
        self.question = question
        self.state = DelegationState.OPEN
        #: Where it stands among what its wallet is told.
        self.position = 0
        #: Whether any socket of the wallet's was asked.
        self.was_delivered = False
        #: Whose answer is being taken: the key of one of the wallet's devices (33 bytes).
        self.device_key: bytes | None = None
        self._on_over = on_over
        created = time.time()
        self._envelope = Delegate(
            id=self.id,
            session_id=session_id,
            peer=peer.hex(),
            channel_id=question.channel_id.hex(),
            kind=question.kind,
            sequence=sequence,
            created=created,
            deadline=created + deadlines.seconds,
            remaining=deadlines.seconds,
            messages=[raw.hex() for raw in messages],
            decoded=_decoded(messages),
            funding=funding,
        )
        self._deadlines = deadlines
        #: When it expires, by the event loop's clock.
        self.due = deadlines.add(self)

    @property
    def lease(self) -> tuple[bytes, bytes] | None:
        """The peer's node id and the channel's temporary id: whose lease it is settled under."""
        leased_id = self.question.leased_id
        return None if leased_id is None else (bytes.fromhex(self._envelope.peer), leased_id)

    @property
    def size(self) -> int:
        """Bytes that its envelope takes, about: what was decoded repeats what was said."""
        return _ENVELOPE + 2 * sum(map(len, self._envelope.messages))

    @property
    def session_id(self) -> str:
        return self._envelope.session_id

    @property
    def envelope(self) -> Delegate:
        """The question as it is sent now, with the time that remains."""
        remaining = max(0.0, self.due - asyncio.get_running_loop().time())
        moves = self.question.moves()
        if moves is None:
            return structs.replace(self._envelope, remaining=remaining)
        messages, fence = moves
        return structs.replace(
            self._envelope,
            remaining=remaining,
            messages=[raw.hex() for raw in messages],
            fence=fence,
        )

    def settle(self, answer: Raw) -> None:
        """Take the wallet's answer; raises `RpcError`, and stays open, if it is wrong."""
        messages = self.question.settle(answer)
        _log.debug("answered", session_id=self._envelope.session_id, delegation_id=self.id)
        self._end(DelegationState.SETTLED, "the wallet answered", messages)

    def refuse(self, reason: str) -> None:
        """Take the wallet's no; of a long reason only a sentence is passed on and kept."""
        reason = printable(reason)
        messages = self.question.refuse(reason)
        self._end(DelegationState.REFUSED, f"the wallet refused: {reason}", messages)

    def void(self, reason: str) -> None:
        """The question is gone: the peer, or the session, went away."""
        if self.state is DelegationState.OPEN:
            self._end(DelegationState.VOID, reason, [])

    def expire(self) -> None:
        """The deadline has come."""
        messages = self.question.expire()
        self._end(DelegationState.EXPIRED, "the wallet did not answer in time", messages)

    def _end(self, state: DelegationState, sentence: str, messages: list[bytes]) -> None:
        self.state = state
        self._deadlines.discard(self)
        self._on_over(self, sentence, messages)


def _decoded(messages: list[bytes]) -> list[dict[str, Any]]:
    """What they say, for who can't read them; a peer may fill them up with what nobody knows."""
    decoded: list[dict[str, Any]] = [to_dict(decode(raw)) for raw in messages]
    return decoded if len(msgspec.json.encode(decoded)) <= DECODED_BYTES else []


class Deadlines(Due[Delegation]):
    """Expires the delegations of one kind."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds, lambda delegation: delegation.expire())


class Delegates(Protocol):
    """A session, for a room that asks its wallet and answers its peer."""

    def tell(self, message: bytes) -> None: ...
    def delegate(
        self,
        question: Question,
        raw_messages: list[bytes],
        funding: FundingSeen | None,
        on_over: Callable[[Delegation, str, list[bytes]], None],
    ) -> Delegation: ...
    def delegation_over(self, delegation: Delegation, sentence: str) -> None: ...
