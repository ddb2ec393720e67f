"""One channel that moves, as the relay follows it on one connection: no I/O, and no key.

The peer's messages wait here until the wallet has taken them. What the wallet then says is checked
against the relay's own copy, in the wallet's order of things: the peer sees nothing else.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from lightning_proxy.bolt.channel.normal import take
from lightning_proxy.bolt.channel.reestablish import reestablish
from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.bolt.channel.terms import Terms
from lightning_proxy.bolt.commitment import CommitmentState, Role
from lightning_proxy.bolt.errors import RequirementError, UnexpectedMessage
from lightning_proxy.bolt.messages import (
    ChannelReestablish,
    CommitmentSigned,
    Message,
    RevokeAndAck,
    UpdateAddHtlc,
    UpdateFailHtlc,
    UpdateFailMalformedHtlc,
    UpdateFee,
    UpdateFulfillHtlc,
)
from lightning_proxy.rpc import MAX_UNHEARD, Fence
from lightning_proxy.rpc.frames import MOVES_BYTES

#: What moves a channel, either way.
MOVE_TYPES: Final = frozenset(
    kind.TYPE
    for kind in (
        UpdateAddHtlc,
        UpdateFulfillHtlc,
        UpdateFailHtlc,
        UpdateFailMalformedHtlc,
        UpdateFee,
        CommitmentSigned,
        RevokeAndAck,
    )
)


class Stale(Exception):
    """The wallet goes by another state of this channel than the relay; the text says which."""


class Heard(NamedTuple):
    """A message of the peer's."""

    raw: bytes
    message: Message


class LiveChannel:
    """`base` is the wallet's snapshot: ready, or after its own `channel_reestablish`.

    Every method that takes something takes it whole, or raises and changes nothing.
    """

    __slots__ = ("_pending", "_pending_bytes", "base", "heard", "said", "view")

    def __init__(self, base: Snapshot) -> None:
        #: How the channel stands by all that the wallet has taken and said.
        self.base = base
        #: And with what waits for the wallet.
        self.view = base
        #: Of the peer's messages, those that the wallet has taken; of the wallet's, all.
        self.heard = 0
        self.said = 0
        self._pending: tuple[Heard, ...] = ()
        self._pending_bytes = 0

    @property
    def fence(self) -> Fence:
        """Where it stands for the wallet."""
        base = self.base
        return Fence(
            ours=base.ours.commitment.state.commitment_number,
            theirs=base.theirs.commitment.state.commitment_number,
            heard=self.heard,
            said=self.said,
        )

    @property
    def unheard(self) -> list[bytes]:
        """What waits for the wallet."""
        return [each.raw for each in self._pending]

    @property
    def is_wallets_turn(self) -> bool:
        """Whether the peer waits for what only the wallet can say."""
        return self._waits(CommitmentSigned, RevokeAndAck)

    @property
    def is_wallets_gain(self) -> bool:
        """Whether a preimage waits, which is worth something before the peer signs it away."""
        return self._waits(UpdateFulfillHtlc)

    def _waits(self, *kinds: type[Message]) -> bool:
        return any(isinstance(each.message, kinds) for each in self._pending)

    def received(self, raw: bytes, message: Message) -> tuple[bytes, ...]:
        """The peer said this; returns what goes out for it at once.

        Raises `Behind`, and other `BoltError`s where it may not say so. Whether its signatures
        hold is for the wallet to see.
        """
        size = self._pending_bytes + len(raw)
        if len(self._pending) >= MAX_UNHEARD or size > MOVES_BYTES:
            raise UnexpectedMessage(f"{message.NAME}: too much waits for this node to go on")
        view, again = _hear(self.view, raw, message)
        self.view = view
        self._pending = (*self._pending, Heard(raw, message))
        self._pending_bytes = size
        return again

    def take(self, heard: int, said: int, words: Sequence[bytes]) -> list[bytes]:
        """What the wallet says, having taken so many of the peer's messages in all.

        `said` is the number of the first of `words`. Returns those that are new and leave once
        `base` is stored. Raises `Stale`, and `BoltError` for what must never leave.
        """
        if not self.heard <= heard <= self.heard + len(self._pending):
            raise Stale(
                f"of the peer's messages {self.heard} were taken and {len(self._pending)} wait; "
                f"{heard} can't be"
            )
        if not said <= self.said <= said + len(words):
            raise Stale(
                f"of the wallet's messages {self.said} have left; numbers {said} to "
                f"{said + len(words)} do not go on from there"
            )
        fresh = list(words[self.said - said :])
        count = heard - self.heard
        taken, left = self._pending[:count], self._pending[count:]
        base = self.base if left else self.view
        if left:
            for each in taken:
                base, _ = _hear(base, each.raw, each.message)
        for raw in fresh:
            base = take(base, base.role, raw)
        if base.owes_revocation:
            raise RequirementError("revoke_and_ack", "it is owed for a commitment_signed")
        view = base
        for each in left:
            view, _ = _hear(view, each.raw, each.message)
        self.base, self.view = base, view
        self.heard, self.said = heard, self.said + len(fresh)
        self._pending = left
        self._pending_bytes = sum(len(each.raw) for each in left)
        return fresh


def _hear(snapshot: Snapshot, raw: bytes, message: Message) -> tuple[Snapshot, tuple[bytes, ...]]:
    """What the channel is once the peer said this, and what is said again for it."""
    peer = snapshot.role.other
    if isinstance(message, ChannelReestablish):
        return reestablish(snapshot, peer, message)
    return take(snapshot, peer, raw, message, check=_wallet_checks), ()


def _wallet_checks(
    terms: Terms, owner: Role, state: CommitmentState, point: bytes, message: CommitmentSigned
) -> None:
    """The wallet rebuilds its own commitment, and goes by no other's word that it is signed."""
