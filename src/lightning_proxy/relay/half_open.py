"""Sessions whose handshake has begun and not ended: where the relay is full, one of them goes."""

from typing import Final, Protocol

from lightning_proxy.relay.shares import Owner, Shares
from lightning_proxy.rpc import ErrorCode, RpcError, SessionState

#: Seconds after which who got no session may ask again: half-open ones have about so long.
_RETRY: Final = 10.0


class _Session(Protocol):
    id: str
    state: SessionState

    def abort(self, reason: str) -> None: ...


class HalfOpen:
    """Who holds how many of them, by network and wallet."""

    def __init__(self) -> None:
        self._shares = Shares()
        #: By owner, the oldest first.
        self._sessions: dict[Owner, dict[str, _Session]] = {}
        #: A session that a wallet adopts meanwhile stays with who began it.
        self._owners: dict[str, Owner] = {}

    def begun(self, owner: Owner, session: _Session) -> None:
        """Its handshake begins."""
        self._owners[session.id] = owner
        self._sessions.setdefault(owner, {})[session.id] = session
        self._shares.change(owner, 1)

    def ended(self, session: _Session) -> None:
        """It is ready or over; idempotent."""
        owner = self._owners.pop(session.id, None)
        if owner is None:
            return
        sessions = self._sessions[owner]
        del sessions[session.id]
        if not sessions:
            del self._sessions[owner]
        self._shares.change(owner, -1)

    def make_room(self, owner: Owner) -> None:
        """End one for `owner`'s sake: the oldest of who has most.

        Raises `RpcError` (limit) where that is `owner` itself, or where there is none.
        """
        while self._shares.total:
            payer = self._shares.pays(owner)
            if payer == owner:
                if owner in self._sessions:
                    break
                # A newcomer is let in though all others have but one.
                payer = self._shares.largest()
            session = next(iter(self._sessions[payer].values()))
            self.ended(session)
            # Who asked for it may have gone before it was ready.
            if session.state is not SessionState.READY:
                session.abort("the relay is full, and others have begun fewer sessions")
                return
        raise RpcError(
            ErrorCode.LIMIT, "This relay holds all the sessions it can.", retry_after=_RETRY
        )
