"""What a wallet refuses, and what nobody here can do: real nodes hear of it at once."""

from pathlib import Path

import pytest

from lightning_proxy.bolt.features import DEFAULT_FEATURES, Feature, Features
from lightning_proxy.bolt.messages import Init
from lightning_proxy.wallet.events import Refused
from tests.interop.lab.btcd import Btcd
from tests.interop.lab.ldk_node import LdkNode
from tests.interop.lab.nodes import Lnd
from tests.interop.lab.process import LabError
from tests.interop.relayed import POLICY, lab_relay, lab_wallet


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
            await lnd.open_channel(wallet.node_id, 1_000_000, 0, "--private")
        refused = await wallet.event(Refused)
        assert "2000000" in refused.reason
        assert not session.is_closed
        # The next one may come at once.
        assert await lnd.open_channel(wallet.node_id, 2_000_000, 0, "--private")


#: Not in BOLT #9 yet; lnd's number for it.
SIMPLE_TAPROOT_STAGING = 180


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--channel_type=taproot", "--private"], "open_channel.tlvs"),
        (
            ["--zero_conf", "--private", "--channel_type=anchors"],
            "the channel type .*option_zeroconf.* is not accepted",
        ),
    ],
    ids=["taproot", "zeroconf"],
)
async def test_a_kind_that_is_not_supported_is_refused_at_once(
    lab: Path, options: list[str], words: str
) -> None:
    features = ["--protocol.anchors", "--protocol.simple-taproot-chans"]
    features += ["--protocol.option-scid-alias", "--protocol.zero-conf"]
    async with (
        Btcd(lab) as btcd,
        Lnd(lab, btcd, "lnd", *features) as lnd,
        lab_relay() as relay,
        lab_wallet(lab, relay.url) as wallet,
    ):
        await lnd.fund()
        # lnd asks for what it believes us to know only.
        offered = DEFAULT_FEATURES | Features.from_bits(
            (Feature.OPTION_SCID_ALIAS + 1, Feature.OPTION_ZEROCONF + 1, SIMPLE_TAPROOT_STAGING + 1)
        )
        await wallet.client.connect(lnd.url, Init(globalfeatures=b"", features=offered.to_bytes()))
        with pytest.raises(LabError, match=words):
            await lnd.open_channel(wallet.node_id, 1_000_000, 0, *options)


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
