"""A channel that moves, over a real relay: what is asked, what leaves, and what never does."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from coincurve import PrivateKey

from lightning_proxy.bolt.channel.reestablish import reestablish_of
from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import (
    CommitmentSigned,
    Error,
    Message,
    RevokeAndAck,
    UpdateFailHtlc,
    UpdateFee,
    decode,
)
from lightning_proxy.bolt.messages import Warning as PeerWarning
from lightning_proxy.relay.store import ChannelStore, Database, StoreError
from lightning_proxy.rpc import DelegationKind
from tests.support.moves import Moves, question_of
from tests.support.peer import ScriptedPeer
from tests.support.receivers import Receiver
from tests.support.relay import RawWallet, RpcFailure, raw_wallet, relay
from tests.unit.bolt.pair import TYPES

SECRET = b"\x77" * 32
NODE_ID = PrivateKey(SECRET).public_key.format()
PREIMAGE = b"\x01" * 32
HASH = sha256(PREIMAGE).digest()

Start = Callable[..., Awaitable[RawWallet]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.sqlite"


@pytest.fixture
def moves() -> Moves:
    return Moves(Role.ACCEPTER)


@pytest.fixture(params=[(role, name) for role in Role for name in TYPES], ids=str)
def any_moves(request: pytest.FixtureRequest) -> Moves:
    role, name = request.param
    return Moves(role, channel_type=TYPES[name])


@pytest.fixture
async def start(path: Path, peer: ScriptedPeer) -> AsyncIterator[Start]:
    """A wallet of a fresh relay, whose channel is re-established with the peer."""
    async with AsyncExitStack() as stack:

        async def started(moves: Moves, **settings: Any) -> RawWallet:
            await moves.store(path, NODE_ID, peer.node_id)
            server = await stack.enter_async_context(relay(store=str(path), **settings))
            wallet = await stack.enter_async_context(raw_wallet(server.url, SECRET))
            wallet.server = server  # type: ignore[attr-defined]
            await moves.connect(wallet, peer)
            return wallet

        yield started


async def closed(wallet: RawWallet) -> str:
    reason: str = (await wallet.event_of("closed"))["reason"]
    return reason


async def test_payments_in_and_out(any_moves: Moves, start: Start) -> None:
    moves = any_moves
    wallet = await start(moves)
    for amount in (50_000_000, 353_999, 1):
        await moves.receive_payment(wallet, amount, PREIMAGE, HASH)
    await moves.update(wallet, moves.wallet.mover.add(40_000_000, HASH))
    await moves.hear("update_add_htlc", "commitment_signed")
    await moves.settle(wallet)
    await moves.send(moves.fulfil(moves.peer, 0, PREIMAGE))
    await moves.settle(wallet)
    assert moves.peer.snapshot.is_quiet
    assert moves.wallet.snapshot.is_quiet
    await wallet.quiet()
    await moves.quiet()


async def test_a_fee_of_either_opener(any_moves: Moves, start: Start) -> None:
    moves = any_moves
    wallet = await start(moves)
    fee = UpdateFee(channel_id=moves.channel_id, feerate_per_kw=1_000)
    if moves.role is Role.OPENER:
        await moves.update(wallet, fee)
        await moves.hear("update_fee", "commitment_signed")
    else:
        await moves.send(fee)
    await moves.settle(wallet)
    for side in (moves.wallet.snapshot, moves.peer.snapshot):
        assert side.ours.commitment.state.feerate_per_kw == 1_000
        assert side.is_quiet


async def test_a_preimage_alone_is_worth_a_question(moves: Moves, start: Start) -> None:
    wallet = await start(moves)
    await moves.update(wallet, moves.wallet.mover.add(40_000_000, HASH))
    await moves.hear("update_add_htlc", "commitment_signed")
    await moves.settle(wallet)
    fulfil = moves.fulfil(moves.peer, 0, PREIMAGE)
    await moves.send(fulfil)
    question = await moves.answer(wallet)
    assert question["messages"] == [fulfil.encode().hex()]
    await moves.quiet()


async def test_updates_alone_are_nobodys_turn(moves: Moves, start: Start) -> None:
    wallet = await start(moves)
    await moves.send(moves.peer.add(1_000_000, HASH), moves.peer.add(1_000_000, HASH, id=1))
    await moves.quiet()
    await wallet.quiet()
    await moves.send(moves.peer.commitment_signed())
    question = await question_of(wallet, "commitment")
    assert question["messages"] == [raw.hex() for raw in moves.spoken]
    assert question["decoded"] == []
    assert question["fence"] == {"ours": 0, "theirs": 0, "heard": 0, "said": 0}


# ---- on the connection on which it became ready ----


async def test_it_moves_from_channel_ready_on(path: Path, peer: ScriptedPeer) -> None:
    """Nothing was re-established, and both count from there."""
    moves = Moves(Role.ACCEPTER)
    side, other = (moves.sides[role] for role in (Role.ACCEPTER, Role.OPENER))
    async with relay(store=str(path)) as server, raw_wallet(server.url, SECRET) as wallet:
        moves.session_id, moves.connection = await wallet.open_session(peer, commitments=True)
        log = side.channel.log
        await moves.connection.send(log[0].raw)
        question = await question_of(wallet, "channel_keys")
        accept = decode(log[1].raw)
        keys = {
            name: value.hex() if isinstance(value, bytes) else value
            for name, value in side.channel_keys().items()
        }
        await wallet.answer(question, keys)
        assert decode(await moves.connection.receive()) == accept
        await moves.connection.send(log[2].raw)
        signed = msgspec.structs.asdict(decode(log[3].raw))
        question = await question_of(wallet, "funding_signed")
        await wallet.answer(question, {"signature": signed["signature"].hex()})
        assert await moves.connection.receive() == log[3].raw
        ready = other.channel.channel_ready(Role.OPENER)
        assert ready is not None
        await moves.connection.send(ready.encode())
        question = await question_of(wallet, "channel_ready")
        ours = side.channel.channel_ready(Role.ACCEPTER)
        assert ours is not None
        point = ours.second_per_commitment_point.hex()
        await wallet.answer(question, {"second_per_commitment_point": point})
        assert await moves.connection.receive() == ours.encode()
        await moves.receive_payment(wallet, 50_000_000, PREIMAGE, HASH)
        assert moves.wallet.heard == 5
        await moves.update(wallet, moves.wallet.mover.add(1_000_000, HASH))
        await moves.hear("update_add_htlc", "commitment_signed")


# ---- lost connections ----


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("lost", range(7))
async def test_lost_at_each_message(
    any_moves: Moves, path: Path, peer: ScriptedPeer, *, lost: int, restarts: bool
) -> None:
    """From this step of a payment on, nothing arrived; then all goes on, the same bytes again."""
    moves = any_moves
    await moves.store(path, NODE_ID, peer.node_id)
    async with AsyncExitStack() as stack:

        async def wallet_of_a_relay() -> RawWallet:
            server = await stack.enter_async_context(relay(store=str(path)))
            return await stack.enter_async_context(raw_wallet(server.url, SECRET))

        wallet = await wallet_of_a_relay()
        await moves.connect(wallet, peer)
        await moves.send(moves.peer.add(50_000_000, HASH))
        expected: list[bytes] = []
        if lost > 0:
            await moves.send(moves.peer.commitment_signed())
            question = await question_of(wallet, "commitment")
            if lost > 1:
                answer = moves.take(question)
                expected = list(moves.wallet.said)
                if lost > 2:
                    await wallet.answer(question, answer)
                    # On the wire, and not heard by the peer's state.
                    assert await moves.connection.receive() == expected[0]
                if lost > 3:
                    moves.peer.hear(expected.pop(0))
                if lost > 4:
                    moves.peer.hear(await moves.connection.receive())
                if lost > 5:
                    # Only who has revoked has taken it.
                    expected.clear()
                    await moves.send(moves.peer.revoke_and_ack())
                    await question_of(wallet, "commitment")
        await moves.connection.close()
        await wallet.event_of("closed")
        if restarts:
            await stack.aclose()
            wallet = await wallet_of_a_relay()
        again = await moves.connect(wallet, peer)
        assert [raw for raw in again if raw[:2] != b"\x00\x24"] == expected
        if lost == 0:
            await moves.send(moves.peer.add(50_000_000, HASH))
        await moves.settle(wallet)
        await moves.update(wallet, moves.fulfil(moves.wallet.mover, 0, PREIMAGE))
        await moves.hear("update_fulfill_htlc", "commitment_signed")
        await moves.settle(wallet)
        assert moves.peer.snapshot.is_quiet


async def test_the_peer_speaks_while_the_wallet_is_asked(
    moves: Moves, path: Path, peer: ScriptedPeer
) -> None:
    """Its `channel_reestablish` waits for the wallet's record."""
    await moves.store(path, NODE_ID, peer.node_id)
    async with relay(store=str(path)) as server, raw_wallet(server.url, SECRET) as wallet:
        await moves.connect(wallet, peer)
        await moves.receive_payment(wallet, 50_000_000, PREIMAGE, HASH)
        await moves.connection.close()
        question = await moves.begin(wallet, peer)
        theirs = moves.peer.reconnect()
        await moves.connection.send(theirs)
        await moves.quiet()
        await wallet.answer(question, moves.wallet.reconnect())
        says = await moves.connection.receive()
        assert decode(says) == reestablish_of(moves.wallet.snapshot, moves.role)
        moves.peer.hear(says)
        await moves.receive_payment(wallet, 1_000_000, PREIMAGE, HASH)


