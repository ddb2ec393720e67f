"""The relay's copy of a channel that moves, between a wallet and a peer with real keys."""

from hashlib import sha256
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.strategies import integers, sampled_from

from lightning_proxy.bolt.channel.normal import next_commitment
from lightning_proxy.bolt.channel.reestablish import Behind, reestablish, reestablish_of
from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.errors import BoltError, RequirementError, UnexpectedMessage
from lightning_proxy.bolt.messages import Message, UpdateFee, UpdateFulfillHtlc, decode
from lightning_proxy.relay.live import LiveChannel, Stale
from lightning_proxy.rpc import MAX_UNHEARD
from tests.support.living import WalletSide
from tests.support.moving import Mover, movers
from tests.unit.bolt.pair import TYPES

PREIMAGE = b"\x01" * 32
HASH = sha256(PREIMAGE).digest()


class Channel:
    """A wallet, the relay's copy of its channel, and the peer."""

    def __init__(self, role: Role = Role.ACCEPTER, **opening: Any) -> None:
        both = movers(push_msat=500_000_000, **opening)
        self.wallet, self.peer = WalletSide(both[role]), both[role.other]
        self.relay = LiveChannel(self.wallet.snapshot)

    def hear(self, message: Message) -> tuple[bytes, ...]:
        """The peer says this."""
        return self.relay.received(self.peer.say(message), message)

    def ask(self, *, commits: bool = True) -> list[bytes]:
        """One question and its answer; returns what left for the peer, which has heard it."""
        fence = self.relay.fence
        self.wallet.hear(fence, self.relay.unheard)
        if commits:
            self.wallet.commit()
        heard, words = self.wallet.since(fence)
        left = self.relay.take(heard, fence.said, words)
        for raw in left:
            self.peer.hear(raw)
        return left

    def turn(self) -> bool:
        return self.relay.is_wallets_turn

    def fulfil(self, mover: Mover, htlc_id: int) -> UpdateFulfillHtlc:
        return UpdateFulfillHtlc(channel_id=mover.channel_id, id=htlc_id, payment_preimage=PREIMAGE)

    def agree(self) -> None:
        """All three are at the same place."""
        assert self.relay.base == self.relay.view == self.wallet.snapshot
        for owner in Role:
            ours, theirs = self.relay.base.side(owner), self.peer.snapshot.side(owner)
            assert ours.commitment == theirs.commitment


@pytest.fixture(params=[*TYPES.values()], ids=[*TYPES])
def channel_type(request: pytest.FixtureRequest) -> bytes:
    value: bytes = request.param
    return value


@pytest.fixture(params=Role)
def channel(request: pytest.FixtureRequest, channel_type: bytes) -> Channel:
    return Channel(request.param, channel_type=channel_type)


def test_a_payment_received_takes_three_rounds(channel: Channel) -> None:
    relay, peer = channel.relay, channel.peer
    channel.hear(peer.add(50_000_000, HASH))
    # An update alone is nobody's turn: its signature is yet to come.
    assert not channel.turn()
    channel.hear(peer.commitment_signed())
    assert channel.turn()
    assert len(relay.unheard) == 2
    assert [decode(raw).NAME for raw in channel.ask()] == ["revoke_and_ack", "commitment_signed"]
    assert not channel.turn()
    channel.hear(peer.revoke_and_ack())
    assert channel.turn()
    channel.wallet.hear(relay.fence, relay.unheard)
    channel.wallet.say(channel.fulfil(channel.wallet.mover, 0))
    assert [decode(raw).NAME for raw in channel.ask()] == [
        "update_fulfill_htlc",
        "commitment_signed",
    ]
    channel.hear(peer.revoke_and_ack())
    channel.hear(peer.commitment_signed())
    assert [decode(raw).NAME for raw in channel.ask()] == ["revoke_and_ack"]
    channel.agree()
    assert relay.base.is_quiet
    assert relay.fence == msgspec.convert(
        {"ours": 2, "theirs": 2, "heard": 5, "said": 5}, type=type(relay.fence)
    )


