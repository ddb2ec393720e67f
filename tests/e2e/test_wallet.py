"""The real wallet at the real relay: as an owner would use them, with connections that break."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lightning_proxy.api import ApiSettings, Server
from lightning_proxy.bolt import messages
from lightning_proxy.relay import RelaySettings
from lightning_proxy.wallet import (
    Backoff,
    ChannelKeysRequest,
    KeySigner,
    Policy,
    Reconnected,
    Record,
    RelayError,
    Wallet,
    WalletKeys,
)
from lightning_proxy.wallet.signer import Approve
from tests.support.channels import open_channel
from tests.support.peer import ScriptedPeer
from tests.support.relay import PEER_INIT, take

POLICY = Policy(chains=("regtest",))
QUICK = Backoff(first=0.01, most=0.05)


@asynccontextmanager
async def signing_wallet(
    server: Server, folder: Path, keys: WalletKeys, approve: Approve | None = None
) -> AsyncIterator[Wallet]:
    path = folder / "record"
    if not path.exists():
        Record.create(path, keys.node_id)
    policy = Policy(chains=("regtest",), approve_by_hand=approve is not None)
    async with (
        Record(path, keys.node_id) as record,
        Wallet(
            server.url, keys, signer=KeySigner(keys, policy, record, approve), backoff=QUICK
        ) as wallet,
    ):
        yield wallet


def break_sockets(server: Server) -> None:
    """As a network does: the wallets' connections are gone without a word."""
    for socket in list(server._sockets):
        assert socket._transport is not None
        socket._transport.abort()


async def test_an_owner_who_decides_while_the_connection_breaks(
    server: Server, peer: ScriptedPeer, tmp_path: Path
) -> None:
    asked_owner: list[ChannelKeysRequest] = []
    decided = asyncio.Event()

    async def approve(request: ChannelKeysRequest) -> bool:
        asked_owner.append(request)
        await decided.wait()
        return True

    keys = WalletKeys.generate()
    async with signing_wallet(server, tmp_path, keys, approve) as wallet:
        taking = asyncio.create_task(take(peer))
        await wallet.connect(peer.address)
        connection = await taking
        asked = open_channel()
        await connection.send(asked.encode())
        while not asked_owner:
            await asyncio.sleep(0.01)
        for _ in range(3):
            break_sockets(server)
            async for event in wallet.events():
                if isinstance(event, Reconnected):
                    break
        decided.set()
        accept = messages.decode(await connection.receive())
        assert isinstance(accept, messages.AcceptChannel)
        assert [request.open_channel for request in asked_owner] == [asked]


async def test_a_wallet_that_restarts_gives_the_same_answer_and_never_the_same_keys(
    server: Server, peer: ScriptedPeer, tmp_path: Path
) -> None:
    keys = WalletKeys.generate()
    first, second = open_channel(), open_channel()
    async with signing_wallet(server, tmp_path, keys) as wallet:
        taking = asyncio.create_task(take(peer))
        await wallet.connect(peer.address)
        connection = await taking
        await connection.send(first.encode())
        one = messages.decode(await connection.receive())
    # Away: what comes now waits for the wallet's next life.
    await connection.send(second.encode())
    async with signing_wallet(server, tmp_path, keys) as wallet:
        (info,) = await wallet.sessions()
        assert wallet.session(info.session_id).peer_init == messages.decode(PEER_INIT)
        two = messages.decode(await connection.receive())
    assert isinstance(one, messages.AcceptChannel)
    assert isinstance(two, messages.AcceptChannel)
    async with Record(tmp_path / "record", keys.node_id) as record:
        salts = [stored.salt for stored in await record.channels()]
    assert one.funding_pubkey == keys.channel(0, salts[0]).points().funding_pubkey
    assert two.funding_pubkey == keys.channel(1, salts[1]).points().funding_pubkey


async def test_raw_messages_in_both_directions_without_a_gap(
    server: Server, peer: ScriptedPeer, tmp_path: Path
) -> None:
    async with signing_wallet(server, tmp_path, WalletKeys.generate()) as wallet:
        taking = asyncio.create_task(take(peer))
        session = await wallet.connect(peer.address)
        connection = await taking
        await session.subscribe(raw=True)
        count = 3000
        sent = [b"\x80\x01" + number.to_bytes(4, "big") * 10 for number in range(count)]

        async def read() -> list[bytes]:
            heard: list[bytes] = []
            async for message in session.messages():
                assert message.sequence == len(heard) + 1
                heard.append(message.raw)
                if len(heard) == count:
                    break
            return heard

        reading = asyncio.create_task(read())
        await connection.send(*sent)
        assert await asyncio.wait_for(reading, 30) == sent
        for message in sent[:300]:
            await session.send(message)
        for message in sent[:300]:
            assert await connection.receive() == message


async def test_a_forbidden_address_is_the_callers_error(server: Server, tmp_path: Path) -> None:
    async with signing_wallet(server, tmp_path, WalletKeys.generate()) as wallet:
        node = WalletKeys.generate().node_id.hex()
        with pytest.raises(RelayError, match="does not dial") as caught:
            await wallet.connect(f"{node}@192.168.1.1:9735")
        assert caught.value.code == "address_forbidden"


async def test_a_relay_that_shuts_down_tells_the_wallet(peer: ScriptedPeer, tmp_path: Path) -> None:
    server = Server(RelaySettings(), ApiSettings(port=0))
    await server.__aenter__()
    async with signing_wallet(server, tmp_path, WalletKeys.generate()) as wallet:
        taking = asyncio.create_task(take(peer))
        session = await wallet.connect(peer.address)
        await taking
        leaving = asyncio.create_task(server.__aexit__(None, None, None))
        assert "shutting down" in await asyncio.wait_for(session.closed(), 10)
        await leaving
