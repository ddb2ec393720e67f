"""What the two first signatures bind: who changes a message on its way is found out, and where."""

from typing import Any, Final

import msgspec
import pytest
from coincurve.utils import GROUP_ORDER_INT

from lightning_proxy.bolt.channel import ChannelState
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.errors import RequirementError
from lightning_proxy.bolt.messages import (
    AcceptChannel,
    FundingCreated,
    FundingSigned,
    Message,
    OpenChannel,
)
from lightning_proxy.bolt.opening import channel_id_of
from tests.support.channels import point
from tests.unit.bolt.pair import FLOW, SIGNED_AT, TYPES, Pair, refused

PUSH_MSAT: Final = 123_456_789

#: A changed field of `open_channel`, or of `accept_channel`, and which message's signature doesn't
#: hold then: without and with money on the accepter's side. None: no signature binds it yet.
Found = tuple[type[Message] | None, type[Message] | None]
IN_OPEN_CHANNEL: Final[list[tuple[str, Any, Found]]] = [
    ("funding_satoshis", 1_000_001, (FundingCreated, FundingCreated)),
    ("push_msat", 1_000_000, (FundingCreated, FundingCreated)),
    ("feerate_per_kw", 300, (FundingCreated, FundingCreated)),
    ("funding_pubkey", point(), (FundingCreated, FundingCreated)),
    ("payment_basepoint", point(), (FundingCreated, FundingCreated)),
    ("delayed_payment_basepoint", point(), (FundingSigned, FundingSigned)),
    ("first_per_commitment_point", point(), (FundingSigned, FundingSigned)),
    # Of use once the accepter has an output that can be revoked.
    ("revocation_basepoint", point(), (None, FundingCreated)),
    ("to_self_delay", 145, (None, FundingCreated)),
    # Of use once there is an HTLC, or a rule about one.
    ("htlc_basepoint", point(), (None, None)),
    ("max_htlc_value_in_flight_msat", 1, (None, None)),
    ("htlc_minimum_msat", 2, (None, None)),
    ("max_accepted_htlcs", 10, (None, None)),
    # Of use once an output is that small.
    ("dust_limit_satoshis", 355, (None, None)),
    ("channel_reserve_satoshis", 11_000, (None, None)),
    ("channel_flags", 0, (None, None)),
    ("upfront_shutdown_script", b"\x00\x14" + bytes(20), (None, None)),
    ("chain_hash", bytes(32), (None, None)),
]
IN_ACCEPT_CHANNEL: Final[list[tuple[str, Any, Found]]] = [
    ("funding_pubkey", point(), (FundingCreated, FundingCreated)),
    ("payment_basepoint", point(), (FundingCreated, FundingCreated)),
    ("revocation_basepoint", point(), (FundingSigned, FundingSigned)),
    ("to_self_delay", 145, (FundingSigned, FundingSigned)),
    ("delayed_payment_basepoint", point(), (None, FundingCreated)),
    ("first_per_commitment_point", point(), (None, FundingCreated)),
    ("htlc_basepoint", point(), (None, None)),
    ("max_htlc_value_in_flight_msat", 1, (None, None)),
    ("htlc_minimum_msat", 2, (None, None)),
    ("max_accepted_htlcs", 10, (None, None)),
    ("dust_limit_satoshis", 355, (None, None)),
    ("channel_reserve_satoshis", 11_000, (None, None)),
    ("minimum_depth", 6, (None, None)),
    ("upfront_shutdown_script", b"\x00\x14" + bytes(20), (None, None)),
]


def swapped(kind: type[Message], field: str, value: Any, asks: dict[str, Any]) -> Pair:
    """An opening up to the message before `funding_created`, of which one was changed."""
    pair = Pair(asks)
    for sender, each in FLOW[:2]:
        pair.say(sender, each, **({field: value} if each is kind else {}))
    return pair


def check(pair: Pair, found: type[Message] | None) -> None:
    """The message whose signature doesn't hold is this one."""
    for sender, kind in FLOW[2:SIGNED_AT]:
        message = pair.make(sender, kind)
        raw = pair.sides[sender].say(message)
        hearer = pair.sides[sender.other]
        if kind is found:
            with refused(hearer.channel, RequirementError) as caught:
                hearer.hear(raw)
            assert str(caught.value) == (
                f"signature: {kind.NAME} signs another first commitment than the one that "
                "open_channel and accept_channel make"
            )
            return
        hearer.hear(raw)
    assert found is None
    assert {side.channel.state for side in pair.sides.values()} == {ChannelState.SIGNED}


@pytest.mark.parametrize("push_msat", [0, PUSH_MSAT], ids=["no push", "push"])
@pytest.mark.parametrize("channel_type", TYPES)
@pytest.mark.parametrize(
    ("field", "value", "found"), IN_OPEN_CHANNEL, ids=[case[0] for case in IN_OPEN_CHANNEL]
)
def test_open_channel_changed_on_its_way(
    field: str, value: Any, found: Found, channel_type: str, push_msat: int
) -> None:
    asks = {"channel_type": TYPES[channel_type], "push_msat": push_msat}
    check(swapped(OpenChannel, field, value, asks), found[push_msat > 0])