def test_a_payment_sent(channel: Channel) -> None:
    relay, peer, wallet = channel.relay, channel.peer, channel.wallet
    words = wallet.say(
        wallet.mover.add(50_000_000, HASH),
    )
    wallet.commit()
    for raw in relay.take(0, 0, wallet.said):
        peer.hear(raw)
    assert words[0] in wallet.said
    channel.hear(peer.revoke_and_ack())
    channel.hear(peer.commitment_signed())
    channel.ask()
    channel.hear(channel.fulfil(peer, 0))
    assert not channel.turn()
    assert relay.is_wallets_gain
    channel.hear(peer.commitment_signed())
    channel.ask()
    channel.hear(peer.revoke_and_ack())
    channel.ask()
    channel.agree()
    assert relay.base.is_quiet


def test_a_fee_of_the_openers(channel_type: bytes) -> None:
    channel = Channel(Role.ACCEPTER, channel_type=channel_type)
    channel.hear(UpdateFee(channel_id=channel.peer.channel_id, feerate_per_kw=1_000))
    channel.hear(channel.peer.commitment_signed())
    channel.ask()
    channel.hear(channel.peer.revoke_and_ack())
    channel.ask()
    channel.agree()
    assert channel.relay.base.ours.commitment.state.feerate_per_kw == 1_000


# ---- what never leaves ----


def wrong_answers(channel: Channel) -> dict[str, list[bytes]]:
    """Each a way to spoil a right answer, by what is said of it."""
    revoked, signed = (decode(raw) for raw in channel.wallet.said)
    replace = msgspec.structs.replace
    return {
        "signature: it is for another": [
            revoked.encode(),
            replace(signed, signature=bytes(64)).encode(),
        ],
        "per_commitment_secret": [replace(revoked, per_commitment_secret=b"\x07" * 32).encode()],
        "it is owed": [],
        "htlc_signature": [revoked.encode(), replace(signed, htlc_signature=()).encode()],
        "channel_id": [replace(revoked, channel_id=bytes(32)).encode()],
        "no HTLC 0": [
            revoked.encode(),
            channel.fulfil(channel.wallet.mover, 0).encode(),
        ],
        "has no place": [revoked.encode(), b"\x00\x26" + channel.peer.channel_id + b"\x00\x00"],
    }


@pytest.mark.parametrize("number", range(7))
def test_wrong_answers_change_nothing(channel: Channel, number: int) -> None:
    peer, relay = channel.peer, channel.relay
    channel.hear(peer.add(50_000_000, HASH))
    channel.hear(peer.commitment_signed())
    fence = relay.fence
    channel.wallet.hear(fence, relay.unheard)
    channel.wallet.commit()
    words, wrong = list(wrong_answers(channel).items())[number]
    before = {name: getattr(relay, name) for name in LiveChannel.__slots__}
    with pytest.raises(BoltError, match=words):
        relay.take(2, 0, wrong)
    assert {name: getattr(relay, name) for name in LiveChannel.__slots__} == before
    assert relay.take(2, 0, channel.wallet.said) == channel.wallet.said


def test_a_wrong_preimage_never_leaves(channel: Channel) -> None:
    channel.hear(channel.peer.add(50_000_000, HASH))
    channel.hear(channel.peer.commitment_signed())
    channel.ask()
    channel.hear(channel.peer.revoke_and_ack())
    wrong = msgspec.structs.replace(
        channel.fulfil(channel.peer, 0), payment_preimage=bytes(32)
    ).encode()
    with pytest.raises(RequirementError, match="payment_preimage"):
        channel.relay.take(3, 2, [wrong])


# ---- what both count ----


