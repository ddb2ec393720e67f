"""BOLT #2's normal operation in sets and integers: what a channel is, by the text alone.

A commitment is the set of the updates that are in it. An update is in a node's hands once it was
said or heard; a `commitment_signed` puts into the other side's next commitment all that its sender
said, and of the other's all that is in a commitment for which the sender has revoked the one
before. Nothing else is needed: where an update is on its way follows from which sets have it.
Nothing of this is the implementation's.
"""

from typing import Literal, NamedTuple

Side = Literal["opener", "accepter"]
SIDES: tuple[Side, Side] = ("opener", "accepter")


def other(side: Side) -> Side:
    return "accepter" if side == "opener" else "opener"


class Add(NamedTuple):
    sender: Side
    id: int
    amount: int
    kind: str = "add"


class Remove(NamedTuple):
    """Of the other side's HTLC with this id."""

    sender: Side
    id: int
    fulfils: bool
    kind: str = "remove"


class Fee(NamedTuple):
    sender: Side
    feerate: int
    kind: str = "fee"


Update = Add | Remove | Fee
Set = frozenset[Update]


class Commit(NamedTuple):
    """Of the other side's commitment with this number: what the signer takes to be in it."""

    number: int
    updates: Set
    kind: str = "commit"


class Revoke(NamedTuple):
    """Of the sender's commitment with this number."""

    number: int
    kind: str = "revoke"


class Reestablish(NamedTuple):
    next_commitment: int
    next_revocation: int
    kind: str = "reestablish"


Message = Update | Commit | Revoke | Reestablish


class Money(NamedTuple):
    """A commitment, as money: msat, the HTLCs in it by who offered them, and the feerate."""

    opener: int
    accepter: int
    htlcs: frozenset[tuple[Side, int, int]]
    feerate: int


