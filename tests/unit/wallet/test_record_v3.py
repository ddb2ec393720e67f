"""A record of version 3, which made every channel's keys of the seed and an index alone."""

import itertools
import sqlite3
from operator import methodcaller
from pathlib import Path

import pytest

from lightning_proxy.bolt.channel import ChannelState
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.features import DEFAULT_FEATURES
from lightning_proxy.relay.questions import accept_channel
from lightning_proxy.rpc import DelegationKind, SlotUsed
from lightning_proxy.wallet import Record
from lightning_proxy.wallet.slots import take_used
from tests.support.data import path_of
from tests.support.opening import Side
from tests.unit.wallet.openings import CONFIRMED, KEYS, POLICY, Opening, SigningWallet
from tests.unit.wallet.samples import PEER, SESSION_ID


@pytest.fixture
def version_3(tmp_path: Path) -> Path:
    """A real one: a peer's channel and ours, both signed, one accepted, one offered; two slots."""
    path = tmp_path / "version 3"
    path.write_bytes(path_of("wallet_record_v3.sqlite").read_bytes())
    return path


async def test_a_file_of_version_2_gets_room_for_key_slots(version_3: Path) -> None:
    database = sqlite3.connect(version_3)
    database.execute("DROP TABLE slots")
    database.execute("PRAGMA user_version = 2")
    database.close()
    async with Record(version_3, KEYS.node_id) as record:
        assert await record.change(lambda ledger: ledger.slot(PEER)) is None
        assert await record.channel_indices() == [0, 1, 2, 3]


async def test_channels_of_version_3_keep_their_keys(version_3: Path) -> None:
    async with SigningWallet(version_3) as wallet:
        wallet._numbers = itertools.count(100)  # those of the file are used
        channels = await wallet.record.channels()
        assert [stored.index for stored in channels] == [0, 1, 2, 3]
        for stored in channels:
            said = stored.channel()
            side = said.open_channel if said.role is Role.OPENER else said.accept_channel
            assert side.funding_pubkey == KEYS.channel(stored.index).points().funding_pubkey
            assert (stored.salt, stored.failure, stored.session_id) == (None, None, None)
        accepted = channels[2]
        # What was left with a relay may be used yet, and goes on with the keys that it had.
        for index in (4, 5):
            key = KEYS.channel(index).points().funding_pubkey
            left = await wallet.record.change(methodcaller("slot", key))
            assert (left.index, left.salt) == (index, None)
        # A new one has a salt.
        opening = Opening(wallet)
        await opening.accept()
        new = await wallet.stored()
        assert new.index == 6
        assert new.salt is not None
        key = opening.peer.channel.accept_channel.funding_pubkey
        assert key == KEYS.channel(6, new.salt).points().funding_pubkey
        assert key != KEYS.channel(6).points().funding_pubkey
    # And by the next process, nothing is done again.
    async with SigningWallet(version_3) as wallet:
        wallet._numbers = itertools.count(100)  # those of the file are used
        assert (await wallet.record.channels())[2] == accepted


async def test_channels_of_version_3_are_gone_on_with(version_3: Path) -> None:
    async with SigningWallet(version_3) as wallet:
        wallet._numbers = itertools.count(100)  # those of the file are used
        theirs, ours, accepted, offered = await wallet.record.channels()
        ready = await wallet.ask(
            DelegationKind.CHANNEL_READY, ours.channel().channel_id, funding=CONFIRMED
        )
        point = KEYS.channel(1).per_commitment_point(1).hex()
        assert ready.second_per_commitment_point == point
        numbers = await wallet.ask(DelegationKind.REESTABLISH, theirs.channel().channel_id)
        assert numbers.next_commitment_number == 1
        assert accepted.channel().state is ChannelState.ACCEPTED
        # Ours is accepted, and the peer takes our signature.
        opening = Opening(wallet, Role.OPENER)
        (said,) = offered.log
        opening.relay.send(said.raw)
        opening.peer.hear(said.raw)
        await opening.create()
        await opening.release()
        assert opening.peer.channel.state is ChannelState.SIGNED


async def test_a_slot_of_version_3_becomes_a_channel(version_3: Path) -> None:
    async with SigningWallet(version_3) as wallet:
        wallet._numbers = itertools.count(100)  # those of the file are used
        key = KEYS.channel(4).points().funding_pubkey
        left = await wallet.record.change(methodcaller("slot", key))
        side = Side(Role.OPENER)
        raw = side.say(side.open_channel())
        offer = side.channel.open_channel
        answer = accept_channel(left.slot.answer, offer.temporary_channel_id, offer.channel_type)
        side.hear(answer.encode())
        used = SlotUsed(
            slot_id="11" * 16,
            session_id=SESSION_ID,
            peer=PEER.hex(),
            channel_id=offer.temporary_channel_id.hex(),
            open_channel=raw.hex(),
            accept_channel=answer.encode().hex(),
        )
        assert await take_used(wallet.record, POLICY, used, DEFAULT_FEATURES) is None
        opening = Opening(wallet)
        opening.peer = side
        for entry in side.channel.log:
            opening.relay.take(entry.sender, entry.raw)
        await opening.sign()
        assert side.channel.state is ChannelState.SIGNED