# ---- the wallet is away ----


async def test_all_that_came_for_a_wallet_that_slept_is_one_round(
    moves: Moves, start: Start, receiver: Receiver
) -> None:
    wallet = await start(moves)
    url = wallet.url
    await wallet.call("wake_by_webhook", url=f"{receiver.url}/wake")
    await wallet.acknowledge()
    await wallet.socket.close()
    await wallet.ended.wait()
    await moves.send(moves.peer.add(1_000_000, HASH))
    await moves.send(moves.peer.commitment_signed())
    await moves.quiet()
    await moves.send(moves.peer.add(2_000_000, HASH))
    # BOLT #2: no second signature before the first is acknowledged; an update may come.
    await moves.quiet()
    async with raw_wallet(url, SECRET) as woken:
        question = await question_of(woken, "commitment")
        assert [decode(bytes.fromhex(raw)).NAME for raw in question["messages"]] == [
            "channel_reestablish",
            "update_add_htlc",
            "commitment_signed",
            "update_add_htlc",
        ]
        await woken.answer(question, moves.take(question))
        await moves.hear("revoke_and_ack", "commitment_signed")


async def test_a_question_that_expires_is_asked_again_and_no_payment_is_bound_meanwhile(
    moves: Moves, start: Start
) -> None:
    wallet = await start(moves, deadlines={DelegationKind.COMMITMENT: 0.3})
    await moves.send(moves.peer.add(1_000_000, HASH))
    await moves.send(moves.peer.commitment_signed())
    first = await question_of(wallet, "commitment")
    second = await question_of(wallet, "commitment")
    assert second["id"] != first["id"]
    assert second["messages"] == first["messages"]
    assert second["fence"] == first["fence"]
    await moves.send(moves.peer.add(1_000_000, HASH))
    assert "the wallet does not answer" in await closed(wallet)
    # Not a word to the peer, which fails the payment by itself.
    with pytest.raises(EOFError):
        await moves.connection.receive()


