"""The main job: a handshake through the relay, `open_channel`, `accept_channel`."""

import asyncio

import aiohttp
import pytest

from lightning_proxy.api import Server
from lightning_proxy.bolt import messages
from lightning_proxy.bolt.features import Feature, Features
from lightning_proxy.bolt.messages import AcceptChannel, Error, Init, decode
from lightning_proxy.transport.handshake import Initiator
from tests.support.channels import channel_keys, open_channel
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.relay import (
    PEER_INIT,
    RawWallet,
    RpcFailure,
    direction,
    handshake_params,
    raw_wallet,
)


async def test_open_channel_becomes_accept_channel(wallet: RawWallet, peer: ScriptedPeer) -> None:
    session_id, connection = await wallet.open_session(peer)
    asked = open_channel()
    await connection.send(asked.encode())
    delegation = await wallet.event("delegate")
    assert delegation["session_id"] == session_id
    assert delegation["kind"] == "channel_keys"
    assert delegation["peer"] == peer.node_id.hex()
    assert delegation["channel_id"] == asked.temporary_channel_id.hex()
    assert delegation["sequence"] == 1
    assert delegation["messages"] == [asked.encode().hex()]
    assert delegation["decoded"][0]["name"] == "open_channel"
    assert delegation["decoded"][0]["funding_satoshis"] == 1_000_000
    keys = channel_keys()
    await wallet.answer(delegation, keys)
    accept = decode(await connection.receive())
    assert isinstance(accept, AcceptChannel)
    assert accept.temporary_channel_id == asked.temporary_channel_id
    assert accept.funding_pubkey.hex() == keys["funding_pubkey"]
    assert accept.first_per_commitment_point.hex() == keys["first_per_commitment_point"]
    assert accept.channel_type == asked.channel_type
    assert accept.minimum_depth == 3
    await wallet.quiet()


