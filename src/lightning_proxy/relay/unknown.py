"""Messages about channels that the relay doesn't know: whether the wallet does, it is asked."""

from typing import Final

from lightning_proxy.relay.channel_messages import MOST_KEPT
from lightning_proxy.relay.delegation import Delegates, Delegation, DelegationState
from lightning_proxy.relay.questions import ALL_CHANNELS, UnknownChannelQuestion

#: Channels that one connection's peer may make the wallet look for: as many as a wallet has, by
#: default. Who makes ids up has a few of them open at a time, and each has an hour.
_MAX_ASKED: Final = 1000
#: Bytes of what waits for its turn: a `channel_reestablish` of each has room.
_MAX_WAITING: Final = 160 * _MAX_ASKED


class UnknownChannels:
    """Of one session. The wallet's record is the authority on which channels there are.

    BOLT #1 answers a message about an unknown channel with an `error` for it, by which the peer
    gets its money out: so only once the wallet has said that it has no such channel.
    """

    __slots__ = ("_asked", "_max_open", "_open", "_session", "_waiting", "_waiting_bytes")

    def __init__(self, session: Delegates, max_open: int) -> None:
        self._session = session
        self._max_open = max_open
        self._asked: set[bytes] = set()
        self._open: dict[bytes, Delegation] = {}
        #: What the peer said first, by channel, in the order in which the wallet will be asked.
        self._waiting: dict[bytes, bytes] = {}
        self._waiting_bytes = 0

    @property
    def open_delegations(self) -> int:
        return len(self._open)

    def received(self, channel_id: bytes, raw: bytes) -> None:
        """The peer says this about such a channel; each is asked about once a connection."""
        if (
            channel_id == ALL_CHANNELS
            # Of what is longer the wallet gets the message alone.
            or len(raw) > MOST_KEPT
            or channel_id in self._asked
            or len(self._asked) >= _MAX_ASKED
            or self._waiting_bytes + len(raw) > _MAX_WAITING
        ):
            return
        self._asked.add(channel_id)
        self._waiting[channel_id] = raw
        self._waiting_bytes += len(raw)
        self._ask()

    def void(self, reason: str) -> None:
        """Nobody is to answer any more; what comes from now on is asked about anew."""
        self._waiting.clear()
        self._waiting_bytes = 0
        for delegation in list(self._open.values()):
            delegation.void(reason)
        self._asked.clear()

    def _ask(self) -> None:
        while self._waiting and len(self._open) < self._max_open:
            channel_id = next(iter(self._waiting))
            raw = self._waiting.pop(channel_id)
            self._waiting_bytes -= len(raw)
            question = UnknownChannelQuestion(channel_id)
            self._open[channel_id] = self._session.delegate(question, [raw], None, self._over)

    def _over(self, delegation: Delegation, sentence: str, replies: list[bytes]) -> None:
        del self._open[delegation.question.channel_id]
        self._session.delegation_over(delegation, sentence)
        if delegation.state is DelegationState.REFUSED:
            for reply in replies:
                self._session.tell(reply)
        self._ask()
