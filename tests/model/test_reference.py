"""Every interleaving of two sides, step by step beside a reference that knows only BOLT #2's text.

The reference explores: a message is delivered, a side signs, revokes or says an update that is left
to be said, or the connection is lost with all that is on its way. What it does, the implementation
does too, and in every state has to have the same of everything: money, numbers, where each update
is, what may be said now, and, after a lost connection, which bytes go again and in which order.

`store` is what a node still knows after a lost connection of a `commitment_signed` that it has not
answered: nothing, as this project's wallet, or all, as most nodes. Of the latter, only what this
side makes of it is compared.
"""

from collections import deque
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import NamedTuple, TypeVar

import pytest

from lightning_proxy.bolt.channel.normal import take
from lightning_proxy.bolt.channel.reestablish import disconnected, reestablish, reestablish_of
from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.bolt.channel.updates import find_htlc
from lightning_proxy.bolt.commitment import CommitmentState, Role
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.messages import (
    ChannelReestablish,
    CommitmentSigned,
    RevokeAndAck,
    UpdateAddHtlc,
    UpdateFailHtlc,
    UpdateFee,
    UpdateFulfillHtlc,
    decode,
)
from lightning_proxy.bolt.secrets_store import NO_SECRET
from tests.model import reference
from tests.model.reference import SIDES, Money, Node, Side, money, other
from tests.support.moving import Mover, movers, secret_of, take_any

FIRST_FEERATE, NEW_FEERATE = 253, 300
HALF_MSAT = 500_000_000
#: Of each side's HTLCs, by their ids: with an output, and the least that there is.
AMOUNTS = (10_000_000, 1)
T = TypeVar("T")
ROLES: dict[Side, Role] = {"opener": Role.OPENER, "accepter": Role.ACCEPTER}
SIDE_OF = {role: side for side, role in ROLES.items()}


class Plan(NamedTuple):
    """What is going to happen, in whatever order."""

    opener_pays: int = 0
    accepter_pays: int = 0
    #: Whether the HTLC with this id is fulfilled.
    fulfils: tuple[bool, ...] = (True, False)
    fee: bool = False
    cuts: int = 0
    #: Sides that store a signature before they answer it.
    store: frozenset[Side] = frozenset()

    def pays(self, side: Side) -> int:
        return self.opener_pays if side == "opener" else self.accepter_pays


class World(NamedTuple):
    """Both nodes, what a lost connection leaves of each, and what is on its way from each."""

    nodes: tuple[Node, Node]
    kept: tuple[Node, Node]
    queues: tuple[tuple[reference.Message, ...], ...]
    cuts: int


class Twin(NamedTuple):
    """The implementation's two sides, each with what a lost connection leaves of it."""

    snapshots: tuple[Snapshot, Snapshot]
    kept: tuple[Snapshot, Snapshot]


@cache
def preimage_of(sender: Side, htlc_id: int) -> bytes:
    return sha256(f"{sender} {htlc_id}".encode()).digest()