async def test_who_speaks_late_goes_on(moves: Moves, start: Start) -> None:
    wallet = await start(moves, deadlines={DelegationKind.COMMITMENT: 0.3})
    await moves.send(moves.peer.add(1_000_000, HASH))
    await moves.send(moves.peer.commitment_signed())
    await question_of(wallet, "commitment")
    answer = moves.take(await question_of(wallet, "commitment"))
    # By a request, for which it is never too late.
    await moves.ask_for(wallet, 0, heard=answer["heard"])
    await moves.hear("revoke_and_ack", "commitment_signed")
    await moves.send(moves.peer.add(1_000_000, HASH))
    await moves.quiet()


async def test_a_wallet_that_refuses_is_not_gone_on_for(moves: Moves, start: Start) -> None:
    wallet = await start(moves)
    await moves.send(moves.peer.add(1_000_000, HASH))
    await moves.send(moves.peer.commitment_signed())
    question = await question_of(wallet, "commitment")
    await wallet.refuse(question, "this record is old")
    assert "this record is old" in await closed(wallet)
    with pytest.raises(EOFError):
        await moves.connection.receive()


# ---- what never leaves ----


def spoilt(answer: dict[str, Any], how: str, moves: Moves) -> dict[str, Any]:
    revoked, signed = (decode(bytes.fromhex(raw)) for raw in answer["messages"])
    assert isinstance(revoked, RevokeAndAck)
    assert isinstance(signed, CommitmentSigned)
    replace = msgspec.structs.replace
    words: list[Message] = [revoked, signed]
    heard = answer["heard"]
    match how:
        case "signature":
            words[1] = replace(signed, signature=bytes(64))
        case "HTLC signatures":
            words[1] = replace(signed, htlc_signature=())
        case "secret":
            words[0] = replace(revoked, per_commitment_secret=b"\x07" * 32)
        case "point":
            words[0] = replace(revoked, next_per_commitment_point=b"\x02" + b"\xff" * 32)
        case "order":
            words = [signed, revoked]
        case "revocation":
            words = []
        case "preimage":
            words[1] = moves.fulfil(moves.wallet.mover, 0, PREIMAGE)
        case "channel":
            words[0] = replace(revoked, channel_id=bytes(32))
        case "kind":
            words[1] = PeerWarning(channel_id=moves.channel_id, data=b"")
        case "heard":
            heard += 1
        case "nothing new":
            heard = 0
    return {"heard": heard, "messages": [word.encode().hex() for word in words]}


