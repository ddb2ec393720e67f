"""Which `open_channel` gets a key slot, and that no slot and no key is ever used twice."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lightning_proxy import rpc
from lightning_proxy.bolt.channel import Channel
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.features import DEFAULT_FEATURES
from lightning_proxy.bolt.messages import AcceptChannel, decode
from lightning_proxy.relay import slots as slots_module
from lightning_proxy.relay.slots import Slots, fits
from lightning_proxy.relay.store import Database
from lightning_proxy.rpc import RpcError, SlotPolicy
from tests.support.channels import channel_keys, open_channel
from tests.unit.bolt.samples import ANCHORS

WALLET, OTHER_WALLET = b"\x02" + bytes(32), b"\x03" + bytes(32)
PEER = b"\x02" + b"\x01" * 32
SESSION_ID = "5e" * 16


def slot(policy: dict[str, Any] | None = None, **answer: Any) -> rpc.Slot:
    values = {**channel_keys(), **answer}
    del values["channel_type"]
    return msgspec.convert(
        {"answer": values, "policy": {"max_funding_sat": 2_000_000, **(policy or {})}}, rpc.Slot
    )


def offered(**changes: Any) -> Channel:
    """A channel that a peer has just offered."""
    message = open_channel(**changes)
    channel = Channel(Role.ACCEPTER, DEFAULT_FEATURES)
    channel.receive(message.encode(), message)
    return channel


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "relay.sqlite")


@pytest.fixture
async def slots(path: str) -> AsyncIterator[Slots]:
    async with Database(path) as database:
        slots = Slots(database, 100)
        await slots.load()
        yield slots


async def used_key(slots: Slots, channel: Channel | None = None) -> str | None:
    """The funding key of the slot that an opening got."""
    accepted = await slots.accept(WALLET, SESSION_ID, PEER, channel or offered())
    if accepted is None:
        return None
    message = decode(accepted.message)
    assert isinstance(message, AcceptChannel)
    return message.funding_pubkey.hex()


# ---- what fits ----


@pytest.mark.parametrize(
    ("policy", "does"),
    [
        ({}, True),
        ({"max_funding_sat": 1_000_000}, True),
        ({"max_funding_sat": 999_999}, False),
        ({"min_funding_sat": 1_000_000}, True),
        ({"min_funding_sat": 1_000_001}, False),
        ({"peers": [PEER.hex()]}, True),
        ({"peers": ["03" * 33, PEER.hex()]}, True),
        ({"peers": ["03" * 33]}, False),
        ({"peers": []}, False),
        ({"channel_types": [ANCHORS.hex()]}, True),
        ({"channel_types": ["1000", ANCHORS.hex()]}, True),
        ({"channel_types": ["1000"]}, False),
        ({"channel_types": []}, False),
    ],
)
def test_what_fits(policy: dict[str, Any], *, does: bool) -> None:
    wanted = SlotPolicy(**{"max_funding_sat": 2_000_000, **policy})
    assert fits(wanted, PEER, open_channel(funding_satoshis=1_000_000)) is does


def test_an_opening_without_a_type_fits_where_no_type_is_named() -> None:
    untyped = open_channel(channel_type=None)
    assert fits(SlotPolicy(max_funding_sat=2_000_000), PEER, untyped)
    assert not fits(SlotPolicy(max_funding_sat=2_000_000, channel_types=[""]), PEER, untyped)


# ---- used once ----


async def test_the_first_that_fits_is_used_and_the_peers_type_echoed(slots: Slots) -> None:
    small = slot({"max_funding_sat": 999_999})
    fitting, later = slot(), slot()
    for each in (small, fitting, later):
        await slots.add(WALLET, [each])
    channel = offered()
    accepted = await slots.accept(WALLET, SESSION_ID, PEER, channel)
    assert accepted is not None
    # It was tried on a copy.
    assert len(channel.log) == 1
    channel.send(accepted.message, decode(accepted.message))
    assert channel.accept_channel.channel_type == ANCHORS
    assert channel.accept_channel.funding_pubkey.hex() == fitting.answer.funding_pubkey
    assert accepted.notice.open_channel == channel.log[0].raw.hex()
    assert accepted.notice.accept_channel == accepted.message.hex()
    assert accepted.notice.peer == PEER.hex()
    left = {info.funding_pubkey for info in await slots.list(WALLET) if info.used is None}
    assert left == {small.answer.funding_pubkey, later.answer.funding_pubkey}


async def test_openings_at_once_get_one_slot_each_or_none(slots: Slots) -> None:
    left = [slot() for _ in range(5)]
    await slots.add(WALLET, left)
    used = await asyncio.gather(*(used_key(slots) for _ in range(9)))
    assert used.count(None) == 4
    assert {key for key in used if key} == {each.answer.funding_pubkey for each in left}
    assert not slots.has_any(WALLET)


async def test_openings_of_two_relays_never_get_one_slot(path: str) -> None:
    """As after a kill, when the next relay has no memory of what the former was about to do."""
    async with Database(path) as database:
        one, other = Slots(database, 100), Slots(database, 100)
        await one.load()
        await one.add(WALLET, [slot()])
        await other.load()
        used = await asyncio.gather(used_key(one), used_key(other))
    assert sorted(key is None for key in used) == [False, True]


async def test_what_was_used_and_what_is_free_is_known_after_a_restart(path: str) -> None:
    left = [slot() for _ in range(3)]
    keys = set()
    for number in range(4):
        async with Database(path) as database:
            slots = Slots(database, 3)
            await slots.load()
            if number == 0:
                await slots.add(WALLET, left)
            assert slots.has_any(WALLET) is (number < 3)
            assert not slots.has_any(OTHER_WALLET)
            keys.add(await used_key(slots))
            for again in left:
                with pytest.raises(RpcError, match=r"fresh|at a time"):
                    await slots.add(WALLET, [again])
    assert keys == {None, *(each.answer.funding_pubkey for each in left)}


async def test_a_wallets_slots_are_its_own(slots: Slots) -> None:
    (info,) = await slots.add(OTHER_WALLET, [slot()])
    assert await used_key(slots) is None
    with pytest.raises(RpcError, match="no free slot"):
        await slots.remove(WALLET, info.slot_id)
    assert await slots.list(WALLET) == []
    assert slots.has_any(OTHER_WALLET)


async def test_a_removed_slot_is_not_used(slots: Slots) -> None:
    (info,) = await slots.add(WALLET, [slot()])
    await slots.remove(WALLET, info.slot_id)
    assert not slots.has_any(WALLET)
    assert await used_key(slots) is None


async def test_only_so_many_are_ever_left(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots_module, "_MAX_EVER", 3)
    for _ in range(3):
        (info,) = await slots.add(WALLET, [slot()])
        await slots.remove(WALLET, info.slot_id)
    with pytest.raises(RpcError, match="all the key slots"):
        await slots.add(WALLET, [slot()])
    assert not slots.has_any(WALLET)
    await slots.add(OTHER_WALLET, [slot()])


async def test_the_last_used_are_shown_and_all_that_are_free(slots: Slots) -> None:
    for _ in range(3):
        await slots.add(WALLET, [slot() for _ in range(40)])
        for _ in range(40):
            assert await used_key(slots) is not None
    free = await slots.add(WALLET, [slot() for _ in range(2)])
    shown = await slots.list(WALLET)
    assert {info.slot_id for info in shown[:2]} == {info.slot_id for info in free}
    used = [info.used for info in shown[2:] if info.used is not None]
    assert len(used) == len(shown) - 2 == 100
    assert used == sorted(used, reverse=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("channel_reserve_sat", 1),
        ("dust_limit_sat", 10_001),
        ("max_accepted_htlcs", 484),
    ],
)
async def test_what_bolt_2_does_not_allow_is_passed_over(
    slots: Slots, field: str, value: int
) -> None:
    answer: dict[str, Any] = {field: value}
    wrong, right = slot(**answer), slot()
    for each in (wrong, right):
        await slots.add(WALLET, [each])
    assert await used_key(slots) == right.answer.funding_pubkey
    assert await used_key(slots) is None
    assert slots.has_any(WALLET)
