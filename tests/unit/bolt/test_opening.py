"""BOLT 2's requirements on the two messages that open a channel: each at its edge."""

from typing import Any

import pytest
from msgspec.structs import replace

from lightning_proxy.bolt.errors import RequirementError
from lightning_proxy.bolt.features import Feature, Features
from lightning_proxy.bolt.opening import (
    channel_id_of,
    check_accept_channel,
    check_open_channel,
    is_shutdown_script,
)
from tests.unit.bolt.samples import ACCEPT_CHANNEL, ANCHORS, OPEN_CHANNEL

NO_POINT = b"\x02" + bytes(32)
ANY_SEGWIT = Features.offering(Feature.OPTION_SHUTDOWN_ANYSEGWIT)
SIMPLE_CLOSE = Features.offering(Feature.OPTION_SIMPLE_CLOSE)
LARGE = Features.offering(Feature.OPTION_SUPPORT_LARGE_CHANNEL)
P2WPKH = b"\x00\x14" + bytes(20)
P2TR = b"\x51\x20" + bytes(32)
POINTS = [name for name in OPEN_CHANNEL.LAYOUT.fields if name.endswith(("point", "pubkey"))]
STATIC_REMOTEKEY = Features.from_bits([12]).to_bytes()
SCID_ALIAS = Features.from_bits([12, 46]).to_bytes()
ZEROCONF = Features.from_bits([12, 22, 46, 50]).to_bytes()


def test_an_honest_opening_passes() -> None:
    check_open_channel(OPEN_CHANNEL)
    check_accept_channel(OPEN_CHANNEL, ACCEPT_CHANNEL)


def test_all_six_points_are_checked() -> None:
    assert len(POINTS) == 6


