"""The main job against real nodes: their `open_channel`, our `accept_channel`, or our refusal."""

import asyncio
from pathlib import Path

import pytest

from lightning_proxy.bolt.features import Feature, Features
from lightning_proxy.bolt.messages import FundingCreated
from lightning_proxy.wallet.events import Answered, DelegationReceived, Refused
from lightning_proxy.wallet.reference import CANNOT_SIGN
from tests.interop.lab.btcd import Btcd
from tests.interop.lab.ldk_node import LdkNode
from tests.interop.lab.nodes import Lnd
from tests.interop.lab.process import LabError
from tests.interop.relayed import POLICY, lab_relay, lab_wallet, receive


@pytest.mark.parametrize("channel_type", ["static_remotekey", "anchors"])
async def test_lnd_opens_and_sends_funding_created(lab: Path, channel_type: str) -> None:
    options = ["--protocol.anchors"] if channel_type == "anchors" else []
    async with (
        Btcd(lab) as btcd,
        Lnd(lab, btcd, "lnd", *options) as lnd,
        lab_relay() as relay,
        lab_wallet(lab, relay.url) as wallet,
    ):
        await lnd.fund()
        session = await wallet.client.connect(lnd.url)
        assert session.peer_init is not None
        (peer,) = await lnd.peers()
        assert peer["pub_key"] == wallet.node_id
        opening = asyncio.create_task(lnd.open_channel(wallet.node_id, 1_000_000, push_sat=1000))
        created = (await receive(session, "funding_created")).message
        asked = (await wallet.event(DelegationReceived)).request.open_channel
        assert isinstance(created, FundingCreated)
        assert created.temporary_channel_id == asked.temporary_channel_id
        assert (asked.funding_satoshis, asked.push_msat) == (1_000_000, 1_000_000)
        features = Features.from_bytes(asked.channel_type or b"")
        assert features.requires(Feature.OPTION_STATIC_REMOTEKEY)
        assert features.requires(Feature.OPTION_ANCHORS) == (channel_type == "anchors")
        assert (await wallet.event(Answered)).request.open_channel == asked
        # This version ends here, and says so; lnd tells its user in our words.
        with pytest.raises(LabError, match=CANNOT_SIGN.decode()):
            await opening
        assert not session.is_closed


async def test_a_refusal_is_in_lnds_error(lab: Path) -> None:
    policy = POLICY.__class__(chains=("regtest",), min_funding_sat=2_000_000)
    async with (
        Btcd(lab) as btcd,
        Lnd(lab, btcd) as lnd,
        lab_relay() as relay,
        lab_wallet(lab, relay.url, policy=policy) as wallet,
    ):
        await lnd.fund()
        session = await wallet.client.connect(lnd.url)
        with pytest.raises(LabError, match="funding_satoshis 1000000 is not within 2000000"):
            await lnd.open_channel(wallet.node_id, 1_000_000)
        refused = await wallet.event(Refused)
        assert "2000000" in refused.reason
        assert not session.is_closed
        # The next one may come at once.
        opening = asyncio.create_task(lnd.open_channel(wallet.node_id, 2_000_000))
        await receive(session, "funding_created")
        with pytest.raises(LabError, match=CANNOT_SIGN.decode()):
            await opening


async def test_ldk_opens_and_sends_funding_created(lab: Path) -> None:
    async with (
        LdkNode(lab) as ldk,
        lab_relay() as relay,
        lab_wallet(lab, relay.url) as wallet,
    ):
        session = await wallet.client.connect(ldk.url)
        await ldk.post("open", node_id=wallet.node_id, amount_sat=1_000_000)
        await ldk.event("FundingGenerationReady", node_id=wallet.node_id)
        created = (await receive(session, "funding_created")).message
        asked = (await wallet.event(DelegationReceived)).request.open_channel
        assert isinstance(created, FundingCreated)
        assert created.temporary_channel_id == asked.temporary_channel_id
        closed = await ldk.event("ChannelClosed", node_id=wallet.node_id)
        assert CANNOT_SIGN.decode() in closed["reason"]
        assert not session.is_closed


async def test_a_refusal_is_in_ldks_event(lab: Path) -> None:
    policy = POLICY.__class__(chains=("signet",))
    async with (
        LdkNode(lab) as ldk,
        lab_relay() as relay,
        lab_wallet(lab, relay.url, policy=policy) as wallet,
    ):
        session = await wallet.client.connect(ldk.url)
        await ldk.post("open", node_id=wallet.node_id, amount_sat=1_000_000)
        closed = await ldk.event("ChannelClosed", node_id=wallet.node_id)
        assert "channels on regtest are not accepted" in closed["reason"]
        assert not session.is_closed