@pytest.mark.parametrize(
    "how",
    [
        "signature",
        "HTLC signatures",
        "secret",
        "point",
        "order",
        "revocation",
        "preimage",
        "channel",
        "kind",
        "heard",
        "nothing new",
    ],
)
async def test_a_wrong_answer_never_leaves_and_the_question_stays(
    moves: Moves, start: Start, how: str
) -> None:
    wallet = await start(moves)
    await moves.send(moves.peer.add(50_000_000, HASH))
    await moves.send(moves.peer.commitment_signed())
    question = await question_of(wallet, "commitment")
    answer = moves.take(question)
    await wallet.answer(question, spoilt(answer, how, moves))
    rejected = await wallet.event_of("rejected")
    assert rejected["code"] == "answer_invalid"
    await moves.quiet()
    await wallet.answer(question, answer)
    await moves.hear("revoke_and_ack", "commitment_signed")


async def test_a_wrong_preimage_never_leaves(moves: Moves, start: Start) -> None:
    wallet = await start(moves)
    await moves.send(moves.peer.add(50_000_000, HASH))
    await moves.send(moves.peer.commitment_signed())
    await moves.answer(wallet)
    await moves.hear("revoke_and_ack", "commitment_signed")
    await moves.send(moves.peer.revoke_and_ack())
    await question_of(wallet, "commitment")
    wrong = moves.fulfil(moves.wallet.mover, 0, bytes(32)).encode().hex()
    with pytest.raises(RpcFailure, match="payment_preimage") as failure:
        await moves.ask_for(wallet, 2, heard=4, messages=[wrong])
    assert failure.value.code == "invalid_params"
    await moves.quiet()


