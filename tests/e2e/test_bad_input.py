"""Bad input, from peers and from wallets: a clear error to its sender, and nobody else is touched.

Every test runs beside a bystander: another wallet's session, which has to work all the time.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from lightning_proxy.api import ApiSettings, Server
from lightning_proxy.bolt.messages import Error, decode
from lightning_proxy.relay import DialSettings
from lightning_proxy.rpc import MAX_FRAME_TO_RELAY
from lightning_proxy.transport.handshake import Initiator
from tests.support.channels import channel_keys, open_channel
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.relay import (
    PEER_INIT,
    RawWallet,
    RpcFailure,
    handshake_params,
    raw_wallet,
    relay,
)

ACT_ONE = "00" + "02" * 49


@pytest.fixture(autouse=True)
async def bystander(server: Server) -> AsyncIterator[None]:
    """Another wallet with a session and an open delegation, untouched by whatever happens."""
    async with ScriptedPeer(b"\x22" * 32).serve("127.0.0.3") as peer, raw_wallet(server.url) as own:
        _, connection = await own.open_session(peer)
        await connection.send(open_channel().encode())
        delegation = await own.event("delegate")
        yield
        await own.quiet()
        await connection.send(b"\x00\x12\x00\x04\x00\x00")
        assert await connection.receive() == b"\x00\x13\x00\x04" + bytes(4)
        await own.answer(delegation, channel_keys())
        assert (await connection.receive())[:2] == b"\x00\x21"


async def connect(wallet: RawWallet, peer: ScriptedPeer) -> tuple[Initiator, asyncio.Task[Any]]:
    initiator = Initiator(wallet.secret, peer.node_id)
    call = wallet.call("connect", peer=peer.address, act_one=initiator.act_one().hex())
    return initiator, asyncio.create_task(call)


async def fails(call: asyncio.Task[Any], code: str, words: str = "") -> None:
    with pytest.raises(RpcFailure) as caught:
        await call
    assert caught.value.code == code
    assert words in caught.value.sentence


# ---- peers ----


async def test_a_peer_that_closes_on_act_one(wallet: RawWallet, peer: ScriptedPeer) -> None:
    _, call = await connect(wallet, peer)
    connection = await peer.accept()
    await connection.read(50)
    await connection.close()
    await fails(call, "peer_failed")


async def test_a_peer_that_closes_in_the_middle_of_act_two(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    _, call = await connect(wallet, peer)
    connection = await peer.accept()
    await connection.raw(bytes(30))
    connection.writer.close()
    await fails(call, "peer_failed", "act two")


async def test_act_two_in_two_segments(wallet: RawWallet, peer: ScriptedPeer) -> None:
    initiator, call = await connect(wallet, peer)
    connection = await peer.accept()
    act_two = connection.responder.act_one(await connection.read(50))
    await connection.raw(act_two[:17])
    await asyncio.sleep(0.05)
    await connection.raw(act_two[17:])
    assert (await call)["act_two"] == act_two.hex()
    assert handshake_params(initiator, await call)


@pytest.mark.parametrize("step", ["accept", "act_two", "init"])
async def test_a_peer_that_stalls_at_any_step(peer: ScriptedPeer, step: str) -> None:
    dial = DialSettings(act_two_timeout=0.2)
    async with (
        relay(dial=dial, init_timeout=0.2) as server,
        raw_wallet(server.url) as wallet,
    ):
        initiator, call = await connect(wallet, peer)
        connection = await peer.accept()
        if step == "init":
            shaking = asyncio.create_task(connection.handshake())
            params = handshake_params(initiator, await call)
            call = asyncio.create_task(wallet.call("handshake", **params))
            await shaking
            await connection.receive()
            await fails(call, "peer_failed", "within the time limit")
        else:
            if step == "act_two":
                await connection.raw(bytes(49))
            await fails(call, "peer_timeout")
        assert await wallet.call("sessions") == []
        assert not list(server.relay.sessions())


async def test_a_wallet_that_stalls_before_act_three(peer: ScriptedPeer) -> None:
    async with relay(act_three_timeout=0.2) as server, raw_wallet(server.url) as wallet:
        initiator, call = await connect(wallet, peer)
        connection = await peer.accept()
        await connection.raw(connection.responder.act_one(await connection.read(50)))
        params = handshake_params(initiator, await call)
        await connection.closed()
        with pytest.raises(RpcFailure) as caught:
            await wallet.call("handshake", **params)
        assert caught.value.code == "session_unknown"


async def test_a_wrong_act_three_or_wrong_keys(wallet: RawWallet, peer: ScriptedPeer) -> None:
    initiator, call = await connect(wallet, peer)
    connection = await peer.accept()
    await connection.raw(connection.responder.act_one(await connection.read(50)))
    params = handshake_params(initiator, await call)
    params["sending"]["key"] = "11" * 32
    finishing = asyncio.create_task(wallet.call("handshake", **params))
    connection.use(connection.responder.act_three(await connection.read(66)))
    with pytest.raises(ValueError, match="MAC"):
        await connection.receive()
    # As a real peer does on a bad tag.
    await connection.close()
    await fails(finishing, "peer_failed")


async def ended(wallet: RawWallet, words: str) -> None:
    closed = await wallet.event("closed")
    assert words in closed["reason"]
    assert await wallet.call("sessions") == []


async def test_a_bad_tag(wallet: RawWallet, peer: ScriptedPeer) -> None:
    _, connection = await wallet.open_session(peer)
    sealed = bytearray(connection.sending.seal(open_channel().encode()))
    sealed[-1] ^= 1
    await connection.raw(bytes(sealed))
    await ended(wallet, "wrong tag")


@pytest.mark.parametrize("message", [b"", b"\x01"])
async def test_messages_too_short_for_a_type(
    wallet: RawWallet, peer: ScriptedPeer, message: bytes
) -> None:
    _, connection = await wallet.open_session(peer)
    await connection.send(message)
    await ended(wallet, "too short for a type")


async def test_a_frame_cut_at_every_byte_boundary(wallet: RawWallet, peer: ScriptedPeer) -> None:
    _, connection = await open_raw(wallet, peer)
    for cut in range(1, 60):
        sealed = connection.sending.seal(b"\x80\x01" + bytes([cut]) * 24)
        await connection.raw(sealed[:cut])
        await asyncio.sleep(0.002)
        await connection.raw(sealed[cut:])
        assert (await wallet.event("message"))["message"] == "8001" + f"{cut:02x}" * 24


async def test_one_byte_segments(wallet: RawWallet, peer: ScriptedPeer) -> None:
    session_id, connection = await open_raw(wallet, peer)
    for byte in connection.sending.seal(open_channel().encode()):
        await connection.raw(bytes([byte]))
        await asyncio.sleep(0)
    assert (await wallet.event("message"))["session_id"] == session_id


async def open_raw(wallet: RawWallet, peer: ScriptedPeer) -> tuple[str, PeerConnection]:
    session_id, connection = await wallet.open_session(peer)
    await wallet.call("subscribe", session_id=session_id, raw=True)
    return session_id, connection


async def test_a_malformed_open_channel(wallet: RawWallet, peer: ScriptedPeer) -> None:
    _, connection = await wallet.open_session(peer)
    # Cut off before it says which channel it is about.
    await connection.send(open_channel().encode()[:65])
    assert b"open_channel." in await connection.receive()
    await ended(wallet, "open_channel.")


@pytest.mark.parametrize("what", ["cut off", "with a record that must be understood"])
async def test_an_open_channel_of_an_unknown_kind(
    wallet: RawWallet, peer: ScriptedPeer, what: str
) -> None:
    _, connection = await wallet.open_session(peer)
    asked = open_channel()
    raw = asked.encode()
    # Type 4 is where taproot channels have their nonce.
    await connection.send(raw[:200] if what == "cut off" else raw + b"\x04\x01\x00")
    error = decode(await connection.receive())
    assert isinstance(error, Error)
    assert error.channel_id == asked.temporary_channel_id
    assert error.data.startswith(b"open_channel.")
    # The session goes on.
    await connection.send(open_channel().encode())
    await wallet.event("delegate")


async def test_an_open_channel_with_the_same_id_twice(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    _, connection = await wallet.open_session(peer)
    asked = open_channel().encode()
    await connection.send(asked, asked)
    first = await wallet.event("delegate")
    assert (await wallet.event("voided"))["id"] == first["id"]
    await ended(wallet, "in use")


async def test_too_many_open_channels_and_too_long_ones(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    _, connection = await wallet.open_session(peer)
    long = open_channel(unknown_tlvs=((1_000_001, bytes(2000)),))
    await connection.send(long.encode())
    assert b"too long" in await connection.receive()
    for _ in range(5):
        await connection.send(open_channel().encode())
    for _ in range(4):
        await wallet.event("delegate")
    assert b"too many channels" in await connection.receive()
    await wallet.quiet()


async def test_a_peer_that_never_reads(wallet: RawWallet, peer: ScriptedPeer) -> None:
    session_id, connection = await wallet.open_session(peer)
    connection.stop_reading()
    message = b"\x80\x01" + bytes(65_000)
    with pytest.raises(RpcFailure) as caught:
        for _ in range(2000):
            await wallet.call("send", session_id=session_id, message=message.hex())
    assert caught.value.code == "limit"
    await wallet.call("close", session_id=session_id)


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("{node}@127.0.0.1:1", "peer_unreachable"),
        ("{node}@[::1]:1", "peer_unreachable"),
        ("{node}@name.invalid:9735", "peer_unreachable"),
        ("{node}@10.0.0.1:9735", "address_forbidden"),
        ("{node}@192.168.1.1:22", "address_forbidden"),
        ("{node}@169.254.169.254:80", "address_forbidden"),
        ("{node}@100.64.0.1:9735", "address_forbidden"),
        ("{node}@224.0.0.1:9735", "address_forbidden"),
        ("{node}@0.0.0.0:9735", "address_forbidden"),
        ("{node}@[::ffff:10.0.0.1]:9735", "address_forbidden"),
        ("{node}@[fe80::1]:9735", "address_forbidden"),
        ("{node}@[64:ff9b::a00:1]:9735", "address_forbidden"),
        ("{node}@[2002:a00:1::]:9735", "address_forbidden"),
        ("{node}@127.0.0.1:0", "invalid_params"),
        ("{node}@127.0.0.1:65536", "invalid_params"),
        ("{node}", "invalid_params"),
        ("{node}@", "invalid_params"),
        ("05{node}@127.0.0.1:9735", "invalid_params"),
        ("02" + "ff" * 32 + "@127.0.0.1:9735", "invalid_params"),
        ("x" * 500, "invalid_params"),
    ],
)
async def test_addresses(wallet: RawWallet, peer: ScriptedPeer, address: str, code: str) -> None:
    with pytest.raises(RpcFailure) as caught:
        await wallet.call("connect", peer=address.format(node=peer.node_id.hex()), act_one=ACT_ONE)
    assert caught.value.code == code
    assert not [name for name in ("Errno", "Traceback") if name in caught.value.sentence]


@pytest.mark.parametrize(
    ("dial", "code"),
    [
        (DialSettings(allow_loopback=False), "address_forbidden"),
        (DialSettings(deny=["127.0.0.0/8"]), "address_forbidden"),
        (DialSettings(allow_loopback=False, allow=["127.0.0.1/32"]), "peer_timeout"),
    ],
)
async def test_the_dial_policy(peer: ScriptedPeer, dial: DialSettings, code: str) -> None:
    quick = DialSettings(
        allow_loopback=dial.allow_loopback, deny=dial.deny, allow=dial.allow, act_two_timeout=0.1
    )
    async with relay(dial=quick) as server, raw_wallet(server.url) as wallet:
        with pytest.raises(RpcFailure) as caught:
            await wallet.call("connect", peer=peer.address, act_one=ACT_ONE)
        assert caught.value.code == code


# ---- wallets: the websocket ----


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "parse_error"),
        ("", "parse_error"),
        ("[" * 100_000, "invalid_request"),
        ('{"jsonrpc":"2.0","id":1,"method":"close","params":' + "[" * 100_000, "parse_error"),
        ("null", "invalid_request"),
        ("[]", "invalid_request"),
        ('{"jsonrpc":"1.0","id":1,"method":"sessions"}', "invalid_request"),
        ('{"id":1,"method":"sessions"}', "invalid_request"),
        ('{"jsonrpc":"2.0","id":1,"method":7}', "invalid_request"),
        ('{"jsonrpc":"2.0","id":{},"method":"sessions"}', "invalid_request"),
        ('{"jsonrpc":"2.0","id":1}', "invalid_request"),
        ('{"jsonrpc":"2.0","id":1,"result":{}}', "invalid_request"),
        ('{"jsonrpc":"2.0","id":1,"method":"launch"}', "method_unknown"),
        ('{"jsonrpc":"2.0","id":1,"method":"authenticate","params":{}}', "method_unknown"),
        ('{"jsonrpc":"2.0","id":1,"method":"close","params":[]}', "invalid_params"),
        ('{"jsonrpc":"2.0","id":1,"method":"close"}', "invalid_params"),
        ('{"jsonrpc":"2.0","id":1,"method":"close","params":{"session_id":"é"}}', "invalid_params"),
        (
            '{"jsonrpc":"2.0","id":1,"method":"close","params":{"session_id":"%s"}}' % ("0" * 32),
            "session_unknown",
        ),
    ],
)
async def test_frames_that_are_no_requests(wallet: RawWallet, text: str, code: str) -> None:
    await wallet.socket.send_str(text)
    body = await asyncio.wait_for(wallet.events.get(), 10)
    assert body["error"]["data"]["code"] == code
    assert await wallet.call("sessions") == []


async def test_binary_and_oversize_frames(server: Server) -> None:
    async with raw_wallet(server.url) as wallet:
        await wallet.socket.send_bytes(b"{}")
        body = await asyncio.wait_for(wallet.events.get(), 10)
        assert body["error"]["data"]["code"] == "invalid_request"
        await wallet.socket.send_str("x" * (MAX_FRAME_TO_RELAY + 1))
        await asyncio.wait_for(wallet.ended.wait(), 10)
        assert wallet.socket.close_code == 1009


@pytest.mark.parametrize(
    "change",
    [
        {"act_three": "00" * 65},
        {"act_three": "zz" * 66},
        {"sending": None},
        {"sending": {"key": "00" * 31, "nonce": 0, "chaining_key": "00" * 32}},
        {"sending": {"key": "00" * 33, "nonce": 0, "chaining_key": "00" * 32}},
        {"receiving": {"key": "00" * 32, "nonce": 1, "chaining_key": "00" * 32}},
        {"receiving": {"key": "00" * 32, "nonce": 1002, "chaining_key": "00" * 32}},
        {"receiving": {"key": "00" * 32, "nonce": -2, "chaining_key": "00" * 32}},
        {"receiving": {"key": "00" * 32, "nonce": 0, "chaining_key": ""}},
        {"init": "0011" + "00" * 34},
        {"init": "0010"},
        {"init": "00100000"},
    ],
)
async def test_handshakes_that_are_none_cost_nothing(
    wallet: RawWallet, peer: ScriptedPeer, change: dict[str, Any]
) -> None:
    initiator, call = await connect(wallet, peer)
    connection = await peer.accept()
    shaking = asyncio.create_task(connection.handshake())
    params = handshake_params(initiator, await call)
    with pytest.raises(RpcFailure) as caught:
        await wallet.call("handshake", **{**params, **change})
    assert caught.value.code == "invalid_params"
    # The session still waits for the right one.
    finishing = asyncio.create_task(wallet.call("handshake", **params))
    await shaking
    await connection.receive()
    await connection.send(PEER_INIT)
    await finishing
    with pytest.raises(RpcFailure) as caught:
        await wallet.call("handshake", **params)
    assert caught.value.code == "session_state"


async def test_another_wallets_session(
    server: Server, wallet: RawWallet, peer: ScriptedPeer
) -> None:
    session_id, connection = await wallet.open_session(peer)
    await connection.send(open_channel().encode())
    delegation = await wallet.event("delegate")
    async with raw_wallet(server.url) as thief:
        for method, params in (
            ("close", {}),
            ("send", {"message": "8001"}),
            ("subscribe", {"raw": True}),
            ("adopt", {}),
        ):
            with pytest.raises(RpcFailure) as caught:
                await thief.call(method, session_id=session_id, **params)
            assert caught.value.code == "session_unknown"
        await thief.answer(delegation, channel_keys())
        rejected = await thief.event("rejected")
        assert rejected["code"] == "delegation_unknown"
        await thief.refuse(delegation, "not yours")
        assert (await thief.event("rejected"))["code"] == "delegation_unknown"
    await wallet.quiet()
    await wallet.answer(delegation, channel_keys())
    assert (await connection.receive())[:2] == b"\x00\x21"


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        channel_keys(funding_pubkey="02" + "ff" * 32),
        channel_keys(first_per_commitment_point="05" + "11" * 32),
        channel_keys(htlc_basepoint="02" * 32),
        channel_keys(dust_limit_sat=353),
        channel_keys(dust_limit_sat=10_001),
        channel_keys(dust_limit_sat=-1),
        channel_keys(channel_reserve_sat=353),
        channel_keys(max_accepted_htlcs=484),
        channel_keys(to_self_delay=2017),
        channel_keys(to_self_delay=70_000),
        channel_keys(max_htlc_value_in_flight_msat=2**64),
        channel_keys(minimum_depth="3"),
        channel_keys(channel_type="1000"),
        channel_keys(channel_type=None),
        channel_keys(upfront_shutdown_script="6a00"),
        channel_keys(upfront_shutdown_script="00" * 200),
    ],
)
async def test_a_wrong_answer_returns_and_leaves_the_delegation_open(
    wallet: RawWallet, peer: ScriptedPeer, answer: Any
) -> None:
    _, connection = await wallet.open_session(peer)
    await connection.send(open_channel().encode())
    delegation = await wallet.event("delegate")
    await wallet.answer(delegation, answer)
    rejected = await wallet.event("rejected")
    assert rejected["id"] == delegation["id"]
    assert rejected["code"] in ("answer_invalid", "invalid_params")
    await wallet.refuse(delegation, "internal trouble", code=-32603)
    assert (await wallet.event("rejected"))["code"] == "answer_invalid"
    await wallet.answer(delegation, channel_keys())
    assert (await connection.receive())[:2] == b"\x00\x21"
    await wallet.answer(delegation, channel_keys())
    assert (await wallet.event("rejected"))["code"] == "delegation_over"


async def test_a_reason_that_is_no_ascii_and_too_long(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    _, connection = await wallet.open_session(peer)
    await connection.send(open_channel().encode())
    await wallet.refuse(await wallet.event("delegate"), "nö\n" * 5000)
    error = await connection.receive()
    assert len(error) == 2 + 32 + 2 + 500
    assert error[36:39] == b"n??"


async def test_a_wallet_that_never_reads_is_cut_off_and_finds_its_delegations_again(
    peer: ScriptedPeer,
) -> None:
    secret = b"\x72" * 32
    async with relay(wallet_stall_timeout=0.3) as server:
        async with raw_wallet(server.url, secret) as wallet:
            session_id, connection = await open_raw(wallet, peer)
            wallet.stop_reading()
            sending = asyncio.create_task(connection.send(*[b"\x80\x01" + bytes(60_000)] * 300))
            while server.relay.inbox_of(wallet.node_id).sockets:
                await asyncio.sleep(0.01)
            await sending
            assert list(server.relay.sessions())
        async with raw_wallet(server.url, secret) as wallet:
            await wallet.call("subscribe", session_id=session_id, raw=False)
            await connection.send(open_channel().encode())
            while (body := await asyncio.wait_for(wallet.events.get(), 10))["method"] == "message":
                pass
            assert body["method"] == "delegate"


async def test_a_slow_wallet_slows_its_peer_and_loses_nothing(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    session_id, connection = await open_raw(wallet, peer)
    count = 2500
    sent = [b"\x80\x01" + number.to_bytes(4, "big") * 1500 for number in range(count)]
    sending = asyncio.create_task(connection.send(*sent))
    for number, message in enumerate(sent, 1):
        if number % 500 == 1:
            wallet.stop_reading()
            await asyncio.sleep(0.1)
            wallet.start_reading()
        event = await wallet.event("message")
        assert (event["session_id"], event["sequence"]) == (session_id, number)
        assert event["message"] == message.hex()
    await sending


async def test_a_peer_is_not_blamed_for_silence_while_nobody_reads_it(
    peer: ScriptedPeer,
) -> None:
    async with (
        relay(ping_interval=0.5, pong_timeout=1.0, wallet_stall_timeout=20) as server,
        raw_wallet(server.url) as wallet,
    ):
        session_id, connection = await open_raw(wallet, peer)
        wallet.stop_reading()
        count = 300
        sending = asyncio.create_task(connection.send(*[b"\x80\x01" + bytes(60_000)] * count))
        await asyncio.sleep(2.5)
        assert not sending.done()
        assert [session.id for session in server.relay.sessions()] == [session_id]
        wallet.start_reading()
        for number in range(1, count + 1):
            assert (await wallet.event("message"))["sequence"] == number
        await sending


# ---- wallets: authentication ----


async def refused(wallet: RawWallet, call: Any, words: str) -> None:
    with pytest.raises(RpcFailure) as caught:
        await call
    assert caught.value.code == "unauthenticated"
    assert words in caught.value.sentence
    await asyncio.wait_for(wallet.ended.wait(), 10)


async def test_a_wrong_signature(server: Server) -> None:
    for change, words in (
        ({"signature": "y" * 104}, "signature"),
        ({"signature": "!" * 104}, "signature"),
        ({"node_id": "02" + "11" * 32}, "not this node's"),
    ):
        async with raw_wallet(server.url, authenticated=False) as wallet:
            await refused(wallet, wallet.authenticate(**change), words)


async def test_a_replayed_challenge(server: Server) -> None:
    secret = b"\x73" * 32
    async with raw_wallet(server.url, secret, authenticated=False) as wallet:
        sent: list[str] = []
        send = wallet.socket.send_str

        async def record(text: str, compress: int | None = None) -> None:
            sent.append(text)
            await send(text, compress)

        wallet.socket.send_str = record  # type: ignore[assignment,method-assign]
        await wallet.authenticate()
    async with raw_wallet(server.url, secret, authenticated=False) as wallet:
        await wallet.event("challenge")
        params = json.loads(sent[0])["params"]
        await refused(wallet, wallet.call("authenticate", **params), "not over this challenge")


async def test_anything_before_authentication(server: Server) -> None:
    async with raw_wallet(server.url, authenticated=False) as wallet:
        await refused(wallet, wallet.call("sessions"), "Authenticate first")


async def test_silence_instead_of_authentication() -> None:
    settings = ApiSettings(port=0, authentication_timeout=0.2)
    async with relay(settings) as server, raw_wallet(server.url, authenticated=False) as wallet:
        await asyncio.wait_for(wallet.ended.wait(), 10)
        assert wallet.socket.close_code == 1008


async def test_sockets_and_sessions_of_one_wallet_are_capped(peer: ScriptedPeer) -> None:
    secret = b"\x74" * 32
    async with (
        relay(max_sockets_per_wallet=1, max_sessions_per_wallet=1) as server,
        raw_wallet(server.url, secret) as wallet,
    ):
        async with raw_wallet(server.url, secret, authenticated=False) as second:
            with pytest.raises(RpcFailure) as caught:
                await second.authenticate()
            assert caught.value.code == "limit"
        await wallet.open_session(peer)
        with pytest.raises(RpcFailure) as caught:
            await wallet.call("connect", peer=peer.address, act_one=ACT_ONE)
        assert caught.value.code == "limit"


@pytest.mark.parametrize("method", ["close", "connect"])
async def test_a_bug_of_ours_costs_one_request(
    server: Server, wallet: RawWallet, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def fail(*_: object) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr(server.relay, {"close": "find", "connect": "connect"}[method], fail)
    params = {
        "close": {"session_id": "0" * 32},
        "connect": {"peer": "02" + "11" * 32 + "@127.0.0.1:1", "act_one": ACT_ONE},
    }[method]
    with capture_logs() as logs, pytest.raises(RpcFailure) as caught:
        await wallet.call(method, **params)
    assert caught.value.code == "internal"
    assert "a bug" not in caught.value.sentence
    assert [entry["error"] for entry in logs if entry["log_level"] == "error"] == ["LookupError"]
    monkeypatch.undo()
    assert await wallet.call("sessions") == []


async def test_a_socket_with_too_many_requests_under_way(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    calls = [
        asyncio.create_task(wallet.call("connect", peer=peer.address, act_one=ACT_ONE))
        for _ in range(70)
    ]
    done, _ = await asyncio.wait(calls, timeout=10, return_when=asyncio.FIRST_EXCEPTION)
    failures = [call.exception() for call in done]
    assert {error.code for error in failures if isinstance(error, RpcFailure)} == {"limit"}
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


# ---- wallets: REST ----

GOOD_CONNECT = {"url": "02" + "11" * 32 + "@127.0.0.1:1", "message": "00" * 50}


@pytest.mark.parametrize(
    ("path", "body", "content_type", "status", "code"),
    [
        ("/api/connect", b"{", "application/json", 400, "parse_error"),
        ("/api/connect", b"\xff\xfe", "application/json", 400, "parse_error"),
        ("/api/connect", b"[]", "application/json", 422, "invalid_params"),
        ("/api/connect", b'{"url": 7}', "application/json", 422, "invalid_params"),
        ("/api/connect", b"{}", "text/plain", 400, "invalid_request"),
        ("/api/connect", b"[" * 10_000, "application/json", 422, "invalid_params"),
        ("/api/connect", b'{"x":' * 3000, "application/json", 400, "parse_error"),
        ("/api/connect", b" " * 20_000, "application/json", 413, "too_large"),
        (
            "/api/connect",
            json.dumps({**GOOD_CONNECT, "message": "00" * 49}).encode(),
            "application/json",
            422,
            "invalid_params",
        ),
        ("/api/handshake/" + "0" * 32, b"{}", "application/json", 422, "invalid_params"),
        (
            "/api/handshake/" + "0" * 32,
            json.dumps(
                {
                    "message": "00" * 66,
                    "keys": dict.fromkeys(("sending", "receiving", "chaining"), "00" * 32),
                }
            ).encode(),
            "application/json",
            404,
            "session_unknown",
        ),
        (
            "/api/handshake/" + "0" * 32,
            json.dumps(
                {
                    "message": "00" * 66,
                    "keys": {"sending": "00" * 31, "receiving": "00" * 32, "chaining": "00" * 32},
                }
            ).encode(),
            "application/json",
            422,
            "invalid_params",
        ),
        ("/api/nothing", b"{}", "application/json", 404, "method_unknown"),
        ("/healthz", b"{}", "application/json", 405, "method_unknown"),
    ],
)
async def test_rest_bodies(
    server: Server, path: str, body: bytes, content_type: str, status: int, code: str
) -> None:
    async with aiohttp.ClientSession() as http:
        response = await http.post(
            server.url + path, data=body, headers={"Content-Type": content_type}
        )
        assert response.status == status
        assert response.content_type == "application/problem+json"
        problem = await response.json()
        assert problem["code"] == code
        assert problem["status"] == status
        assert problem["detail"]


async def test_a_rest_session_is_not_the_next_callers(
    server: Server, wallet: RawWallet, peer: ScriptedPeer
) -> None:
    """A wallet's own session is no business of REST, whoever knows its id."""
    session_id, _ = await wallet.open_session(peer)
    body = {
        "message": "00" * 66,
        "keys": dict.fromkeys(("sending", "receiving", "chaining"), "00" * 32),
    }
    async with aiohttp.ClientSession() as http:
        response = await http.post(f"{server.url}/api/handshake/{session_id}", json=body)
        assert response.status == 404


