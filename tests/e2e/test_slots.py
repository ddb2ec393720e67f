"""Key slots: channels are accepted while the wallet sleeps, one with each key, none by a lie."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lightning_proxy.api import Server
from lightning_proxy.bolt.channel import ChannelState
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import AcceptChannel, Error, FundingSigned, decode
from lightning_proxy.relay.store import Database
from lightning_proxy.relay.store.slots import SlotStore
from lightning_proxy.rpc import SlotPolicy, SlotUsed
from lightning_proxy.wallet.events import ChannelProblem
from tests.support.channels import channel_keys, open_channel
from tests.support.mallory import Frame, Mallory, mallory
from tests.support.opening import Side
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.relay import RawWallet, RpcFailure, raw_wallet, relay
from tests.support.watched import FUNDING_SAT, Watched, connect, watched_wallet

SECRET = b"\x5c" * 32


def slot(**policy: Any) -> dict[str, Any]:
    answer = channel_keys()
    del answer["channel_type"]
    return {"answer": answer, "policy": {"max_funding_sat": 2_000_000, **policy}}


async def leave(server: Server, peer: ScriptedPeer, *slots: dict[str, Any]) -> PeerConnection:
    """A wallet connects to a peer, leaves these slots, and goes."""
    async with raw_wallet(server.url, SECRET) as wallet:
        _, connection = await wallet.open_session(peer)
        if slots:
            await wallet.call("add_slots", slots=list(slots))
    await gone(server)
    return connection


async def gone(server: Server) -> None:
    async with asyncio.timeout(10):
        while any(inbox.sockets for inbox in server.relay.inboxes()):
            await asyncio.sleep(0.01)


async def accepted(connection: PeerConnection) -> AcceptChannel:
    message = decode(await connection.receive())
    assert isinstance(message, AcceptChannel), message
    return message


async def free(wallet: RawWallet) -> int:
    return sum("used" not in info for info in await wallet.call("slots"))


# ---- the relay ----


async def test_a_channel_is_accepted_while_the_wallet_sleeps(
    server: Server, peer: ScriptedPeer
) -> None:
    left = [slot(), slot()]
    connection = await leave(server, peer, *left)
    side = Side(Role.OPENER)
    offer = side.say(side.open_channel())
    await connection.send(offer)
    raw = await connection.receive()
    side.hear(raw)
    answer = decode(raw)
    assert isinstance(answer, AcceptChannel)
    keys = [each["answer"]["funding_pubkey"] for each in left]
    assert answer.funding_pubkey.hex() in keys
    await connection.send(side.say(side.funding_created()))
    async with raw_wallet(server.url, SECRET) as wallet:
        used = await wallet.event("slot_used")
        assert (used["open_channel"], used["accept_channel"]) == (offer.hex(), raw.hex())
        assert used["peer"] == peer.node_id.hex()
        # In this order: without the first, the wallet could make nothing of the second.
        assert (await wallet.event("delegate"))["kind"] == "funding_signed"
        assert await free(wallet) == 1


@pytest.mark.parametrize(
    "policy",
    [
        {"max_funding_sat": 999_999},
        {"min_funding_sat": 1_000_001},
        {"peers": ["02" + "11" * 32]},
        {"peers": []},
        {"channel_types": ["1000"]},
        {"channel_types": []},
    ],
)
async def test_what_does_not_fit_is_asked(
    server: Server, peer: ScriptedPeer, policy: dict[str, Any]
) -> None:
    connection = await leave(server, peer, slot(**policy))
    await connection.send(open_channel().encode())
    async with raw_wallet(server.url, SECRET) as wallet:
        assert (await wallet.event("delegate"))["kind"] == "channel_keys"
        assert await free(wallet) == 1


async def test_a_public_channel_costs_no_slot(server: Server, peer: ScriptedPeer) -> None:
    connection = await leave(server, peer, slot())
    await connection.send(open_channel(channel_flags=1).encode())
    async with raw_wallet(server.url, SECRET) as wallet:
        assert (await wallet.event("delegate"))["kind"] == "channel_keys"
        assert await free(wallet) == 1


async def test_what_bolt_2_does_not_allow_costs_no_keys(server: Server, peer: ScriptedPeer) -> None:
    wrong, right = slot(), slot()
    # BOLT #2: the reserve must not be below the opener's dust limit.
    wrong["answer"]["channel_reserve_sat"] = 1
    connection = await leave(server, peer, wrong)
    async with raw_wallet(server.url, SECRET) as wallet:
        await wallet.call("add_slots", slots=[right])
    await gone(server)
    await connection.send(open_channel().encode())
    answer = await accepted(connection)
    assert answer.funding_pubkey.hex() == right["answer"]["funding_pubkey"]
    async with raw_wallet(server.url, SECRET) as wallet:
        assert await free(wallet) == 1


async def test_a_wallet_that_is_there_is_asked(server: Server, peer: ScriptedPeer) -> None:
    connection = await leave(server, peer, slot())
    async with raw_wallet(server.url, SECRET) as wallet:
        await connection.send(open_channel().encode())
        assert (await wallet.event("delegate"))["kind"] == "channel_keys"
        assert await free(wallet) == 1


async def test_two_openings_never_get_one_slot(server: Server) -> None:
    async with (
        ScriptedPeer(b"\x31" * 32).serve() as one,
        ScriptedPeer(b"\x32" * 32).serve() as other,
    ):
        connections = [await leave(server, one, slot()), await leave(server, other)]
        for connection in connections:
            await connection.send(open_channel().encode())
        async with raw_wallet(server.url, SECRET) as wallet:
            came = [await wallet.event_body() for _ in range(2)]
            assert sorted(body["method"] for body in came) == ["delegate", "slot_used"]


async def test_a_peer_can_not_spend_all_that_was_left(server: Server, peer: ScriptedPeer) -> None:
    connection = await leave(server, peer, *(slot() for _ in range(8)))
    for number in range(6):
        offer = open_channel()
        await connection.send(offer.encode())
        if number < 4:
            await accepted(connection)
        failed = Error(channel_id=offer.temporary_channel_id, data=b"changed my mind")
        await connection.send(failed.encode())
    async with raw_wallet(server.url, SECRET) as wallet:
        assert await free(wallet) == 4


async def test_what_the_wallet_dealt_with_counts_no_more(
    server: Server, peer: ScriptedPeer
) -> None:
    connection = await leave(server, peer, *(slot() for _ in range(8)))
    for visit in (1, 2):
        for _ in range(4):
            side = Side(Role.OPENER)
            await connection.send(side.say(side.open_channel()))
            side.hear(await connection.receive())
        await connection.send(side.say(side.funding_created()))
        async with raw_wallet(server.url, SECRET) as wallet:
            delegation = await wallet.event_of("delegate")
            assert delegation["kind"] == "funding_signed"
            await wallet.refuse(delegation, "not today")
            # For both ids that the channel has by now.
            for _ in range(2):
                assert isinstance(decode(await connection.receive()), Error)
            await wallet.acknowledge()
            assert await free(wallet) == 8 - 4 * visit
        await gone(server)


async def test_what_does_not_fit_counts_for_nothing(peer: ScriptedPeer) -> None:
    async with relay(max_open_delegations_per_session=6) as server:
        connection = await leave(server, peer, slot())
        (inbox,) = server.relay.inboxes()
        for number in range(1, 6):
            await connection.send(open_channel(funding_satoshis=3_000_000).encode())
            async with asyncio.timeout(10):
                while len(list(inbox.delegations)) < number:
                    await asyncio.sleep(0.01)
        await connection.send(open_channel().encode())
        await accepted(connection)


async def test_a_key_is_left_once(peer: ScriptedPeer, tmp_path: Path) -> None:
    store = str(tmp_path / "relay.sqlite")
    left = slot()
    same_point = slot()
    same_point["answer"]["first_per_commitment_point"] = left["answer"][
        "first_per_commitment_point"
    ]

    async def refused(wallet: RawWallet, *slots: dict[str, Any]) -> None:
        before = await free(wallet)
        with pytest.raises(RpcFailure, match="fresh") as failure:
            await wallet.call("add_slots", slots=[slot(), *slots])
        assert failure.value.code == "invalid_params"
        # All or none.
        assert await free(wallet) == before

    async with relay(store=store) as server, raw_wallet(server.url, SECRET) as wallet:
        fresh = slot()
        await refused(wallet, fresh, fresh)
        (info,) = await wallet.call("add_slots", slots=[left])
        await refused(wallet, left)
        await refused(wallet, same_point)
        await wallet.call("remove_slot", slot_id=info["slot_id"])
        await refused(wallet, left)
        with pytest.raises(RpcFailure, match="no free slot"):
            await wallet.call("remove_slot", slot_id=info["slot_id"])
    async with relay(store=store) as server, raw_wallet(server.url, SECRET) as wallet:
        await refused(wallet, left)
    async with relay(store=store) as server, raw_wallet(server.url) as other:
        # Another wallet's keys are its own affair.
        await other.call("add_slots", slots=[left])


async def test_caps_and_what_is_no_slot(peer: ScriptedPeer) -> None:
    async with (
        relay(max_slots_per_wallet=3) as server,
        raw_wallet(server.url, SECRET) as wallet,
    ):
        await wallet.call("add_slots", slots=[slot(), slot()])
        with pytest.raises(RpcFailure, match="at a time"):
            await wallet.call("add_slots", slots=[slot(), slot()])
        typed = slot()
        typed["answer"]["channel_type"] = "1000"
        for wrong in (typed, slot(min_funding_sat=3_000_000)):
            with pytest.raises(RpcFailure):
                await wallet.call("add_slots", slots=[wrong])
        await wallet.call("add_slots", slots=[slot()])


async def test_a_slot_that_was_spent_when_the_relay_died_is_told_once(tmp_path: Path) -> None:
    """Killed after the slot was used up, before anything else: the keys stay spent."""
    store = str(tmp_path / "relay.sqlite")
    left = slot()
    async with relay(store=store) as server, raw_wallet(server.url, SECRET) as wallet:
        (info,) = await wallet.call("add_slots", slots=[left])
    async with Database(store) as database:
        notice = SlotUsed(
            slot_id=info["slot_id"],
            session_id="11" * 16,
            peer="02" * 33,
            channel_id="22" * 32,
            open_channel="0020",
            accept_channel="0021",
        )
        assert await SlotStore(database).use(wallet.node_id, info["slot_id"], notice)
        assert not await SlotStore(database).use(wallet.node_id, info["slot_id"], notice)
    for _ in range(2):
        async with relay(store=store) as server, raw_wallet(server.url, SECRET) as wallet:
            assert (await wallet.event("slot_used"))["slot_id"] == info["slot_id"]
            await wallet.quiet()
    async with relay(store=store) as server, raw_wallet(server.url, SECRET) as wallet:
        await wallet.event("slot_used")
        await wallet.acknowledge()
        assert await free(wallet) == 0
    async with relay(store=store) as server, raw_wallet(server.url, SECRET) as wallet:
        await wallet.quiet()


# ---- the wallet, and a relay that lies to it ----


@pytest.fixture
async def liar() -> AsyncIterator[Mallory]:
    async with mallory() as relay:
        yield relay


async def asleep(liar: Mallory, folder: Path, peer: ScriptedPeer, **policy: Any) -> PeerConnection:
    """The wallet leaves slots and goes."""
    async with watched_wallet(liar.url, folder) as watched:
        connection = await connect(watched, peer)
        infos = await watched.wallet.leave_slots(
            3, SlotPolicy(max_funding_sat=2_000_000, min_funding_sat=100_000, **policy)
        )
        assert len(infos) == 3
    await gone(liar.honest)
    return connection


async def offered(connection: PeerConnection) -> Side:
    side = Side(Role.OPENER)
    await connection.send(side.say(side.open_channel(funding_satoshis=FUNDING_SAT)))
    side.hear(await connection.receive())
    await connection.send(side.say(side.funding_created()))
    return side


def problems(watched: Watched) -> list[str]:
    return [each.reason for each in watched.events if isinstance(each, ChannelProblem)]


async def test_a_wallet_signs_for_a_channel_that_was_accepted_in_its_sleep(
    liar: Mallory, tmp_path: Path, peer: ScriptedPeer
) -> None:
    connection = await asleep(liar, tmp_path, peer)
    side = await offered(connection)
    async with watched_wallet(liar.url, tmp_path) as watched:
        raw = await connection.receive()
        assert isinstance(decode(raw), FundingSigned)
        side.hear(raw)
        assert side.channel.state is ChannelState.SIGNED
        channel = await watched.channel()
        assert channel.channel_id == side.channel.channel_id
        assert problems(watched) == []
        assert any(isinstance(event, SlotUsed) for event in watched.events)


def changed(frame: Frame, **changes: Any) -> Frame:
    copy: Frame = json.loads(json.dumps(frame))
    copy["params"].update(changes)
    return copy


def with_field(raw: str, **changes: Any) -> str:
    message = decode(bytes.fromhex(raw))
    return msgspec.structs.replace(message, **changes).encode().hex()


def other_answer(frame: Frame) -> list[Frame]:
    raw = frame["params"]["accept_channel"]
    return [changed(frame, accept_channel=with_field(raw, to_self_delay=2016))]


def other_offer(frame: Frame) -> list[Frame]:
    raw = frame["params"]["open_channel"]
    return [changed(frame, open_channel=with_field(raw, funding_satoshis=FUNDING_SAT + 5))]


def too_large_an_offer(frame: Frame) -> list[Frame]:
    raw = frame["params"]["open_channel"]
    return [changed(frame, open_channel=with_field(raw, funding_satoshis=3_000_000))]


def other_keys(frame: Frame) -> list[Frame]:
    stranger = Side(Role.ACCEPTER)
    raw = with_field(frame["params"]["accept_channel"], **stranger.points)
    return [changed(frame, accept_channel=raw)]


def nothing(_: Frame) -> list[Frame]:
    return []


def another_peer(frame: Frame) -> list[Frame]:
    return [changed(frame, peer="02" + "13" * 32)]


def garbage(frame: Frame) -> list[Frame]:
    return [changed(frame, open_channel="0020ff")]


@pytest.mark.parametrize(
    ("lie", "problem"),
    [
        (other_answer, "in other words"),
        (too_large_an_offer, "another size"),
        (other_keys, "never left"),
        (nothing, None),
        (another_peer, None),
        (garbage, "can't be read"),
    ],
)
async def test_a_lie_about_a_slot_gets_no_signature(
    liar: Mallory,
    tmp_path: Path,
    peer: ScriptedPeer,
    lie: Callable[[Frame], list[Frame]],
    problem: str | None,
) -> None:
    connection = await asleep(liar, tmp_path, peer)
    await offered(connection)
    liar.to_wallet = lambda frame: lie(frame) if frame.get("method") == "slot_used" else [frame]
    async with watched_wallet(liar.url, tmp_path) as watched:
        message = decode(await connection.receive())
        assert isinstance(message, Error), message
        assert not liar.signatures
        if problem is not None:
            assert any(problem in reason for reason in problems(watched)), problems(watched)


async def test_another_amount_gives_a_signature_that_is_good_for_nothing_else(
    liar: Mallory, tmp_path: Path, peer: ScriptedPeer
) -> None:
    """The peer's signature is for its own amount: it does not hold for what the wallet rebuilds."""
    connection = await asleep(liar, tmp_path, peer)
    await offered(connection)
    liar.to_wallet = lambda frame: (
        other_offer(frame) if frame.get("method") == "slot_used" else [frame]
    )
    async with watched_wallet(liar.url, tmp_path):
        assert isinstance(decode(await connection.receive()), Error)
        assert not liar.signatures


async def test_a_slot_is_used_for_one_opening(
    liar: Mallory, tmp_path: Path, peer: ScriptedPeer
) -> None:
    connection = await asleep(liar, tmp_path, peer)
    await offered(connection)

    def twice(frame: Frame) -> list[Frame]:
        if frame.get("method") != "slot_used":
            return [frame]
        temporary = secrets.token_bytes(32)
        again = changed(
            frame,
            open_channel=with_field(
                frame["params"]["open_channel"], temporary_channel_id=temporary
            ),
            accept_channel=with_field(
                frame["params"]["accept_channel"], temporary_channel_id=temporary
            ),
            position=frame["params"]["position"] + 1,
        )
        repeated = changed(frame, position=frame["params"]["position"] + 2)
        return [frame, again, repeated]

    liar.to_wallet = twice
    async with watched_wallet(liar.url, tmp_path) as watched:
        assert isinstance(decode(await connection.receive()), FundingSigned)
        async with asyncio.timeout(10):
            while not problems(watched):
                await asyncio.sleep(0.01)
        assert problems(watched) == [
            "the relay used a key slot twice: the second channel is refused"
        ]
        assert len(await watched.wallet.record.channels()) == 1
