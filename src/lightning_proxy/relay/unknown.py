"""Messages about channels that the relay doesn't know: whether the wallet does, it is asked."""

from collections.abc import Callable
from typing import Final, Protocol

from lightning_proxy.relay.delegation import Delegation, DelegationState
from lightning_proxy.relay.questions import ALL_CHANNELS, Question, UnknownChannelQuestion
from lightning_proxy.rpc import FundingSeen

#: Channels that one connection's peer may make the wallet look for; a node that lost its state
#: has a few, and who makes ids up must not wake a wallet for ever.
_MAX_ASKED: Final = 16


class _Session(Protocol):
    def tell(self, message: bytes) -> None: ...
    def delegate(
        self,
        question: Question,
        raw_messages: list[bytes],
        funding: FundingSeen | None,
        on_over: Callable[[Delegation, str, list[bytes]], None],
    ) -> Delegation: ...
    def delegation_over(self, delegation: Delegation, sentence: str) -> None: ...


class UnknownChannels:
    """Of one session. The wallet's record is the authority on which channels there are.

    BOLT #1 answers a message about an unknown channel with an `error` for it, by which the peer
    gets its money out: so only once the wallet has said that it has no such channel.
    """

    __slots__ = ("_asked", "_max_open", "_open", "_session")

    def __init__(self, session: _Session, max_open: int) -> None:
        self._session = session
        self._max_open = max_open
        self._asked: set[bytes] = set()
        self._open: dict[bytes, Delegation] = {}

    @property
    def open_delegations(self) -> int:
        return len(self._open)

    def received(self, channel_id: bytes, raw: bytes) -> None:
        """The peer says this about such a channel; each is asked about once a connection."""
        if (
            channel_id == ALL_CHANNELS
            or channel_id in self._asked
            or len(self._asked) >= _MAX_ASKED
            or len(self._open) >= self._max_open
        ):
            return
        self._asked.add(channel_id)
        question = UnknownChannelQuestion(channel_id)
        self._open[channel_id] = self._session.delegate(question, [raw], None, self._over)

    def disconnected(self, reason: str) -> None:
        """The connection is gone, and with it whom an answer would be for."""
        for delegation in list(self._open.values()):
            delegation.void(f"the session is over: {reason}")

    def _over(self, delegation: Delegation, sentence: str, replies: list[bytes]) -> None:
        del self._open[delegation.question.channel_id]
        self._session.delegation_over(delegation, sentence)
        if delegation.state is DelegationState.REFUSED:
            for reply in replies:
                self._session.tell(reply)