async def test_garbage_on_the_port(server: Server) -> None:
    for garbage in (b"\x00" * 5000, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000, b"\x16\x03\x01"):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(garbage)
        try:
            await writer.drain()
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 10)
        except ConnectionError:
            pass
        writer.close()


# ---- access ----


async def test_access_by_token(peer: ScriptedPeer) -> None:
    settings = ApiSettings(port=0, access="token", tokens=["a-token-of-some-length"])
    async with relay(settings) as server:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "a-token"}):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                async with raw_wallet(server.url, headers=headers):
                    pass
            assert caught.value.status == 401
        good = {"Authorization": "Bearer a-token-of-some-length"}
        async with raw_wallet(server.url, headers=good) as wallet:
            await wallet.open_session(peer)
        async with aiohttp.ClientSession() as http:
            response = await http.post(f"{server.url}/api/connect", json=GOOD_CONNECT)
            assert response.status == 401
            assert response.headers["WWW-Authenticate"] == "Bearer"
            assert (await response.json())["code"] == "unauthenticated"
            assert (await http.get(f"{server.url}/healthz")).status == 200


async def test_access_by_allowlist() -> None:
    listed = b"\x75" * 32
    node_id = ScriptedPeer(listed).node_id
    settings = ApiSettings(port=0, access="allowlist", allowlist=[node_id.hex()])
    async with relay(settings) as server:
        async with raw_wallet(server.url, listed) as wallet:
            assert await wallet.call("sessions") == []
        async with raw_wallet(server.url, authenticated=False) as stranger:
            with pytest.raises(RpcFailure) as caught:
                await stranger.authenticate()
            assert caught.value.code == "forbidden"
        async with aiohttp.ClientSession() as http:
            response = await http.post(f"{server.url}/api/connect", json=GOOD_CONNECT)
            assert response.status == 403


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}]
)
async def test_a_web_page_cannot_use_a_loopback_relay(
    server: Server, headers: dict[str, str]
) -> None:
    async with aiohttp.ClientSession() as http:
        response = await http.post(f"{server.url}/api/connect", json=GOOD_CONNECT, headers=headers)
        assert response.status == 403
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await http.ws_connect(f"{server.url}/v1/wallet", headers=headers)