async def test_what_moves_a_channel_can_not_be_sent_past_it(moves: Moves, start: Start) -> None:
    wallet = await start(moves)
    add = moves.wallet.mover.add(1_000_000, HASH).encode().hex()
    with pytest.raises(RpcFailure, match="update_channel"):
        await wallet.call("send", session_id=moves.session_id, message=add)
    await moves.quiet()


# ---- update_channel ----


async def test_a_request_that_comes_twice_leaves_once(moves: Moves, start: Start) -> None:
    wallet = await start(moves)
    await moves.update(wallet, moves.wallet.mover.add(1_000_000, HASH))
    await moves.ask_for(wallet, 0)
    await moves.hear("update_add_htlc", "commitment_signed")
    await moves.quiet()


@pytest.mark.parametrize(
    "changes", [{"said": 1}, {"said": 6}, {"heard": 5}, {"heard": 0}, {"messages": []}]
)
async def test_a_request_from_elsewhere_is_stale(
    moves: Moves, start: Start, changes: dict[str, Any]
) -> None:
    wallet = await start(moves)
    await moves.receive_payment(wallet, 1_000_000, PREIMAGE, HASH)
    said = len(moves.wallet.said)
    moves.wallet.say(moves.wallet.mover.add(1_000_000, HASH))
    moves.wallet.commit()
    if changes == {"messages": []}:
        changes = {"said": said - 1, "messages": []}
    with pytest.raises(RpcFailure) as failure:
        await moves.ask_for(wallet, said, **changes)
    assert failure.value.code == "stale"
    await moves.quiet()
    await moves.ask_for(wallet, said)
    await moves.hear("update_add_htlc", "commitment_signed")


async def test_what_crosses_a_question(moves: Moves, start: Start) -> None:
    wallet = await start(moves)
    await moves.send(moves.peer.add(1_000_000, HASH))
    await moves.send(moves.peer.commitment_signed())
    question = await question_of(wallet, "commitment")
    await moves.update(wallet, moves.wallet.mover.add(2_000_000, HASH))
    await moves.hear("update_add_htlc", "commitment_signed")
    await wallet.answer(question, moves.take(question))
    await moves.hear("revoke_and_ack")
    await moves.settle(wallet)
    assert len(moves.peer.snapshot.ours.commitment.state.htlcs) == 2


async def test_a_question_is_the_same_one_on_another_socket(moves: Moves, start: Start) -> None:
    """By its own fence, though the wallet has spoken and more has come meanwhile."""
    wallet = await start(moves)
    await moves.send(moves.peer.add(1_000_000, HASH))
    await moves.send(moves.peer.commitment_signed())
    question = await question_of(wallet, "commitment")
    # That it has heard the peer's channel_reestablish.
    await moves.update(wallet, moves.wallet.mover.add(2_000_000, HASH))
    await moves.hear("update_add_htlc", "commitment_signed")
    await moves.send(moves.peer.add(3_000_000, HASH))
    await moves.quiet()
    async with raw_wallet(wallet.url, SECRET) as second:
        again = await question_of(second, "commitment")
        assert (again["id"], again["fence"]) == (question["id"], question["fence"])
        assert again["messages"] == [raw.hex() for raw in moves.spoken]
        await second.answer(again, moves.take(again))
        await moves.hear("revoke_and_ack")


async def test_a_request_that_takes_what_was_asked_ends_the_question(
    moves: Moves, start: Start
) -> None:
    wallet = await start(moves)
    await moves.send(moves.peer.add(1_000_000, HASH))
    await moves.send(moves.peer.commitment_signed())
    question = await question_of(wallet, "commitment")
    answer = moves.take(question)
    await moves.ask_for(wallet, 0, heard=answer["heard"])
    assert (await wallet.event_of("voided"))["id"] == question["id"]
    await moves.hear("revoke_and_ack", "commitment_signed")
    await wallet.quiet()


