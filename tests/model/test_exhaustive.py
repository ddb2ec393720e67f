"""Every interleaving of two sides that move one channel, against a reference in plain integers.

The two machines are connected by queues. From the first state on, everything that may happen next
is tried: a message is delivered, a side signs or revokes, one says an update of those that are left
to be said, or the connection is lost with all that is on its way.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import NamedTuple

import msgspec
import pytest

from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.bolt.channel.updates import Removal, find_htlc
from lightning_proxy.bolt.commitment import CommitmentState, Role
from lightning_proxy.bolt.messages import (
    Message,
    UpdateFailHtlc,
    UpdateFee,
    UpdateFulfillHtlc,
    decode,
)
from lightning_proxy.wallet.keys import ChannelSecrets
from tests.support.moving import Mover, movers

PREIMAGES = {role: sha256(role.value.encode()).digest() for role in Role}
AMOUNT_MSAT = 10_000_000
NEW_FEERATE = 300


class Budget(NamedTuple):
    """What may still happen."""

    adds: frozenset[Role] = frozenset()
    fulfils: bool = True
    fees: int = 0
    disconnections: int = 0


class World(NamedTuple):
    """Both sides, what is on its way from each, and what may still happen."""

    opener: Snapshot
    accepter: Snapshot
    #: What a disconnection leaves of each.
    opener_kept: Snapshot
    accepter_kept: Snapshot
    from_opener: tuple[bytes, ...]
    from_accepter: tuple[bytes, ...]
    budget: Budget

    @property
    def key(self) -> bytes:
        return _encode(self)


_encode = msgspec.msgpack.Encoder(enc_hook=sorted).encode


@dataclass
class Explorer:
    """Explores from a channel that is ready."""

    keys: dict[Role, ChannelSecrets]
    #: Who offers an HTLC at all.
    adders: frozenset[Role]
    seen: set[bytes] = field(default_factory=set)
    settled: int = 0

    def explore(self, first: World) -> None:
        todo = deque([first])
        while todo:
            world = todo.popleft()
            digest = sha256(world.key).digest()
            if digest in self.seen:
                continue
            self.seen.add(digest)
            self.check(world)
            following = self.following(world)
            if not following:
                self.check_end(world)
            todo.extend(following)

    # ---- what may happen ----

    def following(self, world: World) -> list[World]:
        found = []
        for role in Role:
            found += self._deliveries(world, role)
            found += self._words(world, role)
        if world.budget.disconnections:
            found.append(self._disconnect(world))
        return found

    def _deliveries(self, world: World, to: Role) -> list[World]:
        queue = _queue(world, to.other)
        if not queue:
            return []
        mover = self._mover(world, to)
        replies = mover.hear(queue[0])
        return [_said(_with_queue(world, to.other, queue[1:]), mover, *replies)]

    def _words(self, world: World, role: Role) -> list[World]:
        """All that this side may say of its own accord."""
        snapshot = _snapshot(world, role)
        if snapshot.reestablished is not None and len(snapshot.reestablished) < len(Role):
            return []
        budget, found = world.budget, []
        if snapshot.owes_revocation:
            found.append(self._say(world, role, lambda mover: mover.revoke_and_ack()))
        if snapshot.may_commit:
            found.append(self._say(world, role, lambda mover: mover.commitment_signed()))
        if role in budget.adds:
            payment_hash = sha256(PREIMAGES[role]).digest()
            less = budget._replace(adds=budget.adds - {role})
            found.append(
                self._say(
                    world._replace(budget=less),
                    role,
                    lambda mover: mover.add(AMOUNT_MSAT, payment_hash),
                )
            )
        if budget.fees and role is Role.OPENER:
            less = budget._replace(fees=budget.fees - 1)
            found.append(
                self._say(
                    world._replace(budget=less),
                    role,
                    lambda mover: UpdateFee(
                        channel_id=mover.channel_id, feerate_per_kw=NEW_FEERATE
                    ),
                )
            )
        if (removal := self._removal(snapshot, budget)) is not None:
            found.append(self._say(world, role, lambda _: removal))
        return found

    def _removal(self, snapshot: Snapshot, budget: Budget) -> Message | None:
        """Of the HTLC that the other side offered, once it is irrevocable."""
        other = snapshot.role.other
        htlc = find_htlc(snapshot, other, 0)
        pending = snapshot.ours.changes.pending
        if htlc is None or any(isinstance(decode(raw), Removal) for raw in pending):
            return None
        channel_id = Mover(self.keys[snapshot.role], snapshot, sign=False).channel_id
        if budget.fulfils:
            preimage = PREIMAGES[other]
            return UpdateFulfillHtlc(channel_id=channel_id, id=0, payment_preimage=preimage)
        return UpdateFailHtlc(channel_id=channel_id, id=0, reason=b"")

    def _say(self, world: World, role: Role, make: Callable[[Mover], Message]) -> World:
        mover = self._mover(world, role)
        return _said(world, mover, mover.say(make(mover)))

    def _disconnect(self, world: World) -> World:
        budget = world.budget._replace(disconnections=world.budget.disconnections - 1)
        world = world._replace(from_opener=(), from_accepter=(), budget=budget)
        for role in Role:
            mover = self._mover(world, role)
            mover.disconnect()
            world = _said(world, mover, mover.reconnect())
            # What was not said for good may be said again.
            lost = _snapshot(world, role).ours.next_htlc_id == 0 and role not in budget.adds
            if lost and role in self.adders:
                world = world._replace(
                    budget=world.budget._replace(adds=world.budget.adds | {role})
                )
        return world

    def _mover(self, world: World, role: Role) -> Mover:
        kept = world.opener_kept if role is Role.OPENER else world.accepter_kept
        return Mover(self.keys[role], _snapshot(world, role), kept, sign=False)

    # ---- what has to hold ----

    def check(self, world: World) -> None:
        """In every state."""
        opener, accepter = world.opener, world.accepter
        for role in Role:
            states: dict[int, CommitmentState] = {}
            for snapshot in (opener, accepter):
                for signed in (snapshot.side(role).commitment, snapshot.side(role).unrevoked):
                    if signed is None:
                        continue
                    state = signed.state
                    total = state.to_opener_msat + state.to_accepter_msat
                    total += sum(htlc.amount_msat for htlc in state.htlcs)
                    assert total == 1_000_000_000
                    # What both have of one number is one commitment: its order says nothing.
                    same = states.setdefault(state.commitment_number, _unordered(state))
                    assert same == _unordered(state)
            # The owner is at most one commitment away from what the other side thinks.
            numbers = {s.side(role).commitment.state.commitment_number for s in (opener, accepter)}
            assert max(numbers) - min(numbers) <= 1
        assert Snapshot.decode(opener.encode()) == opener

    def check_end(self, world: World) -> None:
        """Where nothing is left to happen, everything is settled, and both agree."""
        self.settled += 1
        assert world.opener.is_quiet, world
        assert world.accepter.is_quiet
        for role in Role:
            mine, theirs = world.opener.side(role), world.accepter.side(role)
            assert mine.commitment.state == theirs.commitment.state
            assert mine.next_point == theirs.next_point
        assert world.opener.opener.commitment.state.feerate_per_kw in (253, NEW_FEERATE)


def _snapshot(world: World, role: Role) -> Snapshot:
    return world.opener if role is Role.OPENER else world.accepter


def _queue(world: World, sender: Role) -> tuple[bytes, ...]:
    return world.from_opener if sender is Role.OPENER else world.from_accepter


def _with_queue(world: World, sender: Role, queue: tuple[bytes, ...]) -> World:
    if sender is Role.OPENER:
        return world._replace(from_opener=queue)
    return world._replace(from_accepter=queue)


def _said(world: World, mover: Mover, *messages: bytes) -> World:
    """With the mover's new snapshot, and what it said on its way."""
    if mover.role is Role.OPENER:
        world = world._replace(opener=mover.snapshot, opener_kept=mover.kept)
    else:
        world = world._replace(accepter=mover.snapshot, accepter_kept=mover.kept)
    return _with_queue(world, mover.role, _queue(world, mover.role) + messages)


def _unordered(state: CommitmentState) -> CommitmentState:
    htlcs = sorted(state.htlcs, key=lambda htlc: (htlc.offered_by.value, htlc.id))
    return replace(state, htlcs=tuple(htlcs))


def explored(budget: Budget) -> Explorer:
    both = movers(sign=False, push_msat=500_000_000)
    explorer = Explorer({role: mover.keys for role, mover in both.items()}, budget.adds)
    opener, accepter = (both[role].snapshot for role in Role)
    explorer.explore(World(opener, accepter, opener, accepter, (), (), budget))
    assert explorer.settled
    return explorer


@pytest.mark.parametrize("fulfils", [True, False])
@pytest.mark.parametrize(
    "budget",
    [
        Budget(adds=frozenset(Role)),
        Budget(adds=frozenset({Role.OPENER}), fees=1),
        Budget(adds=frozenset({Role.ACCEPTER}), disconnections=1),
        Budget(fees=1, disconnections=2),
    ],
    ids=["both pay", "one pays, a fee", "one pays, cut once", "a fee, cut twice"],
)
def test_every_interleaving_settles(budget: Budget, fulfils: bool) -> None:
    explored(budget._replace(fulfils=fulfils))