async def test_a_refusal_becomes_an_error_for_that_channel(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    _, connection = await wallet.open_session(peer)
    asked = open_channel()
    await connection.send(asked.encode())
    await wallet.refuse(await wallet.event("delegate"), "too small for this wallet")
    error = decode(await connection.receive())
    assert error == Error(channel_id=asked.temporary_channel_id, data=b"too small for this wallet")
    # The session goes on.
    await connection.send(open_channel().encode())
    await wallet.event("delegate")


async def test_the_init_is_the_wallets_to_choose(wallet: RawWallet, peer: ScriptedPeer) -> None:
    init = Init(globalfeatures=b"", features=Features.from_bits([1, 9, 13]).to_bytes()).encode()
    _, connection = await wallet.open_session(peer, PEER_INIT, init=init.hex())
    assert connection.init == init


async def test_the_default_init_satisfies_lnd_and_ldk(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    _, connection = await wallet.open_session(peer)
    init = decode(connection.init)
    assert isinstance(init, Init)
    features = Features.from_bytes(init.features)
    for bit in (0, 8, 12, 14, 44):
        assert features.offers(Feature(bit))


async def test_a_session_that_has_already_spoken_is_handed_over(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    """Nonces and chaining keys of their own: here the wallet's side is 500 frames old."""
    initiator = Initiator(wallet.secret, peer.node_id)
    connecting = asyncio.create_task(
        wallet.call("connect", peer=peer.address, act_one=initiator.act_one().hex())
    )
    connection = await peer.accept()
    shaking = asyncio.create_task(connection.handshake())
    params = handshake_params(initiator, await connecting)
    keys = initiator.keys
    params["sending"] = direction(keys.sending_key, b"\x07" * 32, 1000)
    params["receiving"] = direction(keys.receiving_key, b"\x08" * 32, 998)
    finishing = asyncio.create_task(wallet.call("handshake", **params))
    await shaking
    connection.receiving.chaining_key = b"\x07" * 32
    connection.sending.chaining_key = b"\x08" * 32
    for _ in range(500):
        connection.receiving.seal(b"")
    for _ in range(499):
        connection.sending.seal(b"")
    assert decode(await connection.receive()).NAME == "init"
    await connection.send(PEER_INIT)
    await finishing
    await connection.send(b"\x00\x12\x00\x02\x00\x00", b"\x00\x12\x00\x03\x00\x00")
    while len(pong := await connection.receive()) != 6:
        pass
    assert pong == b"\x00\x13\x00\x02\x00\x00"
    assert await connection.receive() == b"\x00\x13\x00\x03\x00\x00\x00"


async def rest_session(
    http: aiohttp.ClientSession, server: Server, peer: ScriptedPeer
) -> PeerConnection:
    """The flow of 2019; the connection's `session_id` is what REST called it."""
    initiator = Initiator(b"\x33" * 32, peer.node_id)
    body: dict[str, object] = {"url": peer.address, "message": initiator.act_one().hex()}
    connecting = asyncio.create_task(http.post(f"{server.url}/api/connect", json=body))
    connection = await peer.accept()
    shaking = asyncio.create_task(connection.handshake())
    response = await connecting
    assert response.status == 200
    connected = await response.json()
    assert set(connected) == {"id", "message"}
    act_three = initiator.act_two(bytes.fromhex(connected["message"]))
    keys = initiator.keys
    body = {
        "message": act_three.hex(),
        "keys": {
            "sending": keys.sending_key.hex(),
            "receiving": keys.receiving_key.hex(),
            "chaining": keys.chaining_key.hex(),
        },
    }
    url = f"{server.url}/api/handshake/{connected['id']}"
    finishing = asyncio.create_task(http.post(url, json=body))
    await shaking
    assert decode(await connection.receive()).NAME == "init"
    await connection.send(PEER_INIT)
    response = await finishing
    assert response.status == 200
    assert await response.json() == {"message": PEER_INIT.hex()}
    connection.session_id = connected["id"]
    return connection


async def test_rest_as_the_clients_of_2019_use_it(server: Server, peer: ScriptedPeer) -> None:
    async with aiohttp.ClientSession() as http:
        connection = await rest_session(http, server, peer)

    # What comes before anybody adopts the session waits for who does.
    asked = open_channel()
    await connection.send(asked.encode())
    async with raw_wallet(server.url) as wallet:
        info = await wallet.call("adopt", session_id=connection.session_id)
        assert info["session_id"] == connection.session_id
        assert info["state"] == "ready"
        delegation = await wallet.event("delegate")
        await wallet.answer(delegation, channel_keys())
        assert decode(await connection.receive()).NAME == "gossip_timestamp_filter"
        assert decode(await connection.receive()).NAME == "accept_channel"
        # Adopting again is the same; nobody else can.
        assert (await wallet.call("adopt", session_id=connection.session_id))["state"] == "ready"
        async with raw_wallet(server.url) as thief:
            with pytest.raises(RpcFailure, match="not this wallet's"):
                await thief.call("adopt", session_id=connection.session_id)


async def test_a_rest_session_that_nobody_adopted_leaves_nothing(
    server: Server, peer: ScriptedPeer
) -> None:
    async with aiohttp.ClientSession() as http:
        connection = await rest_session(http, server, peer)
    warning = messages.Warning(channel_id=bytes(32), data=b"w" * 1000).encode()
    await connection.send(*[warning] * 50, open_channel().encode())
    while server.relay.queued_bytes < 50_000:
        await asyncio.sleep(0.01)
    await connection.close()
    while list(server.relay.sessions()):
        await asyncio.sleep(0.01)
    assert server.relay.queued_bytes == 0


async def test_resume_delivers_open_delegations_again_in_order(
    server: Server, peer: ScriptedPeer
) -> None:
    secret = b"\x44" * 32
    asked = [open_channel() for _ in range(3)]
    async with raw_wallet(server.url, secret) as wallet:
        _, connection = await wallet.open_session(peer)
        await connection.send(asked[0].encode())
        first = await wallet.event("delegate")
    await connection.send(asked[1].encode(), asked[2].encode())
    async with raw_wallet(server.url, secret, authenticated=False) as wallet:
        welcome = await wallet.authenticate()
        assert [session["state"] for session in welcome["sessions"]] == ["ready"]
        again = [await wallet.event("delegate") for _ in range(3)]
        assert again[0].pop("remaining") < first.pop("remaining")
        assert again[0] == first
        assert [one["sequence"] for one in again] == [1, 2, 3]
        assert [one["messages"][0] for one in again] == [one.encode().hex() for one in asked]
        for one in reversed(again):
            await wallet.answer(one, channel_keys())
        for one in reversed(asked):
            accept = decode(await connection.receive())
            assert isinstance(accept, AcceptChannel)
            assert accept.temporary_channel_id == one.temporary_channel_id


async def test_several_sessions_on_one_socket_and_several_sockets_of_one_wallet(
    server: Server, peer: ScriptedPeer
) -> None:
    secret = b"\x55" * 32
    async with (
        raw_wallet(server.url, secret) as phone,
        raw_wallet(server.url, secret) as tablet,
        raw_wallet(server.url) as stranger,
    ):
        sessions = [await phone.open_session(peer) for _ in range(3)]
        own = await stranger.open_session(peer)
        for session_id, connection in sessions:
            await connection.send(open_channel().encode())
            for device in (phone, tablet):
                assert (await device.event("delegate"))["session_id"] == session_id
        assert {item["session_id"] for item in await tablet.call("sessions")} == {
            session_id for session_id, _ in sessions
        }
        assert [item["session_id"] for item in await stranger.call("sessions")] == [own[0]]
        await stranger.quiet()


async def test_two_devices_one_outcome(server: Server, peer: ScriptedPeer) -> None:
    secret = b"\x66" * 32
    async with (
        raw_wallet(server.url, secret) as phone,
        raw_wallet(server.url, secret) as tablet,
    ):
        _, connection = await phone.open_session(peer)
        await connection.send(open_channel().encode())
        delegation = await phone.event("delegate")
        assert await tablet.event("delegate") == delegation
        keys = channel_keys()
        await phone.answer(delegation, keys)
        accept = decode(await connection.receive())
        assert isinstance(accept, AcceptChannel)
        assert accept.funding_pubkey.hex() == keys["funding_pubkey"]
        voided = await tablet.event("voided")
        assert voided == {"id": delegation["id"], "reason": "another device answered"}
        await tablet.answer(delegation, channel_keys())
        rejected = await tablet.event("rejected")
        assert rejected["id"] == delegation["id"]
        assert rejected["code"] == "delegation_over"
        await phone.quiet()