def test_what_comes_twice_leaves_once(channel: Channel) -> None:
    channel.hear(channel.peer.add(50_000_000, HASH))
    channel.hear(channel.peer.commitment_signed())
    left = channel.ask()
    assert channel.relay.take(2, 0, left) == []
    channel.hear(channel.peer.revoke_and_ack())
    assert channel.relay.take(2, 0, left) == []
    assert channel.relay.is_wallets_turn
    assert channel.relay.take(3, 0, left) == []
    assert not channel.relay.is_wallets_turn


@pytest.mark.parametrize(
    ("heard", "said", "count"),
    [(1, 2, 0), (3, 2, 0), (0, 0, 2), (2, 3, 0), (2, 0, 1), (2, 0, 0), (2**53 - 1, 0, 0)],
)
def test_stale(channel: Channel, heard: int, said: int, count: int) -> None:
    channel.hear(channel.peer.add(50_000_000, HASH))
    channel.hear(channel.peer.commitment_signed())
    left = channel.ask()
    with pytest.raises(Stale):
        channel.relay.take(heard, said, left[:count])


def test_what_crosses_is_taken_in_the_wallets_order(channel: Channel) -> None:
    """The wallet adds while the peer's signature is on its way."""
    relay, peer, wallet = channel.relay, channel.peer, channel.wallet
    channel.hear(peer.add(50_000_000, HASH))
    channel.hear(peer.commitment_signed())
    fence = relay.fence
    wallet.say(wallet.mover.add(40_000_000, HASH))
    wallet.commit()
    for raw in relay.take(0, 0, wallet.said):
        peer.hear(raw)
    assert relay.is_wallets_turn
    # The question that was open goes by its own fence.
    wallet.hear(fence, relay.unheard)
    for raw in relay.take(*_answer(wallet, fence)):
        peer.hear(raw)
    assert relay.said == 3
    for _ in range(6):
        if peer.snapshot.owes_revocation:
            channel.hear(peer.revoke_and_ack())
        if peer.snapshot.may_commit:
            channel.hear(peer.commitment_signed())
        channel.ask()
    channel.agree()
    assert len(relay.base.ours.commitment.state.htlcs) == 2


def _answer(wallet: WalletSide, fence: Any) -> tuple[int, int, list[bytes]]:
    heard, words = wallet.since(fence)
    return heard, fence.said, words


# ---- what the peer may not say ----


def test_the_peers_breaches_change_nothing(channel: Channel) -> None:
    peer, relay = channel.peer, channel.relay
    for message in (
        peer.add(50_000_000, HASH, id=7),
        peer.add(0, HASH),
        peer.add(980_000_000, HASH),
        channel.fulfil(peer, 0),
        peer.commitment_signed(),
        peer.revoke_and_ack(),
        peer.add(50_000_000, HASH, channel_id=bytes(32)),
    ):
        with pytest.raises(BoltError):
            relay.received(message.encode(), message)
        assert relay.unheard == []
        assert relay.view == relay.base


def test_what_waits_is_bounded() -> None:
    channel = Channel(Role.ACCEPTER)
    fee = UpdateFee(channel_id=channel.peer.channel_id, feerate_per_kw=1_000)
    for _ in range(MAX_UNHEARD):
        channel.relay.received(fee.encode(), fee)
    with pytest.raises(UnexpectedMessage, match="too much"):
        channel.relay.received(fee.encode(), fee)
    assert len(channel.relay.unheard) == MAX_UNHEARD


# ---- a new connection ----


def reconnect(channel: Channel) -> tuple[bytes, ...]:
    """Both say where they stand; returns what the relay says again for the wallet."""
    answer = channel.wallet.reconnect()
    channel.peer.disconnect()
    snapshot = Snapshot.decode(bytes.fromhex(answer["snapshot"]))
    says = reestablish_of(snapshot, snapshot.role)
    channel.relay = LiveChannel(reestablish(snapshot, snapshot.role, says).snapshot)
    theirs = channel.peer.reconnect()
    repeated = channel.peer.hear(says.encode())
    again = channel.relay.received(theirs, decode(theirs))
    for raw in again:
        channel.peer.hear(raw)
    for raw in repeated:
        channel.relay.received(raw, decode(raw))
    return again


