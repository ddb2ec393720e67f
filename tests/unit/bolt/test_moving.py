"""A channel that moves: both sides with real keys, message by message, and what each refuses."""

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from lightning_proxy.bolt.channel.reestablish import Behind, reestablish_of
from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.errors import BoltError, RequirementError, UnexpectedMessage
from lightning_proxy.bolt.messages import (
    Message,
    UpdateFailHtlc,
    UpdateFailMalformedHtlc,
    UpdateFee,
    UpdateFulfillHtlc,
)
from tests.support.moving import Mover, movers, secret_of
from tests.unit.bolt.pair import TYPES

PREIMAGE = b"\x01" * 32
HASH = sha256(PREIMAGE).digest()
#: Above and below what an output of its own costs, and the least there is.
AMOUNTS_MSAT = (50_000_000, 354_000, 353_999, 1_000, 1)


@pytest.fixture(params=[*TYPES.values()], ids=[*TYPES])
def both(request: pytest.FixtureRequest) -> dict[Role, Mover]:
    return movers(channel_type=request.param, push_msat=500_000_000)


@pytest.fixture
def opener(both: dict[Role, Mover]) -> Mover:
    return both[Role.OPENER]


@pytest.fixture
def accepter(both: dict[Role, Mover]) -> Mover:
    return both[Role.ACCEPTER]


def tell(one: Mover, other: Mover, message: Message) -> None:
    other.hear(one.say(message))


def settle(one: Mover, other: Mover) -> None:
    """What was proposed becomes irrevocable for both."""
    tell(one, other, one.commitment_signed())
    tell(other, one, other.revoke_and_ack())
    tell(other, one, other.commitment_signed())
    tell(one, other, one.revoke_and_ack())


def drain(one: Mover, other: Mover) -> None:
    """Each signs and revokes as long as there is something to."""
    while True:
        for mover, peer in ((one, other), (other, one)):
            if mover.snapshot.owes_revocation:
                tell(mover, peer, mover.revoke_and_ack())
                break
            if mover.snapshot.may_commit:
                tell(mover, peer, mover.commitment_signed())
                break
        else:
            return


def fulfil(mover: Mover, htlc_id: int, preimage: bytes = PREIMAGE) -> UpdateFulfillHtlc:
    return UpdateFulfillHtlc(channel_id=mover.channel_id, id=htlc_id, payment_preimage=preimage)


@pytest.mark.parametrize("payer", Role)
def test_payments_of_all_sizes(both: dict[Role, Mover], payer: Role) -> None:
    one, other = both[payer], both[payer.other]
    before = len(one.snapshot.encode())
    for htlc_id, amount in enumerate(AMOUNTS_MSAT * 3):
        tell(one, other, one.add(amount, HASH))
        settle(one, other)
        tell(other, one, fulfil(other, htlc_id))
        settle(other, one)
        assert one.snapshot.is_quiet
        assert other.snapshot.is_quiet
    paid = 3 * sum(AMOUNTS_MSAT)
    for mover in (one, other):
        state = mover.snapshot.ours.commitment.state
        assert state.to_opener_msat == 500_000_000 + (paid if payer is Role.ACCEPTER else -paid)
        assert state.commitment_number == 2 * 3 * len(AMOUNTS_MSAT)
        assert Snapshot.decode(mover.snapshot.encode()) == mover.snapshot
        # What went through it leaves nothing behind but the secrets, which are bounded.
        assert len(mover.snapshot.encode()) < before + 2 * 1862 + 400


def test_many_at_once_and_both_ways(opener: Mover, accepter: Mover) -> None:
    for number in range(10):
        tell(opener, accepter, opener.add(1_000_000 + number, HASH))
        tell(accepter, opener, accepter.add(2_000_000 + number, HASH))
    drain(opener, accepter)
    assert len(opener.snapshot.ours.commitment.state.htlcs) == 20
    for number in range(10):
        tell(opener, accepter, fulfil(opener, number))
        reason = UpdateFailHtlc(channel_id=accepter.channel_id, id=number, reason=b"no")
        tell(accepter, opener, reason)
    drain(opener, accepter)
    assert opener.snapshot.is_quiet


