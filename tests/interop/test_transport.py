"""Long sessions with real peers: thousands of messages across key rotations, minutes of pings."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from lightning_proxy.wallet import Session
from tests.interop.lab.btcd import Btcd
from tests.interop.lab.ldk_node import LdkNode
from tests.interop.lab.nodes import (
    FIRST_ODD_CUSTOM_TYPE,
    ElectrumPeer,
    Lnd,
    PylnPeer,
    ScriptedPeer,
    load_tally,
    npm_client,
)
from tests.interop.lab.responder import ECHO_TYPE, custom_message
from tests.interop.relayed import LabWallet, lab_relay, lab_wallet

#: Past three key rotations of BOLT #8 each way (one every 500 messages).
LOAD = 2_000
#: Seconds.
PINGING = 305


async def send_load(session: Session, count: int, size: int) -> None:
    """Custom messages, some under way at once and all in order."""
    for start in range(0, count, 50):
        await asyncio.gather(
            *(
                session.send(custom_message(index, size, FIRST_ODD_CUSTOM_TYPE))
                for index in range(start, start + 50)
            )
        )


async def receive_load(session: Session, count: int) -> dict[str, object]:
    """The tally of the next `count` custom messages (see `load_tally`)."""
    digest = hashlib.sha256()
    size = messages = 0
    async with asyncio.timeout(120):
        async for message in session.messages():
            if int.from_bytes(message.raw[:2], "big") >= FIRST_ODD_CUSTOM_TYPE:
                messages += 1
                size += len(message.raw) - 2
                digest.update(message.raw)
            if messages == count:
                break
    return {"messages": messages, "bytes": size, "sha256": digest.hexdigest()}


async def test_2000_messages_each_way_with_ldk(lab: Path) -> None:
    async with (
        LdkNode(lab) as ldk,
        lab_relay() as relay,
        lab_wallet(lab, relay.url) as wallet,
    ):
        session = await wallet.client.connect(ldk.url)
        await session.subscribe(raw=True)
        receiving = asyncio.create_task(receive_load(session, LOAD))
        await ldk.post("send-custom", node_id=wallet.node_id, count=LOAD, size=150)
        await send_load(session, LOAD, 99)
        assert await ldk.received_custom(wallet.node_id, LOAD) == load_tally(LOAD, 99)
        assert await receiving == load_tally(LOAD, 150)
        assert not session.is_closed


async def test_2000_messages_each_way_with_lnd(lab: Path) -> None:
    """lnd sends what it is asked for: 2,000 of the wallet's pings, 2,000 pongs."""
    async with (
        Btcd(lab) as btcd,
        Lnd(lab, btcd) as lnd,
        lab_relay() as relay,
        lab_wallet(lab, relay.url) as wallet,
    ):
        session = await wallet.client.connect(lnd.url)
        await session.subscribe(raw=True)
        for count in range(LOAD):
            await session.send(b"\x00\x12\x00\x04\x00\x08" + count.to_bytes(8, "big"))
        async with asyncio.timeout(60):
            while True:
                (info,) = await wallet.client.sessions()
                if info.pongs_received >= LOAD:
                    break
                await asyncio.sleep(0.1)
        assert info.pongs_received == LOAD
        (peer,) = await lnd.peers()
        assert peer["pub_key"] == wallet.node_id
        # And the keys still fit: a custom message of lnd's arrives.
        sent = await lnd.cli(
            "sendcustom", "--peer", wallet.node_id, "--type", 32769, "--data", "00ff"
        )
        assert sent is not None
        async with asyncio.timeout(20):
            async for message in session.messages():
                if message.raw[:2] == b"\x80\x01":
                    assert message.raw == b"\x80\x01\x00\xff"
                    break


@pytest.mark.parametrize("kind", [ElectrumPeer, PylnPeer])
async def test_other_transports(lab: Path, kind: type[ScriptedPeer]) -> None:
    async with (
        kind(lab) as peer,
        lab_relay() as relay,
        lab_wallet(lab, relay.url) as wallet,
    ):
        session = await wallet.client.connect(peer.url)
        assert (await peer.event("connected"))["node_id"] == wallet.node_id
        await session.subscribe(raw=True)
        receiving = asyncio.create_task(receive_load(session, LOAD))
        await peer.command("pings", count=700, num_pong_bytes=100)
        await peer.command("custom", count=LOAD, size=150, type=FIRST_ODD_CUSTOM_TYPE)
        await send_load(session, LOAD, 99)
        assert await peer.received_custom(LOAD) == load_tally(LOAD, 99)
        assert await receiving == load_tally(LOAD, 150)
        status = await peer.status()
        assert (status["pongs_received"], status["pong_bytes"]) == (700, 70_000)


