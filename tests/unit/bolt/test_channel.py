"""The channel's state machine: both roles against each other, and every message out of place."""

import secrets

import pytest
from msgspec.structs import replace

from lightning_proxy.bolt.channel import Channel, ChannelState, Entry, Need
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.errors import BoltError, RequirementError, UnexpectedMessage
from lightning_proxy.bolt.features import DEFAULT_FEATURES, Feature, Features
from lightning_proxy.bolt.messages import (
    AcceptChannel,
    ChannelReady,
    FundingCreated,
    FundingSigned,
    OpenChannel,
    Ping,
    Shutdown,
    decode,
)
from lightning_proxy.bolt.opening import channel_id_of
from lightning_proxy.bolt.scripts import p2wsh
from tests.unit.bolt.pair import (
    DEPTH,
    FLOW,
    SIGNED_AT,
    TYPES,
    Pair,
    name_of,
    need_of,
    opened,
    refused,
    snapshot,
)

PUSH_MSAT = 123_456_789
OPENER, ACCEPTER = Role.OPENER, Role.ACCEPTER
S = ChannelState


# ---- the way it goes ----


@pytest.mark.parametrize("push_msat", [0, PUSH_MSAT])
@pytest.mark.parametrize("channel_type", TYPES)
def test_an_opening(channel_type: str, push_msat: int) -> None:
    """Each side's state and need after each message."""
    pair = Pair({"channel_type": TYPES[channel_type], "push_msat": push_msat})
    opener, accepter = pair.opener.channel, pair.accepter.channel

    def stand(state: ChannelState, openers: Need | None, accepters: Need | None) -> None:
        assert (opener.state, accepter.state) == (state, state)
        assert (opener.needs, accepter.needs) == (openers, accepters)

    stand(S.NEW, None, None)
    pair.say(OPENER, OpenChannel)
    stand(S.OFFERED, None, Need.ACCEPT_CHANNEL)
    pair.say(ACCEPTER, AcceptChannel)
    stand(S.ACCEPTED, Need.FUNDING_CREATED, None)
    assert opener.channel_id == opener.temporary_channel_id
    pair.say(OPENER, FundingCreated)
    stand(S.CREATED, None, Need.FUNDING_SIGNED)
    pair.say(ACCEPTER, FundingSigned)
    stand(S.SIGNED, Need.FUNDING_TRANSACTION, None)
    opener.published()
    stand(S.SIGNED, None, None)
    for side in pair.sides.values():
        side.confirm(DEPTH - 1)
    stand(S.SIGNED, None, None)
    for side in pair.sides.values():
        side.confirm(DEPTH)
    stand(S.SIGNED, Need.CHANNEL_READY, Need.CHANNEL_READY)
    pair.say(OPENER, ChannelReady)
    stand(S.SIGNED, None, Need.CHANNEL_READY)
    pair.say(ACCEPTER, ChannelReady)
    stand(S.READY, None, None)

    assert opener.anchors is accepter.anchors is (channel_type == "anchors")
    assert opener.log == accepter.log
    for channel in (opener, accepter):
        assert channel.balance_msat(ACCEPTER) == push_msat
        assert sum(channel.balance_msat(role) for role in Role) == 1_000_000_000
        created = channel.funding_created
        assert channel.channel_id == channel_id_of(created.funding_txid, 0)
        assert channel.funding_scriptpubkey == p2wsh(channel.funding_script)
        assert channel.channel_ready(ACCEPTER) == pair.accepter.channel_ready()


@pytest.mark.parametrize("push_msat", [0, PUSH_MSAT])
@pytest.mark.parametrize("channel_type", TYPES)
def test_both_know_the_same_commitments(channel_type: str, push_msat: int) -> None:
    """Each could broadcast its own with the signature that the other gave."""
    pair = Pair({"channel_type": TYPES[channel_type], "push_msat": push_msat}).play()
    opener, accepter = pair.opener.channel, pair.accepter.channel
    assert opener.commitments == accepter.commitments
    assert opener.signatures == accepter.signatures
    for owner in Role:
        commitment = opener.commitments[owner]
        assert commitment.state.commitment_number == 0
        assert commitment.parameters.anchors is (channel_type == "anchors")
        # Each balance has an output where it is worth one, and under anchors one beside it.
        balances = 2 if push_msat else 1
        outputs = balances * (2 if channel_type == "anchors" else 1)
        assert len(commitment.unsigned.tx.vout) == outputs
        for signer in Role:
            signature = pair.sides[signer].sign(commitment.unsigned)
            assert commitment.unsigned.verify(
                pair.sides[signer].points["funding_pubkey"], signature
            )
        assert opener.signatures[owner.other] == pair.sides[owner.other].sign(commitment.unsigned)