@dataclass
class Words:
    """A reference's message as bytes, and an update's bytes as the reference's."""

    keys: dict[Side, Mover]
    updates: dict[bytes, reference.Update] = field(default_factory=dict)
    _raw: dict[tuple[Side, reference.Message], bytes] = field(default_factory=dict)

    def raw(self, sender: Side, message: reference.Message) -> bytes:
        key = (sender, message)
        if key not in self._raw:
            raw = self._raw[key] = self._make(sender, message)
            if isinstance(message, reference.Update):
                self.updates[raw] = message
        return self._raw[key]

    def _make(  # noqa: PLR0911 - one for each kind
        self, sender: Side, message: reference.Message
    ) -> bytes:
        keys, channel_id = self.keys[sender].keys, self.keys[sender].channel_id
        match message:
            case reference.Add():
                preimage = preimage_of(sender, message.id)
                return UpdateAddHtlc(
                    channel_id=channel_id,
                    id=message.id,
                    amount_msat=message.amount,
                    payment_hash=sha256(preimage).digest(),
                    cltv_expiry=500,
                    onion_routing_packet=bytes(1366),
                ).encode()
            case reference.Remove(fulfils=True):
                preimage = preimage_of(other(sender), message.id)
                return UpdateFulfillHtlc(
                    channel_id=channel_id, id=message.id, payment_preimage=preimage
                ).encode()
            case reference.Remove():
                return UpdateFailHtlc(channel_id=channel_id, id=message.id, reason=b"").encode()
            case reference.Fee():
                return UpdateFee(channel_id=channel_id, feerate_per_kw=message.feerate).encode()
            case reference.Commit():
                return CommitmentSigned(
                    channel_id=channel_id, signature=bytes(64), htlc_signature=()
                ).encode()
            case reference.Revoke():
                return RevokeAndAck(
                    channel_id=channel_id,
                    per_commitment_secret=secret_of(keys.per_commitment_seed, message.number),
                    next_per_commitment_point=keys.per_commitment_point(message.number + 2),
                ).encode()
            case reference.Reestablish():
                return self._reestablish(sender, message)

    def _reestablish(self, sender: Side, message: reference.Reestablish) -> bytes:
        seed = self.keys[other(sender)].keys.per_commitment_seed
        last = message.next_revocation - 1
        return ChannelReestablish(
            channel_id=self.keys[sender].channel_id,
            next_commitment_number=message.next_commitment,
            next_revocation_number=message.next_revocation,
            your_last_per_commitment_secret=NO_SECRET if last < 0 else secret_of(seed, last),
            my_current_per_commitment_point=self.keys[sender].keys.per_commitment_point(0),
        ).encode()


