"""A relay on loopback that a proxy brings the world to is no relay on loopback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from coincurve import PrivateKey

from lightning_proxy.api import ApiSettings, Server, SettingsError
from lightning_proxy.relay import DialSettings, RelaySettings
from lightning_proxy.transport.handshake import Initiator
from tests.support.peer import ScriptedPeer
from tests.support.receivers import Receiver
from tests.support.relay import (
    ACT_ONE,
    RawWallet,
    RpcFailure,
    handshake_params,
    raw_wallet,
    relay,
)

PUBLIC = "https://relay.example.com"
HEADERS = {"Host": "relay.example.com"}
TOKEN = "sixteen-characters-or-more"
#: What a proxy in front makes of the settings.
FRONTED: list[dict[str, Any]] = [
    {"origins": [PUBLIC]},
    {"origins": ["http://127.0.0.1:3000", PUBLIC]},
    {"trusted_proxies": ["127.0.0.1/32"]},
]
NODE_ID = PrivateKey(b"\5" * 32).public_key.format().hex()


@pytest.mark.parametrize("settings", FRONTED)
def test_who_may_use_it_has_to_be_said(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r'set access to "token", "allowlist" or "open"'):
        Server(RelaySettings(), ApiSettings(**settings))
    ApiSettings(**settings, access="token", tokens=[TOKEN]).checked()
    ApiSettings(**settings, access="allowlist", allowlist=[NODE_ID]).checked()
    ApiSettings(**settings, access="open").checked()


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "ws://127.0.0.1:80", "https://[::1]", "http://127.0.0.9"]
)
def test_other_names_of_this_machine_are_no_proxy(origin: str) -> None:
    settings = ApiSettings(origins=[origin]).checked()
    assert (settings.access, settings.is_local) == ("open", True)


class Service:
    """Something else that listens on this machine; `heard`, once it is closed."""

    def __init__(self, greeting: bytes) -> None:
        self._greeting = greeting
        self.came = 0
        self.heard = b""
        self.over = asyncio.Event()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came += 1
        writer.write(self._greeting)
        self.heard = await reader.read(-1)
        writer.close()
        self.over.set()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["Service"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"{NODE_ID}@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()


#: A banner of more than 50 bytes; one whose first 50 would do for a version; and one that lacks it.
BANNERS = [
    b"SSH-2.0-OpenSSH_9.9 a greeting that is long enough to be act two by its length\r\n",
    b"\0\2" + b"\xff" * 48,
    b"\1" + PrivateKey(b"\1" * 32).public_key.format() + bytes(16),
]


async def test_this_machine_is_dialled_by_nobody_there(peer: ScriptedPeer) -> None:
    for settings in FRONTED:
        api = ApiSettings(port=0, access="open", **settings)
        headers = HEADERS if "origins" in settings else {}
        async with Service(b"").serve() as service, relay(api) as server:
            body = {"url": service.address, "message": ACT_ONE}
            async with (
                aiohttp.ClientSession() as http,
                http.post(f"{server.url}/api/connect", json=body, headers=headers) as response,
            ):
                assert response.status == 403
                assert (await response.json())["code"] == "address_forbidden"
            assert service.came == 0
    # An operator who means it says so.
    api = ApiSettings(port=0, access="open", trusted_proxies=["127.0.0.1/32"])
    async with (
        relay(api, dial=DialSettings(allow_loopback=True)) as server,
        raw_wallet(server.url) as wallet,
    ):
        await wallet.open_session(peer)


async def test_no_webhook_is_called_there() -> None:
    api = ApiSettings(port=0, access="open", trusted_proxies=["127.0.0.1/32"])
    async with Receiver().serve() as receiver, relay(api) as server:
        async with raw_wallet(server.url) as wallet:
            with pytest.raises(RpcFailure) as failure:
                await wallet.call("wake_by_webhook", url=f"http://127.0.0.1:{receiver.port}")
            assert failure.value.code == "address_forbidden"
            # A name is looked up when it is called, and its status is nobody's to learn.
            await wallet.call("wake_by_webhook", url=f"http://localhost:{receiver.port}/admin")
            (target,) = await wallet.call("test_wake")
            assert target["failure"] == "this relay does not call that address"
        assert receiver.pushes.empty()


@pytest.mark.parametrize("banner", BANNERS, ids=["words", "point", "version"])
async def test_what_no_node_says_is_read_to_nobody(wallet: RawWallet, banner: bytes) -> None:
    async with Service(banner).serve() as service:
        with pytest.raises(RpcFailure) as failure:
            await wallet.call("connect", peer=service.address, act_one=ACT_ONE)
        assert failure.value.code == "peer_failed"
        assert failure.value.sentence == "What answers there is no Lightning node."
        await asyncio.wait_for(service.over.wait(), 10)
        assert service.heard == bytes.fromhex(ACT_ONE)
        assert await wallet.call("sessions") == []


@pytest.mark.parametrize(
    "act_one",
    [
        b"\r\nFLUSHALL\r\n".ljust(50, b"x"),
        b"\1" + bytes.fromhex(ACT_ONE)[1:],
        b"\0\4" + bytes.fromhex(ACT_ONE)[2:],
        # No point of the curve has this x.
        b"\0\2" + b"\xff" * 32 + bytes(16),
    ],
    ids=["words", "version", "form", "point"],
)
async def test_what_is_no_act_one_is_said_to_nobody(wallet: RawWallet, act_one: bytes) -> None:
    async with Service(b"").serve() as service:
        with pytest.raises(RpcFailure) as failure:
            await wallet.call("connect", peer=service.address, act_one=act_one.hex())
        assert failure.value.code == "invalid_params"
        body = {"url": service.address, "message": act_one.hex()}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{wallet.url}/api/connect", json=body) as response,
        ):
            assert response.status == 422
        assert service.came == 0


async def test_what_is_no_act_three_is_said_to_nobody(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    initiator = Initiator(wallet.secret, peer.node_id)
    connecting = asyncio.create_task(
        wallet.call("connect", peer=peer.address, act_one=initiator.act_one().hex())
    )
    connection = await peer.accept()
    await connection.raw(connection.responder.act_one(await connection.read(50)))
    params = handshake_params(initiator, await connecting)
    with pytest.raises(RpcFailure) as failure:
        await wallet.call("handshake", **{**params, "act_three": "0d0a" * 33})
    assert failure.value.code == "invalid_params"
    # The right one is taken all the same.
    finishing = asyncio.create_task(wallet.call("handshake", **params))
    connection.use(connection.responder.act_three(await connection.read(66)))
    await connection.close()
    with pytest.raises(RpcFailure):
        await finishing