def test_the_same_bytes_again(channel: Channel) -> None:
    channel.hear(channel.peer.add(50_000_000, HASH))
    channel.hear(channel.peer.commitment_signed())
    fence = channel.relay.fence
    channel.wallet.hear(fence, channel.relay.unheard)
    channel.wallet.commit()
    lost = channel.relay.take(2, 0, channel.wallet.said)
    assert reconnect(channel) == tuple(lost)
    channel.hear(channel.peer.revoke_and_ack())
    assert channel.relay.unheard[0][:2] == b"\x00\x88"
    channel.ask()
    assert channel.relay.heard == 2
    assert channel.relay.base == channel.wallet.snapshot


def test_what_the_wallet_never_answered_comes_again_from_the_peer(channel: Channel) -> None:
    channel.hear(channel.peer.add(50_000_000, HASH))
    channel.hear(channel.peer.commitment_signed())
    assert reconnect(channel) == ()
    assert channel.relay.is_wallets_turn
    assert len(channel.relay.unheard) == 3
    assert len(channel.ask()) == 2


def test_nothing_is_said_before_the_peer_re_established(channel: Channel) -> None:
    channel.wallet.reconnect()
    relay = channel.relay = LiveChannel(channel.wallet.snapshot)
    with pytest.raises(UnexpectedMessage, match="before channel_reestablish"):
        relay.take(0, 0, [channel.peer.add(50_000_000, HASH).encode()])
    add = channel.peer.add(50_000_000, HASH)
    with pytest.raises(UnexpectedMessage, match="before channel_reestablish"):
        relay.received(add.encode(), add)


def test_a_peer_that_fell_behind(channel: Channel) -> None:
    old = channel.peer.snapshot
    channel.hear(channel.peer.add(50_000_000, HASH))
    channel.hear(channel.peer.commitment_signed())
    channel.ask()
    channel.hear(channel.peer.revoke_and_ack())
    channel.ask()
    channel.wallet.reconnect()
    relay = LiveChannel(channel.wallet.snapshot)
    says = reestablish_of(old, old.role)
    with pytest.raises(Behind) as raised:
        relay.received(says.encode(), says)
    assert raised.value.who is old.role


# ---- everything at once ----


