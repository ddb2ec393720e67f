"""A peer goes on with a channel that the relay doesn't have: the wallet says whether there is one.

BOLT #1: the answer to a message about an unknown channel is an `error` for it.
"""

import secrets
from typing import Any

import pytest

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
from tests.support.channels import point
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


async def test_ids_that_a_peer_makes_up_are_asked_about_a_few_times(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    session_id, connection = await wallet.open_session(peer)
    asked = 0
    for _ in range(3):
        for _ in range(20):
            fee = UpdateFee(channel_id=secrets.token_bytes(32), feerate_per_kw=300)
            await connection.send(fee.encode())
        await connection.send(ping())
        while (await connection.receive())[:2] != b"\x00\x13":
            pass
        open_now = []
        while not wallet.events.empty():
            body = await wallet.event_body()
            if body["method"] == "delegate":
                open_now.append(body["params"])
        assert len(open_now) <= 4
        asked += len(open_now)
        for each in open_now:
            await wallet.refuse(each, "no")
        await wallet.call("sessions")
    assert 4 < asked <= 16
    # It is still there.
    (session,) = await wallet.call("sessions")
    assert session["session_id"] == session_id


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