@pytest.mark.parametrize("push_msat", [0, PUSH_MSAT], ids=["no push", "push"])
@pytest.mark.parametrize("channel_type", TYPES)
@pytest.mark.parametrize(
    ("field", "value", "found"), IN_ACCEPT_CHANNEL, ids=[case[0] for case in IN_ACCEPT_CHANNEL]
)
def test_accept_channel_changed_on_its_way(
    field: str, value: Any, found: Found, channel_type: str, push_msat: int
) -> None:
    asks = {"channel_type": TYPES[channel_type], "push_msat": push_msat}
    check(swapped(AcceptChannel, field, value, asks), found[push_msat > 0])


def test_no_field_is_left_out() -> None:
    """The tables have every field but the temporary id and the type, which come back at once."""
    for kind, table in ((OpenChannel, IN_OPEN_CHANNEL), (AcceptChannel, IN_ACCEPT_CHANNEL)):
        fields = {*kind.LAYOUT.fields, *kind.LAYOUT.namespace.records}
        assert {field for field, *_ in table} == fields - {"temporary_channel_id", "channel_type"}


@pytest.mark.parametrize("channel_type", TYPES)
@pytest.mark.parametrize("push_msat", [0, PUSH_MSAT])
def test_the_type_changed_both_ways(channel_type: str, push_msat: int) -> None:
    """Somebody makes the accepter believe in the other type, and the opener in its own."""
    other = next(kind for kind in TYPES.values() if kind != TYPES[channel_type])
    pair = Pair({"channel_type": TYPES[channel_type], "push_msat": push_msat})
    pair.say(Role.OPENER, OpenChannel, channel_type=other)
    accept = pair.make(Role.ACCEPTER, AcceptChannel)
    raw = pair.accepter.say(accept)
    with refused(pair.opener.channel, RequirementError, "channel_type: not the one of open"):
        pair.opener.hear(raw)
    pair.opener.hear(msgspec.structs.replace(accept, channel_type=TYPES[channel_type]).encode())
    check(pair, FundingCreated)


def test_a_dust_limit_that_hides_an_output() -> None:
    """Changed so that it matters, `dust_limit_satoshis` is bound as well."""
    asks = {"push_msat": 5_000_000}
    # In the opener's commitment, the accepter's 5,000 sat; in the accepter's, what it has itself.
    check(swapped(OpenChannel, "dust_limit_satoshis", 6_000, asks), FundingSigned)
    check(swapped(AcceptChannel, "dust_limit_satoshis", 6_000, asks), FundingCreated)


@pytest.mark.parametrize("field", ["funding_txid", "funding_output_index"])
def test_another_outpoint(field: str) -> None:
    pair = Pair().play(2)
    created = pair.opener.funding_created()
    value: Any = bytes(32) if field == "funding_txid" else 1
    pair.opener.say(created)
    with refused(pair.accepter.channel, RequirementError, "signature: funding_created signs"):
        pair.accepter.hear(msgspec.structs.replace(created, **{field: value}).encode())
    # And one that the accepter signs, after all: that is no signature for the opener's.
    pair.accepter.hear(pair.opener.funding_created().encode())
    signed = pair.accepter.funding_signed()
    with refused(pair.opener.channel, RequirementError, "channel_id: not this channel's"):
        pair.opener.hear(signed.encode())
    txid = created.funding_txid
    moved = msgspec.structs.replace(signed, channel_id=channel_id_of(txid, 0))
    with refused(pair.opener.channel, RequirementError, "signature: funding_signed signs"):
        pair.opener.hear(moved.encode())


def high_s(signature: bytes) -> bytes:
    """The other signature that holds for the same (r, -s), which BOLT #2 and nodes refuse."""
    s = int.from_bytes(signature[32:], "big")
    return signature[:32] + (GROUP_ORDER_INT - s).to_bytes(32, "big")


def spoiled(signature: bytes, other: bytes) -> dict[str, bytes]:
    return {
        "another commitment's": other,
        "high s": high_s(signature),
        "one bit": signature[:-1] + bytes([signature[-1] ^ 1]),
        "zeros": bytes(64),
        "r of zero": bytes(32) + signature[32:],
        "s of zero": signature[:32] + bytes(32),
        "beyond the group": b"\xff" * 64,
    }


@pytest.mark.parametrize("channel_type", TYPES)
@pytest.mark.parametrize("kind", [FundingCreated, FundingSigned])
@pytest.mark.parametrize("how", spoiled(bytes(64), b""))
def test_a_signature_that_does_not_hold(
    how: str, kind: type[FundingCreated | FundingSigned], channel_type: str
) -> None:
    count = [each for _, each in FLOW].index(kind)
    sender = FLOW[count][0]
    pair = Pair({"channel_type": TYPES[channel_type]}).play(count)
    side, hearer = pair.sides[sender], pair.sides[sender.other]
    message = pair.make(sender, kind)
    assert isinstance(message, kind)
    side.say(message)
    # Right, but for the signer's own commitment.
    others = side.sign(side.channel.commitments[sender].unsigned)
    signature = spoiled(message.signature, others)[how]
    raw = msgspec.structs.replace(message, signature=signature).encode()
    with refused(hearer.channel, RequirementError, f"signature: {kind.NAME} signs another"):
        hearer.hear(raw)
    # Neither may our own side say such a thing.
    mine = Pair({"channel_type": TYPES[channel_type]}).play(count)
    owed = mine.make(sender, kind)
    bad = msgspec.structs.replace(owed, signature=signature)
    with refused(mine.sides[sender].channel, RequirementError, "signature"):
        mine.sides[sender].say(bad)
    # The right one is taken afterwards.
    hearer.hear(message.encode())
    assert hearer.channel.signatures[sender] == message.signature
