"""A wallet and its relay, and their peer: another wallet and its relay, over queues.

Whatever is late, lost, cut off or spoilt on its way, and whichever process ends wherever it stores
something: nothing is signed or revealed twice or too early, all four go by the same transactions,
and left alone everything settles and both can pay again.
"""

from contextlib import suppress
from functools import lru_cache

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.bolt.channel.terms import terms_of
from lightning_proxy.bolt.commitment import CommitmentState, Role, build_commitment
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.messages import CommitmentSigned, RevokeAndAck, decode
from lightning_proxy.wallet.events import PaymentFailed, PaymentReceived, PaymentSent
from lightning_proxy.wallet.moving.rounds import StateLost
from lightning_proxy.wallet.request import Refusal
from tests.model.ends import HEIGHT, End, Lost, Question
from tests.support.moving import opened

#: Down to the least, around the dust limit (354 sat) and the fees of HTLC transactions.
AMOUNTS = (10_000_000, 2_000_000, 600_000, 355_000, 354_000, 353_999, 1_000, 999, 1)
BOTH = st.sampled_from(list(Role))
#: Where a process ends: it has written, or is about to.
DIES = st.sampled_from(["before", "after"])
#: What a message with another bit in it is refused as.
REFUSALS = (BoltError, Refusal, StateLost)
CAPACITY_MSAT = 1_000_000_000