class Living(RuleBasedStateMachine):
    """Questions, answers and words of the wallet's own on their way, copies of them, lost ends."""

    def __init__(self) -> None:
        super().__init__()
        self.channel = Channel(Role.ACCEPTER)
        self.to_wallet: list[tuple[Any, list[bytes]]] = []
        self.to_relay: list[tuple[int, int, list[bytes]]] = []
        #: What the relay let through, on this connection.
        self.left: list[bytes] = []
        self.to_peer: list[bytes] = []

    # the peer

    def the_peer_says(self, message: Message) -> None:
        try:
            raw = self.channel.peer.say(message)
        except BoltError:
            # More than it has: by its own rules, it doesn't.
            return
        self.channel.relay.received(raw, message)

    @rule(amount=sampled_from([50_000_000, 354_000, 1]))
    def the_peer_adds(self, amount: int) -> None:
        peer = self.channel.peer
        if len(peer.snapshot.theirs.latest.state.htlcs) < 6:
            self.the_peer_says(peer.add(amount, HASH))

    @rule(feerate=integers(253, 2_000))
    def the_peer_wants_a_fee(self, feerate: int) -> None:
        channel_id = self.channel.peer.channel_id
        self.the_peer_says(UpdateFee(channel_id=channel_id, feerate_per_kw=feerate))

    @precondition(lambda self: self.channel.peer.snapshot.owes_revocation)
    @rule()
    def the_peer_revokes(self) -> None:
        self.channel.hear(self.channel.peer.revoke_and_ack())

    @precondition(lambda self: self.channel.peer.snapshot.may_commit)
    @rule()
    def the_peer_signs(self) -> None:
        self.channel.hear(self.channel.peer.commitment_signed())

    @rule()
    def the_peer_hears(self) -> None:
        for raw in self.to_peer:
            self.channel.peer.hear(raw)
        self.to_peer.clear()

    # the relay

    @precondition(lambda self: self.channel.relay.is_wallets_turn)
    @rule()
    def the_relay_asks(self) -> None:
        self.to_wallet.append((self.channel.relay.fence, self.channel.relay.unheard))

    @rule(twice=sampled_from([False, True]))
    def the_relay_hears(self, twice: bool) -> None:
        if not self.to_relay:
            return
        heard, said, words = self.to_relay[0] if twice else self.to_relay.pop(0)
        try:
            left = self.channel.relay.take(heard, said, words)
        except Stale:
            # An older count than the relay's: everything in it has come already.
            assert heard < self.channel.relay.heard
            return
        self.left += left
        self.to_peer += left

    # the wallet

    @rule(commits=sampled_from([True, False]), fulfils=sampled_from([True, False]))
    def the_wallet_answers(self, commits: bool, fulfils: bool) -> None:
        if not self.to_wallet:
            return
        fence, messages = self.to_wallet.pop(0)
        wallet = self.channel.wallet
        if wallet.heard < fence.heard + len(messages):
            wallet.hear(fence, messages)
        if fulfils:
            for htlc in wallet.snapshot.ours.commitment.state.htlcs:
                try:
                    wallet.say(
                        UpdateFulfillHtlc(
                            channel_id=wallet.mover.channel_id,
                            id=htlc.id,
                            payment_preimage=PREIMAGE,
                        )
                    )
                except BoltError:
                    continue
        if commits:
            wallet.commit()
        self.to_relay.append((wallet.heard, fence.said, wallet.said[fence.said :]))

    @rule(amount=sampled_from([40_000_000, 1_000]), since=integers(0, 3))
    def the_wallet_adds(self, amount: int, since: int) -> None:
        wallet = self.channel.wallet
        if not wallet.snapshot.may_commit and wallet.snapshot.theirs.unrevoked is None:
            said = max(0, len(wallet.said) - since)
            try:
                wallet.say(wallet.mover.add(amount, HASH))
            except BoltError:
                return
            wallet.commit()
            self.to_relay.append((wallet.heard, said, wallet.said[said:]))

    # the wire

    @rule()
    def the_connection_is_lost(self) -> None:
        for queue in (self.to_wallet, self.to_relay, self.to_peer, self.left):
            queue.clear()
        reconnect(self.channel)

    @invariant()
    def the_relay_is_where_the_wallet_was(self) -> None:
        channel = self.channel
        assert self.left == channel.wallet.said[: len(self.left)]
        assert channel.relay.said == len(self.left)
        if self.left == channel.wallet.said and channel.relay.heard == channel.wallet.heard:
            assert channel.relay.base == channel.wallet.snapshot
        assert Snapshot.decode(channel.relay.base.encode()) == channel.relay.base

    def teardown(self) -> None:
        """Then all settles, and both can send again."""
        channel = self.channel
        self.the_connection_is_lost()
        for _ in range(12):
            if channel.peer.snapshot.owes_revocation:
                channel.hear(channel.peer.revoke_and_ack())
            if channel.peer.snapshot.may_commit:
                channel.hear(channel.peer.commitment_signed())
            channel.ask()
        channel.agree()
        for owner, signer in ((Role.OPENER, Role.ACCEPTER), (Role.ACCEPTER, Role.OPENER)):
            ids = {
                next_commitment(each, signer).unsigned.txid
                for each in (channel.relay.base, channel.wallet.snapshot)
            }
            assert len(ids) == 1, owner


TestLiving = Living.TestCase
TestLiving.settings = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
