from pathlib import Path
from typing import Any

import msgspec
import pytest

from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.features import Features
from lightning_proxy.wallet.errors import PolicyError
from lightning_proxy.wallet.policy import Policy
from lightning_proxy.wallet.request import Refusal
from tests.unit.wallet.samples import PEER, request

REGTEST = Policy(chains=("regtest",))


def type_of(*bits: int) -> bytes:
    return Features.from_bits(bits).to_bytes()


def policy(**changes: Any) -> Policy:
    return msgspec.structs.replace(REGTEST, **changes)


@pytest.mark.parametrize(
    ("policy", "changes"),
    [
        (REGTEST, {}),
        (policy(min_funding_sat=1_000_000, max_funding_sat=1_000_000), {}),
        (policy(max_push_msat=5), {"push_msat": 5}),
        (policy(max_feerate_per_kw=253), {}),
        (policy(peers=frozenset({PEER.hex()})), {}),
        (policy(visibility=("private",)), {}),
        (REGTEST, {"channel_type": None}),
        (REGTEST, {"channel_type": type_of(12)}),
        (REGTEST, {"channel_type": type_of(12, 46)}),
        (REGTEST, {"channel_type": type_of(12, 22, 46)}),
        (policy(allow_zeroconf=True), {"channel_type": type_of(12, 22, 46, 50)}),
    ],
)
def test_what_is_accepted(policy: Policy, changes: dict[str, Any]) -> None:
    policy.check(request(**changes))


@pytest.mark.parametrize(
    ("policy", "changes", "reason"),
    [
        (Policy(), {}, "channels on regtest are not accepted"),
        (REGTEST, {"chain_hash": bytes(32)}, "channels on 0000"),
        (REGTEST, {"chain_hash": CHAIN_HASHES["simnet"]}, "channels on simnet"),
        (policy(min_funding_sat=1_000_001), {}, "funding_satoshis 1000000 is not within 1000001"),
        (policy(max_funding_sat=999_999), {}, "funding_satoshis 1000000 is not within"),
        (policy(max_push_msat=4), {"push_msat": 5}, "push_msat 5 is above 4"),
        (policy(max_feerate_per_kw=252), {}, "feerate_per_kw 253 is above 252"),
        (policy(peers=frozenset({"02" + "11" * 32})), {}, "chosen peers only"),
        (policy(peers=frozenset()), {}, "chosen peers only"),
        (REGTEST, {"channel_flags": 1}, "public channels are not accepted: this node announces"),
        (policy(visibility=("public",)), {"channel_flags": 1}, "public channels are not"),
        (policy(visibility=("public",)), {}, "private channels are not"),
        (policy(max_to_self_delay=143), {}, "to_self_delay 144 is above 143 blocks"),
        (
            REGTEST,
            {"dust_limit_satoshis": 1063, "channel_reserve_satoshis": 1063},
            "dust_limit_satoshis 1063 is above 1062",
        ),
        (
            REGTEST,
            {"channel_reserve_satoshis": 200_001},
            "channel_reserve_satoshis 200001 is more than a 5th of 1000000 sat",
        ),
        (REGTEST, {"max_accepted_htlcs": 0}, "max_accepted_htlcs 0 leaves room for no payment"),
        (
            REGTEST,
            {"htlc_minimum_msat": 990_000_001},
            "htlc_minimum_msat 990000001 leaves room for no payment",
        ),
        (policy(allow_no_channel_type=False), {"channel_type": None}, "channel_type is needed"),
        (policy(channel_types=("static_remotekey",)), {}, "option_anchors (bits 12, 22)"),
        (policy(channel_types=("anchors",)), {"channel_type": type_of(12)}, "(bits 12)"),
        (policy(allow_scid_alias=False), {"channel_type": type_of(12, 22, 46)}, "scid_alias"),
        (REGTEST, {"channel_type": type_of(12, 22, 46, 50)}, "option_zeroconf"),
        (REGTEST, {"channel_type": type_of(12, 22, 80)}, "unknown(80)"),
        (REGTEST, {"channel_type": type_of(13)}, "(bits 13)"),
        (REGTEST, {"channel_type": type_of(20, 12)}, "(bits 12, 20)"),
        (REGTEST, {"channel_type": b""}, "the channel type none"),
    ],
)
def test_what_is_refused_and_why(policy: Policy, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refusal) as raised:
        policy.check(request(**changes))
    assert reason in raised.value.reason


@pytest.mark.parametrize(
    ("policy", "chain", "channel_type", "depth"),
    [
        (REGTEST, "bitcoin", type_of(12), 3),
        (REGTEST, "signet", type_of(12), 3),
        (REGTEST, "simnet", type_of(12), 1),
        (REGTEST, "regtest", None, 1),
        (policy(minimum_depth=6), "regtest", type_of(12), 6),
        (policy(minimum_depth=6), "regtest", type_of(12, 46, 50), 0),
    ],
)
def test_depth(policy: Policy, chain: str, channel_type: bytes | None, depth: int) -> None:
    wanted = request(chain_hash=CHAIN_HASHES[chain], channel_type=channel_type).open_channel
    assert policy.depth(wanted) == depth


def test_a_policy_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(
        f"""
        chains = ["simnet", "regtest"]
        max_funding_sat = 5_000_000
        peers = ["{PEER.hex()}"]
        channel_types = ["anchors"]
        visibility = ["private"]
        approve_by_hand = true
        """
    )
    assert Policy.load(path) == Policy(
        chains=("simnet", "regtest"),
        max_funding_sat=5_000_000,
        peers=frozenset({PEER.hex()}),
        channel_types=("anchors",),
        visibility=("private",),
        approve_by_hand=True,
    )


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("chain = ['bitcoin']", "`chain`"),
        ("chains = ['litecoin']", "'litecoin' is no chain"),
        ("min_funding_sat = 2\nmax_funding_sat = 1", "above max_funding_sat"),
        ("max_funding_sat = -1", "max_funding_sat"),
        ("minimum_depth = 0", "minimum_depth"),
        ("max_accepted_htlcs = 484", "max_accepted_htlcs"),
        ("to_self_delay = 2017", "to_self_delay"),
        ("channel_types = ['legacy']", "channel_types"),
        ("peers = ['02abc']", "peers"),
        ("approve_by_hand = 'yes'", "approve_by_hand"),
        ("= 1", "no policy"),
        ("#" * 65537, "too long"),
    ],
)
def test_a_bad_policy_file_is_told(tmp_path: Path, text: str, hint: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(PolicyError) as raised:
        Policy.load(path)
    assert hint in str(raised.value)


def test_a_missing_policy_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="can't be read"):
        Policy.load(tmp_path / "none.toml")
