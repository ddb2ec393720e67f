"""Whatever bytes reach a channel, at whatever point of its life: a `BoltError`, or nothing."""

from functools import cache
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from lightning_proxy.bolt.channel import Channel, Entry
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.features import DEFAULT_FEATURES, Feature, Features
from lightning_proxy.bolt.messages import (
    AcceptChannel,
    ChannelReady,
    ChannelReestablish,
    FundingCreated,
    FundingSigned,
    Message,
    OpenChannel,
)
from lightning_proxy.bolt.opening import MAXIMUM_MONEY_SAT
from tests.unit.bolt.pair import SIGNED_AT, Pair, opened, snapshot
from tests.unit.bolt.strategies import messages_of

_ALL: Final = Features.offering(*Feature)
_FEATURES: Final = st.sampled_from((DEFAULT_FEATURES, _ALL, Features()))
_KINDS: Final[tuple[type[Message], ...]] = (
    OpenChannel,
    AcceptChannel,
    FundingCreated,
    FundingSigned,
    ChannelReady,
    ChannelReestablish,
)


@cache
def log() -> tuple[Entry, ...]:
    return tuple(opened("anchors", 5_000_000))


def mutated(raw: bytes, at: int, byte: int, cut: int) -> bytes:
    at %= len(raw)
    return (raw[:at] + bytes([byte]) + raw[at + 1 :])[: cut or None]


def near() -> st.SearchStrategy[bytes]:
    """What was said in an opening, a byte of it changed, perhaps cut off."""
    return st.builds(
        mutated,
        st.sampled_from([entry.raw for entry in log()]),
        st.integers(0, 400),
        st.integers(0, 255),
        st.integers(-3, 0),
    )


def messages() -> st.SearchStrategy[bytes]:
    """Any bytes, any message of a channel's with any values, and what is nearly right."""
    typed = st.sampled_from(_KINDS).flatmap(messages_of).map(Message.encode)
    prefixed = st.builds(
        lambda kind, body: kind.TYPE.to_bytes(2, "big") + body,
        st.sampled_from(_KINDS),
        st.binary(max_size=400),
    )
    return st.one_of(st.binary(max_size=400), prefixed, typed, near())


class AnyBytes(RuleBasedStateMachine):
    """One channel; only `BoltError` comes out of it, and then nothing went in."""

    def __init__(self) -> None:
        super().__init__()
        self.channel = Channel(Role.ACCEPTER, DEFAULT_FEATURES)

    @rule(role=st.sampled_from(Role), features=_FEATURES)
    def begin(self, role: Role, features: Features) -> None:
        self.channel = Channel(role, features)

    @rule(role=st.sampled_from(Role), count=st.integers(0, 6))
    def begin_later(self, role: Role, count: int) -> None:
        self.channel = Channel.replay(role, DEFAULT_FEATURES, log()[:count])

    @rule(data=st.data(), way=st.sampled_from(["receive", "send"]))
    def feed(self, data: st.DataObject, way: str) -> None:
        raw = data.draw(messages())
        before = snapshot(self.channel)
        try:
            getattr(self.channel, way)(raw)
        except BoltError as error:
            assert str(error)
            assert snapshot(self.channel) == before

    @rule()
    def go_on(self) -> None:
        entries = log()
        entry = entries[min(len(self.channel.log), len(entries) - 1)]
        try:
            self.channel.take(*entry)
        except BoltError:
            return

    @rule(
        script=st.binary(max_size=50),
        amount_sat=st.integers(0, MAXIMUM_MONEY_SAT),
        confirmations=st.integers(0, 10**6),
    )
    def observe(self, **seen: Any) -> None:
        before = snapshot(self.channel)
        try:
            self.channel.observe(seen["script"], seen["amount_sat"], seen["confirmations"])
        except BoltError:
            assert snapshot(self.channel) == before

    @rule()
    def disconnected(self) -> None:
        self.channel.disconnected()

    @invariant()
    def can_be_asked(self) -> None:
        channel = self.channel
        for name in ("channel_id", "anchors", "funding_scriptpubkey", "is_deep_enough"):
            try:
                getattr(channel, name)
            except BoltError as error:
                assert "was not said yet" in str(error)
        assert channel.needs is None or channel.log
        assert channel.retransmit() is None or channel.channel_ready(channel.role)


def test_any_bytes() -> None:
    run_state_machine_as_test(AnyBytes)


_SATS: Final = st.integers(354, 4_000) | st.integers(0, 2**64 - 1)


@settings(max_examples=200)
@given(
    funding_sat=st.integers(300, 2_000_000) | st.integers(0, 2**64 - 1),
    push_msat=st.integers(0, 2_000_000_000) | st.integers(0, 2**64 - 1),
    feerate=st.integers(250, 20_000) | st.integers(0, 2**32 - 1),
    limits=st.tuples(_SATS, _SATS, _SATS, _SATS),
)
def test_any_amounts(
    funding_sat: int, push_msat: int, feerate: int, limits: tuple[int, int, int, int]
) -> None:
    """Two honest sides, whose `open_channel` and `accept_channel` name any amounts."""
    asks = {
        "funding_satoshis": funding_sat,
        "push_msat": push_msat,
        "feerate_per_kw": feerate,
        "dust_limit_satoshis": limits[0],
        "channel_reserve_satoshis": limits[1],
    }
    grants = {"dust_limit_satoshis": limits[2], "channel_reserve_satoshis": limits[3]}
    pair = Pair(asks, grants)
    for side in pair.sides.values():
        side.channel.features = _ALL
    try:
        pair.play(SIGNED_AT)
    except BoltError:
        return
    for commitment in pair.opener.channel.commitments.values():
        outputs = [out.value for out in commitment.unsigned.tx.vout]
        # What the miner gets is what a node would relay, and nobody's output is dust.
        assert sum(outputs) + commitment.fee_sat == funding_sat
        assert commitment.fee_sat >= commitment.base_fee_sat >= 0
        assert min(outputs) >= 330