@dataclass
class Explorer:
    plan: Plan
    words: Words
    #: What the implementation was in each state of the reference: more than one where the ways
    #: there differ in an order that says nothing.
    seen: dict[World, list[Twin]] = field(default_factory=dict)
    steps: int = 0
    ends: int = 0

    def explore(self, world: World, twin: Twin) -> None:
        todo = deque([(world, twin)])
        while todo:
            world, twin = todo.popleft()
            following = self.following(world, twin)
            self.steps += len(following)
            if not following:
                self.check_end(world)
            for after, twin_after in following:
                twins = self.seen.setdefault(after, [])
                if twin_after not in twins:
                    twins.append(twin_after)
                    self.check(after, twin_after)
                    todo.append((after, twin_after))

    # ---- what may happen ----

    def following(self, world: World, twin: Twin) -> list[tuple[World, Twin]]:
        found = []
        for number, side in enumerate(SIDES):
            if world.queues[1 - number]:
                found.append(self._deliver(world, twin, number))
            node = world.nodes[number]
            if node.is_connected:
                found += [self._say(world, twin, number, word) for word in self._sayable(node)]
            assert side == node.side
        if world.cuts:
            found.append(self._cut(world, twin))
        return found

    def _sayable(self, node: Node) -> list[reference.Message]:
        words: list[reference.Message] = []
        if node.local_next is not None:
            words.append(node.revoke())
        # A signature before the own `revoke_and_ack` is only for who stores both.
        if node.may_commit and (node.local_next is None or node.side in self.plan.store):
            words.append(node.commit())
        said = {type(each) for each in node.said}
        adds = sum(isinstance(each, reference.Add) for each in node.said)
        if adds < self.plan.pays(node.side):
            words.append(reference.Add(node.side, adds, AMOUNTS[adds]))
        if self.plan.fee and node.side == "opener" and reference.Fee not in said:
            words.append(reference.Fee("opener", NEW_FEERATE))
        words += [
            reference.Remove(node.side, add.id, self.plan.fulfils[add.id])
            for add in node.removable()
        ]
        return words

    def _say(
        self, world: World, twin: Twin, number: int, word: reference.Message
    ) -> tuple[World, Twin]:
        node = world.nodes[number].say(word)
        snapshot = twin.snapshots[number]
        if self._is_ours(node.side):
            raw = self.words.raw(node.side, word)
            snapshot = take(snapshot, snapshot.role, raw, check=take_any)
        return self._become(world, twin, number, node, snapshot, (word,))

    def _deliver(self, world: World, twin: Twin, to: int) -> tuple[World, Twin]:
        word, *rest = world.queues[1 - to]
        world = world._replace(queues=_with(world.queues, 1 - to, tuple(rest)))
        node, again = world.nodes[to].hear(word)
        snapshot = twin.snapshots[to]
        if self._is_ours(node.side):
            raw = self.words.raw(other(node.side), word)
            sender = snapshot.role.other
            if isinstance(word, reference.Reestablish):
                message = decode(raw)
                assert isinstance(message, ChannelReestablish)
                snapshot, repeated = reestablish(snapshot, sender, message)
                # The same bytes, in the order in which they left.
                assert repeated == tuple(self.words.raw(node.side, each) for each in again)
            else:
                snapshot = take(snapshot, sender, raw, check=take_any)
        return self._become(world, twin, to, node, snapshot, again)

    def _cut(self, world: World, twin: Twin) -> tuple[World, Twin]:
        world = world._replace(queues=((), ()), cuts=world.cuts - 1)
        for number in range(2):
            node = world.kept[number].disconnected()
            snapshot = disconnected(twin.kept[number])
            greeting = node.reestablish()
            if self._is_ours(node.side):
                message = reestablish_of(snapshot, snapshot.role)
                assert (message.next_commitment_number, message.next_revocation_number) == (
                    greeting.next_commitment,
                    greeting.next_revocation,
                )
                snapshot = reestablish(snapshot, snapshot.role, message).snapshot
            node = node.say(greeting)
            world, twin = self._become(world, twin, number, node, snapshot, (greeting,))
        return world, twin

    def _become(
        self,
        world: World,
        twin: Twin,
        number: int,
        node: Node,
        snapshot: Snapshot,
        words: tuple[reference.Message, ...],
    ) -> tuple[World, Twin]:
        queue = world.queues[number] + words
        is_stored = node.local_next is None or node.side in self.plan.store
        world = world._replace(
            nodes=_with(world.nodes, number, node),
            kept=_with(world.kept, number, node) if is_stored else world.kept,
            queues=_with(world.queues, number, queue),
        )
        twin = Twin(
            _with(twin.snapshots, number, snapshot),
            _with(twin.kept, number, snapshot) if is_stored else twin.kept,
        )
        return world, twin

    def _is_ours(self, side: Side) -> bool:
        """Whether the implementation plays this side: as a node, it stores what it has answered."""
        return side not in self.plan.store

    # ---- what has to hold ----

    def check(self, world: World, twin: Twin) -> None:
        for node, snapshot in zip(world.nodes, twin.snapshots, strict=True):
            if self._is_ours(node.side):
                self._check_node(node, snapshot)

    def _check_node(self, node: Node, snapshot: Snapshot) -> None:
        ours, theirs = snapshot.ours, snapshot.theirs
        for side, number, now, following in (
            (ours, node.local_number, node.local, node.local_next),
            (theirs, node.remote_number, node.remote, node.remote_next),
        ):
            assert side.commitment.state.commitment_number == number
            assert _money(side.commitment.state) == _worth(now)
            assert (side.unrevoked is None) == (following is None)
            if side.unrevoked is not None and following is not None:
                assert side.unrevoked.state.commitment_number == number + 1
                assert _money(side.unrevoked.state) == _worth(following)
        for name in SIDES:
            side, words = snapshot.side(ROLES[name]), node.said if name == node.side else node.heard
            changes = side.changes
            stages = (changes.proposed, changes.signed, changes.acked, changes.countersigned)
            known = tuple(frozenset(self.words.updates[raw] for raw in stage) for stage in stages)
            assert known == node.stages(name)
            assert side.next_htlc_id == sum(isinstance(each, reference.Add) for each in words)
        assert snapshot.owes_revocation == (node.local_next is not None)
        if node.is_connected:
            assert snapshot.may_commit == (node.may_commit and node.local_next is None)
        irrevocable = {
            add.id
            for add in node.heard
            if isinstance(add, reference.Add)
            and node.is_irrevocable(add)
            and not any(
                isinstance(each, reference.Remove) and each.id == add.id
                for each in (node.local | node.remote) & node.said
            )
        }
        found = {id_ for id_ in range(2) if find_htlc(snapshot, snapshot.role.other, id_)}
        assert found == irrevocable
        self._check_refusals(node, snapshot)

    def _check_refusals(self, node: Node, snapshot: Snapshot) -> None:
        """What may not be said now is refused, of either side's."""
        wrong: list[reference.Message] = []
        if not node.may_commit:
            wrong.append(node.commit())
        if node.local_next is None or not node.is_connected:
            wrong.append(node.revoke())
        removable = {add.id for add in node.removable()} if node.is_connected else set()
        unremovable = {0, 1} - removable
        wrong += [reference.Remove(node.side, id_, fulfils=True) for id_ in unremovable]
        for word in wrong:
            _refuse(snapshot, snapshot.role, self.words.raw(node.side, word))
        if node.remote_next is None:
            revoke = self.words.raw(other(node.side), reference.Revoke(node.remote_number))
            _refuse(snapshot, snapshot.role.other, revoke)
        if node.local_next is not None or node.to_be_signed == node.local:
            commit = self.words.raw(other(node.side), reference.Commit(0, frozenset()))
            _refuse(snapshot, snapshot.role.other, commit)

    def check_end(self, world: World) -> None:
        """Where nothing is left to happen all that was planned is in both commitments."""
        self.ends += 1
        plan = self.plan
        updates = 2 * (plan.opener_pays + plan.accepter_pays) + plan.fee
        opener, accepter = world.nodes
        assert len(opener.local) == updates
        assert opener.local == opener.remote == accepter.local == accepter.remote
        assert not _worth(opener.local).htlcs