async def test_web_pages_of_the_operators_choice_can() -> None:
    settings = ApiSettings(port=0, web_origins=["https://wallet.example"])
    async with relay(settings) as server, aiohttp.ClientSession() as http:
        headers = {"Origin": "https://wallet.example"}
        response = await http.options(f"{server.url}/api/connect", headers=headers)
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "https://wallet.example"
        response = await http.post(f"{server.url}/api/connect", json=GOOD_CONNECT, headers=headers)
        assert response.headers["Access-Control-Allow-Origin"] == "https://wallet.example"


# ---- what the logs say ----


async def test_logs_tell_what_happened_and_hold_no_key(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    with capture_logs() as logs:
        initiator, call = await connect(wallet, peer)
        connection = await peer.accept()
        shaking = asyncio.create_task(connection.handshake())
        params = handshake_params(initiator, await call)
        finishing = asyncio.create_task(wallet.call("handshake", **params))
        await shaking
        await connection.receive()
        await connection.send(PEER_INIT)
        await finishing
        await connection.raw(bytes(100))
        await wallet.event("closed")
    events = [entry["event"] for entry in logs]
    steps = ["act_one", "act_two", "act_three", "init_sent", "init_received", "session_ready"]
    assert [event for event in events if event in steps] == steps
    assert "session_closed" in events
    text = repr(logs)
    for key in initiator.keys:
        assert key.hex() not in text
        assert repr(key)[2:-1] not in text


async def test_the_address_in_use_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="already in use"):
            async with relay(ApiSettings(port=port)):
                pass