def test_a_fee_and_a_malformed_onion(opener: Mover, accepter: Mover) -> None:
    tell(opener, accepter, UpdateFee(channel_id=opener.channel_id, feerate_per_kw=1_000))
    tell(accepter, opener, accepter.add(3_000_000, HASH))
    drain(opener, accepter)
    failed = UpdateFailMalformedHtlc(
        channel_id=opener.channel_id, id=0, sha256_of_onion=bytes(32), failure_code=0x8005
    )
    tell(opener, accepter, failed)
    drain(opener, accepter)
    assert accepter.snapshot.ours.commitment.state.feerate_per_kw == 1_000
    assert accepter.snapshot.is_quiet


# ---- what is refused, and changes nothing ----


def refused(mover: Mover, message: Message, kind: type[BoltError] = RequirementError) -> str:
    before = mover.snapshot
    with pytest.raises(kind) as raised:
        mover.hear(message.encode())
    assert mover.snapshot is before
    return str(raised.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": 1}, "id: 1, and 0 is next"),
        ({"amount_msat": 0}, "amount_msat: nothing"),
        ({"cltv_expiry": 500_000_000}, "no block height"),
        ({"amount_msat": 990_000_001}, "in flight"),
        ({"amount_msat": 495_000_000}, "the sender lacks"),
        ({"channel_id": bytes(32)}, "not this channel's"),
    ],
)
def test_adds_that_bolt_2_forbids(
    opener: Mover, accepter: Mover, changes: dict[str, Any], words: str
) -> None:
    fields = {"amount_msat": 1_000_000, **changes}
    message = accepter.add(payment_hash=HASH, **fields)
    assert words in refused(opener, message)
    with pytest.raises(BoltError):
        accepter.say(message)


def test_removals_that_bolt_2_forbids(opener: Mover, accepter: Mover) -> None:
    tell(opener, accepter, opener.add(1_000_000, HASH))
    # Not yet irrevocable: the preimage would be given for nothing.
    with pytest.raises(RequirementError, match="no HTLC 0"):
        accepter.say(fulfil(accepter, 0))
    settle(opener, accepter)
    assert "payment_preimage" in refused(opener, fulfil(accepter, 0, bytes(32)))
    assert "no HTLC 1" in refused(opener, fulfil(accepter, 1))
    malformed = UpdateFailMalformedHtlc(
        channel_id=opener.channel_id, id=0, sha256_of_onion=bytes(32), failure_code=5
    )
    assert "BADONION" in refused(opener, malformed)
    tell(accepter, opener, fulfil(accepter, 0))
    assert "removed before" in refused(opener, fulfil(accepter, 0))
    # Whoever offered it can't remove it.
    with pytest.raises(RequirementError, match="no HTLC 0"):
        opener.say(fulfil(opener, 0))


def test_words_out_of_turn(opener: Mover, accepter: Mover) -> None:
    fee = UpdateFee(channel_id=opener.channel_id, feerate_per_kw=1_000)
    assert "opener's to send" in refused(opener, fee, UnexpectedMessage)
    assert "without any update" in refused(opener, accepter.commitment_signed(), UnexpectedMessage)
    assert "revoke_and_ack without" in refused(opener, accepter.revoke_and_ack(), UnexpectedMessage)
    tell(opener, accepter, opener.add(1_000_000, HASH))
    tell(opener, accepter, opener.commitment_signed())
    tell(opener, accepter, opener.add(1_000_000, HASH))
    with pytest.raises(UnexpectedMessage, match="before the last one was acknowledged"):
        opener.say(opener.commitment_signed())


def test_signatures_and_secrets_that_do_not_hold(opener: Mover, accepter: Mover) -> None:
    tell(opener, accepter, opener.add(50_000_000, HASH))
    signed = opener.commitment_signed()
    opener.say(signed)
    replace = msgspec.structs.replace
    for wrong, words in (
        (replace(signed, signature=bytes(64)), "signature"),
        (replace(signed, htlc_signature=()), "0 for 1 HTLCs"),
        (replace(signed, htlc_signature=(signed.signature,)), "another HTLC transaction"),
    ):
        assert words in refused(accepter, wrong)
    accepter.hear(signed.encode())
    revoked = accepter.revoke_and_ack()
    accepter.say(revoked)
    for field in ("per_commitment_secret", "next_per_commitment_point"):
        value = b"\x11" * 32 if field == "per_commitment_secret" else b"\x02" + b"\xff" * 32
        assert field in refused(opener, replace(revoked, **{field: value}))
    opener.hear(revoked.encode())