@pytest.mark.parametrize("named", [True, False])
def test_the_type_where_none_is_named(named: bool) -> None:
    """The features that both support decide: DEFAULT_FEATURES have anchors."""
    kind = TYPES["anchors"] if named else None
    pair = Pair({"channel_type": kind}, {"channel_type": kind}).play()
    assert pair.opener.channel.anchors
    features = Features.offering(Feature.OPTION_STATIC_REMOTEKEY)
    assert Channel(OPENER, features).features == features
    if not named:
        for side in (pair := Pair({"channel_type": None}, {"channel_type": None})).sides.values():
            side.channel.features = features
        assert not pair.play().opener.channel.anchors


def test_nothing_is_known_before_it_was_said() -> None:
    channel = Channel(ACCEPTER, DEFAULT_FEATURES)
    for name in (
        "open_channel",
        "accept_channel",
        "funding_created",
        "temporary_channel_id",
        "channel_id",
        "anchors",
        "funding_script",
        "funding_scriptpubkey",
        "is_deep_enough",
    ):
        with pytest.raises(UnexpectedMessage, match="the channel is new"):
            getattr(channel, name)
    with pytest.raises(UnexpectedMessage, match="the channel is new"):
        channel.balance_msat(OPENER)
    with pytest.raises(UnexpectedMessage, match="the channel is new"):
        channel.reestablish()
    assert channel.channel_ready(OPENER) is None
    assert channel.retransmit() is None
    assert need_of(channel) is None


# ---- every message in every state, from either side ----


def expected(log: list[Entry], count: int, message: Entry) -> type[BoltError] | None:
    """What a message (said by its sender) is after the first `count` of the flow."""
    if count < len(log) and message == log[count]:
        return None
    if name_of(message) != "channel_ready" or count < SIGNED_AT:
        return UnexpectedMessage
    known = next(
        (
            decode(entry.raw)
            for entry in log[SIGNED_AT:count]
            if entry.sender is message.sender and name_of(entry) == "channel_ready"
        ),
        None,
    )
    # It may be either side's first, and repeat what that side said.
    return None if known in (None, decode(message.raw)) else RequirementError


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("count", range(len(FLOW) + 1))
def test_every_message_in_every_state(role: Role, count: int) -> None:
    log = opened()
    for sender in Role:
        for entry in log:
            said = Entry(sender, entry.raw)
            channel = Channel.replay(role, DEFAULT_FEATURES, log[:count])
            error = expected(log, count, said)
            if error is not None:
                with refused(channel, error):
                    channel.take(*said)
            else:
                channel.take(*said)
                if count < len(log) and said == log[count]:
                    assert channel.log == log[: count + 1]


@pytest.mark.parametrize("count", range(len(FLOW) + 1))
def test_a_message_of_the_others_is_named(count: int) -> None:
    """The right message at the right time, from the wrong side; `channel_ready` is either's."""
    log = opened()
    for entry in log[count : count + 1]:
        channel = Channel.replay(OPENER, DEFAULT_FEATURES, log[:count])
        if name_of(entry) == "channel_ready":
            continue
        owner = entry.sender.value
        with refused(channel, UnexpectedMessage, f"{name_of(entry)} is the {owner}'s to send"):
            channel.take(entry.sender.other, entry.raw)


@pytest.mark.parametrize("count", range(len(FLOW) + 1))
def test_what_has_no_place_in_an_opening(count: int) -> None:
    channel = Channel.replay(ACCEPTER, DEFAULT_FEATURES, opened()[:count])
    for message in (
        Ping(num_pong_bytes=0, ignored=b""),
        Shutdown(channel_id=bytes(32), scriptpubkey=b""),
    ):
        with refused(channel, UnexpectedMessage, f"{message.NAME} has no place"):
            channel.receive(message.encode())
    for raw in (b"", b"\x00", b"\xff\xff", opened()[0].raw[:-1] + b"\xff", b"\x00\x20"):
        with refused(channel, BoltError):
            channel.receive(raw)


