"""A wallet's devices: let in by the node key, each with its rights, one of them at a channel."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey

from lightning_proxy.api import Server
from lightning_proxy.api.methods import RIGHTS
from lightning_proxy.api.openapi import METHODS
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.keys import sign_message
from lightning_proxy.bolt.messages import AcceptChannel, decode
from lightning_proxy.relay.devices import LeaseKey
from lightning_proxy.relay.store import tables
from lightning_proxy.relay.store.devices import StoredLease
from lightning_proxy.relay.wake.settings import WakeSettings
from lightning_proxy.rpc import (
    AddDevice,
    DeviceInfo,
    DeviceRight,
    authentication_text,
    normal_origin,
)
from lightning_proxy.wallet import RelayError, Wallet, WalletKeys
from lightning_proxy.wallet.device import DeviceKeys
from lightning_proxy.wallet.errors import KeystoreError, WalletError
from tests.support.channels import channel_keys, open_channel
from tests.support.opening import Side
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.receivers import Receiver
from tests.support.relay import RawWallet, RpcFailure, raw_wallet, relay

SECRET = b"\x5d" * 32
NODE_ID = PrivateKey(SECRET).public_key.format().hex()
ALL = ["see", "answer", "connect"]
#: Nothing but a device's rights tells that it is not there.
PATIENT: dict[str, Any] = {"wallet_answer_timeout": 60.0, "wallet_pong_timeout": 60.0}


class Device:
    def __init__(self) -> None:
        self.secret = PrivateKey(secrets.token_bytes(32)).secret
        self.key = PrivateKey(self.secret).public_key.format().hex()


async def authenticate(socket: RawWallet, own: Device, **changes: Any) -> Any:
    challenge = await socket.event("challenge")
    text = authentication_text(normal_origin(socket.url), challenge["challenge"], NODE_ID)
    params = {
        "node_id": NODE_ID,
        "signature": sign_message(own.secret, text),
        "device": own.key,
        **changes,
    }
    return await socket.call("authenticate", **params)


@asynccontextmanager
async def on(server: Server, device: Device) -> AsyncIterator[RawWallet]:
    async with raw_wallet(server.url, SECRET, authenticated=False) as socket:
        await authenticate(socket, device)
        yield socket


async def authorise(wallet: RawWallet, *rights: str, name: str = "phone") -> Device:
    device = Device()
    await wallet.call("add_device", device_key=device.key, name=name, rights=list(rights or ALL))
    return device


async def asked(connection: PeerConnection, *sockets: RawWallet) -> dict[str, Any]:
    await connection.send(open_channel().encode())
    questions = [await socket.event("delegate") for socket in sockets]
    return questions[0]


async def accepted(connection: PeerConnection) -> AcceptChannel:
    message = decode(await connection.receive())
    assert isinstance(message, AcceptChannel), message
    return message


def test_every_method_has_its_right() -> None:
    asked_by_wallets = {name for name, (_, _, sender) in METHODS.items() if sender == "wallet"}
    assert set(RIGHTS) == asked_by_wallets - {"authenticate"}


async def test_a_device_is_let_in_by_its_own_key_and_listed(server: Server) -> None:
    async with raw_wallet(server.url, SECRET) as wallet:
        device = await authorise(wallet, "see")
        async with on(server, device) as phone:
            (info,) = await phone.call("devices")
            assert (info["device_key"], info["name"], info["rights"]) == (
                device.key,
                "phone",
                ["see"],
            )
            assert info["sockets"] == 1
        with pytest.raises(RpcFailure, match="fresh"):
            await wallet.call("add_device", device_key=device.key, name="x", rights=ALL)
        with pytest.raises(RpcFailure, match="fresh"):
            await wallet.call("add_device", device_key=NODE_ID, name="x", rights=ALL)


@pytest.mark.parametrize("case", ["unknown", "revoked", "other wallet", "node's text", "swapped"])
async def test_who_is_not_let_in(server: Server, case: str) -> None:
    async with raw_wallet(server.url, SECRET) as wallet:
        device = await authorise(wallet)
        changes: dict[str, Any] = {}
        match case:
            case "unknown":
                device = Device()
            case "revoked":
                await wallet.call("revoke_device", device_key=device.key)
            case "other wallet":
                other = PrivateKey(b"\x77" * 32).public_key.format().hex()
                changes = {"node_id": other}
            case "node's text":
                changes = {"device": None}
            case "swapped":
                changes = {"device": (await authorise(wallet)).key}
    async with raw_wallet(server.url, SECRET, authenticated=False) as socket:
        with pytest.raises(RpcFailure) as failure:
            await authenticate(socket, device, **changes)
        assert failure.value.code == "unauthenticated"


@pytest.mark.parametrize(
    ("right", "method", "params"),
    [
        ("answer", "sessions", {}),
        ("see", "acknowledge", {"position": 1}),
        ("see", "close", {"session_id": "11" * 16}),
        ("answer", "connect", {"peer": "x" * 70, "act_one": "00" * 50}),
        ("connect", "slots", {}),
    ],
)
async def test_a_device_without_the_right(
    server: Server, right: str, method: str, params: dict[str, Any]
) -> None:
    async with raw_wallet(server.url, SECRET) as wallet:
        device = await authorise(wallet, right)
    async with on(server, device) as phone:
        with pytest.raises(RpcFailure, match="lacks the right") as failure:
            await phone.call(method, **params)
        assert failure.value.code == "forbidden"


async def test_only_the_node_key_manages_devices(server: Server) -> None:
    async with raw_wallet(server.url, SECRET) as wallet:
        device = await authorise(wallet)
    async with on(server, device) as phone:
        for method, params in (
            ("add_device", {"device_key": Device().key, "name": "x", "rights": ALL}),
            ("revoke_device", {"device_key": device.key}),
        ):
            with pytest.raises(RpcFailure, match="node key"):
                await phone.call(method, **params)


async def test_a_device_that_may_only_look_answers_nothing_and_is_nobody(
    server: Server, peer: ScriptedPeer
) -> None:
    async with raw_wallet(server.url, SECRET) as wallet:
        _, connection = await wallet.open_session(peer)
        looker = await authorise(wallet, "see")
        dialler = await authorise(wallet, "connect")
    async with on(server, looker) as screen, on(server, dialler) as box:
        question = await asked(connection, screen)
        await screen.answer(question, channel_keys())
        assert (await screen.event("rejected"))["code"] == "forbidden"
        assert box.events.empty()
        (inbox,) = server.relay.inboxes()
        assert not inbox.is_attended
    async with raw_wallet(server.url, SECRET) as wallet:
        await wallet.answer(await wallet.event("delegate"), channel_keys())
        await accepted(connection)


async def test_revoked_while_it_is_there(server: Server) -> None:
    async with raw_wallet(server.url, SECRET) as wallet:
        device = await authorise(wallet)
        async with on(server, device) as phone:
            await wallet.call("revoke_device", device_key=device.key)
            await asyncio.wait_for(phone.ended.wait(), 10)
        (info,) = await wallet.call("devices")
        assert info["revoked"] > 0
        with pytest.raises(RpcFailure, match="no such device"):
            await wallet.call("revoke_device", device_key=device.key)


async def test_two_devices_at_once_are_one_outcome_and_the_other_is_told(
    server: Server, peer: ScriptedPeer
) -> None:
    async with raw_wallet(server.url, SECRET) as wallet:
        _, connection = await wallet.open_session(peer)
        devices = [await authorise(wallet), await authorise(wallet)]
    async with on(server, devices[0]) as one, on(server, devices[1]) as two:
        for _ in range(20):
            question = await asked(connection, one, two)
            answers = [channel_keys(), channel_keys()]
            await asyncio.gather(one.answer(question, answers[0]), two.answer(question, answers[1]))
            taken = (await accepted(connection)).funding_pubkey.hex()
            won = [answer["funding_pubkey"] for answer in answers].index(taken)
            loser = (two, one)[won]
            said = [await loser.event_body() for _ in range(2)]
            assert [body["method"] for body in said] == ["voided", "rejected"]
            assert said[0]["params"]["reason"] == "another device answered"


async def test_an_old_device_settles_nothing_that_a_newer_one_took_over(
    peer: ScriptedPeer, tmp_path: Path
) -> None:
    store = str(tmp_path / "relay.sqlite")
    async with relay(store=store) as server:
        async with raw_wallet(server.url, SECRET) as wallet:
            _, connection = await wallet.open_session(peer)
            old, new = await authorise(wallet, name="old"), await authorise(wallet, name="new")
        async with on(server, old) as phone, on(server, new) as tablet:
            side = Side(Role.OPENER)
            await connection.send(side.say(side.open_channel()))
            question = await phone.event("delegate")
            await tablet.event("delegate")
            accepter = Side(Role.ACCEPTER)
            await phone.answer(question, accepter.channel_keys())
            await tablet.event("voided")
            side.hear(await connection.receive())
            await connection.send(side.say(side.funding_created()))
            question = await phone.event("delegate")
            assert question["kind"] == "funding_signed"
            await tablet.event("delegate")
            answer = {"signature": "11" * 64}
            # The one that began goes on ...
            await tablet.answer(question, answer)
            assert (await tablet.event("rejected"))["code"] == "lease_held"
            # ... until another takes it over.
            channel_id = side.channel.temporary_channel_id.hex()
            lease = await tablet.call("take_over", channel_id=channel_id)
            assert lease == {"fencing": 1}
            lost = await phone.event("lease_lost")
            assert lost == {"channel_id": channel_id, "fencing": 1}
            await phone.answer(question, answer)
            assert (await phone.event("rejected"))["code"] == "lease_held"
            await phone.refuse(question, "no")
            assert (await phone.event("rejected"))["code"] == "lease_held"
            again = await phone.call("take_over", channel_id=channel_id)
            assert again == {"fencing": 2}
            await tablet.event("lease_lost")
            await tablet.answer(question, answer)
            assert (await tablet.event("rejected"))["code"] == "lease_held"
            with pytest.raises(RpcFailure, match="no such channel"):
                await phone.call("take_over", channel_id="77" * 32)
            key = LeaseKey(wallet.node_id, peer.node_id, side.channel.temporary_channel_id)
            # An opening costs the store nothing; a channel's lease is on the disk with it.
            assert await _stored_leases(server) == []
            accepter.hear(side.channel.log[0].raw)
            accepter.say(accepter.accept_channel())
            accepter.hear(bytes.fromhex(question["messages"][-1]))
            await phone.answer(question, {"signature": accepter.signature.hex()})
            assert (await connection.receive())[:2] == b"\x00\x23"
            assert await _stored_leases(server) == [key]
            # Nor does one that comes to nothing.
            failed = Side(Role.OPENER)
            await connection.send(failed.say(failed.open_channel()))
            question = await phone.event_of("delegate")
            temporary_id = failed.channel.temporary_channel_id.hex()
            await phone.call("take_over", channel_id=temporary_id)
            await phone.refuse(question, "no")
            await connection.receive()
            lost_key = LeaseKey(*key[:2], failed.channel.temporary_channel_id)
            assert lost_key not in server.relay.devices.leases._passing
        await server.relay.devices.leases._store.grant(StoredLease(*lost_key, b"\x02" * 33, 1))
    async with relay(store=store) as server:
        # Nor what an older relay left of such.
        assert await _stored_leases(server) == [key]
        leases = server.relay.devices.leases
        assert leases.holder(key) == bytes.fromhex(old.key)
        assert await leases.take_over(key, bytes.fromhex(new.key), is_stored=True) == 3


async def _stored_leases(server: Server) -> list[LeaseKey]:
    database = server.relay._database
    async with database.transaction() as connection:
        rows = await connection.execute(tables.leases.select())
        return [LeaseKey(row.wallet, row.peer, row.temporary_channel_id) for row in rows]


async def test_devices_survive_a_restart_and_are_only_so_many(tmp_path: Path) -> None:
    store = str(tmp_path / "relay.sqlite")
    async with (
        relay(store=store, max_devices_per_wallet=2) as server,
        raw_wallet(server.url, SECRET) as wallet,
    ):
        kept, revoked = await authorise(wallet), await authorise(wallet)
        with pytest.raises(RpcFailure, match="at most"):
            await authorise(wallet)
        await wallet.call("revoke_device", device_key=revoked.key)
    async with relay(store=store) as server:
        async with on(server, kept) as phone:
            assert len(await phone.call("devices")) == 2
        async with raw_wallet(server.url, SECRET, authenticated=False) as socket:
            with pytest.raises(RpcFailure):
                await authenticate(socket, revoked)


async def test_the_sdk_with_a_device_key(
    server: Server, peer: ScriptedPeer, tmp_path: Path
) -> None:
    keys = WalletKeys.generate()
    device = DeviceKeys.create(tmp_path / "device", keys.node_id)
    assert (tmp_path / "device").stat().st_mode & 0o777 == 0o600
    again = DeviceKeys.load(tmp_path / "device", keys.node_id)
    assert again.device_key == device.device_key
    with pytest.raises(KeystoreError):
        DeviceKeys.create(tmp_path / "device", keys.node_id)
    with pytest.raises(RelayError, match="none of this wallet's devices"):
        await Wallet(server.url, device).__aenter__()
    async with Wallet(server.url, keys) as wallet:
        wanted = AddDevice(device_key=device.device_key.hex(), name="tv", rights=[*DeviceRight])
        await wallet.request("add_device", wanted, DeviceInfo)
    async with Wallet(server.url, device) as wallet:
        assert wallet.node_id == keys.node_id
        assert await wallet.sessions() == []
        with pytest.raises(WalletError, match="no node key"):
            await wallet.connect(peer.address)


async def test_who_may_not_see_is_shown_no_session(server: Server, peer: ScriptedPeer) -> None:
    async with raw_wallet(server.url, SECRET) as wallet:
        session_id, _ = await wallet.open_session(peer)
        for rights in (["answer"], ["connect"], ["answer", "connect"], ["see"], ALL):
            device = await authorise(wallet, *rights)
            async with raw_wallet(server.url, SECRET, authenticated=False) as socket:
                shown = (await authenticate(socket, device))["sessions"]
                expected = [session_id] if "see" in rights else []
                assert [each["session_id"] for each in shown] == expected


async def test_who_may_not_see_learns_nothing_of_where_the_wallet_is_woken() -> None:
    quick = WakeSettings(cooldown=0.001)
    async with (
        Receiver().serve() as receiver,
        relay(wake=quick) as server,
        raw_wallet(server.url, SECRET) as wallet,
    ):
        receiver.answers(503, text="a secret of the receiver's")
        own = await wallet.call("wake_by_webhook", url=receiver.url)
        async with on(server, await authorise(wallet, "answer")) as blind:
            assert await woken_by(blind) == []
            # It was woken all the same.
            assert b'"test"' in (await receiver.push()).body
            # Nor by naming what is there already.
            named = await blind.call("wake_by_webhook", url=receiver.url)
            assert named == own
        async with on(server, await authorise(wallet, "answer", "see")) as seeing:
            (target,) = await woken_by(seeing)
            assert "503" in target["failure"]
            assert await seeing.call("wake_by_webhook", url=receiver.url) == target


async def woken_by(socket: RawWallet) -> Any:
    """The result of `test_wake`, once the one before is over."""
    while True:
        try:
            return await socket.call("test_wake")
        except RpcFailure as failure:
            assert failure.code == "limit"
            await asyncio.sleep(0)


@pytest.mark.parametrize("rights", [["answer"], ["see"], ["answer", "connect"], ["connect"]])
async def test_who_can_only_half_attend_keeps_nobody_asleep(
    peer: ScriptedPeer, rights: list[str]
) -> None:
    async with Receiver().serve() as receiver, relay(**PATIENT) as server:
        async with raw_wallet(server.url, SECRET) as wallet:
            await wallet.call("wake_by_webhook", url=receiver.url)
            device = await authorise(wallet, *rights)
            whole = await authorise(wallet, "see", "answer")
            _, connection = await wallet.open_session(peer)
        async with on(server, device):
            await connection.send(open_channel().encode())
            push = json.loads((await receiver.push()).body)
            assert push["reason"] == "delegation"
            # One that sees and answers settles it.
            async with on(server, whole) as phone:
                question = await phone.event_of("delegate")
                assert question["id"] == push["id"]
                await phone.answer(question, channel_keys())
                await accepted(connection)


async def test_who_sees_and_answers_is_there(peer: ScriptedPeer) -> None:
    """The counterpart: the same question, and no push for it."""
    async with (
        Receiver().serve() as receiver,
        relay(**PATIENT) as server,
        raw_wallet(server.url, SECRET) as wallet,
    ):
        await wallet.call("wake_by_webhook", url=receiver.url)
        device = await authorise(wallet, "see", "answer")
        _, connection = await wallet.open_session(peer)
        async with on(server, device) as phone:
            await wallet.socket.close()
            await wallet.ended.wait()
            await phone.answer(await asked(connection, phone), channel_keys())
            await accepted(connection)
            assert receiver.pushes.empty()