def test_the_openers_buffer_is_for_who_sends() -> None:
    """What would lock the channel at twice the fee is not said, and is taken where it is."""
    both = movers(push_msat=500_000_000)
    opener, accepter = both[Role.OPENER], both[Role.ACCEPTER]
    left = 500_000_000 - 1000 * 10_000
    state = opener.snapshot.ours.commitment.state
    cost = 1000 * (state.feerate_per_kw * (1124 + 172) // 1000 + 660)
    message = opener.add(left - cost, HASH)
    with pytest.raises(RequirementError, match="the sender lacks"):
        opener.say(message)
    accepter.hear(message.encode())


# ---- a new connection ----


def reconnect(one: Mover, other: Mover) -> None:
    """Both say where they stand, and what is to be said again."""
    for mover in (one, other):
        mover.disconnect()
    words = {one: one.reconnect(), other: other.reconnect()}
    again = {one: one.hear(words[other]), other: other.hear(words[one])}
    for raw in again[one]:
        other.hear(raw)
    for raw in again[other]:
        one.hear(raw)


@pytest.mark.parametrize("lost", range(5))
def test_lost_at_each_message(opener: Mover, accepter: Mover, lost: int) -> None:
    """From the message with this number on, nothing arrived; then all goes on, the same bytes."""
    steps: list[tuple[Mover, Callable[[], Message]]] = [
        (opener, lambda: opener.add(50_000_000, HASH)),
        (opener, opener.commitment_signed),
        (accepter, accepter.revoke_and_ack),
        (accepter, accepter.commitment_signed),
        (opener, opener.revoke_and_ack),
    ]
    for number, (sender, make) in enumerate(steps):
        raw = sender.say(make())
        if number == lost:
            break
        (accepter if sender is opener else opener).hear(raw)
    reconnect(opener, accepter)
    if opener.snapshot.ours.next_htlc_id == 0:
        tell(opener, accepter, opener.add(50_000_000, HASH))
    drain(opener, accepter)
    tell(accepter, opener, fulfil(accepter, 0))
    settle(accepter, opener)
    assert opener.snapshot.is_quiet


def test_a_lost_state_is_told_from_a_lie(opener: Mover, accepter: Mover) -> None:
    old = accepter.snapshot
    tell(opener, accepter, opener.add(1_000_000, HASH))
    settle(opener, accepter)
    latest = accepter.snapshot
    for mover in (opener, accepter):
        mover.disconnect()
    opener.reconnect()
    # The accepter comes with an old copy of its record.
    with pytest.raises(Behind) as raised:
        opener.hear(reestablish_of(old, Role.ACCEPTER).encode())
    assert raised.value.who is Role.ACCEPTER
    # It learns of it, with the proof: the secret of its own first commitment.
    behind = Mover(accepter.keys, old)
    behind.disconnect()
    behind.reconnect()
    with pytest.raises(Behind) as raised:
        behind.hear(reestablish_of(opener.snapshot, Role.OPENER).encode())
    assert raised.value.who is Role.ACCEPTER
    assert raised.value.number == 0
    assert raised.value.secret == secret_of(accepter.keys.per_commitment_seed, 0)
    # Who claims as much without the secret proves nothing.
    accepter.snapshot = latest
    lie = msgspec.structs.replace(
        reestablish_of(opener.snapshot, Role.OPENER),
        your_last_per_commitment_secret=b"\x33" * 32,
    )
    accepter.disconnect()
    accepter.reconnect()
    with pytest.raises(RequirementError, match="your_last_per_commitment_secret"):
        accepter.hear(lie.encode())


def test_a_snapshot_of_another_version_is_not_read() -> None:
    data = movers(sign=False)[Role.OPENER].snapshot.encode()
    other = data.replace(b"\xa7version\x01", b"\xa7version\x02")
    assert other != data
    for wrong in (other, b"", b"\xc1", data[:-1]):
        with pytest.raises(ValueError, match="snapshot"):
            Snapshot.decode(wrong)
