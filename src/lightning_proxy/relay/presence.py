"""What becomes of a session while its wallet is away, where the wallet does not want it to stay."""

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from lightning_proxy.rpc import PresencePolicy, SetPresence

if TYPE_CHECKING:
    from lightning_proxy.relay.session import Session

_log = structlog.get_logger()

_REASONS: Final = {
    PresencePolicy.DISCONNECT: "the wallet can't be reached",
    PresencePolicy.ATTENDED: "no device of the wallet's is connected",
}


class Presence:
    """Made for a session whose wallet chose something else than `stay`.

    A peer that sees a node online sends it payments, and leaves its own wake-up alone: a node that
    can't answer had better look like what it is.
    """

    __slots__ = ("_session", "_timer", "has_closed", "wanted")

    def __init__(self, session: "Session", wanted: SetPresence) -> None:
        self.wanted = wanted
        #: Whether it was this that ended the session.
        self.has_closed = False
        self._session = session
        self._timer: asyncio.TimerHandle | None = None

    def attended(self) -> None:
        """A device that can answer is there, or the wallet chose anew, or the session is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def unattended(self) -> None:
        """The last device that can answer went."""
        if self.wanted.policy is PresencePolicy.ATTENDED:
            self._start()

    def needed(self) -> None:
        """Something of this session's waits for a wallet that is away."""
        if self.wanted.policy is PresencePolicy.DISCONNECT:
            self._start()

    def _start(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self.wanted.seconds, self._close)

    def _close(self) -> None:
        self._timer = None
        inbox = self._session.inbox
        if self.wanted.policy is PresencePolicy.DISCONNECT and not inbox.waits_for(self._session):
            # What waited is over: the peer took it back.
            return
        self.has_closed = True
        self._session.close(_REASONS[self.wanted.policy])
