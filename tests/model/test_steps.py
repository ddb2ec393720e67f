"""Two wallets against each other, step by step as each takes one, with real signatures.

Each keeps what it has stored; what leaves it goes into a queue. Messages are delivered one or many
at a time, connections break with all that is on its way, and a wallet that has stored a step may
lose what it was about to say.
"""

from collections import deque
from hashlib import sha256
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lightning_proxy.bolt.channel.reestablish import disconnected, reestablish, reestablish_of
from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.bolt.channel.terms import terms_of
from lightning_proxy.bolt.channel.updates import Removal, find_htlc
from lightning_proxy.bolt.commitment import Role
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
from lightning_proxy.wallet.keys import ChannelSecrets
from lightning_proxy.wallet.moving.limits import Limits
from lightning_proxy.wallet.moving.step import hear, speak
from tests.support.moving import movers

LIMITS = Limits(max_feerate_per_kw=25_000, max_dust_msat=50_000_000)
#: Around the dust limit (354 sat), the HTLC transactions' fees, and down to the least.
AMOUNTS = (10_000_000, 2_000_000, 600_000, 355_000, 354_000, 353_999, 1_000, 999, 1)
BOTH = st.sampled_from(list(Role))


def preimage_of(role: Role, number: int) -> bytes:
    return sha256(f"{role.value} {number}".encode()).digest()


class Party:
    """One wallet: what is on its disk, and what it signed and gave away so far."""

    def __init__(self, snapshot: Snapshot, secrets: ChannelSecrets) -> None:
        self.snapshot = snapshot
        self.secrets = secrets
        self.signed: dict[int, bytes] = {}
        self.released: dict[int, bytes] = {}
        self.wishes: list[Any] = []
        self.offered = 0

    def step(self, raw_messages: list[bytes]) -> tuple[bytes, ...]:
        """As a question and its answer; stored in one go."""
        before = self.snapshot
        heard = hear(before, self.secrets, raw_messages, LIMITS)
        removals = [self._remove(heard.snapshot, id_) for id_ in self._open(heard.snapshot)]
        spoken = speak(heard.snapshot, self.secrets, [*removals, *self.wishes])
        if spoken.said or spoken.refused:
            self.wishes.clear()
        assert not spoken.snapshot.owes_revocation
        assert not spoken.snapshot.ours.changes.proposed
        messages = heard.messages + spoken.messages
        for raw in messages:
            self._check_once(raw, before, spoken.snapshot)
        self.snapshot = Snapshot.decode(spoken.snapshot.encode())
        return messages

    def _check_once(self, raw: bytes, before: Snapshot, after: Snapshot) -> None:
        message = decode(raw)
        if isinstance(message, CommitmentSigned):
            number = after.theirs.latest.state.commitment_number
            assert number not in self.signed
            self.signed[number] = raw
        elif isinstance(message, RevokeAndAck):
            number = before.ours.commitment.state.commitment_number
            assert number not in self.released
            # Its successor is signed by the other side, and on the disk.
            assert after.ours.commitment.state.commitment_number == number + 1
            assert after.ours.commitment.commitment_signed
            self.released[number] = raw
        elif isinstance(message, UpdateFulfillHtlc):
            assert find_htlc(after, after.role.other, message.id) is not None

    def _open(self, snapshot: Snapshot) -> list[int]:
        """What the other side offered, irrevocably, and this one has not removed."""
        pending = [decode(raw) for raw in snapshot.ours.changes.pending]
        removed = {message.id for message in pending if isinstance(message, Removal)}
        other = snapshot.role.other
        return [
            htlc.id
            for htlc in snapshot.ours.commitment.state.htlcs
            if htlc.offered_by is other
            and htlc.id not in removed
            and find_htlc(snapshot, other, htlc.id) is not None
        ]

    def _remove(self, snapshot: Snapshot, htlc_id: int) -> Removal:
        channel_id = terms_of(snapshot).channel_id
        htlc = find_htlc(snapshot, snapshot.role.other, htlc_id)
        assert htlc is not None
        for number in range(100):
            preimage = preimage_of(snapshot.role.other, number)
            if sha256(preimage).digest() == htlc.payment_hash and number % 3:
                return UpdateFulfillHtlc(
                    channel_id=channel_id, id=htlc_id, payment_preimage=preimage
                )
        return UpdateFailHtlc(channel_id=channel_id, id=htlc_id, reason=b"no")