@pytest.mark.parametrize("count", [3, 4, 5])
def test_another_channels_id(count: int) -> None:
    log = opened()
    channel = Channel.replay(ACCEPTER, DEFAULT_FEATURES, log[:count])
    message = decode(log[count].raw)
    other = replace(message, channel_id=secrets.token_bytes(32))
    with refused(channel, RequirementError) as caught:
        channel.take(log[count].sender, other.encode())
    assert str(caught.value) == "channel_id: not this channel's"


def test_another_openings_id() -> None:
    log = opened()
    channel = Channel.replay(OPENER, DEFAULT_FEATURES, log[:1])
    accept = replace(decode(log[1].raw), temporary_channel_id=bytes(32))
    with refused(channel, RequirementError, "temporary_channel_id: not the one of open_channel"):
        channel.receive(accept.encode())
    channel = Channel.replay(ACCEPTER, DEFAULT_FEATURES, log[:2])
    created = replace(decode(log[2].raw), temporary_channel_id=bytes(32))
    with refused(channel, RequirementError, "temporary_channel_id: not the one of open_channel"):
        channel.receive(created.encode())


def test_a_final_repeat_of_channel_ready_under_a_foreign_id() -> None:
    log = opened()
    channel = Channel.replay(OPENER, DEFAULT_FEATURES, log)
    foreign = replace(decode(log[4].raw), channel_id=bytes(32))
    with refused(channel, BoltError):
        channel.receive(foreign.encode())


# ---- openings that nobody should agree to ----


@pytest.mark.parametrize(
    "bits",
    [
        [],
        [Feature.OPTION_ANCHORS],
        [Feature.OPTION_STATIC_REMOTEKEY + 1],
        [Feature.OPTION_STATIC_REMOTEKEY, Feature.OPTION_ANCHORS, 20],
        [Feature.OPTION_STATIC_REMOTEKEY, Feature.OPTION_ANCHORS, 80],
        [Feature.OPTION_STATIC_REMOTEKEY, Feature.OPTION_ANCHORS, 180],
    ],
    ids=str,
)
def test_types_that_nobody_here_can_build(bits: list[int]) -> None:
    kind = Features.from_bits(bits).to_bytes() or b"\x00"
    pair = Pair({"channel_type": kind})
    raw = pair.make(OPENER, OpenChannel).encode()
    for side in pair.sides.values():
        with refused(side.channel, RequirementError, "channel_type"):
            side.channel.take(OPENER, raw)


def test_one_funding_key_for_both() -> None:
    pair = Pair().play(1)
    key = pair.opener.points["funding_pubkey"]
    accept = pair.accepter.accept_channel(funding_pubkey=key)
    with refused(pair.opener.channel, RequirementError, "funding_pubkey: the same for both"):
        pair.opener.hear(accept.encode())


@pytest.mark.parametrize("funding_sat", [2**24, 21_000_000 * 10**8 + 1, 2**63, 2**64 - 1])
def test_more_money_than_there_is(funding_sat: int) -> None:
    """With large channels on, too: there are 21 million bitcoin, and a message has 64 bits."""
    pair = Pair({"funding_satoshis": funding_sat})
    features = DEFAULT_FEATURES | Features.offering(Feature.OPTION_SUPPORT_LARGE_CHANNEL)
    for side in pair.sides.values():
        side.channel.features = features
    if funding_sat == 2**24:
        assert pair.play().opener.channel.state is S.READY
        return
    raw = pair.make(OPENER, OpenChannel).encode()
    for side in pair.sides.values():
        with refused(side.channel, RequirementError, "funding_satoshis"):
            side.channel.take(OPENER, raw)


# ---- channel_ready, and what it waits for ----


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("confirmations", [None, 0, DEPTH - 1])
def test_channel_ready_before_its_time(role: Role, confirmations: int | None) -> None:
    side = Pair().play(SIGNED_AT).sides[role]
    if confirmations is not None:
        side.confirm(confirmations)
    with refused(side.channel, UnexpectedMessage, f"waits for {DEPTH} confirmations .* there are"):
        side.say(side.channel_ready())
    side.confirm(DEPTH)
    side.say(side.channel_ready())


def test_the_peer_may_see_a_block_before_us() -> None:
    pair = Pair().play(SIGNED_AT)
    pair.accepter.confirm(DEPTH)
    pair.opener.hear(pair.accepter.say(pair.accepter.channel_ready()))
    assert pair.opener.channel.confirmations is None
    assert pair.opener.channel.channel_ready(ACCEPTER) is not None