# At 253 sat/kw the first commitment costs 284 sat, and with anchors 660 more; without, 183.
@pytest.mark.parametrize(
    "changes",
    [
        {"dust_limit_satoshis": 10_000},
        {"max_accepted_htlcs": 0},
        {"to_self_delay": 2016},
        {"feerate_per_kw": 250},
        {"funding_satoshis": 2**24 - 1},
        {"upfront_shutdown_script": None},
        {"upfront_shutdown_script": P2WPKH},
        {"upfront_shutdown_script": P2TR},
        {"channel_type": None},
        {"channel_type": STATIC_REMOTEKEY},
        {"channel_type": SCID_ALIAS, "channel_flags": 0},
        # BOLT #2: undefined flags are ignored.
        {"channel_type": SCID_ALIAS, "channel_flags": 0xFE},
        {"channel_flags": 0xFF},
        {"push_msat": 1000 * (1_000_000 - 944)},
        {"push_msat": 1000 * (1_000_000 - 183), "channel_type": STATIC_REMOTEKEY},
        {"funding_satoshis": 10_945},
        {"funding_satoshis": 10_184, "channel_type": STATIC_REMOTEKEY},
    ],
)
def test_open_channel_inside_the_bounds(changes: dict[str, Any]) -> None:
    check_open_channel(replace(OPEN_CHANNEL, **changes))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"dust_limit_satoshis": 353}, "dust_limit_satoshis"),
        ({"dust_limit_satoshis": 10_001}, "dust_limit_satoshis"),
        ({"channel_reserve_satoshis": 353}, "dust_limit_satoshis"),
        ({"max_accepted_htlcs": 484}, "max_accepted_htlcs"),
        ({"to_self_delay": 2017}, "to_self_delay"),
        ({"feerate_per_kw": 249}, "feerate_per_kw"),
        ({"feerate_per_kw": 250_001}, "feerate_per_kw"),
        ({"funding_satoshis": 2**24}, "funding_satoshis"),
        ({"push_msat": 1_000_000_001}, "push_msat"),
        ({"upfront_shutdown_script": b"\x00"}, "upfront_shutdown_script"),
        ({"upfront_shutdown_script": b"\x6a\x06" + bytes(6)}, "upfront_shutdown_script"),
        ({"channel_type": b""}, "channel_type"),
        ({"channel_type": b"\x00" + ANCHORS}, "channel_type"),
        ({"channel_type": SCID_ALIAS, "channel_flags": 1}, "channel_type"),
        ({"push_msat": 1000 * (1_000_000 - 944) + 1}, "funding_satoshis"),
        (
            {"push_msat": 1000 * (1_000_000 - 183) + 1, "channel_type": STATIC_REMOTEKEY},
            "funding_satoshis",
        ),
        ({"funding_satoshis": 943}, "funding_satoshis"),
        ({"funding_satoshis": 10_944}, "channel_reserve_satoshis"),
        (
            {"funding_satoshis": 10_183, "channel_type": STATIC_REMOTEKEY},
            "channel_reserve_satoshis",
        ),
        ({"channel_reserve_satoshis": 2**64 - 1}, "channel_reserve_satoshis"),
        *(({name: NO_POINT}, name) for name in POINTS),
    ],
)
def test_open_channel_outside_the_bounds(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(RequirementError) as caught:
        check_open_channel(replace(OPEN_CHANNEL, **changes))
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")


def test_large_channels_by_agreement() -> None:
    large = replace(OPEN_CHANNEL, funding_satoshis=2**24)
    check_open_channel(large, LARGE)
    check_accept_channel(large, ACCEPT_CHANNEL, LARGE)


@pytest.mark.parametrize(
    "changes",
    [
        {"minimum_depth": 0},
        {"max_accepted_htlcs": 483},
        {"upfront_shutdown_script": P2TR},
        {"upfront_shutdown_script": None},
        {"dust_limit_satoshis": 10_000},
        {"channel_reserve_satoshis": 354},
    ],
)
def test_accept_channel_inside_the_bounds(changes: dict[str, Any]) -> None:
    check_accept_channel(OPEN_CHANNEL, replace(ACCEPT_CHANNEL, **changes))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"temporary_channel_id": bytes(32)}, "temporary_channel_id"),
        ({"dust_limit_satoshis": 353}, "dust_limit_satoshis"),
        (
            {"dust_limit_satoshis": 10_001, "channel_reserve_satoshis": 20_000},
            "dust_limit_satoshis",
        ),
        ({"channel_reserve_satoshis": 353}, "dust_limit_satoshis"),
        ({"channel_reserve_satoshis": 999_056}, "channel_reserve_satoshis"),
        ({"max_accepted_htlcs": 484}, "max_accepted_htlcs"),
        ({"to_self_delay": 2017}, "to_self_delay"),
        ({"channel_type": None}, "channel_type"),
        ({"channel_type": STATIC_REMOTEKEY}, "channel_type"),
        ({"upfront_shutdown_script": b"\x52"}, "upfront_shutdown_script"),
        *(({name: NO_POINT}, name) for name in POINTS),
    ],
)
def test_accept_channel_outside_the_bounds(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(RequirementError) as caught:
        check_accept_channel(OPEN_CHANNEL, replace(ACCEPT_CHANNEL, **changes))
    assert caught.value.field == field


def test_the_reserve_is_no_dust_to_the_opener() -> None:
    opener = replace(OPEN_CHANNEL, dust_limit_satoshis=1_000)
    check_accept_channel(opener, replace(ACCEPT_CHANNEL, channel_reserve_satoshis=1_000))
    with pytest.raises(RequirementError, match="below the opener's dust limit, 1000 sat"):
        check_accept_channel(opener, replace(ACCEPT_CHANNEL, channel_reserve_satoshis=999))


def test_no_channel_type_in_either() -> None:
    opener = replace(OPEN_CHANNEL, channel_type=None)
    check_accept_channel(opener, replace(ACCEPT_CHANNEL, channel_type=None))
    with pytest.raises(RequirementError, match="channel_type"):
        check_accept_channel(opener, ACCEPT_CHANNEL)


def test_zeroconf_waits_for_no_block() -> None:
    opener = replace(OPEN_CHANNEL, channel_type=ZEROCONF, channel_flags=0)
    accept = replace(ACCEPT_CHANNEL, channel_type=ZEROCONF, minimum_depth=0)
    check_accept_channel(opener, accept)
    with pytest.raises(RequirementError, match="minimum_depth"):
        check_accept_channel(opener, replace(accept, minimum_depth=1))


@pytest.mark.parametrize(
    ("script", "needs"),
    [
        (P2WPKH, Features()),
        (b"\x00\x20" + bytes(32), Features()),
        (P2TR, ANY_SEGWIT),
        (b"\x51\x02" + bytes(2), ANY_SEGWIT),
        (b"\x60\x28" + bytes(40), ANY_SEGWIT),
        (b"\x6a\x06" + bytes(6), SIMPLE_CLOSE),
        (b"\x6a\x4b" + bytes(75), SIMPLE_CLOSE),
        (b"\x6a\x4c\x4c" + bytes(76), SIMPLE_CLOSE),
        (b"\x6a\x4c\x50" + bytes(80), SIMPLE_CLOSE),
    ],
    ids=lambda value: value.hex()[:6] if isinstance(value, bytes) else str(value),
)
def test_shutdown_scripts(script: bytes, needs: Features) -> None:
    assert is_shutdown_script(script, needs)
    assert is_shutdown_script(script, Features()) == (not needs.bits)
    assert not is_shutdown_script(script[:-1], needs)
    assert not is_shutdown_script(script + b"\x00", needs)


@pytest.mark.parametrize(
    "script",
    [
        b"",
        b"\x00",
        b"\x51",
        b"\x6a",
        b"\x00\x15" + bytes(21),
        b"\x00\x20" + bytes(20),
        b"\x50\x20" + bytes(32),
        b"\x61\x20" + bytes(32),
        b"\x51\x01" + bytes(1),
        b"\x51\x29" + bytes(41),
        b"\x6a\x05" + bytes(5),
        b"\x6a\x4c" + bytes(76),
        b"\x6a\x4c\x4b" + bytes(75),
        b"\x6a\x4c\x51" + bytes(81),
        # Pay to a public key hash, and to a script hash.
        b"\x76\xa9\x14" + bytes(20) + b"\x88\xac",
        b"\xa9\x14" + bytes(20) + b"\x87",
    ],
    ids=lambda value: value.hex()[:6],
)
def test_no_shutdown_scripts(script: bytes) -> None:
    assert not is_shutdown_script(script, ANY_SEGWIT | SIMPLE_CLOSE)


def test_channel_id_of() -> None:
    txid = bytes(range(32))
    assert channel_id_of(txid, 0) == txid
    assert channel_id_of(txid, 1) == txid[:-1] + b"\x1e"
    assert channel_id_of(txid, 0xFFFF) == txid[:-2] + b"\xe1\xe0"
