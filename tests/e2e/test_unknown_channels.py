"""A peer goes on with a channel that the relay doesn't have: the wallet says whether there is one.

BOLT #1: the answer to a message about an unknown channel is an `error` for it.
"""

import secrets
from typing import Any

import pytest
from msgspec import structs

from lightning_proxy.bolt.messages import (
    ChannelReady,
    ChannelReestablish,
    ClosingSigned,
    CommitmentSigned,
    Error,
    Message,
    RevokeAndAck,
    Shutdown,
    UpdateAddHtlc,
    UpdateFee,
    UpdateFulfillHtlc,
)
from lightning_proxy.relay import RelaySettings
from lightning_proxy.rpc import DelegationKind
from tests.e2e.test_channels import received
from tests.e2e.test_devices import SECRET as DEVICES_SECRET
from tests.e2e.test_devices import authorise, on
from tests.support.channels import open_channel, point
from tests.support.peer import ScriptedPeer
from tests.support.relay import RawWallet, raw_wallet, relay

CHANNEL_ID = secrets.token_bytes(32)
SIGNATURE = bytes(64)


def reestablish(number: int) -> ChannelReestablish:
    return ChannelReestablish(
        channel_id=CHANNEL_ID,
        next_commitment_number=number,
        next_revocation_number=0,
        your_last_per_commitment_secret=bytes(32),
        my_current_per_commitment_point=point(),
    )


SAID: dict[str, Message] = {
    "reestablish": reestablish(1),
    "reestablish with zeros": reestablish(0),
    "channel_ready": ChannelReady(channel_id=CHANNEL_ID, second_per_commitment_point=point()),
    "shutdown": Shutdown(channel_id=CHANNEL_ID, scriptpubkey=b"\x00\x14" + bytes(20)),
    "update_fee": UpdateFee(channel_id=CHANNEL_ID, feerate_per_kw=300),
    "update_add_htlc": UpdateAddHtlc(
        channel_id=CHANNEL_ID,
        id=0,
        amount_msat=1,
        payment_hash=bytes(32),
        cltv_expiry=500,
        onion_routing_packet=bytes(1366),
    ),
    "update_fulfill_htlc": UpdateFulfillHtlc(
        channel_id=CHANNEL_ID, id=0, payment_preimage=bytes(32)
    ),
    "commitment_signed": CommitmentSigned(
        channel_id=CHANNEL_ID, signature=SIGNATURE, htlc_signature=()
    ),
    "revoke_and_ack": RevokeAndAck(
        channel_id=CHANNEL_ID,
        per_commitment_secret=bytes(32),
        next_per_commitment_point=point(),
    ),
    "closing_signed": ClosingSigned(channel_id=CHANNEL_ID, fee_satoshis=1, signature=SIGNATURE),
}


async def question(wallet: RawWallet) -> dict[str, Any]:
    params = await wallet.event_of("delegate")
    assert params["kind"] == "unknown_channel"
    assert params["channel_id"] == CHANNEL_ID.hex()
    return params


@pytest.mark.parametrize("message", SAID.values(), ids=SAID)
async def test_it_gets_an_error_once_the_wallet_has_said_so(
    wallet: RawWallet, peer: ScriptedPeer, message: Message
) -> None:
    _, connection = await wallet.open_session(peer)
    raw = message.encode()
    await connection.send(raw)
    asked = await question(wallet)
    assert asked["messages"] == [raw.hex()]
    await wallet.refuse(asked, "this node has no such channel")
    error = Error(channel_id=CHANNEL_ID, data=b"this node has no such channel")
    assert await connection.receive() == error.encode()
    # The connection goes on, and the same is not asked again.
    await connection.send(raw)
    await wallet.event_of("message")
    await wallet.quiet()