async def test_requests_about_what_is_not_there(moves: Moves, start: Start) -> None:
    wallet = await start(moves)
    for changes, code in (
        ({"session_id": "0" * 32}, "session_unknown"),
        ({"channel_id": "0" * 64}, "invalid_params"),
        ({"messages": ["ffff"]}, "invalid_params"),
    ):
        with pytest.raises(RpcFailure) as failure:
            await moves.ask_for(wallet, 0, **{"heard": 1, **changes})
        assert failure.value.code == code


# ---- the peer's breaches ----


@pytest.mark.parametrize("number", range(7))
async def test_a_peers_breach_ends_the_session_and_never_the_channel(
    moves: Moves, start: Start, number: int
) -> None:
    wallet = await start(moves)
    peer = moves.peer
    breach: Message = [
        peer.add(1_000_000, HASH, id=7),
        peer.add(0, HASH),
        peer.add(980_000_000, HASH),
        moves.fulfil(peer, 0, PREIMAGE),
        peer.commitment_signed(),
        peer.revoke_and_ack(),
        reestablish_of(peer.snapshot, peer.role),
    ][number]
    await moves.connection.send(breach.encode())
    warning = decode(await moves.connection.receive())
    assert isinstance(warning, PeerWarning)
    assert breach.NAME.encode() in warning.data
    with pytest.raises(EOFError):
        await moves.connection.receive()
    assert breach.NAME in await closed(wallet)
    (info,) = await wallet.call("channels")
    assert info["state"] == "ready"


async def test_a_peer_that_shows_another_state_is_left_without_a_word(
    moves: Moves, path: Path, peer: ScriptedPeer
) -> None:
    """Neither a peer that fell behind, nor one that says so of us."""
    await moves.store(path, NODE_ID, peer.node_id)
    async with relay(store=str(path)) as server, raw_wallet(server.url, SECRET) as wallet:
        await moves.connect(wallet, peer)
        old = moves.peer.snapshot
        await moves.receive_payment(wallet, 1_000_000, PREIMAGE, HASH)
        says = reestablish_of(moves.peer.snapshot, moves.peer.role)
        ahead = msgspec.structs.replace(
            says, next_commitment_number=says.next_commitment_number + 5
        )
        for theirs in (reestablish_of(old, old.role), ahead):
            await moves.connection.close()
            question = await moves.begin(wallet, peer)
            await wallet.answer(question, moves.wallet.reconnect())
            assert decode(await moves.connection.receive()).NAME == "channel_reestablish"
            await moves.connection.send(theirs.encode())
            while (await wallet.event_of("message"))["message"] != theirs.encode().hex():
                pass
            assert "has an old state" in await closed(wallet)
            with pytest.raises(EOFError):
                await moves.connection.receive()


# ---- the wallet's record ----


async def test_a_restored_backup_is_not_gone_on_with(
    moves: Moves, path: Path, peer: ScriptedPeer
) -> None:
    await moves.store(path, NODE_ID, peer.node_id)
    async with relay(store=str(path)) as server, raw_wallet(server.url, SECRET) as wallet:
        await moves.connect(wallet, peer)
        await moves.receive_payment(wallet, 1_000_000, PREIMAGE, HASH)
        old = moves.wallet.mover.snapshot
        await moves.receive_payment(wallet, 1_000_000, PREIMAGE, HASH)
        latest = moves.wallet.mover.snapshot
        await moves.connection.close()
    async with relay(store=str(path)) as server, raw_wallet(server.url, SECRET) as wallet:
        question = await moves.begin(wallet, peer)
        moves.wallet.mover.snapshot = moves.wallet.mover.kept = old
        await wallet.answer(question, moves.wallet.reconnect())
        rejected = await wallet.event_of("rejected")
        assert rejected["code"] == "answer_invalid"
        assert "older than what it had said" in rejected["reason"]
        await moves.quiet()
        moves.wallet.mover.snapshot = moves.wallet.mover.kept = latest
        await wallet.answer(question, moves.wallet.reconnect())
        await moves.resume(wallet)


