"""Payloads: which records each kind of hop must and may have."""

from collections.abc import Mapping
from typing import Any

import pytest
from coincurve import PrivateKey

from lightning_proxy.bolt.errors import MalformedMessage, PayloadError
from lightning_proxy.bolt.onion import Payload, PaymentData
from lightning_proxy.bolt.onion.payloads import decode

POINT = PrivateKey(b"\x01" * 32).public_key.format()
DATA = PaymentData(payment_secret=b"\x11" * 32, total_msat=5000)
HOP = {"amt_to_forward": 1000, "outgoing_cltv_value": 600_000, "short_channel_id": 1 << 40}
FINAL = {"amt_to_forward": 1000, "outgoing_cltv_value": 600_000}
BLINDED = {"encrypted_recipient_data": b"secret"}
INTRODUCED = {**BLINDED, "current_path_key": POINT}
BLINDED_FINAL = {**BLINDED, **FINAL, "total_amount_msat": 9000}
UNKNOWN = ((7, b"odd"),)


def payload_of(records: Mapping[str, Any]) -> Payload:
    return Payload(**records)


@pytest.mark.parametrize(
    ("records", "final", "path_key"),
    [
        (HOP, False, False),
        ({**HOP, "unknown_tlvs": UNKNOWN}, False, False),
        (FINAL, True, False),
        ({**FINAL, "payment_data": DATA, "payment_metadata": b"x"}, True, False),
        ({**FINAL, "keysend_preimage": b"\x22" * 32, "unknown_tlvs": UNKNOWN}, True, False),
        ({**FINAL, "payment_metadata": b""}, True, False),
        ({**FINAL, "amt_to_forward": 0}, True, False),
        (INTRODUCED, False, False),
        (BLINDED, False, True),
        (BLINDED_FINAL, True, True),
        ({**BLINDED_FINAL, **INTRODUCED}, True, False),
    ],
)
def test_stands(records: Mapping[str, Any], final: bool, path_key: bool) -> None:
    payload = payload_of(records)
    assert decode(payload.encode(), final=final, path_key=path_key) == payload


@pytest.mark.parametrize(
    ("records", "final", "path_key", "type_", "reason"),
    [
        ({"outgoing_cltv_value": 1, "short_channel_id": 1}, False, False, 2, "missing"),
        ({"amt_to_forward": 1, "short_channel_id": 1}, False, False, 4, "missing"),
        (FINAL, False, False, 6, "missing"),
        ({"outgoing_cltv_value": 1}, True, False, 2, "missing"),
        ({"amt_to_forward": 1}, True, False, 4, "missing"),
        ({}, True, False, 2, "missing"),
        ({**HOP, "payment_data": DATA}, False, False, 8, "not for this hop"),
        ({**HOP, "payment_metadata": b"x"}, False, False, 16, "not for this hop"),
        ({**HOP, "keysend_preimage": bytes(32)}, False, False, 5482373484, "not for this hop"),
        (HOP, True, False, 6, "not for this hop"),
        # A path key only where there is something to decrypt by it, and only once.
        ({**FINAL, "current_path_key": POINT}, True, False, 12, "not for this hop"),
        (FINAL, True, True, 10, "missing"),
        (HOP, False, True, 10, "missing"),
        (BLINDED, False, False, 12, "missing"),
        (INTRODUCED, False, True, 12, "not for this hop"),
        ({**BLINDED, "amt_to_forward": 1}, False, True, 2, "not for this hop"),
        ({**BLINDED, "short_channel_id": 1}, False, True, 6, "not for this hop"),
        ({**BLINDED, "unknown_tlvs": UNKNOWN}, False, True, 0, "not for this hop"),
        ({**BLINDED_FINAL, "payment_data": DATA}, True, True, 8, "not for this hop"),
        ({**BLINDED_FINAL, "unknown_tlvs": UNKNOWN}, True, True, 0, "not for this hop"),
        ({**BLINDED, **FINAL}, True, True, 18, "missing"),
        ({**BLINDED, "total_amount_msat": 1}, True, True, 2, "missing"),
    ],
)
def test_refused(
    records: Mapping[str, Any], final: bool, path_key: bool, type_: int, reason: str
) -> None:
    data = payload_of(records).encode()
    with pytest.raises(PayloadError, match=reason) as caught:
        decode(data, final=final, path_key=path_key)
    assert (caught.value.type, caught.value.offset) == (type_, 0)


@pytest.mark.parametrize(
    ("stream", "type_", "offset", "reason"),
    [
        ("0201010601ff", 6, 3, "8 bytes wanted"),
        ("0201010401020e00", 14, 6, "unknown even type"),
        ("02020001", 2, 0, "leading zero"),
        ("0209010000000000000000", 2, 0, "at most 8 bytes"),
        ("04050100000000", 4, 0, "at most 4 bytes"),
        ("040101020101", 2, 3, "not increasing"),
        ("020101020101", 2, 3, "not increasing"),
        ("020101fd0004", 0, 3, "not minimally encoded"),
        ("020101fd", 0, 3, "wanted"),
        ("02010104", 4, 3, "wanted"),
        ("02010104fd0001", 4, 3, "not minimally encoded"),
        ("0201010402ff", 4, 3, "2 bytes, 1 left"),
        ("020101081f" + "11" * 31, 8, 3, "32 bytes wanted"),
        ("0201010822" + "11" * 32 + "0001", 8, 3, "leading zero"),
        ("0c21" + "04" * 33, 12, 0, "02 or 03"),
        ("0c20" + "02" * 32, 12, 0, "33 bytes wanted"),
    ],
)
def test_no_stream_of_records(stream: str, type_: int, offset: int, reason: str) -> None:
    with pytest.raises(PayloadError, match=reason) as caught:
        decode(bytes.fromhex(stream), final=True)
    assert (caught.value.type, caught.value.offset) == (type_, offset)
    assert caught.value.shared_secret is None


def test_the_whole_payment() -> None:
    assert payload_of({**FINAL, "payment_data": DATA}).total_msat == 5000
    assert payload_of({**FINAL, "total_amount_msat": 9000}).total_msat == 9000
    assert payload_of(FINAL).total_msat == 1000
    assert Payload().total_msat is None


def test_no_secret_shows() -> None:
    payload = Payload(
        amt_to_forward=1000,
        outgoing_cltv_value=600_000,
        payment_data=DATA,
        payment_metadata=b"\x11" * 32,
        keysend_preimage=b"\x11" * 32,
    )
    assert repr(payload) == (
        "Payload(amt_to_forward=1000, keysend_preimage, outgoing_cltv_value=600000, "
        "payment_data, payment_metadata)"
    )
    assert repr(DATA) == "PaymentData(total_msat=5000)"


def test_values_that_do_not_fit() -> None:
    with pytest.raises(MalformedMessage, match=r"payload\.outgoing_cltv_value"):
        Payload(outgoing_cltv_value=1 << 32).encode()
    with pytest.raises(MalformedMessage, match=r"payload\.keysend_preimage"):
        Payload(keysend_preimage=b"short").encode()