async def test_a_channel_that_the_wallet_has_gets_none(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    _, connection = await wallet.open_session(peer)
    await connection.send(reestablish(1).encode())
    await wallet.answer(await question(wallet), {})
    await connection.send(ping())
    assert (await connection.receive())[:2] == b"\x00\x13"


async def test_silence_says_nothing(peer: ScriptedPeer) -> None:
    deadlines = {"unknown_channel": 0.05}
    async with relay(deadlines=deadlines) as server, raw_wallet(server.url) as wallet:
        _, connection = await wallet.open_session(peer)
        await connection.send(reestablish(1).encode())
        asked = await question(wallet)
        assert (await wallet.event_of("voided"))["id"] == asked["id"]
        await connection.send(ping())
        assert (await connection.receive())[:2] == b"\x00\x13"


async def test_each_lost_channel_is_asked_about_a_few_at_a_time(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    """A relay that lost its state: the peer goes on with all that it has."""
    _, connection = await wallet.open_session(peer)
    lost = [secrets.token_bytes(32) for _ in range(30)]
    says = {each: structs.replace(reestablish(1), channel_id=each).encode() for each in lost}
    await connection.send(*says.values())
    denied = []
    open_now = [await wallet.event_of("delegate") for _ in range(4)]
    for count in range(len(lost)):
        (session,) = await wallet.call("sessions")
        assert session.get("open_delegations", 0) == min(4, len(lost) - count)
        question = open_now.pop(0)
        channel_id = bytes.fromhex(question["channel_id"])
        assert channel_id == lost[count]
        assert question["messages"] == [says[channel_id].hex()]
        if count % 2:
            await wallet.refuse(question, "no")
            denied.append(channel_id)
        else:
            await wallet.answer(question, {})
        if count + 4 < len(lost):
            open_now.append(await wallet.event_of("delegate"))
    assert [(await received(connection, Error)).channel_id for _ in denied] == denied


async def test_ids_that_a_peer_makes_up_are_bounded(
    wallet: RawWallet, peer: ScriptedPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_proxy.relay.unknown._MAX_ASKED", 6)
    session_id, connection = await wallet.open_session(peer)
    for _ in range(20):
        fee = UpdateFee(channel_id=secrets.token_bytes(32), feerate_per_kw=300)
        await connection.send(fee.encode())
    for _ in range(6):
        await wallet.refuse(await wallet.event_of("delegate"), "no")
        await received(connection, Error)
    await connection.send(ping())
    assert (await connection.receive())[:2] == b"\x00\x13"
    await wallet.quiet_but("message")
    # It is still there.
    (session,) = await wallet.call("sessions")
    assert (session["session_id"], session.get("open_delegations", 0)) == (session_id, 0)


async def test_what_waits_for_its_turn_is_bounded(wallet: RawWallet, peer: ScriptedPeer) -> None:
    _, connection = await wallet.open_session(peer)
    for _ in range(20):
        long = Shutdown(channel_id=secrets.token_bytes(32), scriptpubkey=bytes(60_000))
        await connection.send(long.encode())
    # All of them are read before the first is answered.
    await connection.send(ping())
    assert (await connection.receive())[:2] == b"\x00\x13"
    # Four, and the two that 160,000 bytes have room for.
    for _ in range(6):
        await wallet.refuse(await wallet.event_of("delegate"), "no")
        await received(connection, Error)
    await wallet.quiet_but("message")


async def test_a_question_has_an_hour() -> None:
    assert RelaySettings().deadline_of(DelegationKind.UNKNOWN_CHANNEL) == 3600.0


async def test_a_device_may_know_a_channel_and_not_deny_it(peer: ScriptedPeer) -> None:
    """Another device may have opened it, and an `error` for it is its end."""
    async with relay() as server, raw_wallet(server.url, DEVICES_SECRET) as wallet:
        device = await authorise(wallet)
        async with on(server, device) as phone:
            _, connection = await wallet.open_session(peer)
            await connection.send(reestablish(1).encode())
            asked = await phone.event_of("delegate")
            await phone.refuse(asked, "this node has no such channel")
            rejected = await phone.event_of("rejected")
            assert (rejected["id"], rejected["code"]) == (asked["id"], "forbidden")
            await connection.send(ping())
            assert (await connection.receive())[:2] == b"\x00\x13"
            # The question is open as before, for the node key.
            await wallet.refuse(await question(wallet), "this node has no such channel")
            assert (await received(connection, Error)).channel_id == CHANNEL_ID
            known = structs.replace(reestablish(1), channel_id=bytes(31) + b"\x01")
            await connection.send(known.encode())
            await phone.answer(await phone.event_of("delegate"), {})
            asked = await wallet.event_of("delegate")
            assert (await wallet.event_of("voided"))["id"] == asked["id"]


async def test_who_subscribes_to_raw_messages_is_asked_no_more(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    session_id, connection = await wallet.open_session(peer)
    offered = open_channel()
    await connection.send(reestablish(1).encode(), offered.encode())
    unknown, keys = await question(wallet), await wallet.event_of("delegate")
    assert keys["kind"] == "channel_keys"
    await wallet.call("subscribe", session_id=session_id, raw=True)
    voided = [await wallet.event_of("voided"), await wallet.event_of("voided")]
    assert {each["id"] for each in voided} == {unknown["id"], keys["id"]}
    assert all("raw messages" in each["reason"] for each in voided)
    await wallet.refuse(unknown, "no")
    assert (await wallet.event_of("rejected"))["code"] == "delegation_over"
    (session,) = await wallet.call("sessions")
    assert session.get("open_delegations", 0) == 0
    # No word of the relay's own went to the peer.
    await connection.send(ping())
    assert (await connection.receive())[:2] == b"\x00\x13"
    # And back: what is not over is asked again.
    await wallet.call("subscribe", session_id=session_id, raw=False)
    again = await wallet.event_of("delegate")
    assert (again["kind"], again["channel_id"]) == ("channel_keys", keys["channel_id"])
    await connection.send(reestablish(1).encode())
    await question(wallet)


async def test_a_wallet_with_an_engine_answers_by_itself(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    session_id, connection = await wallet.open_session(peer)
    await wallet.call("subscribe", session_id=session_id, raw=True)
    await connection.send(reestablish(1).encode())
    await wallet.event("message")
    await wallet.quiet()


def ping() -> bytes:
    return b"\x00\x12\x00\x01\x00\x00"
