"""Onions: what doesn't fit, what doesn't open, and that nothing secret shows."""

import pytest
from coincurve import PrivateKey

from lightning_proxy.bolt.errors import BoltError, MalformedMessage, OnionError, PayloadError
from lightning_proxy.bolt.onion import FailureCode, Hop, construct, ecdh_with, peel
from lightning_proxy.bolt.onion.sphinx import shared_secrets
from tests.support.onions import sealed_onion

SESSION_KEY = b"\x41" * 32
KEYS = [bytes([number]) * 32 for number in range(1, 28)]
HASH = b"\x42" * 32
NO_POINT = b"\x02" + b"\xff" * 32


def route(*payloads: bytes) -> list[Hop]:
    return [
        Hop(PrivateKey(key).public_key.format(), payload)
        for key, payload in zip(KEYS, payloads, strict=False)
    ]


def sealed(opened: bytes) -> bytes:
    return sealed_onion(route(b"12")[0].node_id, SESSION_KEY, HASH, opened)


def test_payloads_fill_the_onion_to_the_last_byte() -> None:
    payload = bytes(1300 - 3 - 32)
    onion = construct(route(payload), SESSION_KEY, HASH)
    assert peel(onion.packet, ecdh_with(KEYS[0]), HASH).payload == payload
    with pytest.raises(MalformedMessage, match="1 hops of 1301 bytes, 1 to 1300 bytes fit"):
        construct(route(payload + b"\x00"), SESSION_KEY, HASH)


def test_27_hops_fit() -> None:
    # 1300 bytes are 37 hops of the smallest payloads, and 27 of those that payments have.
    hops = route(*[bytes([number]) * 14 for number in range(27)])
    packet: bytes | None = construct(hops, SESSION_KEY, HASH).packet
    for hop, key in zip(hops, KEYS, strict=True):
        assert packet is not None
        assert len(packet) == 1366
        peeled = peel(packet, ecdh_with(key), HASH)
        assert peeled.payload == hop.payload
        packet = peeled.next_packet
    assert packet is None


@pytest.mark.parametrize("size", [1300, 32768, 70])
def test_onions_of_other_sizes(size: int) -> None:
    hops = route(b"\x01\x00", b"\x03\x00")
    onion = construct(hops, SESSION_KEY, b"", payloads_size=size)
    assert len(onion.packet) == size + 66
    first = peel(onion.packet, ecdh_with(KEYS[0]), b"")
    assert first.next_packet is not None
    assert len(first.next_packet) == size + 66
    assert peel(first.next_packet, ecdh_with(KEYS[1]), b"").payload == b"\x03\x00"


@pytest.mark.parametrize(
    ("hops", "reason"),
    [
        ([], "0 hops"),
        (route(b"1"), "1 bytes, at least 2 wanted"),
        (route(b""), "0 bytes, at least 2 wanted"),
        ([Hop(NO_POINT, b"12")], "no point"),
        ([Hop(b"", b"12")], "no point"),
    ],
)
def test_no_onion_can_be_made(hops: list[Hop], reason: str) -> None:
    with pytest.raises(MalformedMessage, match=reason):
        construct(hops, SESSION_KEY, HASH)


@pytest.mark.parametrize("key", [bytes(32), b"\xff" * 32, b"\x01"])
def test_no_session_key(key: bytes) -> None:
    with pytest.raises(ValueError, match=r"session key|[Ss]ecret"):
        construct(route(b"12"), key, HASH)


@pytest.mark.parametrize(
    ("position", "value", "code"),
    [
        (0, 1, FailureCode.INVALID_ONION_VERSION),
        (1, 4, FailureCode.INVALID_ONION_KEY),
        (1, 0, FailureCode.INVALID_ONION_KEY),
        (34, None, FailureCode.INVALID_ONION_HMAC),
        (1333, None, FailureCode.INVALID_ONION_HMAC),
        (1334, None, FailureCode.INVALID_ONION_HMAC),
        (1365, None, FailureCode.INVALID_ONION_HMAC),
    ],
)
def test_altered(position: int, value: int | None, code: FailureCode) -> None:
    packet = bytearray(construct(route(b"12", b"34"), SESSION_KEY, HASH).packet)
    packet[position] = packet[position] ^ 1 if value is None else value
    with pytest.raises(OnionError) as caught:
        peel(bytes(packet), ecdh_with(KEYS[0]), HASH)
    assert caught.value.failure_code == code


def test_for_another_payment_or_another_node() -> None:
    packet = construct(route(b"12"), SESSION_KEY, HASH).packet
    for key, data in ((KEYS[0], b"\x43" * 32), (KEYS[1], HASH)):
        with pytest.raises(OnionError) as caught:
            peel(packet, ecdh_with(key), data)
        assert caught.value.failure_code == FailureCode.INVALID_ONION_HMAC


def test_a_path_key_changes_which_node_an_onion_is_for() -> None:
    packet = construct(route(b"12"), SESSION_KEY, HASH).packet
    path_key = PrivateKey(KEYS[5]).public_key.format()
    with pytest.raises(OnionError):
        peel(packet, ecdh_with(KEYS[0]), HASH, path_key=path_key)
    with pytest.raises(MalformedMessage, match="path_key: it is no point"):
        peel(packet, ecdh_with(KEYS[0]), HASH, path_key=NO_POINT)


@pytest.mark.parametrize(
    ("opened", "reason"),
    [
        (b"\x00" + bytes(99), "payloads of 0 bytes are reserved"),
        (b"\x01" + bytes(99), "payloads of 1 bytes are reserved"),
        (b"\xfd\x00\x02" + bytes(97), "not minimally encoded"),
        (bytes([100]) + bytes(99), "100 bytes wanted, 99 left"),
        (bytes([68]) + bytes(99), "hmac: 32 bytes wanted, 31 left"),
        (b"\xff" + b"\xff" * 8 + bytes(91), "bytes wanted"),
    ],
)
def test_opens_to_no_payload(opened: bytes, reason: str) -> None:
    with pytest.raises(PayloadError, match=reason) as caught:
        peel(sealed(opened), ecdh_with(KEYS[0]), HASH)
    error = caught.value
    assert (error.type, error.offset) == (0, 0)
    # The answer can be wrapped, and the secret is nowhere to be seen.
    secrets = shared_secrets(SESSION_KEY, [route(b"12")[0].node_id])
    assert error.shared_secret == secrets[0]
    shown = f"{error!r} {error}"
    assert secrets[0].hex() not in shown
    assert repr(secrets[0]) not in shown


def test_the_smallest_payload_that_fits_exactly() -> None:
    peeled = peel(sealed(bytes([67]) + bytes(99)), ecdh_with(KEYS[0]), HASH)
    assert (peeled.payload, peeled.next_packet) == (bytes(67), None)


def test_too_short_for_an_onion() -> None:
    with pytest.raises(MalformedMessage, match="65 bytes, at least 66 wanted"):
        peel(bytes(65), ecdh_with(KEYS[0]), HASH)
    with pytest.raises(BoltError):
        peel(bytes(66), ecdh_with(KEYS[0]), HASH)


def test_nothing_secret_shows() -> None:
    payload = b"payment_secret" * 2
    hops = route(payload, payload)
    onion = construct(hops, SESSION_KEY, HASH)
    peeled = peel(onion.packet, ecdh_with(KEYS[0]), HASH)
    shown = f"{hops} {onion} {peeled}"
    assert "payment_secret" not in shown
    for secret in (*onion.shared_secrets, peeled.shared_secret):
        assert repr(secret) not in shown