class FourMachines(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        sides = opened(push_msat=CAPACITY_MSAT // 2)
        self.ends = {role: End(side) for role, side in sides.items()}
        for role, end in self.ends.items():
            end.other = self.ends[role.other]
        self.connections = 0
        self.payments = 0
        self.txids: dict[tuple[Role, int], str] = {}

    # ---- what owners want ----

    @rule(payer=BOTH, amount=st.sampled_from(AMOUNTS), succeeds=st.booleans())
    def pay(self, payer: Role, amount: int, succeeds: bool) -> None:
        end = self.ends[payer]
        salt = f"{self.payments}".encode()
        self.payments += 1
        end.wallet.wish_to_pay(end.other.wallet.invoice(salt, amount, keep=succeeds))
        end.go_on()

    @rule(feerate=st.sampled_from((253, 400, 1_000, 5_000)))
    def fee(self, feerate: int) -> None:
        end = self.ends[Role.OPENER]
        end.wallet.wish_for_fee(feerate)
        end.go_on()

    @rule(role=BOTH)
    def hold_or_let_go(self, role: Role) -> None:
        """A wallet that has no tip for now takes no payment, and fails none."""
        end = self.ends[role]
        end.wallet.height = HEIGHT if end.wallet.height is None else None
        end.go_on()

    # ---- what is on its way arrives ----

    @rule(to=BOTH, count=st.integers(1, 9))
    def deliver(self, to: Role, count: int) -> None:
        end = self.ends[to]
        for _ in range(count):
            if end.other.line and end.relay.live is not None:
                end.hear(end.other.line.popleft())

    @rule(role=BOTH, count=st.integers(1, 4))
    def ask(self, role: Role, count: int) -> None:
        end = self.ends[role]
        for _ in range(min(count, len(end.to_wallet))):
            end.wallet_hears()

    @rule(role=BOTH, count=st.integers(1, 4))
    def answer(self, role: Role, count: int) -> None:
        end = self.ends[role]
        for _ in range(min(count, len(end.to_relay))):
            end.relay_hears()

    # ---- what breaks ----

    @rule()
    def the_connection_is_lost(self) -> None:
        """With all that is on its way; and there is another one."""
        self.connections += 1
        for end in self.ends.values():
            end.line.clear()
            end.relay.hang_up(f"{self.connections}")
            question = end.relay.question
            assert question is not None
            end.to_wallet.append(question)

    @rule(role=BOTH)
    def a_socket_is_lost(self, role: Role) -> None:
        self.ends[role].new_socket()

    @precondition(lambda self: any(end.to_wallet for end in self.ends.values()))
    @rule(role=BOTH, when=DIES)
    def a_wallet_dies(self, role: Role, when: str) -> None:
        end = self.ends[role]
        if end.to_wallet:
            with suppress(Lost):
                end.wallet_hears(dies_before=when == "before", dies_after=when == "after")
        end.new_socket()

    @precondition(lambda self: any(end.to_relay for end in self.ends.values()))
    @rule(role=BOTH, when=DIES)
    def a_relay_dies(self, role: Role, when: str) -> None:
        end = self.ends[role]
        if end.to_relay:
            with suppress(Lost):
                end.relay_hears(dies_before=when == "before", dies_after=when == "after")
        self.the_connection_is_lost()
        end.new_socket()

    # ---- what lies ----

    @precondition(lambda self: any(_is_binding(end) for end in self.ends.values()))
    @rule(role=BOTH, bit=st.integers(0, 255))
    def a_relay_spoils_a_message(self, role: Role, bit: int) -> None:
        """A bit of a signature or of a secret, in a question: nothing of it is taken."""
        end = self.ends[role]
        if not _is_binding(end):
            return
        asked = end.to_wallet[0]
        assert isinstance(asked, Question)
        number = next(n for n, raw in enumerate(asked.raws) if _binds(raw))
        raws = list(asked.raws)
        raws[number] = _spoilt(raws[number], bit)
        before = end.wallet.live
        new = before.heard - asked.fence.heard if asked.fence is not None else 0
        if asked.session != before.session_id or number < new:
            # It is not about this connection, or was taken before.
            return
        assert asked.fence is not None
        try:
            end.wallet.answer(asked.session, asked.fence, raws)
        except REFUSALS:
            assert end.wallet.live == before
            return
        raise AssertionError("a wallet took what its peer never said")

    @precondition(lambda self: any(end.line and _binds(end.line[0]) for end in self.ends.values()))
    @rule(to=BOTH, bit=st.integers(0, 255))
    def the_peer_spoils_a_message(self, to: Role, bit: int) -> None:
        """Then the connection is given up, by the relay or because the wallet refuses."""
        end = self.ends[to]
        if end.relay.live is None or not end.other.line or not _binds(end.other.line[0]):
            return
        try:
            end.hear(_spoilt(end.other.line.popleft(), bit))
            while True:
                if not end.to_wallet:
                    raise AssertionError("nobody noticed")
                end.wallet_hears()
                if end.to_relay:
                    end.relay_hears()
        except REFUSALS:
            self.the_connection_is_lost()

    # ---- what has to hold ----

    def _snapshots(self) -> list[Snapshot]:
        found = [end.wallet.live.snapshot for end in self.ends.values()]
        lives = [end.relay.live for end in self.ends.values()]
        return found + [live.base for live in lives if live is not None]

    @invariant()
    def all_four_go_by_the_same_transactions(self) -> None:
        for snapshot in self._snapshots():
            for role in Role:
                side = snapshot.side(role)
                for signed in (side.commitment, side.unrevoked):
                    if signed is None:
                        continue
                    state = signed.state
                    total = state.to_opener_msat + state.to_accepter_msat
                    assert total + sum(h.amount_msat for h in state.htlcs) == CAPACITY_MSAT
                    txid = _txid(snapshot, role, state, signed.point)
                    assert self.txids.setdefault((role, state.commitment_number), txid) == txid

    @invariant()
    def a_record_is_what_was_stored(self) -> None:
        for end in self.ends.values():
            snapshot = end.wallet.live.snapshot
            assert Snapshot.decode(snapshot.encode()) == snapshot
            # At rest nothing is owed, and nothing said that is not signed.
            assert not snapshot.owes_revocation
            assert not snapshot.ours.changes.proposed
            live = end.relay.live
            if live is not None and (live.heard, live.said, end.relay.session) == (
                end.wallet.live.heard,
                end.wallet.live.said,
                end.wallet.live.session_id,
            ):
                assert live.base == snapshot

    def teardown(self) -> None:
        try:
            self._end()
        finally:
            for end in self.ends.values():
                end.wallet.close()

    def _end(self) -> None:
        self._settle()
        received = len(self._events(PaymentReceived))
        for role, end in self.ends.items():
            # In case that one has nothing left.
            salt = f"last {role.value}".encode()
            end.wallet.wish_to_pay(end.other.wallet.invoice(salt, 1_000_000, keep=True))
            end.go_on()
        self._settle()
        assert len(self._events(PaymentReceived)) == received + 2
        sent = len(self._events(PaymentSent))
        assert sent == received + 2
        assert sent + len(self._events(PaymentFailed)) == self.payments + 2
        for end in self.ends.values():
            assert end.wallet.replay() == end.wallet.live.snapshot

    def _events(self, kind: type) -> list[object]:
        events = [event for end in self.ends.values() for event in end.wallet.events]
        return [event for event in events if isinstance(event, kind)]

    def _settle(self) -> None:
        """Left alone, everything settles."""
        for end in self.ends.values():
            end.wallet.height = HEIGHT
            end.new_socket()
        for _ in range(1_000):
            if not any(self._step(end) for end in self.ends.values()):
                break
        opener, accepter = (self.ends[role].wallet.live.snapshot for role in Role)
        assert opener.is_quiet
        assert accepter.is_quiet
        for role in Role:
            assert opener.side(role).commitment.state == accepter.side(role).commitment.state
            assert opener.side(role).next_point == accepter.side(role).next_point

    def _step(self, end: End) -> bool:
        moved = False
        while end.to_wallet:
            end.wallet_hears()
            moved = True
        while end.to_relay:
            end.relay_hears()
            moved = True
        while end.other.line and end.relay.live is not None:
            end.hear(end.other.line.popleft())
            moved = True
        return moved


def _binds(raw: bytes) -> bool:
    return isinstance(decode(raw), CommitmentSigned | RevokeAndAck)


def _is_binding(end: End) -> bool:
    asked = end.to_wallet[0] if end.to_wallet else None
    return isinstance(asked, Question) and any(map(_binds, asked.raws))


def _spoilt(raw: bytes, bit: int) -> bytes:
    """With another bit in what follows the channel's id: 32 bytes of signature or secret."""
    place, mask = 34 + bit // 8, 1 << bit % 8
    return raw[:place] + bytes([raw[place] ^ mask]) + raw[place + 1 :]


@lru_cache(4096)
def _built(snapshot_terms: object, owner: Role, state: CommitmentState, point: bytes) -> str:
    return build_commitment(snapshot_terms, owner, state, point).unsigned.txid.hex()  # type: ignore[arg-type]


def _txid(snapshot: Snapshot, owner: Role, state: CommitmentState, point: bytes) -> str:
    return _built(terms_of(snapshot).parameters, owner, state, point)


TestFourMachines = FourMachines.TestCase
TestFourMachines.settings = settings(
    max_examples=settings().max_examples // 3,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