def _with(pair: tuple[T, ...], number: int, value: T) -> tuple[T, T]:
    return (value, pair[1]) if number == 0 else (pair[0], value)


@cache
def _worth(updates: reference.Set) -> Money:
    return money(updates, HALF_MSAT, HALF_MSAT, FIRST_FEERATE)


def _money(state: CommitmentState) -> Money:
    htlcs = frozenset((SIDE_OF[each.offered_by], each.id, each.amount_msat) for each in state.htlcs)
    return Money(state.to_opener_msat, state.to_accepter_msat, htlcs, state.feerate_per_kw)


def _refuse(snapshot: Snapshot, sender: Role, raw: bytes) -> None:
    try:
        take(snapshot, sender, raw, check=take_any)
    except BoltError:
        return
    raise AssertionError(decode(raw))


def explored(plan: Plan) -> Explorer:
    both = movers(sign=False, push_msat=HALF_MSAT)
    words = Words({side: both[ROLES[side]] for side in SIDES})
    explorer = Explorer(plan, words)
    nodes = (Node("opener"), Node("accepter"))
    snapshots = (both[Role.OPENER].snapshot, both[Role.ACCEPTER].snapshot)
    explorer.explore(World(nodes, nodes, ((), ()), plan.cuts), Twin(snapshots, snapshots))
    assert explorer.ends
    return explorer


#: Each ends with all that it plans in both commitments, whatever way it took.
PLANS = {
    "both pay": Plan(1, 1),
    "one pays twice": Plan(2, 0),
    "both pay, cut once": Plan(1, 1, cuts=1),
    "one pays, a fee, cut once": Plan(0, 1, fee=True, cuts=1),
    "one pays, cut twice": Plan(1, 0, cuts=2),
    "a fee, cut twice": Plan(fee=True, cuts=2),
    "one pays, a fee, cut once; the opener stores": Plan(
        1, 0, fee=True, cuts=1, store=frozenset({"opener"})
    ),
    "one pays, a fee, cut once; the accepter stores": Plan(
        1, 0, fee=True, cuts=1, store=frozenset({"accepter"})
    ),
}
#: What takes minutes (`make soak`).
SOAKED = {
    "both pay, a fee, cut once": Plan(1, 1, fee=True, cuts=1),
    "the opener pays twice, a fee, cut once": Plan(2, 0, fee=True, cuts=1),
    "the accepter pays twice, a fee, cut once": Plan(0, 2, fee=True, cuts=1),
    "both pay, a fee, cut once; the opener stores": Plan(
        1, 1, fee=True, cuts=1, store=frozenset({"opener"})
    ),
    "both pay, a fee, cut once; the accepter stores": Plan(
        1, 1, fee=True, cuts=1, store=frozenset({"accepter"})
    ),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    plans = PLANS | (SOAKED if metafunc.config.getoption("soak") else {})
    metafunc.parametrize("plan", plans.values(), ids=plans)


def test_every_state_is_as_bolt_2_has_it(plan: Plan) -> None:
    explored(plan)
