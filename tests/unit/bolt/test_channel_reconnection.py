"""What a lost connection leaves of a channel, and what a new one begins with."""

from typing import Any

import pytest
from msgspec.structs import replace

from lightning_proxy.bolt.channel import Channel, ChannelState, Need
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.errors import BoltError, RequirementError, UnexpectedMessage
from lightning_proxy.bolt.features import DEFAULT_FEATURES
from lightning_proxy.bolt.messages import ChannelReady, ChannelReestablish, decode
from tests.unit.bolt.pair import (
    DEPTH,
    FLOW,
    SIGNED_AT,
    TYPES,
    Pair,
    need_of,
    opened,
    refused,
    snapshot,
)

OPENER, ACCEPTER = Role.OPENER, Role.ACCEPTER


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("count", range(len(FLOW) + 1))
def test_disconnected_in_every_state(role: Role, count: int) -> None:
    """BOLT #2: what isn't signed by both is forgotten, the rest is remembered."""
    log = opened()
    channel = Channel.replay(role, DEFAULT_FEATURES, log[:count])
    before = channel.state
    channel.disconnected()
    if count >= SIGNED_AT:
        assert channel.state is before
        assert need_of(channel) is Need.CHANNEL_REESTABLISH
    else:
        assert channel.state is ChannelState.FORGOTTEN
        assert need_of(channel) is None
        for sender in Role:
            for entry in log:
                with refused(channel, UnexpectedMessage, "while a channel is forgotten"):
                    channel.take(sender, entry.raw)
    once = snapshot(channel)
    channel.disconnected()
    assert snapshot(channel) == once


@pytest.mark.parametrize("channel_type", TYPES)
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("count", range(len(FLOW) + 1))
def test_replay_at_every_prefix(count: int, role: Role, channel_type: str) -> None:
    """A log makes the channel that made it."""
    pair = Pair({"channel_type": TYPES[channel_type], "push_msat": 7_000_000})
    pair.play(count)
    channel = pair.sides[role].channel
    again = Channel.replay(role, DEFAULT_FEATURES, channel.log)
    if channel.confirmations is not None:
        # The chain's part is for the chain to say again.
        script, amount = again.funding_scriptpubkey, again.open_channel.funding_satoshis
        again.observe(script, amount, channel.confirmations)
    assert snapshot(again) == snapshot(channel)
    assert again.needs is channel.needs


def test_replay_of_a_log_that_does_not_hold() -> None:
    log = opened()
    for wrong in (log[1:], [*log[:2], log[3]], [log[0], *log], log[::-1]):
        with pytest.raises(BoltError):
            Channel.replay(OPENER, DEFAULT_FEATURES, wrong)


def test_replay_needs_no_chain() -> None:
    """`channel_ready` was said when the depth was there; who replays hasn't looked yet."""
    channel = Channel.replay(ACCEPTER, DEFAULT_FEATURES, opened())
    assert channel.state is ChannelState.READY
    assert channel.confirmations is None


@pytest.mark.parametrize("count", range(SIGNED_AT, len(FLOW) + 1))
def test_reestablish(count: int) -> None:
    pair = Pair().play(count)
    pair.disconnect()
    for role, side in pair.sides.items():
        says = side.channel.reestablish()
        assert says == ChannelReestablish(
            channel_id=side.channel.channel_id,
            next_commitment_number=1,
            next_revocation_number=0,
            your_last_per_commitment_secret=bytes(32),
            my_current_per_commitment_point=side.points["first_per_commitment_point"],
        )
        before = list(side.channel.log)
        pair.sides[role.other].hear(side.say(says))
        # It belongs to the connection, not to the channel.
        assert side.channel.log == before


NUMBERS: list[tuple[dict[str, Any], str]] = [
    ({"next_commitment_number": 0}, "next_commitment_number"),
    ({"next_commitment_number": 2}, "next_commitment_number"),
    ({"next_commitment_number": 2**64 - 1}, "next_commitment_number"),
    ({"next_revocation_number": 1}, "next_revocation_number"),
    ({"next_revocation_number": 2**64 - 1}, "next_revocation_number"),
    ({"your_last_per_commitment_secret": bytes(31) + b"\x01"}, "your_last_per_commitment_secret"),
    (
        {"my_current_per_commitment_point": b"\x03" + b"\xff" * 32},
        "my_current_per_commitment_point",
    ),
    ({"channel_id": bytes(32)}, "channel_id"),
]