@pytest.mark.parametrize("role", Role)
def test_channel_ready_again(role: Role) -> None:
    """With another alias it is welcome, with another point it is not."""
    pair = Pair().play()
    channel = pair.sides[role.other].channel
    before = snapshot(channel)
    for alias in (None, 7, 8):
        channel.receive(pair.sides[role].channel_ready(alias).encode())
    assert snapshot(channel) == before
    other = replace(
        pair.sides[role].channel_ready(),
        second_per_commitment_point=pair.sides[role].keys.per_commitment_point(2),
    )
    with refused(channel, RequirementError, "second_per_commitment_point: not the one sent before"):
        channel.receive(other.encode())


def test_channel_ready_with_no_point() -> None:
    pair = Pair().play(SIGNED_AT)
    ready = replace(pair.accepter.channel_ready(), second_per_commitment_point=b"\x02" + bytes(32))
    with refused(pair.opener.channel, RequirementError, "second_per_commitment_point: no point"):
        pair.opener.hear(ready.encode())


@pytest.mark.parametrize("channel_type", [TYPES["anchors"], "zeroconf"])
def test_no_depth_at_all(channel_type: bytes | str) -> None:
    """`minimum_depth` 0, by the type option_zeroconf or by trust: nobody waits for a block."""
    asks: dict[str, object] = {"channel_type": channel_type}
    if channel_type == "zeroconf":
        asks = {
            "channel_type": Features.from_bits([12, 22, 46, 50]).to_bytes(),
            "channel_flags": 0,
        }
    pair = Pair(asks, {"minimum_depth": 0}).play(SIGNED_AT)
    assert need_of(pair.accepter.channel) is Need.CHANNEL_READY
    # The opener's transaction comes first.
    assert need_of(pair.opener.channel) is Need.FUNDING_TRANSACTION
    pair.opener.channel.published()
    assert need_of(pair.opener.channel) is Need.CHANNEL_READY
    for role, side in pair.sides.items():
        pair.sides[role.other].hear(side.say(side.channel_ready()))
    assert pair.opener.channel.state is pair.accepter.channel.state is S.READY
    assert pair.opener.channel.confirmations is None


# ---- what the chain shows ----


@pytest.mark.parametrize("role", Role)
def test_an_output_that_is_not_the_one_agreed_on(role: Role) -> None:
    channel = Pair().play(SIGNED_AT).sides[role].channel
    script, amount = channel.funding_scriptpubkey, channel.open_channel.funding_satoshis
    wrong_script = p2wsh(channel.funding_script + b"\x51")
    for other in (wrong_script, b"", script + b"\x00"):
        with refused(channel, RequirementError, "funding_txid: the output pays to another script"):
            channel.observe(other, amount, DEPTH)
    for other_sat in (amount - 1, amount + 1, 0):
        with refused(channel, RequirementError, f"worth {other_sat} sat, not {amount} sat"):
            channel.observe(script, other_sat, DEPTH)
    assert channel.confirmations is None


@pytest.mark.parametrize("role", Role)
def test_a_reorganisation_takes_confirmations_away(role: Role) -> None:
    side = Pair().play(SIGNED_AT).sides[role]
    channel = side.channel
    side.confirm(DEPTH)
    assert need_of(channel) is Need.CHANNEL_READY
    side.confirm(1)
    assert need_of(channel) is None
    channel.unobserve()
    assert channel.confirmations is None
    # Whoever pays for it publishes it again.
    assert need_of(channel) is (Need.FUNDING_TRANSACTION if role is Role.OPENER else None)
    with refused(channel, UnexpectedMessage, "there are 0"):
        side.say(side.channel_ready())
    side.confirm(DEPTH)
    assert need_of(channel) is Need.CHANNEL_READY


def test_seen_on_the_chain_is_published() -> None:
    side = Pair().play(SIGNED_AT).opener
    assert need_of(side.channel) is Need.FUNDING_TRANSACTION
    side.confirm(0)
    assert need_of(side.channel) is None


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_observe_yet(count: int) -> None:
    channel = Channel.replay(OPENER, DEFAULT_FEATURES, opened()[:count])
    with refused(channel, UnexpectedMessage):
        channel.observe(b"\x00\x20" + bytes(32), 1_000_000, 1)