class Node(NamedTuple):
    """One node. `local` is its own commitment that is not revoked, `remote` the other side's;
    the next one of each is there from its signature until the revocation of the one before.
    """

    side: Side
    said: Set = frozenset()
    #: Those of `said` that no signature covers, in the order in which they left.
    fresh: tuple[Update, ...] = ()
    heard: Set = frozenset()
    local: Set = frozenset()
    local_number: int = 0
    local_next: Set | None = None
    remote: Set = frozenset()
    remote_number: int = 0
    remote_next: Set | None = None
    #: The last `revoke_and_ack`, and the `commitment_signed` that is not acknowledged with the
    #: updates that came with it, in the order in which they left.
    left: tuple[tuple[Message, ...], ...] = ()
    #: Who has said `channel_reestablish` on this connection; None on the first one.
    greeted: frozenset[Side] | None = None

    # ---- what is known ----

    @property
    def is_connected(self) -> bool:
        return self.greeted is None or len(self.greeted) == len(SIDES)

    @property
    def to_sign(self) -> Set:
        """What is in the other side's next commitment, were it signed now."""
        theirs = {update for update in self.local if update.sender != self.side}
        return self._remote_latest | self.said | theirs

    @property
    def to_be_signed(self) -> Set:
        """What is in the own next commitment, were it signed now."""
        ours = {update for update in self.remote if update.sender == self.side}
        return self._local_latest | self.heard | ours

    @property
    def may_commit(self) -> bool:
        return (
            self.is_connected and self.remote_next is None and self.to_sign != self._remote_latest
        )

    def is_irrevocable(self, update: Update) -> bool:
        return update in self.local and update in self.remote

    def removable(self) -> list[Add]:
        """The other side's HTLCs that are in both commitments, and not removed so far."""
        removed = {update.id for update in self.said if isinstance(update, Remove)}
        return [
            update
            for update in self.heard
            if isinstance(update, Add) and update.id not in removed and self.is_irrevocable(update)
        ]

    @property
    def _local_latest(self) -> Set:
        return self.local if self.local_next is None else self.local_next

    @property
    def _remote_latest(self) -> Set:
        return self.remote if self.remote_next is None else self.remote_next

    def stages(self, sender: Side) -> tuple[Set, Set, Set, Set]:
        """Said and not signed; signed; revoked for; and signed in return, of one side's updates."""
        if sender == self.side:
            words, first, first_next = self.said, self.remote, self.remote_next
            second, second_next = self.local, self.local_next
        else:
            words, first, first_next = self.heard, self.local, self.local_next
            second, second_next = self.remote, self.remote_next
        nothing: Set = frozenset()
        theirs = frozenset(update for update in words if update.sender == sender)
        in_first = theirs & first
        in_first_next = theirs & (first_next or nothing) - first
        in_second_next = theirs & (second_next or nothing) - second
        return (
            theirs - in_first - in_first_next,
            in_first_next,
            in_first - second - in_second_next,
            in_second_next,
        )

    # ---- what is said ----

    def say(self, message: Message) -> "Node":
        match message:
            case Commit():
                words: tuple[Message, ...] = (*self.fresh, message)
                left = (*(each for each in self.left if each[-1].kind == "revoke"), words)
                return self._replace(remote_next=message.updates, fresh=(), left=left)
            case Revoke():
                assert self.local_next is not None
                left = (*(each for each in self.left if each[-1].kind != "revoke"), (message,))
                return self._replace(
                    local=self.local_next,
                    local_number=self.local_number + 1,
                    local_next=None,
                    left=left,
                )
            case Reestablish():
                assert self.greeted is not None
                return self._replace(greeted=self.greeted | {self.side})
        return self._replace(said=self.said | {message}, fresh=(*self.fresh, message))

    def commit(self) -> Commit:
        return Commit(self.remote_number + 1, self.to_sign)

    def revoke(self) -> Revoke:
        return Revoke(self.local_number)

    def reestablish(self) -> Reestablish:
        received = self.local_number + (self.local_next is not None)
        return Reestablish(received + 1, self.remote_number)

    # ---- what is heard ----

    def hear(self, message: Message) -> tuple["Node", tuple[Message, ...]]:
        """And what is said again for it."""
        match message:
            case Commit():
                assert self.local_next is None
                # This is what a signature that verifies says.
                assert message == Commit(self.local_number + 1, self.to_be_signed)
                return self._replace(local_next=message.updates), ()
            case Revoke():
                assert self.remote_next is not None
                assert message.number == self.remote_number
                left = tuple(each for each in self.left if each[-1].kind == "revoke")
                return self._replace(
                    remote=self.remote_next,
                    remote_number=self.remote_number + 1,
                    remote_next=None,
                    left=left,
                ), ()
            case Reestablish():
                assert self.greeted is not None
                again = [
                    word
                    for words in self.left
                    for word in words
                    if self._is_missed(words[-1], message)
                ]
                return self._replace(greeted=self.greeted | {other(self.side)}), tuple(again)
        return self._replace(heard=self.heard | {message}), ()

    @staticmethod
    def _is_missed(word: Message, message: Reestablish) -> bool:
        match word:
            case Commit(number=number):
                assert message.next_commitment in (number, number + 1)
                return message.next_commitment == number
            case Revoke(number=number):
                assert message.next_revocation in (number, number + 1)
                return message.next_revocation == number
        raise AssertionError(word)

    def disconnected(self) -> "Node":
        """What no signature covers never was."""
        return self._replace(
            said=frozenset(each for each in self._remote_latest if each.sender == self.side),
            fresh=(),
            heard=frozenset(each for each in self._local_latest if each.sender != self.side),
            greeted=frozenset(),
        )


def money(updates: Set, opener: int, accepter: int, feerate: int) -> Money:
    """What these updates make of a channel that began so."""
    balances: dict[Side, int] = {"opener": opener, "accepter": accepter}
    adds = {(each.sender, each.id): each.amount for each in updates if isinstance(each, Add)}
    open_ = dict(adds)
    for (sender, _), amount in adds.items():
        balances[sender] -= amount
    for update in updates:
        match update:
            case Remove(sender=sender, id=htlc_id, fulfils=fulfils):
                amount = open_.pop((other(sender), htlc_id))
                balances[sender if fulfils else other(sender)] += amount
            case Fee():
                feerate = update.feerate
    return Money(
        balances["opener"],
        balances["accepter"],
        frozenset((sender, id_, amount) for (sender, id_), amount in open_.items()),
        feerate,
    )