@pytest.mark.parametrize("count", range(SIGNED_AT, len(FLOW) + 1))
@pytest.mark.parametrize(("changes", "field"), NUMBERS)
def test_a_reestablish_that_is_ahead_or_behind(
    changes: dict[str, Any], field: str, count: int
) -> None:
    pair = Pair().play(count)
    pair.disconnect()
    for role, side in pair.sides.items():
        wrong = replace(pair.sides[role.other].channel.reestablish(), **changes)
        with refused(side.channel, RequirementError) as caught:
            side.hear(wrong.encode())
        assert isinstance(caught.value, RequirementError)
        assert caught.value.field == field


def test_reestablish_only_after_a_reconnection_and_once() -> None:
    pair = Pair().play()
    says = pair.accepter.channel.reestablish().encode()
    with refused(pair.opener.channel, UnexpectedMessage, "once, after a reconnection"):
        pair.opener.hear(says)
    with refused(pair.accepter.channel, UnexpectedMessage, "once, after a reconnection"):
        pair.accepter.say(decode(says))
    pair.reestablish()
    with refused(pair.opener.channel, UnexpectedMessage, "once, after a reconnection"):
        pair.opener.hear(says)
    pair.reestablish()


@pytest.mark.parametrize("count", range(SIGNED_AT))
def test_no_reestablish_for_what_is_not_signed(count: int) -> None:
    log = opened()
    says = Channel.replay(ACCEPTER, DEFAULT_FEATURES, log).reestablish().encode()
    channel = Channel.replay(OPENER, DEFAULT_FEATURES, log[:count])
    with refused(channel, UnexpectedMessage, "channel_reestablish does not come while"):
        channel.receive(says)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("peers_first", [False, True])
def test_our_own_reestablish_comes_first(role: Role, peers_first: bool) -> None:
    """And then nobody waits for the peer's: lnd sends none until `channel_ready` went both ways."""
    pair = Pair().play(SIGNED_AT)
    pair.disconnect()
    side, other = pair.sides[role], pair.sides[role.other]
    side.confirm(DEPTH)
    assert need_of(side.channel) is Need.CHANNEL_REESTABLISH
    theirs = other.say(other.channel.reestablish())
    if peers_first:
        side.hear(theirs)
        assert need_of(side.channel) is Need.CHANNEL_REESTABLISH
    side.say(side.channel.reestablish())
    assert need_of(side.channel) is Need.CHANNEL_READY
    side.say(side.channel_ready())
    # As lnd does it: its own channel_ready, and only then its channel_reestablish.
    other.confirm(DEPTH)
    side.hear(other.say(other.channel_ready()))
    if not peers_first:
        side.hear(theirs)
    assert side.channel.state is ChannelState.READY


@pytest.mark.parametrize("role", Role)
def test_channel_ready_is_said_again(role: Role) -> None:
    """As long as nothing says that it came; the same one, alias and all."""
    pair = Pair().play(SIGNED_AT)
    side, other = pair.sides[role], pair.sides[role.other]
    side.confirm(DEPTH)
    assert side.channel.retransmit() is None
    raw = side.say(side.channel_ready(alias=7))  # It is lost.
    assert side.channel.retransmit() is None
    for _ in range(2):
        pair.disconnect()
        assert side.channel.retransmit() is None
        other.hear(side.say(side.channel.reestablish()))
        assert side.channel.retransmit() is None
        side.hear(other.say(other.channel.reestablish()))
        assert side.channel.retransmit() == raw
        assert other.channel.retransmit() is None
        other.hear(raw)
    assert other.channel.channel_ready(role) == side.channel_ready(alias=7)


@pytest.mark.parametrize("seen", [None, 0, DEPTH])
def test_an_opener_whose_transaction_may_be_lost_publishes_again(seen: int | None) -> None:
    """Unless the chain showed it: it was handed over, and then the connection broke."""
    pair = Pair().play(SIGNED_AT)
    channel = pair.opener.channel
    channel.published()
    if seen is not None:
        pair.opener.confirm(seen)
    pair.reestablish()
    wanted = {None: Need.FUNDING_TRANSACTION, 0: None, DEPTH: Need.CHANNEL_READY}
    assert need_of(channel) is wanted[seen]
    assert need_of(pair.accepter.channel) is None


def test_the_opening_goes_on_after_a_reconnection() -> None:
    for lost_at in range(SIGNED_AT, len(FLOW) + 1):
        pair = Pair().play(lost_at)
        pair.reestablish()
        for role, side in pair.sides.items():
            side.confirm(DEPTH)
            raw = side.channel.retransmit() or side.say(side.channel_ready())
            pair.sides[role.other].hear(raw)
        for side in pair.sides.values():
            assert side.channel.state is ChannelState.READY
            kinds = [decode(entry.raw) for entry in side.channel.log[SIGNED_AT:]]
            assert len(kinds) == 2
            assert all(isinstance(kind, ChannelReady) for kind in kinds)
