"""A wallet's snapshot on a new connection: taken if it can be gone on with, or refused in words."""

from contextlib import suppress
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis.strategies import data as draws
from hypothesis.strategies import integers, sampled_from

from lightning_proxy.bolt.channel import Channel
from lightning_proxy.bolt.channel.reestablish import disconnected, reestablish_of
from lightning_proxy.bolt.channel.snapshot import Changes, Snapshot
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.messages import ChannelReestablish, RevokeAndAck
from lightning_proxy.relay.live import LiveChannel
from lightning_proxy.relay.resuming import resumed
from lightning_proxy.rpc import RpcError
from tests.support.moving import Mover, movers_of, opened

HASH = sha256(b"\x01" * 32).digest()


def moved() -> tuple[Channel, list[Mover]]:
    """With a payment that is irrevocable, and another one signed."""
    sides = opened(push_msat=500_000_000)
    both = movers_of(sides)
    one, other = both[Role.OPENER], both[Role.ACCEPTER]
    for _ in range(2):
        for sender, message in (
            (one, lambda: one.add(50_000_000, HASH)),
            (one, one.commitment_signed),
        ):
            other.hear(sender.say(message()))
        one.hear(other.say(other.revoke_and_ack()))
        one.hear(other.say(other.commitment_signed()))
        other.hear(one.say(one.revoke_and_ack()))
    other.hear(one.say(one.add(1_000_000, HASH)))
    one.say(one.commitment_signed())
    return sides[Role.OPENER].channel, [one, other]


CHANNEL, (ONE, OTHER) = moved()
LATEST = disconnected(ONE.snapshot)


def resume(snapshot: Snapshot, stored: bytes | None = None, **changes: int) -> Snapshot:
    message = reestablish_of(LATEST, LATEST.role)
    return resumed(CHANNEL, snapshot.encode(), msgspec.structs.replace(message, **changes), stored)


def test_as_a_lost_connection_leaves_it() -> None:
    snapshot = resume(LATEST)
    assert snapshot.reestablished == (Role.OPENER,)
    assert msgspec.structs.replace(snapshot, reestablished=()) == LATEST


def test_one_that_is_older_than_what_was_taken() -> None:
    """By any of the numbers that only grow."""
    assert resume(LATEST, stored=LATEST.encode())
    # What the relay took is older: the wallet had said more than reached it.
    before = LATEST.with_side(Role.ACCEPTER, msgspec.structs.replace(LATEST.theirs, unrevoked=None))
    assert resume(LATEST, stored=before.encode())
    with pytest.raises(RpcError, match="older than what it had said"):
        resume(before, stored=LATEST.encode())


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("role", "another channel's"),
        ("funding_output_index", "another channel's"),
        ("features", "another channel's"),
        ("accept_channel", "another channel's"),
        ("reestablished", "lost connection"),
    ],
)
def test_what_it_is_not(field: str, words: str) -> None:
    other: dict[str, Any] = {
        "role": Role.ACCEPTER,
        "funding_output_index": 7,
        "features": b"",
        "accept_channel": LATEST.open_channel,
        "reestablished": (Role.OPENER,),
    }
    with pytest.raises(RpcError, match=words):
        resume(msgspec.structs.replace(LATEST, **{field: other[field]}))


def test_numbers_that_are_not_its_own() -> None:
    for field in ("next_commitment_number", "next_revocation_number"):
        with pytest.raises(RpcError, match="says something else"):
            resume(LATEST, None, **{field: 9})


def test_what_can_not_be_gone_on_with() -> None:
    replace = msgspec.structs.replace
    ours = LATEST.ours
    for wrong in (
        replace(ours, secrets=b""),
        replace(ours, secrets=ours.secrets + bytes(38)),
        replace(ours, next_point=bytes(33)),
        replace(ours, changes=Changes(acked=(b"\x00",))),
        replace(ours, changes=Changes(acked=(ONE.revoke_and_ack().encode(),))),
    ):
        with pytest.raises(RpcError, match="That snapshot"):
            resume(LATEST.with_side(Role.OPENER, wrong))


@settings(max_examples=400, deadline=None)
@given(position=integers(0, len(LATEST.encode()) - 1), value=integers(0, 255), draw=draws())
def test_any_byte_may_be_another(position: int, value: int, draw: Any) -> None:
    """Whatever is taken, what follows is a `BoltError` at most: no session dies of it."""
    raw = bytearray(LATEST.encode())
    raw[position] = value
    try:
        message = reestablish_of(Snapshot.decode(bytes(raw)), Role.OPENER)
    except (ValueError, BoltError, LookupError, TypeError):
        message = reestablish_of(LATEST, Role.OPENER)
    try:
        base = resumed(CHANNEL, bytes(raw), message, LATEST.encode())
    except RpcError:
        return
    live = LiveChannel(base)
    says: ChannelReestablish = reestablish_of(
        disconnected(OTHER.snapshot), draw.draw(sampled_from([Role.ACCEPTER]))
    )
    revoked: RevokeAndAck = OTHER.revoke_and_ack()
    for message_ in (says, revoked, OTHER.add(1_000, HASH)):
        try:
            live.received(message_.encode(), message_)
        except BoltError:
            continue
    with suppress(BoltError):
        live.take(live.heard + len(live.unheard), 0, [ONE.revoke_and_ack().encode()])
