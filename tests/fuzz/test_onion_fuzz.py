"""Onions and returned failures of any bytes: read, or refused in words, and no change unnoticed."""

import pytest
from coincurve import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_proxy.bolt.errors import BoltError, OnionError, PayloadError
from lightning_proxy.bolt.onion import (
    FAILURES,
    Failure,
    Hop,
    OpaqueFailure,
    Returned,
    Unreadable,
    construct,
    ecdh_with,
    payloads,
    peel,
    read_failure,
    relay_failure,
    wrap_failure,
)
from lightning_proxy.bolt.onion.failures import decode
from tests.support.onions import sealed_onion, sealed_return
from tests.unit.bolt.strategies import values_of

KEYS = [bytes([number]) * 32 for number in range(1, 21)]
NODE_IDS = [PrivateKey(key).public_key.format() for key in KEYS]
POINTS = st.sampled_from(NODE_IDS)
HASH = b"\x42" * 32
SESSION_KEYS = st.binary(min_size=31, max_size=31).map(lambda data: b"\x01" + data)
# A payload has its length in at most three bytes, and an HMAC.
OVERHEAD = 3 + 32

FAILURE = st.sampled_from(list(FAILURES.values())).flatmap(
    lambda cls: st.builds(cls, **{name: values_of(kind) for name, kind in cls.FIELDS.items()})
)


@st.composite
def routes(draw: st.DrawFn) -> list[Hop]:
    """1 to 20 hops of payloads of any sizes that fit together."""
    count = draw(st.integers(1, 20))
    left = 1300
    hops = []
    for index in range(count):
        others = count - index - 1
        size = draw(st.integers(2, left - OVERHEAD - others * (OVERHEAD + 2)))
        left -= size + OVERHEAD
        seed = draw(st.binary(min_size=1, max_size=4))
        hops.append(Hop(NODE_IDS[index], (seed * size)[:size]))
    return hops


@settings(deadline=None)
@given(routes(), SESSION_KEYS, st.binary(max_size=40))
def test_round_trip(hops: list[Hop], session_key: bytes, data: bytes) -> None:
    onion = construct(hops, session_key, data)
    packet: bytes | None = onion.packet
    for hop, key, secret in zip(hops, KEYS, onion.shared_secrets, strict=False):
        assert packet is not None
        assert len(packet) == 1366
        peeled = peel(packet, ecdh_with(key), data)
        assert (peeled.payload, peeled.shared_secret) == (hop.payload, secret)
        packet = peeled.next_packet
    assert packet is None


@settings(deadline=None)
@given(
    st.binary(max_size=200) | st.binary(min_size=1, max_size=99).map(lambda seed: seed * 1366),
    POINTS,
    st.none() | POINTS | st.binary(max_size=40),
    st.booleans(),
)
def test_any_bytes(data: bytes, point: bytes, path_key: bytes | None, likely: bool) -> None:
    packet = (b"\x00" + point + data if likely else data)[:1366]
    with pytest.raises(BoltError):
        peel(packet, ecdh_with(KEYS[0]), HASH, path_key=path_key)


@settings(deadline=None)
@given(routes(), SESSION_KEYS, st.integers(0, 1365), st.integers(1, 255))
def test_no_byte_changes_unnoticed(
    hops: list[Hop], session_key: bytes, position: int, change: int
) -> None:
    packet = bytearray(construct(hops, session_key, HASH).packet)
    packet[position] ^= change
    with pytest.raises(OnionError):
        peel(bytes(packet), ecdh_with(KEYS[0]), HASH)


@settings(deadline=None)
@given(SESSION_KEYS, st.binary(min_size=1, max_size=200), st.booleans(), st.booleans())
def test_opens_to_any_bytes(session_key: bytes, opened: bytes, final: bool, path_key: bool) -> None:
    packet = sealed_onion(NODE_IDS[0], session_key, HASH, opened)
    try:
        peeled = peel(packet, ecdh_with(KEYS[0]), HASH)
        payload = payloads.decode(peeled.payload, final=final, path_key=path_key)
    except PayloadError as error:
        assert 0 <= error.offset <= len(opened)
        return
    assert payload.encode() == peeled.payload


# Streams that begin well: records of types that BOLT 4 knows, or that nobody does.
RECORD = st.builds(
    lambda type_, value: bytes([type_, len(value)]) + value,
    st.sampled_from([2, 4, 6, 8, 10, 12, 16, 18, 20, 21]),
    st.binary(max_size=40),
)
NUMBERS = bytes.fromhex("020101040101")


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=100)
    | st.lists(RECORD, max_size=4).map(lambda some: NUMBERS + b"".join(some)),
    st.booleans(),
    st.booleans(),
)
def test_payloads_of_any_bytes(data: bytes, final: bool, path_key: bool) -> None:
    try:
        payload = payloads.decode(data, final=final, path_key=path_key)
    except PayloadError as error:
        assert 0 <= error.offset <= len(data)
    else:
        assert payload.encode() == data


@settings(deadline=None)
@given(FAILURE, st.integers(1, 20), st.data())
def test_a_failure_comes_back(failure: Failure, count: int, data: st.DataObject) -> None:
    secrets = [bytes([number]) * 32 for number in range(count)]
    hop = data.draw(st.integers(0, count - 1))
    reason = wrap_failure(secrets[hop], failure)
    assert len(reason) >= 292
    for secret in reversed(secrets[:hop]):
        reason = relay_failure(secret, reason)
    assert read_failure(secrets, reason) == Returned(hop=hop, failure=failure)
    spoilt = bytearray(reason)
    spoilt[data.draw(st.integers(0, len(reason) - 1))] ^= data.draw(st.integers(1, 255))
    outcome = read_failure(secrets, bytes(spoilt))
    assert isinstance(outcome, Unreadable)
    assert outcome.hop is None


@settings(deadline=None)
@given(st.lists(st.binary(min_size=32, max_size=32), max_size=30), st.binary(max_size=400))
def test_any_reason(secrets: list[bytes], reason: bytes) -> None:
    assert isinstance(read_failure(secrets, reason), Unreadable)


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_a_hop_writes_any_bytes(body: bytes) -> None:
    outcome = read_failure(KEYS[:1], sealed_return(KEYS[0], body))
    assert outcome.hop == 0


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([*FAILURES, 0]), st.binary(max_size=80))
def test_failures_of_any_bytes(code: int, data: bytes) -> None:
    failure = decode(code.to_bytes(2, "big") + data)
    assert failure.code == code
    encoded = failure.encode()
    assert decode(encoded) == failure
    if isinstance(failure, OpaqueFailure):
        assert encoded[2:] == data
    else:
        assert (encoded[2:] + data[len(encoded) - 2 :]) == data
