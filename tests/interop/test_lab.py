"""The lab proves itself, without a relay: the real peers speak to each other."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from Crypto.Cipher import ChaCha20_Poly1305

from tests.interop.lab.btcd import Btcd
from tests.interop.lab.ldk_node import LdkNode, confirm
from tests.interop.lab.nodes import (
    ElectrumPeer,
    Lnd,
    PylnPeer,
    ScriptedPeer,
    load_tally,
    npm_client,
)
from tests.interop.lab.process import LabError, until
from tests.interop.lab.responder import INIT_MESSAGE

# Past three key rotations of BOLT #8 each way (one every 500 messages).
LOAD = 2_000


async def test_two_lnds_open_a_channel(lab: Path) -> None:
    async with (
        Btcd(lab) as btcd,
        Lnd(lab, btcd, "alice") as alice,
        Lnd(lab, btcd, "bob", host="127.0.0.3") as bob,
    ):
        await alice.fund()
        await alice.connect(bob.url)
        txid = await alice.open_channel(bob.node_id, 1_000_000, push_sat=200_000)
        pending = (await bob.pending_channels())["pending_open_channels"]
        assert [item["channel"]["remote_node_pub"] for item in pending] == [alice.node_id]
        await btcd.mine(1)

        async def active() -> dict[str, Any] | None:
            return next((channel for channel in await bob.channels() if channel["active"]), None)

        channel = await until("the channel", active, alice.child, bob.child)
        assert channel["channel_point"].startswith(txid)
        assert channel["remote_pubkey"] == alice.node_id
        assert (int(channel["capacity"]), int(channel["local_balance"])) == (1_000_000, 200_000)
        assert [peer["pub_key"] for peer in await bob.peers()] == [alice.node_id]


@pytest.mark.parametrize("anchors", [False, True], ids=["static_remotekey", "anchors"])
async def test_lnd_and_ldk_open_channels_on_one_chain(lab: Path, anchors: bool) -> None:
    options = ["--protocol.anchors"] if anchors else []
    async with (
        Btcd(lab) as btcd,
        Lnd(lab, btcd, "lnd", *options) as lnd,
        LdkNode(lab, btcd=btcd) as ldk,
    ):
        await lnd.fund()
        await ldk.connect(lnd.node_id, lnd.address)
        await lnd.open_channel(ldk.node_id, 1_000_000, 100_000)
        await ldk.open_channel(lnd.node_id, 500_000, anchors=anchors)

        async def pending() -> bool:
            return len((await lnd.pending_channels())["pending_open_channels"]) == 2

        await until("both openings", pending, lnd.child, ldk.child)

        async def broadcast() -> bool:
            channels = await ldk.channels()
            for channel in channels:
                await btcd.rpc("getrawtransaction", channel["funding_outpoint"].partition(":")[0])
            return len(channels) == 2

        await until("both funding transactions", broadcast, lnd.child, ldk.child)
        # Either may be gone before the blocks come.
        before = lnd.node_id, ldk.node_id
        await lnd.restart()
        await ldk.restart()
        assert before == (lnd.node_id, ldk.node_id)

        await btcd.mine(6)

        async def confirmed() -> bool:
            return not (await lnd.pending_channels())["pending_open_channels"]

        # lnd says no channel_reestablish for a channel that it takes for pending, and LDK nothing
        # without: connected before, they would wait for each other.
        await until("lnd to see both", confirmed, lnd.child)
        await ldk.connect(lnd.node_id, lnd.address)

        async def active() -> bool:
            at_lnd = [channel["active"] for channel in await lnd.channels()]
            at_ldk = [channel["usable"] for channel in await ldk.channels()]
            return at_lnd == at_ldk == [True, True]

        await until("both channels", active, lnd.child, ldk.child, patience=30)
        types = {channel["commitment_type"] for channel in await lnd.channels()}
        assert types == {"ANCHORS" if anchors else "STATIC_REMOTE_KEY"}
        # A channel that is in use survives, too.
        await ldk.restart()
        await ldk.connect(lnd.node_id, lnd.address)
        await until("both channels again", active, lnd.child, ldk.child, patience=30)


async def test_lnd_signs_a_psbt_and_keeps_it(lab: Path) -> None:
    async with Btcd(lab) as btcd, Lnd(lab, btcd) as lnd:
        await lnd.fund()
        address = (await lnd.cli("newaddress", "p2wkh"))["address"]
        psbt = await lnd.signed_psbt(address, 1_000_000)
        assert base64.b64decode(psbt)[:5] == b"psbt\xff"
        assert await btcd.rpc("getrawmempool") == []


async def test_ldk_opens_pays_and_closes(lab: Path) -> None:
    async with LdkNode(lab, "alice") as alice, LdkNode(lab, "bob") as bob:
        await alice.connect(bob.node_id, bob.address)
        await alice.post("open", node_id=bob.node_id, amount_sat=1_000_000)
        await alice.event("FundingGenerationReady", node_id=bob.node_id)
        pending = await alice.event("ChannelPending", node_id=bob.node_id)
        await bob.event("ChannelPending", channel_id=pending["channel_id"])
        await confirm(alice, bob)
        await alice.event("ChannelReady", channel_id=pending["channel_id"])
        await bob.event("ChannelReady", channel_id=pending["channel_id"])

        paid = await alice.post("keysend", node_id=bob.node_id, amount_msat=12_345_000)
        await bob.event("PaymentClaimed", amount_msat=12_345_000, **paid)
        await alice.event("PaymentSent", **paid)
        await pays_invoices(alice, bob)

        await alice.post("close", node_id=bob.node_id, channel_id=pending["channel_id"])
        for node in (alice, bob):
            await node.event("ChannelClosed", channel_id=pending["channel_id"])
        (closing,) = (await alice.info())["mempool"]
        funding_txid = pending["funding_outpoint"].partition(":")[0]
        assert bytes.fromhex(funding_txid)[::-1] in bytes.fromhex(closing)
        await confirm(alice, bob)
        assert (await alice.info())["mempool"] == (await bob.info())["mempool"] == []


async def pays_invoices(alice: LdkNode, bob: LdkNode) -> None:
    """One when the payee says so, one not at all, one at once."""
    await bob.post("hold", on=True)
    for number, word in enumerate(("claimed", "failed")):
        bill = await bob.post("invoice", amount_msat=1_000_000 + number)
        hash_ = {"payment_hash": bill["payment_hash"]}
        assert await alice.post("pay", invoice=bill["invoice"]) == hash_
        await bob.event("PaymentClaimable", **hash_)
        with pytest.raises(LabError, match="no such payment"):
            await bob.post("settle", payment_hash="00" * 32)
        await bob.post("settle", fail=word == "failed", **hash_)
        await alice.event("PaymentFailed" if word == "failed" else "PaymentSent", **hash_)
    await bob.post("hold", on=False)
    bill = await bob.post("invoice", amount_msat=2_000_000, description="at once")
    await alice.post("pay", invoice=bill["invoice"])
    await alice.event("PaymentSent", payment_hash=bill["payment_hash"])


async def test_ldk_refuses_in_words(lab: Path) -> None:
    async with LdkNode(lab) as ldk:
        with pytest.raises(LabError, match="nobody listens"):
            await ldk.connect(ldk.node_id, "127.0.0.1:1")
        with pytest.raises(LabError, match="amount_sat must be a whole number"):
            await ldk.post("open", node_id=ldk.node_id)
        with pytest.raises(LabError, match="not connected"):
            await ldk.post("send-custom", node_id=ldk.node_id, count=1, size=8)


async def test_lnd_and_ldk_sign_a_commitment(lab: Path) -> None:
    async with Btcd(lab) as btcd, Lnd(lab, btcd) as lnd, LdkNode(lab) as ldk:
        await ldk.connect(lnd.node_id, lnd.address)
        (peer,) = await lnd.peers()
        assert peer["pub_key"] == ldk.node_id

        await ldk.post("open", node_id=lnd.node_id, amount_sat=500_000)
        await ldk.event("ChannelPending", node_id=lnd.node_id)
        (channel,) = (await lnd.pending_channels())["pending_open_channels"]
        assert channel["channel"]["capacity"] == "500000"

        await lnd.fund()
        txid = await lnd.open_channel(ldk.node_id, 1_000_000)
        request = await ldk.event("OpenChannelRequest", node_id=lnd.node_id)
        assert request["refused"] is None
        outpoints = [item["funding_outpoint"] for item in (await ldk.info())["channels"]]
        assert any(outpoint.startswith(txid) for outpoint in outpoints)


@pytest.mark.parametrize("kind", [ElectrumPeer, PylnPeer])
async def test_scripted_peer_with_ldk(lab: Path, kind: type[ScriptedPeer]) -> None:
    async with kind(lab) as peer, LdkNode(lab, tick_seconds=1) as ldk:
        await ldk.connect(peer.node_id, peer.address)
        assert (await peer.event("connected"))["node_id"] == ldk.node_id
        assert bytes.fromhex((await peer.event("init"))["message"])[:2] == INIT_MESSAGE[:2]
        (seen,) = (await ldk.info())["peers"]
        assert bytes.fromhex(seen["features"]) == INIT_MESSAGE[6:]

        await peer.command("pings", count=3, num_pong_bytes=100)
        await peer.command("custom", count=LOAD, size=150, type=32769)
        await ldk.post("send-custom", node_id=peer.node_id, count=LOAD, size=99)
        assert await ldk.received_custom(peer.node_id, LOAD) == load_tally(LOAD, 150)
        assert await peer.received_custom(LOAD) == load_tally(LOAD, 99)
        status = await peer.status()
        assert status["pongs_received"] == 3
        assert status["pong_bytes"] == 300

        async def pinged() -> bool:
            return bool((await peer.status())["pings_received"])

        await until("a ping from LDK", pinged, ldk.child)
        await ldk.post("disconnect", node_id=peer.node_id)
        await peer.event("closed")


@asynccontextmanager
async def forwarder(peer: LdkNode) -> AsyncIterator[str]:
    """The REST flow of the 2019 server with nothing behind it but one peer; yields its address."""
    sessions: dict[str, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}

    async def connect(request: web.Request) -> web.Response:
        body = await request.json()
        assert body["url"] == peer.url
        reader, writer = await asyncio.open_connection(*peer.address.split(":"))
        writer.write(bytes.fromhex(body["message"]))
        sessions["1"] = reader, writer
        act_two = await reader.readexactly(50)
        return web.json_response({"id": "1", "message": act_two.hex()})

    async def handshake(request: web.Request) -> web.Response:
        body = await request.json()
        reader, writer = sessions[request.match_info["id"]]
        writer.write(bytes.fromhex(body["message"]))
        key = bytes.fromhex(body["keys"]["receiving"])
        assert {len(value) for value in body["keys"].values()} == {64}

        async def open_next(size: int, counter: int) -> bytes:
            sealed = await reader.readexactly(size + 16)
            nonce = bytes(4) + counter.to_bytes(8, "little")
            cipher = ChaCha20_Poly1305.new(key=key, nonce=nonce)
            return cipher.decrypt_and_verify(sealed[:-16], sealed[-16:])

        length = int.from_bytes(await open_next(2, 0), "big")
        init = await open_next(length, 1)
        writer.close()
        return web.json_response({"message": init.hex()})

    app = web.Application()
    app.router.add_post("/api/connect", connect)
    app.router.add_post("/api/handshake/{id}", handshake)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(TestServer(app))
        yield str(server.make_url("")).rstrip("/")


@pytest.mark.parametrize("client", ["bolt08", "noise"])
async def test_npm_client_shakes_hands_with_ldk(lab: Path, client: str) -> None:
    async with LdkNode(lab) as ldk, forwarder(ldk) as relay:
        answer = await npm_client(client, relay, ldk.url, lab)
        assert answer["ok"] is True
        init = bytes.fromhex(answer["init"])
        assert bytes.fromhex(answer["features"]) in init
        assert init[:2] == INIT_MESSAGE[:2]

        with pytest.raises(LabError, match="usage"):
            await npm_client(client, relay, "nobody", lab)
