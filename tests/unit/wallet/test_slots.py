"""The wallet's side of key slots: which it leaves, and what it believes of those that were used."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from operator import methodcaller
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lightning_proxy import rpc
from lightning_proxy.bolt.channel import Channel
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.features import DEFAULT_FEATURES
from lightning_proxy.bolt.messages import OpenChannel
from lightning_proxy.relay.questions import accept_channel
from lightning_proxy.rpc import SlotPolicy, SlotUsed
from lightning_proxy.wallet import Policy, PolicyError, Record, WalletKeys
from lightning_proxy.wallet.slots import feature_maps, make_slots, take_used, within
from tests.support.channels import open_channel
from tests.unit.wallet.samples import PEER

KEYS = WalletKeys.generate()
POLICY = Policy(chains=("regtest",))
WANTED = SlotPolicy(min_funding_sat=100_000, max_funding_sat=2_000_000)
OTHER_PEER = "03" * 33
ANCHORS, STATIC = "401000", "1000"
ANCHORS_ALIAS, STATIC_ALIAS = "400000401000", "400000001000"


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    path = tmp_path / "record"
    Record.create(path, KEYS.node_id)
    async with Record(path, KEYS.node_id) as record:
        yield record


def used_for(slot: rpc.Slot, offer: OpenChannel, **changes: Any) -> SlotUsed:
    """What an honest relay says when it used this slot."""
    answer = accept_channel(slot.answer, offer.temporary_channel_id, offer.channel_type)
    fields = {
        "slot_id": "11" * 16,
        "session_id": "22" * 16,
        "peer": PEER.hex(),
        "channel_id": offer.temporary_channel_id.hex(),
        "open_channel": offer.encode().hex(),
        "accept_channel": answer.encode().hex(),
    }
    return SlotUsed(**{**fields, **changes})


async def take(record: Record, used: SlotUsed, policy: Policy = POLICY) -> str | None:
    return await take_used(record, policy, used, DEFAULT_FEATURES)


# ---- what is left ----


@pytest.mark.parametrize(
    ("policy", "wanted", "left"),
    [
        ({}, {}, (20_000, 2_000_000, None)),
        ({"min_funding_sat": 0}, {"min_funding_sat": 7}, (7, 2_000_000, None)),
        ({"max_funding_sat": 90_000}, {}, (20_000, 90_000, None)),
        ({}, {"peers": [PEER.hex()]}, (20_000, 2_000_000, [PEER.hex()])),
        ({"peers": {PEER.hex()}}, {}, (20_000, 2_000_000, [PEER.hex()])),
        (
            {"peers": {PEER.hex(), "02" * 33}},
            {"peers": [OTHER_PEER, PEER.hex()]},
            (20_000, 2_000_000, [PEER.hex()]),
        ),
    ],
)
def test_a_slot_is_for_what_the_policy_accepts(
    policy: dict[str, Any], wanted: dict[str, Any], left: tuple[int, int, list[str] | None]
) -> None:
    rules = msgspec.convert(policy, Policy)
    slot_policy = within(rules, SlotPolicy(**{"max_funding_sat": 2_000_000, **wanted}))
    assert (slot_policy.min_funding_sat, slot_policy.max_funding_sat, slot_policy.peers) == left


@pytest.mark.parametrize(
    ("policy", "wanted", "left"),
    [
        ({}, None, {ANCHORS, STATIC, ANCHORS_ALIAS, STATIC_ALIAS}),
        ({}, [ANCHORS, "10000000000000"], {ANCHORS}),
        ({"allow_scid_alias": False}, None, {ANCHORS, STATIC}),
        ({"allow_zeroconf": True, "channel_types": ["anchors"]}, None, {ANCHORS, ANCHORS_ALIAS}),
        ({"allow_scid_alias": False}, [STATIC, STATIC_ALIAS], {STATIC}),
    ],
)
def test_a_slot_names_the_types_that_the_policy_accepts(
    policy: dict[str, Any], wanted: list[str] | None, left: set[str]
) -> None:
    rules = msgspec.convert(policy, Policy)
    slot_policy = within(rules, SlotPolicy(max_funding_sat=2_000_000, channel_types=wanted))
    assert slot_policy.channel_types is not None
    assert set(slot_policy.channel_types) == left


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        ({}, {"max_funding_sat": 19_999}),
        ({"max_funding_sat": 50_000}, {"min_funding_sat": 50_001}),
        ({"peers": {PEER.hex()}}, {"peers": [OTHER_PEER]}),
        ({}, {"peers": []}),
        ({"channel_types": ["anchors"]}, {"channel_types": [STATIC]}),
    ],
)
def test_a_slot_for_nothing_is_not_left(policy: dict[str, Any], wanted: dict[str, Any]) -> None:
    with pytest.raises(PolicyError, match="accepts no channel"):
        within(
            msgspec.convert(policy, Policy), SlotPolicy(**{"max_funding_sat": 2_000_000, **wanted})
        )


def test_too_many_peers_are_told_before_anything_is_left() -> None:
    many = Policy(peers=frozenset(f"02{number:064x}" for number in range(101)))
    with pytest.raises(PolicyError, match="100 peers"):
        within(many, SlotPolicy(max_funding_sat=2_000_000))


async def test_every_slot_has_keys_of_its_own_that_are_in_the_record(record: Record) -> None:
    slots = await make_slots(record, KEYS, POLICY, WANTED, 3)
    more = await make_slots(record, KEYS, POLICY, WANTED, 2)
    for index, slot in enumerate([*slots, *more]):
        key = bytes.fromhex(slot.answer.funding_pubkey)
        stored = await record.change(methodcaller("slot", key))
        assert stored is not None
        points = asdict(KEYS.channel(index, stored.salt).points())
        hexed = {name: point.hex() for name, point in points.items()}
        assert hexed.items() <= msgspec.to_builtins(slot.answer).items()
        assert (stored.index, stored.slot, stored.used) == (index, slot, None)
    assert await record.change(lambda ledger: ledger.next_index()) == 5
    # What was left is no channel yet.
    assert await record.channel_indices() == []


# ---- what was used ----


@pytest.mark.parametrize("funding_sat", [100_000, 1_000_000, 2_000_000])
@pytest.mark.parametrize(
    "channel_type", feature_maps(["anchors", "static_remotekey"], scid_alias=False)
)
async def test_a_slot_fits_every_channel_that_it_is_for(
    record: Record, funding_sat: int, channel_type: str
) -> None:
    (slot,) = await make_slots(record, KEYS, POLICY, within(POLICY, WANTED), 1)
    offer = open_channel(
        funding_satoshis=funding_sat,
        channel_reserve_satoshis=funding_sat // 100,
        channel_type=bytes.fromhex(channel_type),
    )
    used = used_for(slot, offer)
    assert await take(record, used) is None
    # Said again, as after a lost acknowledgment.
    assert await take(record, used) is None
    (stored,) = await record.channels()
    relayed = Channel(Role.ACCEPTER, DEFAULT_FEATURES)
    for raw, way in ((used.open_channel, relayed.receive), (used.accept_channel, relayed.send)):
        way(bytes.fromhex(raw))
    assert [entry.raw for entry in stored.log] == [entry.raw for entry in relayed.log]
    assert await record.channel_indices() == [stored.index]


@pytest.mark.parametrize(
    ("changes", "policy", "problem"),
    [
        ({"funding_satoshis": 2_000_001}, POLICY, "another size"),
        ({"funding_satoshis": 99_999}, POLICY, "another size"),
        ({"channel_type": bytes.fromhex(STATIC)}, POLICY, "another type"),
        ({"channel_type": None}, POLICY, "another type"),
        ({"push_msat": 1}, Policy(chains=("regtest",), max_push_msat=0), "push_msat"),
        ({}, Policy(), "regtest are not accepted"),
        ({"to_self_delay": 2017}, POLICY, "to_self_delay"),
    ],
)
async def test_what_the_policy_does_not_accept_is_no_channel(
    record: Record, changes: dict[str, Any], policy: Policy, problem: str
) -> None:
    wanted = msgspec.structs.replace(WANTED, channel_types=[ANCHORS])
    (slot,) = await make_slots(record, KEYS, POLICY, wanted, 1)
    reason = await take(record, used_for(slot, open_channel(**changes)), policy)
    assert reason is not None
    assert problem in reason
    assert await record.channels() == []
    # The keys are out all the same: nothing else is accepted with them.
    second = await take(record, used_for(slot, open_channel()))
    assert second == "the relay used a key slot twice: the second channel is refused"
    assert await record.channels() == []


async def test_a_slot_for_another_peer_is_no_channel(record: Record) -> None:
    wanted = msgspec.structs.replace(WANTED, peers=[OTHER_PEER])
    (slot,) = await make_slots(record, KEYS, POLICY, wanted, 1)
    reason = await take(record, used_for(slot, open_channel()))
    assert reason == "the relay used a key slot for another peer"


# By the funding key a slot is found, and the type is the peer's: these have tests of their own.
@pytest.mark.parametrize(
    "field", sorted({*rpc.ChannelKeys.__struct_fields__} - {"funding_pubkey", "channel_type"})
)
async def test_every_field_of_the_answer_is_compared(record: Record, field: str) -> None:
    slot, other = await make_slots(record, KEYS, POLICY, WANTED, 2)
    value = getattr(slot.answer, field)
    match field, value:
        case _, int():
            changed: Any = value + 1
        case "upfront_shutdown_script", _:
            changed = "0014" + "07" * 20
        case _:
            changed = getattr(other.answer, field)
    lie = msgspec.structs.replace(slot.answer, **{field: changed})
    offer = open_channel()
    used = used_for(msgspec.structs.replace(slot, answer=lie), offer)
    reason = await take(record, used)
    assert reason == "the relay accepted a channel in other words than this wallet left"
    assert await record.channels() == []


async def test_keys_that_were_never_left(record: Record) -> None:
    (slot,) = await make_slots(record, KEYS, POLICY, WANTED, 1)
    stranger = WalletKeys.generate().channel(0).points()
    lie = msgspec.structs.replace(slot.answer, funding_pubkey=stranger.funding_pubkey.hex())
    used = used_for(msgspec.structs.replace(slot, answer=lie), open_channel())
    reason = await take(record, used)
    assert reason is not None
    assert "never left" in reason
    # And the slot that was left is as good as before.
    assert await take(record, used_for(slot, open_channel())) is None
