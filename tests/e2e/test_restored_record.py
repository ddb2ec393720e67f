"""A wallet's record that was brought back from a backup: its keys are fresh, and it is told."""

import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from lightning_proxy.api import Server
from lightning_proxy.bolt.channel import ChannelState
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import AcceptChannel, decode
from lightning_proxy.rpc import SlotPolicy
from lightning_proxy.wallet import keystore
from lightning_proxy.wallet.events import RecordOutdated
from tests.support.opening import Side
from tests.support.peer import ScriptedPeer
from tests.support.watched import Watched, connect, open_signed, watched_wallet

SLOTS = SlotPolicy(min_funding_sat=100_000, max_funding_sat=2_000_000)
#: What signs commitments, and what a revoked one would be punished by.
SIGNING = (
    "funding_pubkey",
    "revocation_basepoint",
    "delayed_payment_basepoint",
    "htlc_basepoint",
    "first_per_commitment_point",
)


def _back_up(folder: Path) -> None:
    """As a copy of all that the record's file holds."""
    with (
        closing(sqlite3.connect(folder / "wallet.record")) as record,
        closing(sqlite3.connect(folder / "backup")) as backup,
    ):
        record.backup(backup)


def _restore(folder: Path) -> None:
    for path in folder.glob("wallet.record*"):
        path.unlink()
    shutil.copy(folder / "backup", folder / "wallet.record")


def _differ(one: AcceptChannel, two: AcceptChannel) -> None:
    for name in SIGNING:
        assert getattr(one, name) != getattr(two, name), name


async def _told(watched: Watched) -> str:
    return (await watched.until(RecordOutdated)).reason


async def test_a_restored_record_never_signs_with_the_same_keys_again(
    server: Server, peer: ScriptedPeer, tmp_path: Path
) -> None:
    async with watched_wallet(server.url, tmp_path):
        pass
    _back_up(tmp_path)
    async with watched_wallet(server.url, tmp_path) as watched:
        side = await open_signed(await connect(watched, peer))
    _restore(tmp_path)
    async with watched_wallet(server.url, tmp_path) as watched:
        # The same peer, the same amounts, and the outpoint that it has a signature for.
        connection = await connect(watched, peer)
        again = Side(Role.OPENER)
        again.keys, again.points = side.keys, side.points
        await connection.send(again.say(again.open_channel()))
        answer = decode(await connection.receive())
        while not isinstance(answer, AcceptChannel):
            answer = decode(await connection.receive())
        _differ(side.channel.accept_channel, answer)
        # What the peer pays out is the seed's alone: the lost channel's share is not lost.
        keys = keystore.load(tmp_path / "wallet", "passphrase")
        payment = keys.channel(0).points().payment_basepoint
        assert side.channel.accept_channel.payment_basepoint == payment


async def test_nor_does_it_leave_the_same_slots(server: Server, tmp_path: Path) -> None:
    async with watched_wallet(server.url, tmp_path):
        pass
    _back_up(tmp_path)
    left = []
    for _ in range(2):
        async with watched_wallet(server.url, tmp_path) as watched:
            left += await watched.wallet.leave_slots(1, SLOTS)
        _restore(tmp_path)
    assert left[0].funding_pubkey != left[1].funding_pubkey


async def _a_channel(watched: Watched, peer: ScriptedPeer) -> None:
    await open_signed(await connect(watched, peer))


async def _a_slot(watched: Watched, _: ScriptedPeer) -> None:
    await watched.wallet.leave_slots(1, SLOTS)


@pytest.mark.parametrize(
    ("do", "words"),
    [
        (_a_channel, "a channel that it does not have"),
        (_a_slot, "a key slot that it does not have"),
    ],
)
async def test_a_restored_record_learns_that_it_is_one(
    server: Server,
    peer: ScriptedPeer,
    tmp_path: Path,
    do: Callable[[Watched, ScriptedPeer], Awaitable[None]],
    words: str,
) -> None:
    async with watched_wallet(server.url, tmp_path) as watched:
        assert await watched.wallet.record.outdated() is None
    _back_up(tmp_path)
    async with watched_wallet(server.url, tmp_path) as watched:
        await do(watched, peer)
    _restore(tmp_path)
    async with watched_wallet(server.url, tmp_path) as watched:
        assert words in await _told(watched)
        assert words in (await watched.wallet.record.outdated() or "")


async def test_one_that_knows_the_channel_but_not_what_it_said_of_it(
    server: Server, peer: ScriptedPeer, tmp_path: Path
) -> None:
    async with watched_wallet(server.url, tmp_path) as watched:
        connection = await connect(watched, peer)
        side = Side(Role.OPENER)
        await connection.send(side.say(side.open_channel()))
        side.hear(await connection.receive())
        _back_up(tmp_path)
        await connection.send(side.say(side.funding_created()))
        side.hear(await connection.receive())
        assert side.channel.state is ChannelState.SIGNED
    _restore(tmp_path)
    async with watched_wallet(server.url, tmp_path) as watched:
        assert "more of a channel than it does" in await _told(watched)


async def test_the_latest_record_is_none_and_says_nothing(
    server: Server, peer: ScriptedPeer, tmp_path: Path
) -> None:
    async with watched_wallet(server.url, tmp_path) as watched:
        await open_signed(await connect(watched, peer))
        await watched.wallet.leave_slots(2, SLOTS)
    async with watched_wallet(server.url, tmp_path) as watched:
        # As far as the relay was asked, and answered.
        await watched.wallet.catch_up()
        assert await watched.wallet.record.outdated() is None
        assert not [event for event in watched.events if isinstance(event, RecordOutdated)]
