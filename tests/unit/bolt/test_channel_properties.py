"""Whatever is said in whatever order: a channel takes it whole, or stays as it was."""

from functools import cache
from typing import Final

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from lightning_proxy.bolt.channel import SIGNED, Channel, ChannelState, Entry, Need
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.features import DEFAULT_FEATURES
from lightning_proxy.bolt.messages import ChannelReady, decode
from tests.unit.bolt.pair import DEPTH, opened, snapshot

#: States by how far they are: no message takes a channel back.
_ORDER: Final = list(ChannelState)


@cache
def logs() -> tuple[tuple[Entry, ...], ...]:
    """Three openings, so that what is said of one can be said in another."""
    kinds = (("anchors", 0), ("static_remotekey", 9_000), ("anchors", 123_456_789))
    return tuple(tuple(opened(kind, push_msat)) for kind, push_msat in kinds)


@cache
def vocabulary() -> tuple[bytes, ...]:
    """Everything said in them, `channel_reestablish` included, and each a little wrong."""
    raws = [entry.raw for log in logs() for entry in log]
    raws += [
        Channel.replay(role, DEFAULT_FEATURES, log).reestablish().encode()
        for log in logs()
        for role in Role
    ]
    raws += [
        msgspec.structs.replace(ready, short_channel_id=7).encode()
        for ready in map(decode, raws)
        if isinstance(ready, ChannelReady)
    ]
    spoiled = [raw[:-1] + bytes([raw[-1] ^ 1]) for raw in raws]
    return *raws, *spoiled, *(raw[:-1] for raw in raws), b"", b"\x00"


class AnyOrder(RuleBasedStateMachine):
    """One channel, and all that may happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.channel = Channel(Role.ACCEPTER, DEFAULT_FEATURES)
        self.lost = False

    @rule(role=st.sampled_from(Role), which=st.integers(0, 2), count=st.integers(0, 6))
    def begin_elsewhere(self, role: Role, which: int, count: int) -> None:
        """A channel that came so far already."""
        self.channel = Channel.replay(role, DEFAULT_FEATURES, logs()[which][:count])
        self.lost = False

    @rule(way=st.sampled_from(["receive", "send"]), index=st.integers(0, 10**6))
    def say(self, way: str, index: int) -> None:
        words = vocabulary()
        self._say(way, words[index % len(words)])

    @rule(which=st.integers(0, 2), ours=st.booleans())
    def go_on(self, which: int, ours: bool) -> None:
        """What might be next, so that sequences get somewhere."""
        log = logs()[which]
        entry = log[min(len(self.channel.log), len(log) - 1)]
        if ours or entry.sender is not self.channel.role:
            self._say("send" if entry.sender is self.channel.role else "receive", entry.raw)

    @rule(ours=st.booleans())
    def reestablish(self, ours: bool) -> None:
        if self.channel.state in SIGNED:
            self._say("send" if ours else "receive", self.channel.reestablish().encode())

    def _say(self, way: str, raw: bytes) -> None:
        channel = self.channel
        before, place = snapshot(channel), _ORDER.index(channel.state)
        try:
            getattr(channel, way)(raw)
        except BoltError:
            assert snapshot(channel) == before
            return
        assert _ORDER.index(channel.state) >= place
        sender = channel.role if way == "send" else channel.role.other
        # What shapes the channel is in the log, at its end; what doesn't changes nothing else.
        if channel.log != before["log"]:
            assert channel.log == [*before["log"], Entry(sender, raw)]
        else:
            after = snapshot(channel)
            changed = {name for name in after if after[name] != before[name]}
            assert changed <= {"_reestablished"}

    @rule(depth=st.integers(0, DEPTH + 1), right=st.booleans())
    def observe(self, depth: int, right: bool) -> None:
        channel = self.channel
        before = snapshot(channel)
        try:
            amount = channel.open_channel.funding_satoshis + (not right)
            channel.observe(channel.funding_scriptpubkey, amount, depth)
        except BoltError:
            assert snapshot(channel) == before
        else:
            assert right
            assert channel.confirmations == depth

    @rule()
    def unobserve(self) -> None:
        self.channel.unobserve()

    @rule()
    def published(self) -> None:
        self.channel.published()

    @rule()
    def disconnected(self) -> None:
        signed = self.channel.state in SIGNED
        self.channel.disconnected()
        self.lost = True
        assert signed is (self.channel.state is not ChannelState.FORGOTTEN)

    @invariant()
    def is_what_its_log_tells(self) -> None:
        channel = self.channel
        again = Channel.replay(channel.role, channel.features, channel.log)
        if channel.state is ChannelState.FORGOTTEN:
            assert again.state not in SIGNED
            return
        kept = {"confirmations", "_published", "_reestablished"}
        assert {n: v for n, v in snapshot(again).items() if n not in kept} == {
            n: v for n, v in snapshot(channel).items() if n not in kept
        }

    @invariant()
    def is_signed_by_whom_it_says(self) -> None:
        channel = self.channel
        assert (channel.state in SIGNED) is (len(channel.signatures) == len(Role)) or (
            channel.state is ChannelState.FORGOTTEN
        )
        for signer, signature in channel.signatures.items():
            commitment = channel.commitments[signer.other]
            key = commitment.parameters.side(signer).funding_pubkey
            assert commitment.unsigned.verify(key, signature)

    @invariant()
    def needs_what_it_would_take(self) -> None:
        channel = self.channel
        match channel.needs:
            case Need.CHANNEL_READY:
                assert channel.is_deep_enough
                assert channel.channel_ready(channel.role) is None
            case Need.CHANNEL_REESTABLISH:
                assert self.lost
            case Need.FUNDING_CREATED | Need.FUNDING_TRANSACTION:
                assert channel.role is Role.OPENER
            case Need.ACCEPT_CHANNEL | Need.FUNDING_SIGNED:
                assert channel.role is Role.ACCEPTER


def test_any_order() -> None:
    run_state_machine_as_test(AnyOrder)


@given(
    which=st.integers(0, 2),
    count=st.integers(0, 6),
    role=st.sampled_from(Role),
    data=st.data(),
)
def test_a_bit_flipped_in_the_right_message(
    which: int, count: int, role: Role, data: st.DataObject
) -> None:
    """Refused, or one of those that no signature binds until later; never half taken."""
    log = logs()[which]
    channel = Channel.replay(role, DEFAULT_FEATURES, log[:count])
    before = snapshot(channel)
    entry = log[min(count, len(log) - 1)]
    bit = data.draw(st.integers(0, 8 * len(entry.raw) - 1))
    raw = bytearray(entry.raw)
    raw[bit // 8] ^= 1 << bit % 8
    try:
        channel.take(entry.sender, bytes(raw))
    except BoltError:
        assert snapshot(channel) == before
    else:
        assert decode(entry.raw).NAME not in ("funding_created", "funding_signed")