async def test_snapshots_that_are_none_of_this_channel(
    moves: Moves, path: Path, peer: ScriptedPeer
) -> None:
    await moves.store(path, NODE_ID, peer.node_id)
    other = Moves(Role.ACCEPTER)
    async with relay(store=str(path)) as server, raw_wallet(server.url, SECRET) as wallet:
        question = await moves.begin(wallet, peer)
        right = moves.wallet.reconnect()
        snapshot = Snapshot.decode(bytes.fromhex(right["snapshot"]))
        replace = msgspec.structs.replace
        ours = replace(snapshot.ours, secrets=b"\xff" * 33)
        wrong: list[dict[str, Any]] = [
            {"snapshot": "00"},
            {"snapshot": other.wallet.reconnect()["snapshot"]},
            {"snapshot": replace(snapshot, role=Role.OPENER).encode().hex()},
            {"snapshot": replace(snapshot, reestablished=None).encode().hex()},
            {"snapshot": snapshot.with_side(moves.role, ours).encode().hex()},
            {"next_commitment_number": 2},
            {"next_revocation_number": 1},
        ]
        for changes in wrong:
            await wallet.answer(question, {**right, **changes})
            rejected = await wallet.event_of("rejected")
            assert rejected["code"] == "answer_invalid", changes
        await moves.quiet()
        await wallet.answer(question, right)
        await moves.resume(wallet)


# ---- the relay's disk ----


