"""What a wallet says of its channels with its `handshake`, before anybody has asked it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey

from lightning_proxy.bolt.channel.reestablish import reestablish_of
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.keys import sign_message
from lightning_proxy.bolt.messages import decode
from lightning_proxy.rpc import DeviceRight, authentication_text, normal_origin
from tests.support.moves import PING, Moves, question_of
from tests.support.peer import ScriptedPeer
from tests.support.relay import RawWallet, raw_wallet, relay
from tests.unit.bolt.pair import TYPES

SECRET = b"\x7a" * 32
NODE_ID = PrivateKey(SECRET).public_key.format()
PREIMAGE = b"\x01" * 32
HASH = sha256(PREIMAGE).digest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.sqlite"


@pytest.fixture
def moves() -> Moves:
    return Moves(Role.ACCEPTER)


@asynccontextmanager
async def wallet_at(path: Path) -> AsyncIterator[RawWallet]:
    async with relay(store=str(path)) as server, raw_wallet(server.url, SECRET) as wallet:
        yield wallet


def standing_of(moves: Moves, **changes: Any) -> dict[str, Any]:
    standing = {**moves.wallet.reconnect(), **changes}
    return {"channel_id": moves.channel_id.hex(), "standing": standing}


async def connect(
    wallet: RawWallet, peer: ScriptedPeer, *channels: Moves, standings: list[dict[str, Any]]
) -> None:
    """A new connection for these channels."""
    session_id, connection = await wallet.open_session(peer, commitments=True, standings=standings)
    for moves in channels:
        moves.session_id, moves.connection, moves.heard = session_id, connection, 0
        moves.peer.disconnect()


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("role", Role)
async def test_nobody_asks_for_what_was_said(
    path: Path, peer: ScriptedPeer, role: Role, type_: str
) -> None:
    """Neither the first time nor with an HTLC in the air, and the channel moves."""
    moves = Moves(role, channel_type=TYPES[type_])
    await moves.store(path, NODE_ID, peer.node_id)
    async with wallet_at(path) as wallet:
        await connect(wallet, peer, moves, standings=[standing_of(moves)])
        await moves.resume(wallet)
        await moves.receive_payment(wallet, 50_000_000, PREIMAGE, HASH)
        await moves.send(moves.peer.add(1_000_000, HASH))
        await moves.send(moves.peer.commitment_signed())
        await moves.answer(wallet)
        # The peer has not heard it.
        said = list(moves.wallet.said[-2:])
        await moves.connection.close()
        await wallet.event_of("closed")
        await connect(wallet, peer, moves, standings=[standing_of(moves)])
        assert await moves.resume(wallet) == said
        await moves.settle(wallet)
        await wallet.quiet()


async def test_a_wallet_that_sleeps_at_once_is_not_needed(
    path: Path, peer: ScriptedPeer, moves: Moves
) -> None:
    await moves.store(path, NODE_ID, peer.node_id)
    async with relay(store=str(path)) as server:
        async with raw_wallet(server.url, SECRET) as wallet:
            await connect(wallet, peer, moves, standings=[standing_of(moves)])
        says = decode(await moves.connection.receive())
        assert says == reestablish_of(moves.wallet.snapshot, moves.role)
        theirs = moves.peer.reconnect()
        moves.peer.hear(says.encode())
        moves.spoken = [theirs]
        await moves.connection.send(theirs, PING)
        await moves.until_pong()
        await moves.send(moves.peer.add(1_000_000, HASH))
        await moves.send(moves.peer.commitment_signed())
        async with raw_wallet(server.url, SECRET) as woken:
            await moves.settle(woken)


async def test_what_is_wrong_about_one_channel_is_asked_and_the_other_goes_on(
    path: Path, peer: ScriptedPeer, moves: Moves
) -> None:
    other = Moves(Role.OPENER)
    for each in (moves, other):
        await each.store(path, NODE_ID, peer.node_id)
    async with wallet_at(path) as wallet:
        wrong = standing_of(moves, snapshot="00")
        stranger = {**wrong, "channel_id": "77" * 32}
        await connect(wallet, peer, moves, other, standings=[wrong, stranger, standing_of(other)])
        question = await question_of(wallet, "reestablish")
        assert question["channel_id"] == moves.channel_id.hex()
        await other.resume(wallet)
        await other.receive_payment(wallet, 1_000_000, PREIMAGE, HASH)
        # What was wrong is said of the answer, as it always was.
        await wallet.answer(question, wrong["standing"])
        assert (await wallet.event_of("rejected"))["code"] == "answer_invalid"
        await wallet.answer(question, moves.wallet.reconnect())
        await moves.resume(wallet)
        await moves.receive_payment(wallet, 1_000_000, PREIMAGE, HASH)


async def test_a_restored_backup_is_asked_about(
    path: Path, peer: ScriptedPeer, moves: Moves
) -> None:
    await moves.store(path, NODE_ID, peer.node_id)
    async with wallet_at(path) as wallet:
        await connect(wallet, peer, moves, standings=[standing_of(moves)])
        await moves.resume(wallet)
        old = moves.wallet.mover.snapshot
        await moves.receive_payment(wallet, 1_000_000, PREIMAGE, HASH)
        latest = moves.wallet.mover.snapshot
        await moves.connection.close()
        await wallet.event_of("closed")
        moves.wallet.mover.snapshot = moves.wallet.mover.kept = old
        await connect(wallet, peer, moves, standings=[standing_of(moves)])
        question = await question_of(wallet, "reestablish")
        await moves.quiet()
        moves.wallet.mover.snapshot = moves.wallet.mover.kept = latest
        await wallet.answer(question, moves.wallet.reconnect())
        await moves.resume(wallet)


@asynccontextmanager
async def device_of(wallet: RawWallet, *rights: DeviceRight) -> AsyncIterator[RawWallet]:
    """Another socket of the wallet's, with a key of its own."""
    secret = b"\x7b" * 32
    key = PrivateKey(secret).public_key.format().hex()
    await wallet.call("add_device", device_key=key, name="tablet", rights=list(rights))
    async with raw_wallet(wallet.url, SECRET, authenticated=False) as device:
        challenge = await device.event("challenge")
        text = authentication_text(
            normal_origin(wallet.url), challenge["challenge"], wallet.node_id.hex()
        )
        signature = sign_message(secret, text)
        await device.call(
            "authenticate", node_id=wallet.node_id.hex(), device=key, signature=signature
        )
        yield device


@pytest.mark.parametrize("why", ["it may not answer", "another device settles"])
async def test_who_may_not_answer_may_not_say_it_before(
    path: Path, peer: ScriptedPeer, moves: Moves, why: str
) -> None:
    await moves.store(path, NODE_ID, peer.node_id)
    rights = [DeviceRight.SEE, DeviceRight.CONNECT]
    if why == "another device settles":
        rights.append(DeviceRight.ANSWER)
    async with wallet_at(path) as wallet, device_of(wallet, *rights) as device:
        if why == "another device settles":
            await wallet.call("take_over", channel_id=moves.channel_id.hex())
        await connect(device, peer, moves, standings=[standing_of(moves)])
        await moves.quiet()
        question = await question_of(wallet, "reestablish")
        await wallet.answer(question, moves.wallet.reconnect())
        await moves.resume(wallet)
