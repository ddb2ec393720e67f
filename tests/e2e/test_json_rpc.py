"""JSON-RPC 2.0 to the letter: who is answered and who is not; integers in the form asked for."""

import asyncio
from typing import Any

import pytest

from lightning_proxy.api import ApiSettings, Server
from lightning_proxy.api.limits import LimitSettings
from lightning_proxy.bolt.keys import sign_message
from lightning_proxy.rpc import authentication_text, normal_origin
from tests.support.channels import channel_keys, open_channel
from tests.support.peer import ScriptedPeer
from tests.support.relay import RawWallet, RpcFailure, raw_wallet, relay

#: 930000x1234x1; the nearest double is another number.
SCID = 1022545813912551425


@pytest.mark.parametrize(
    "params",
    [
        {"method": "sessions"},
        {"method": "sessions", "params": {"limit": 0}},
        {"method": "channels"},
        {"method": "launch"},
        {"method": "close", "params": {"session_id": "0" * 32}},
        {"method": "close", "params": []},
        {"method": "authenticate"},
        # One that is carried out meanwhile, and fails.
        {"method": "take_over", "params": {"channel_id": "00" * 32}},
        {"method": "adopt", "params": {"session_id": "0" * 32}},
    ],
)
async def test_a_notification_is_never_answered(wallet: RawWallet, params: dict[str, Any]) -> None:
    await wallet.send_json({"jsonrpc": "2.0", **params})
    for _ in range(5):
        # What the disk was asked for would be there by now.
        await wallet.call("channels")
    await wallet.quiet()


async def test_a_notification_takes_effect(wallet: RawWallet, peer: ScriptedPeer) -> None:
    session_id, connection = await wallet.open_session(peer)
    params = {"session_id": session_id, "message": "8001aa"}
    await wallet.send_json({"jsonrpc": "2.0", "method": "send", "params": params})
    assert await connection.receive() == b"\x80\x01\xaa"
    params = {"session_id": session_id}
    await wallet.send_json({"jsonrpc": "2.0", "method": "close", "params": params})
    assert (await wallet.event("closed"))["session_id"] == session_id
    assert await wallet.call("sessions") == []


async def test_notifications_count_against_the_limits() -> None:
    limits = LimitSettings(requests_per_wallet=0.001, requests_per_wallet_burst=5)
    async with (
        relay(ApiSettings(port=0, limits=limits)) as server,
        raw_wallet(server.url) as wallet,
    ):
        for _ in range(9):
            await wallet.send_json({"jsonrpc": "2.0", "method": "sessions"})
        with pytest.raises(RpcFailure) as failure:
            await wallet.call("sessions")
        assert failure.value.code == "limit"
        assert wallet.events.empty()


async def test_null_is_an_id(wallet: RawWallet) -> None:
    for method in ("sessions", "launch"):
        await wallet.send_json({"jsonrpc": "2.0", "id": None, "method": method})
        body = await wallet.event_body()
        assert body["id"] is None
        assert ("result" in body) is (method == "sessions")


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        " \n[]",
        '[{"jsonrpc":"2.0","id":1,"method":"sessions"},{"jsonrpc":"2.0","id":2,"method":"launch"}]',
        '[{"jsonrpc":"2.0","method":"sessions"}]',
        "[1,2,3]",
    ],
)
async def test_a_batch_is_refused_once(wallet: RawWallet, text: str) -> None:
    await wallet.socket.send_str(text)
    body = await wallet.event_body()
    assert body["id"] is None
    assert body["error"]["data"]["code"] == "invalid_request"
    assert "Batches" in body["error"]["message"]
    await wallet.quiet()


async def test_an_error_about_no_request_is_not_answered(wallet: RawWallet) -> None:
    error = {"code": -32700, "message": "What?"}
    await wallet.send_json({"jsonrpc": "2.0", "id": None, "error": error})
    await wallet.quiet()


async def test_who_authenticates_by_a_notification_is_in_and_hears_nothing(
    server: Server,
) -> None:
    async with raw_wallet(server.url, authenticated=False) as wallet:
        challenge = await wallet.event("challenge")
        text = authentication_text(normal_origin(server.url), challenge["challenge"])
        params = {"node_id": wallet.node_id.hex(), "signature": sign_message(wallet.secret, text)}
        await wallet.send_json({"jsonrpc": "2.0", "method": "authenticate", "params": params})
        assert await wallet.call("sessions") == []
        assert wallet.events.empty()
    async with raw_wallet(server.url, authenticated=False) as wallet:
        await wallet.event("challenge")
        await wallet.send_json({"jsonrpc": "2.0", "method": "sessions"})
        await asyncio.wait_for(wallet.ended.wait(), 10)
        assert wallet.events.empty()


# ---- large integers ----


async def test_each_socket_has_its_form(server: Server, peer: ScriptedPeer) -> None:
    secret = b"\x7a" * 32
    async with (
        raw_wallet(server.url, secret) as numbers,
        raw_wallet(server.url, secret, authenticated=False) as strings,
    ):
        came = await strings.authenticate(integers="string")
        assert came["integers"] == "string"
        session_id, connection = await strings.open_session(peer)
        offer = open_channel(funding_satoshis=1_000_000)
        await connection.send(offer.encode())
        question, same = await strings.event("delegate"), await numbers.event("delegate")
        assert question["decoded"][0]["funding_satoshis"] == "1000000"
        assert same["decoded"][0]["funding_satoshis"] == 1_000_000
        assert question["messages"] == same["messages"]
        assert question["sequence"] == same["sequence"] == 1
        await strings.answer(question, channel_keys(dust_limit_sat="354"))
        assert (await connection.receive())[:2] == b"\x00\x21"
        # On either socket both forms are read.
        for wallet in (strings, numbers):
            for scid in (SCID, str(SCID)):
                await wallet.call(
                    "subscribe", session_id=session_id, raw=False, short_channel_ids=[scid]
                )
                (session,) = server.relay.sessions()
                assert list(session.short_channel_ids) == [SCID]
        slot = {
            "answer": {n: v for n, v in channel_keys().items() if n != "channel_type"},
            "policy": {"max_funding_sat": str(2**53 + 1)},
        }
        (added,) = await strings.call("add_slots", slots=[slot])
        assert added["policy"] == {"max_funding_sat": str(2**53 + 1)}
        (listed,) = (await strings.call("slots", limit=10))["items"]
        assert listed["policy"] == added["policy"]
        (listed,) = await numbers.call("slots")
        assert listed["policy"] == {"max_funding_sat": 2**53 + 1}


async def test_numbers_unless_it_is_asked_otherwise(server: Server) -> None:
    async with raw_wallet(server.url, authenticated=False) as wallet:
        assert (await wallet.authenticate())["integers"] == "number"
    async with raw_wallet(server.url, authenticated=False) as wallet:
        with pytest.raises(RpcFailure) as failure:
            await wallet.authenticate(integers="float")
        assert failure.value.code == "invalid_params"