async def test_five_minutes_of_real_pings(lab: Path) -> None:
    """LDK pings every 10 s, lnd every minute; our own go out when nothing else comes in."""
    async with (
        Btcd(lab) as btcd,
        Lnd(lab, btcd) as lnd,
        LdkNode(lab) as ldk,
        lab_relay() as relay,
        lab_wallet(lab, relay.url) as wallet,
    ):
        sessions = {
            "lnd": await wallet.client.connect(lnd.url),
            "ldk": await wallet.client.connect(ldk.url),
        }
        await asyncio.sleep(PINGING)
        infos = {info.session_id: info for info in await wallet.client.sessions()}
        assert infos[sessions["ldk"].id].pings_received >= PINGING // 10 - 2
        from_lnd = infos[sessions["lnd"].id]
        assert from_lnd.pings_received >= PINGING // 60 - 1
        assert from_lnd.pongs_received >= 1
        assert not [name for name, session in sessions.items() if session.is_closed]
        assert [peer["pub_key"] for peer in await lnd.peers()] == [wallet.node_id]
        assert [peer["node_id"] for peer in (await ldk.info())["peers"]] == [wallet.node_id]


async def test_two_wallets_three_peers_twenty_sessions(lab: Path) -> None:
    """Every message reaches the right wallet and session, and only that."""
    async with (
        LdkNode(lab) as ldk,
        ElectrumPeer(lab) as electrum,
        PylnPeer(lab) as pyln,
        lab_relay() as relay,
        lab_wallet(lab, relay.url, "first") as first,
        lab_wallet(lab, relay.url, "second") as second,
    ):
        # LDK keeps one connection a node id; the other two keep as many as come.
        plan: list[tuple[LabWallet, str]] = [(first, ldk.url), (second, ldk.url)]
        for peer in (electrum, pyln):
            plan += [(first, peer.url)] * 5 + [(second, peer.url)] * 4
        sessions = [(wallet, await wallet.client.connect(url)) for wallet, url in plan]
        assert len(sessions) == 20
        for _, session in sessions:
            await session.subscribe(raw=True)

        async def talk(number: int, session: Session) -> None:
            """Each says things that only it says, and must hear just these again, in order."""
            said = [
                ECHO_TYPE.to_bytes(2, "big") + number.to_bytes(2, "big") * (1 + index)
                for index in range(60)
            ]
            for message in said:
                await session.send(message)
            heard = []
            async with asyncio.timeout(60):
                async for received in session.messages():
                    if received.raw[:2] == ECHO_TYPE.to_bytes(2, "big"):
                        heard.append(received.raw)
                    if len(heard) == len(said):
                        break
            assert heard == said

        async def with_ldk(size: int, wallet: LabWallet, session: Session) -> None:
            receiving = asyncio.create_task(receive_load(session, 100))
            await ldk.post("send-custom", node_id=wallet.node_id, count=100, size=size)
            await send_load(session, 100, size + 1)
            assert await ldk.received_custom(wallet.node_id, 100) == load_tally(100, size + 1)
            assert await receiving == load_tally(100, size)

        await asyncio.gather(
            with_ldk(40, *sessions[0]),
            with_ldk(50, *sessions[1]),
            *(talk(number, session) for number, (_, session) in enumerate(sessions[2:])),
        )
        for wallet in (first, second):
            own = {session.id for owner, session in sessions if owner is wallet}
            assert {info.session_id for info in await wallet.client.sessions()} == own


@pytest.mark.parametrize("client", ["bolt08", "noise"])
async def test_rest_clients(lab: Path, client: str) -> None:
    """The npm clients of 2019, unchanged, towards a real LDK and then adopted by a wallet."""
    async with (
        LdkNode(lab) as ldk,
        lab_relay() as relay,
        lab_wallet(lab, relay.url) as wallet,
    ):
        answer = await npm_client(client, relay.url, ldk.url, lab)
        assert answer["ok"] is True
        session = await wallet.client.adopt(answer["id"])
        (peer,) = (await ldk.info())["peers"]
        await session.subscribe(raw=True)
        receiving = asyncio.create_task(receive_load(session, LOAD))
        await ldk.post("send-custom", node_id=peer["node_id"], count=LOAD, size=150)
        await send_load(session, LOAD, 20)
        assert await ldk.received_custom(peer["node_id"], LOAD) == load_tally(LOAD, 20)
        assert await receiving == load_tally(LOAD, 150)


@pytest.mark.parametrize("client", ["bolt08", "noise"])
async def test_rest_clients_with_lnd(lab: Path, client: str) -> None:
    async with Btcd(lab) as btcd, Lnd(lab, btcd) as lnd, lab_relay() as relay:
        answer = await npm_client(client, relay.url, lnd.url, lab)
        assert answer["ok"] is True
        assert len(await lnd.peers()) == 1