async def test_nothing_is_said_that_is_not_on_the_disk(
    moves: Moves, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    wallet = await start(moves)
    await moves.send(moves.peer.add(1_000_000, HASH))
    await moves.send(moves.peer.commitment_signed())
    question = await question_of(wallet, "commitment")

    async def full(*_: object) -> None:
        raise StoreError("the disk is full")

    server = wallet.server  # type: ignore[attr-defined]
    monkeypatch.setattr(server.relay._book.snapshots, "_write", full)
    await wallet.answer(question, moves.take(question))
    assert "can't keep its channels' state" in await closed(wallet)
    with pytest.raises((EOFError, ConnectionResetError)):
        await moves.connection.receive()


async def test_a_wallet_that_asked_is_told_that_the_disk_failed(
    moves: Moves, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    wallet = await start(moves)

    async def full(*_: object) -> None:
        raise StoreError("the disk is full")

    server = wallet.server  # type: ignore[attr-defined]
    monkeypatch.setattr(server.relay._book.snapshots, "_write", full)
    with pytest.raises(RpcFailure) as failure:
        await moves.update(wallet, moves.wallet.mover.add(1_000_000, HASH))
    assert failure.value.code == "unavailable"


async def test_what_was_said_is_on_the_disk(moves: Moves, path: Path, peer: ScriptedPeer) -> None:
    await moves.store(path, NODE_ID, peer.node_id)
    async with relay(store=str(path)) as server, raw_wallet(server.url, SECRET) as wallet:
        await moves.connect(wallet, peer)
        await moves.receive_payment(wallet, 1_000_000, PREIMAGE, HASH)
        said = moves.wallet.snapshot
    async with Database(str(path)) as database:
        stored = await ChannelStore(database).snapshots(NODE_ID, peer.node_id)
    assert stored == {moves.channel_id: said.encode()}


# ---- as it was ----


async def test_a_wallet_that_answers_no_commitment_is_served_as_before(
    moves: Moves, path: Path, peer: ScriptedPeer
) -> None:
    await moves.store(path, NODE_ID, peer.node_id)
    async with relay(store=str(path)) as server, raw_wallet(server.url, SECRET) as wallet:
        moves.session_id, moves.connection = await wallet.open_session(peer)
        moves.peer.disconnect()
        question = await question_of(wallet, "reestablish")
        await wallet.answer(question, moves.wallet.reconnect())
        await moves.resume(wallet)
        await moves.send(moves.peer.add(1_000_000, HASH))
        warning = decode(await moves.connection.receive())
        assert isinstance(warning, PeerWarning)
        assert b"does not move" in warning.data
        assert (await wallet.event("message"))["message"][:4] == "0080"
        with pytest.raises(RpcFailure, match="does not move"):
            await moves.ask_for(wallet, 0)


@pytest.mark.parametrize("commitments", [False, True])
async def test_a_channel_that_has_moved_goes_on_from_a_snapshot_only(
    moves: Moves, path: Path, peer: ScriptedPeer, *, commitments: bool
) -> None:
    """A wallet of before, or its record from before, would say that nothing was revoked."""
    await moves.store(path, NODE_ID, peer.node_id)
    first = moves.sides[moves.role].channel
    async with relay(store=str(path)) as server, raw_wallet(server.url, SECRET) as wallet:
        await moves.connect(wallet, peer)
        await moves.receive_payment(wallet, 1_000_000, PREIMAGE, HASH)
        await moves.connection.close()
        await wallet.event_of("closed")
        _, moves.connection = await wallet.open_session(peer, commitments=commitments)
        question = await question_of(wallet, "reestablish")
        says = first.reestablish()
        answer = {
            "next_commitment_number": says.next_commitment_number,
            "next_revocation_number": says.next_revocation_number,
            "your_last_per_commitment_secret": says.your_last_per_commitment_secret.hex(),
            "my_current_per_commitment_point": says.my_current_per_commitment_point.hex(),
        }
        await wallet.answer(question, answer)
        rejected = await wallet.event_of("rejected")
        assert rejected["code"] == "answer_invalid"
        assert "has moved" in rejected["reason"]
        await moves.quiet()


async def test_raw_messages_are_the_wallets_own(moves: Moves, start: Start) -> None:
    wallet = await start(moves)
    await moves.send(moves.peer.add(1_000_000, HASH))
    await moves.send(moves.peer.commitment_signed())
    question = await question_of(wallet, "commitment")
    await wallet.call("subscribe", session_id=moves.session_id, raw=True)
    assert (await wallet.event("voided"))["id"] == question["id"]
    fail = UpdateFailHtlc(channel_id=moves.channel_id, id=0, reason=b"").encode()
    await moves.connection.send(fail)
    assert (await wallet.event("message"))["message"] == fail.hex()
    await wallet.call("send", session_id=moves.session_id, message=fail.hex())
    assert await moves.connection.receive() == fail
    # The relay's copy has not heard that: it does not go on from it afterwards.
    await wallet.call("subscribe", session_id=moves.session_id, raw=False)
    await moves.connection.send(fail)
    assert (await wallet.event("message"))["message"] == fail.hex()
    with pytest.raises(RpcFailure, match="does not move"):
        await moves.ask_for(wallet, 0)


async def test_a_record_without_a_snapshot_is_served_as_before(
    moves: Moves, path: Path, peer: ScriptedPeer
) -> None:
    """Where the channel is, only the wallet knows: it may have moved elsewhere."""
    await moves.store(path, NODE_ID, peer.node_id)
    async with relay(store=str(path)) as server, raw_wallet(server.url, SECRET) as wallet:
        question = await moves.begin(wallet, peer)
        answer = {**moves.wallet.reconnect()}
        del answer["snapshot"]
        await wallet.answer(question, answer)
        await moves.resume(wallet)
        await moves.send(moves.peer.add(1_000_000, HASH))
        assert b"does not move" in await moves.connection.receive()
        with pytest.raises(RpcFailure, match="does not move"):
            await moves.ask_for(wallet, 0)


async def test_a_channel_that_fails_is_asked_about_no_more(moves: Moves, start: Start) -> None:
    wallet = await start(moves)
    await moves.send(moves.peer.add(1_000_000, HASH))
    await moves.send(moves.peer.commitment_signed())
    question = await question_of(wallet, "commitment")
    answer = moves.take(question)
    await moves.connection.send(Error(channel_id=moves.channel_id, data=b"no").encode())
    assert (await wallet.event_of("voided"))["id"] == question["id"]
    with pytest.raises(RpcFailure, match="no such channel"):
        await moves.ask_for(wallet, 0, heard=answer["heard"])
    await moves.quiet()