class TwoWallets(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        both = movers(push_msat=400_000_000)
        self.parties = {role: Party(both[role].snapshot, both[role].keys) for role in Role}
        self.queues: dict[Role, deque[bytes]] = {role: deque() for role in Role}

    def say(self, role: Role, messages: tuple[bytes, ...]) -> None:
        self.queues[role].extend(messages)

    @rule(role=BOTH, amount=st.sampled_from(AMOUNTS))
    def pay(self, role: Role, amount: int) -> None:
        party = self.parties[role]
        preimage = preimage_of(role, party.offered)
        party.offered += 1
        party.wishes.append(
            UpdateAddHtlc(
                channel_id=terms_of(party.snapshot).channel_id,
                id=0,
                amount_msat=amount,
                payment_hash=sha256(preimage).digest(),
                cltv_expiry=500,
                onion_routing_packet=bytes(1366),
            )
        )
        self.say(role, party.step([]))

    @rule(feerate=st.sampled_from((253, 400, 1_000, 5_000)))
    def fee(self, feerate: int) -> None:
        party = self.parties[Role.OPENER]
        channel_id = terms_of(party.snapshot).channel_id
        party.wishes.append(UpdateFee(channel_id=channel_id, feerate_per_kw=feerate))
        self.say(Role.OPENER, party.step([]))

    @precondition(lambda self: any(self.queues.values()))
    @rule(to=BOTH, count=st.integers(1, 9))
    def deliver(self, to: Role, count: int) -> None:
        queue = self.queues[to.other]
        messages = [queue.popleft() for _ in range(min(count, len(queue)))]
        if messages:
            self.say(to, self.parties[to].step(messages))

    @rule(keep=st.integers(0, 3))
    def disconnect(self, keep: int) -> None:
        """What is on its way is lost, but for the first few of each side's."""
        for role in Role:
            queue = self.queues[role]
            arrived = [queue.popleft() for _ in range(min(keep, len(queue)))]
            queue.clear()
            if arrived:
                # What this says comes to nobody any more, and must not be lost for good.
                self.parties[role.other].step(arrived)
        said: dict[Role, ChannelReestablish] = {}
        for role, party in self.parties.items():
            snapshot = disconnected(party.snapshot)
            said[role] = reestablish_of(snapshot, role)
            party.snapshot = reestablish(snapshot, role, said[role]).snapshot
        for role, party in self.parties.items():
            # As the relay does, from the same snapshot.
            again = reestablish(party.snapshot, role.other, said[role.other]).messages
            for raw in again:
                known = (*party.signed.values(), *party.released.values())
                message = decode(raw)
                is_number = isinstance(message, CommitmentSigned | RevokeAndAck)
                assert not is_number or raw in known
            self.queues[role].append(said[role].encode())
            self.queues[role].extend(again)

    @invariant()
    def sums(self) -> None:
        for party in getattr(self, "parties", {}).values():
            for side in (party.snapshot.opener, party.snapshot.accepter):
                state = side.latest.state
                total = state.to_opener_msat + state.to_accepter_msat
                assert total + sum(h.amount_msat for h in state.htlcs) == 1_000_000_000

    def teardown(self) -> None:
        """Left alone, everything settles, and both agree."""
        if not hasattr(self, "parties"):
            return
        for _ in range(300):
            for to in Role:
                messages = list(self.queues[to.other])
                self.queues[to.other].clear()
                self.say(to, self.parties[to].step(messages))
            if not any(self.queues.values()) and not any(p.wishes for p in self.parties.values()):
                break
        opener, accepter = (self.parties[role].snapshot for role in Role)
        assert opener.is_quiet
        assert accepter.is_quiet
        for role in Role:
            assert opener.side(role).commitment.state == accepter.side(role).commitment.state


TestTwoWallets = TwoWallets.TestCase
TestTwoWallets.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
