"""Feature maps, and which init messages may stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_proxy.bolt.errors import FeatureError
from lightning_proxy.bolt.features import DEFAULT_FEATURES, Feature, Features, check_init
from lightning_proxy.bolt.messages import Init

# BOLT #9's table as it stands: the name and the even bit, dependencies behind them.
BOLT_9 = """
option_data_loss_protect 0
option_upfront_shutdown_script 4
gossip_queries 6
var_onion_optin 8
gossip_queries_ex 10
option_static_remotekey 12
payment_secret 14
basic_mpp 16 payment_secret
option_support_large_channel 18
option_anchors 22
option_route_blinding 24
option_shutdown_anysegwit 26
option_dual_fund 28
option_quiesce 34
option_attribution_data 36
option_onion_messages 38
option_provide_storage 42
option_channel_type 44
option_scid_alias 46
option_payment_metadata 48
option_zeroconf 50 option_scid_alias
option_simple_close 60 option_shutdown_anysegwit
option_splice 62
"""
NOTHING = Features()


def init(*bits: int, global_bits: tuple[int, ...] = ()) -> Init:
    return Init(
        globalfeatures=Features.from_bits(global_bits).to_bytes(),
        features=Features.from_bits(bits).to_bytes(),
    )


def test_the_table_of_bolt_9() -> None:
    rows = [line.split() for line in BOLT_9.strip().splitlines()]
    assert {row[0]: int(row[1]) for row in rows} == {
        feature.bolt_name: feature.value for feature in Feature
    }


@given(st.frozensets(st.integers(0, 3000)))
def test_every_form_holds_the_same_bits(bits: frozenset[int]) -> None:
    features = Features.from_bits(bits)
    assert features.bits == tuple(sorted(bits))
    assert Features.from_bytes(features.to_bytes()) == features
    assert Features.from_bytes(bytes(3) + features.to_bytes()) == features
    assert Features.from_hex(features.to_bytes().hex()) == features
    assert eval(repr(features)) == features  # noqa: S307 - our own repr
    assert not features.to_bytes().startswith(b"\x00")


def test_bit_order_is_that_of_the_wire() -> None:
    assert Features.from_bits([0, 9]).to_bytes() == b"\x02\x01"


def test_offered_and_required() -> None:
    features = Features.from_bits([12, 23, 26, 27])
    assert features.offers(Feature.OPTION_STATIC_REMOTEKEY)
    assert features.requires(Feature.OPTION_STATIC_REMOTEKEY)
    assert features.offers(Feature.OPTION_ANCHORS)
    assert not features.requires(Feature.OPTION_ANCHORS)
    # BOLT #9: with both bits the feature is mandatory.
    assert features.requires(Feature.OPTION_SHUTDOWN_ANYSEGWIT)
    assert not features.offers(Feature.OPTION_SPLICE)


def test_what_both_offer() -> None:
    anchors, alias = Feature.OPTION_ANCHORS, Feature.OPTION_SCID_ALIAS
    ours = Features.from_bits((anchors, alias + 1, 4711))
    theirs = Features.from_bits((anchors + 1, alias - 1, 4711))
    assert ours & theirs == Features.offering(anchors) == theirs & ours
    assert ours & NOTHING == NOTHING


def test_names() -> None:
    features = Features.from_names(["option_anchors", "gossip_queries"])
    assert features.bits == (7, 23)
    assert features.names() == ("gossip_queries", "option_anchors")
    assert (features | Features.from_bits([2023])).names()[-1] == "unknown(2023)"
    assert str(features) == "gossip_queries, option_anchors"
    assert str(NOTHING) == "none"
    with pytest.raises(KeyError):
        Features.from_names(["option_telepathy"])


@pytest.mark.parametrize("bit", [-1, 8 * 65535])
def test_bits_that_fit_no_message(bit: int) -> None:
    with pytest.raises(FeatureError, match=f"feature bit {bit}"):
        Features.from_bits([bit])


def test_both_maps_of_an_init_count() -> None:
    features = check_init(init(0, 7, global_bits=(8, 13)), NOTHING)
    assert features.bits == (0, 7, 8, 13)


def test_real_nodes_may_stay() -> None:
    lnd = init(0, 5, 7, 8, 12, 14, 17, 23, 25, 27, 31, 35, 45, 2023, global_bits=(8, 12))
    assert check_init(lnd, DEFAULT_FEATURES).offers(Feature.OPTION_ANCHORS)


@pytest.mark.parametrize("where", ["features", "globalfeatures"])
def test_unknown_even_bit(where: str) -> None:
    theirs = init(1, 100, 2022) if where == "features" else init(1, global_bits=(100, 2022))
    with pytest.raises(FeatureError, match="feature bit 100: required by the peer") as caught:
        check_init(theirs, DEFAULT_FEATURES)
    assert caught.value.bit == 100


def test_unknown_odd_bits_are_ignored() -> None:
    assert check_init(init(101, 2023), NOTHING).bits == (101, 2023)


def test_what_we_offer_ourselves_is_known() -> None:
    ours = Features.from_bits([181])
    assert check_init(init(180), ours).bits == (180,)
    assert check_init(init(180), Features.from_bits([180])).bits == (180,)
    with pytest.raises(FeatureError, match="feature bit 182"):
        check_init(init(182), ours)


def test_a_known_even_bit_that_we_do_not_offer_passes() -> None:
    assert check_init(init(Feature.OPTION_SPLICE), NOTHING).requires(Feature.OPTION_SPLICE)


@pytest.mark.parametrize(
    ("bits", "missing"),
    [
        ((51,), Feature.OPTION_SCID_ALIAS),
        ((50,), Feature.OPTION_SCID_ALIAS),
        ((61,), Feature.OPTION_SHUTDOWN_ANYSEGWIT),
    ],
)
def test_missing_dependencies(bits: tuple[int, ...], missing: Feature) -> None:
    with pytest.raises(FeatureError, match=f"needs {missing.bolt_name}") as caught:
        check_init(init(*bits), DEFAULT_FEATURES)
    assert caught.value.bit == missing
    assert check_init(init(*bits, missing + 1), DEFAULT_FEATURES).offers(missing)


def test_an_assumed_dependency_need_not_be_set() -> None:
    assert check_init(init(17), NOTHING).offers(Feature.BASIC_MPP)


def test_a_map_of_the_largest_size() -> None:
    largest = Init(globalfeatures=b"", features=b"\xaa" * 60_000)
    features = check_init(largest, Features.from_bytes(b"\xff" * 60_000))
    assert len(features.bits) == 240_000
    assert "unknown(479999)" in str(features)
    assert len(repr(features)) > 120_000
    with pytest.raises(FeatureError, match="feature bit 2:"):
        check_init(Init(globalfeatures=b"", features=b"\xff" * 60_000), NOTHING)


def test_the_default_suits_real_peers() -> None:
    assert DEFAULT_FEATURES.bits == (1, 5, 7, 9, 13, 15, 23, 27, 45)
    # LDK hangs up without these five; lnd without the first.
    assert all(
        DEFAULT_FEATURES.offers(Feature(bit)) and not DEFAULT_FEATURES.requires(Feature(bit))
        for bit in (0, 8, 12, 14, 44)
    )
    ours = Init(globalfeatures=b"", features=DEFAULT_FEATURES.to_bytes())
    assert check_init(ours, NOTHING) == DEFAULT_FEATURES
