"""Invoices: what is refused, what is skipped, and what can't be made."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from btclib import bech32
from coincurve import PrivateKey

from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.errors import InvoiceError
from lightning_proxy.bolt.features import Feature, Features
from lightning_proxy.bolt.invoice import (
    MAXIMUM_LENGTH,
    PREFIXES,
    Fallback,
    Invoice,
    RouteHint,
    parse,
    sign,
)
from lightning_proxy.bolt.invoice import prefix as readable
from lightning_proxy.bolt.invoice.fields import (
    TAGS,
    from_bytes,
    groups_of,
    number,
    to_bytes,
    to_padded_bytes,
)

KEY = PrivateKey(b"\x31" * 32)
PAYEE = KEY.public_key.format()
OTHER = PrivateKey(b"\x32" * 32)
# The order of the curve.
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
SECRET = b"\x5e" * 32
INVOICE = Invoice(
    prefix="bcrt",
    amount_msat=1_000,
    timestamp=1_700_000_000,
    payment_hash=b"\x42" * 32,
    payment_secret=SECRET,
    description="tea",
)
HINT = RouteHint(
    pubkey=PAYEE,
    short_channel_id=1 << 40 | 2 << 16 | 3,
    fee_base_msat=1,
    fee_proportional_millionths=2,
    cltv_expiry_delta=144,
)
FULL = replace(
    INVOICE,
    amount_msat=None,
    description=None,
    description_hash=b"\x43" * 32,
    payment_metadata=b"\x01\x02\x03",
    expiry=60,
    min_final_cltv_expiry_delta=144,
    fallbacks=(Fallback(0, b"\x01" * 20), Fallback(17, b"\x02" * 20), Fallback(1, b"\x03" * 32)),
    routes=((HINT,), (HINT, HINT)),
    features=Features.from_bits((8, 14, 17, 48, 101)),
)


def text_of(data: list[int], start: str = "lnbcrt10n", key: PrivateKey = KEY) -> str:
    """An invoice of this data, signed as it stands."""
    signature = key.sign_recoverable(start.encode() + to_padded_bytes(data))
    return bech32.encode(start, [*data, *from_bytes(signature)], 1).decode()


def tagged(name: str | int, data: list[int]) -> list[int]:
    tag = TAGS[name] if isinstance(name, str) else name
    return [tag, *groups_of(len(data), 2), *data]


TIME = groups_of(1_700_000_000, 7)
HASH_FIELD = tagged("payment_hash", from_bytes(b"\x42" * 32))
SECRET_FIELD = tagged("payment_secret", from_bytes(SECRET))
DESCRIPTION_FIELD = tagged("description", from_bytes(b"tea"))
FEATURES_FIELD = tagged("features", groups_of(1 << 8 | 1 << 14))
LEAST = [*TIME, *HASH_FIELD, *SECRET_FIELD, *DESCRIPTION_FIELD, *FEATURES_FIELD]


def test_the_least_that_an_invoice_has() -> None:
    signed = parse(text_of(LEAST))
    assert (signed.invoice, signed.payee) == (INVOICE, PAYEE)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("invoice", [INVOICE, FULL], ids=["least", "full"])
def test_signed_and_read(invoice: Invoice, named: bool) -> None:
    signed = sign(invoice, KEY.sign_recoverable, node_id=PAYEE if named else None)
    assert (signed.invoice, signed.payee) == (invoice, PAYEE)
    for text in (signed.text, signed.text.upper()):
        assert parse(text) == signed


def test_no_secret_shows() -> None:
    signed = sign(replace(FULL, payment_metadata=SECRET), KEY.sign_recoverable)
    assert repr(SECRET) not in repr(signed)
    assert signed.text not in repr(signed)


def test_a_prefix_for_every_chain() -> None:
    assert set(PREFIXES) == set(CHAIN_HASHES)
    for currency in set(PREFIXES.values()):
        assert parse(text_of(LEAST, f"ln{currency}")).invoice.prefix == currency


@pytest.mark.parametrize(
    ("text", "amount_msat"),
    [
        ("lnbc", None),
        ("lnbc1", 100_000_000_000),
        ("lnbc20m", 2_000_000_000),
        ("lnbc2500u", 250_000_000),
        ("lnbc1n", 100),
        ("lnbc10p", 1),
        ("lnbc9678785340p", 967_878_534),
        ("lnbc21000000", 2_100_000_000_000_000_000),
    ],
)
def test_amounts(text: str, amount_msat: int | None) -> None:
    assert readable.read(text) == ("bc", amount_msat)
    assert readable.write("bc", amount_msat) == text


@pytest.mark.parametrize(
    ("text", "amount_msat"),
    [("lnbc1000m", 100_000_000_000), ("lnbc1000p", 100), ("lnbc20000u", 2_000_000_000)],
)
def test_amounts_in_smaller_units_than_they_need(text: str, amount_msat: int) -> None:
    assert readable.read(text) == ("bc", amount_msat)
    assert readable.write("bc", amount_msat) != text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("lnbc0", "leading zeros"),
        ("lnbc0m", "leading zeros"),
        ("lnbc01m", "leading zeros"),
        ("lnbc1p", "no whole number"),
        ("lnbc19p", "no whole number"),
        ("lnbc1x", "x is no multiplier"),
        ("lnbc1mm", "starts with"),
        ("lnbc1m2", "starts with"),
        ("lnbc1.5m", "starts with"),
        ("lnbc-1", "starts with"),
        ("lnbc\u0661", "starts with"),
        ("lnbc21000001", "not within"),
        ("lnbc" + "9" * 80, "more than all bitcoin"),
        ("lnltc1", "currency is unknown"),
        ("lntbx", "currency is unknown"),
        ("ln", "starts with"),
        ("ln1", "starts with"),
        ("bc1", "starts with"),
        ("lno", "currency is unknown"),
    ],
)
def test_no_amounts(text: str, reason: str) -> None:
    with pytest.raises(InvoiceError, match=reason):
        readable.read(text)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ([], "timestamp: it is cut off"),
        (TIME[:-1], "timestamp: it is cut off"),
        (TIME, "payment_hash: missing"),
        ([*TIME, *HASH_FIELD, *DESCRIPTION_FIELD], "payment_secret: missing"),
        ([*TIME, *SECRET_FIELD, *DESCRIPTION_FIELD], "payment_hash: missing"),
        ([*TIME, *HASH_FIELD, *SECRET_FIELD], "description: either"),
        ([*LEAST, *tagged("description_hash", from_bytes(bytes(32)))], "description: either"),
        ([*LEAST, 1], "fields: the last one is cut off"),
        ([*LEAST, 1, 0], "fields: the last one is cut off"),
        ([*LEAST, 1, 0, 1], "fields: the last one is cut off"),
        ([*TIME, *HASH_FIELD[:-1]], "fields: the last one is cut off"),
        # The four bits that fill a hash up to 52 groups.
        ([*TIME, *HASH_FIELD[:-1], 17, *SECRET_FIELD], "payment_hash: the bits after"),
        ([*TIME, *tagged("description", [31, 31]), *LEAST[7:]], "description: the bits after"),
        (
            [*TIME, *tagged("description", from_bytes(b"\xff")), *LEAST[7:]],
            "description: it is no UTF-8",
        ),
        (
            [*TIME, *tagged("description", from_bytes(b"\xed\xa0\x80")), *LEAST[7:]],
            "description: it is no UTF-8",
        ),
        ([*LEAST, *tagged("expiry", [0, 1])], "expiry: not minimally encoded"),
        ([*LEAST, *tagged("expiry", [0])], "expiry: not minimally encoded"),
        ([*LEAST, *tagged("expiry", [31] * 1023)], "expiry: it is above"),
        (
            [*LEAST, *tagged("min_final_cltv_expiry_delta", [0, 18])],
            "min_final_cltv_expiry_delta: not minimally",
        ),
        (
            [*LEAST, *tagged("min_final_cltv_expiry_delta", groups_of(1 << 32))],
            "min_final_cltv_expiry_delta: it is above",
        ),
        ([*LEAST[:-6], *tagged("features", [0, 8, 8, 0])], "features: not minimally"),
        ([*LEAST[:-6], *tagged("features", groups_of(1 << 24))], "bit 24 is required"),
        ([*LEAST[:-6], *tagged("features", groups_of(1 << 5000))], "bit 5000 is required"),
        ([*LEAST, *tagged("routes", [])], "routes: one has no channels"),
        ([*LEAST, *tagged("routes", from_bytes(bytes(50)))], "routes: .*starts with 02 or 03"),
        ([*LEAST, *tagged("routes", from_bytes(PAYEE + bytes(19)))], "routes: 33 bytes wanted"),
        (
            [*LEAST, *tagged("routes", from_bytes(b"\x02" + b"\xff" * 32 + bytes(18)))],
            "routes: a pubkey is no point",
        ),
        (
            [*LEAST, *tagged("node_id", from_bytes(b"\x02" + b"\xff" * 32))],
            "signature: no signature, or",
        ),
        ([*LEAST, *tagged("node_id", from_bytes(OTHER.public_key.format()))], "not by the node"),
    ],
)
def test_refused(data: list[int], reason: str) -> None:
    with pytest.raises(InvoiceError, match=reason):
        parse(text_of(data))


@pytest.mark.parametrize(
    "skipped",
    [
        tagged(2, [1, 2, 3]),
        tagged(0, []),
        tagged(31, [31] * 1023),
        tagged("payment_hash", [1] * 51),
        tagged("payment_hash", []),
        tagged("payment_secret", [1] * 53),
        tagged("description_hash", [1] * 51),
        tagged("node_id", [1] * 52),
        # Fallback addresses that Bitcoin doesn't know (yet).
        tagged("fallbacks", []),
        tagged("fallbacks", [19, 31, 31]),
        tagged("fallbacks", [31]),
        tagged("fallbacks", [0, *from_bytes(bytes(21))]),
        tagged("fallbacks", [17, *from_bytes(bytes(19))]),
        tagged("fallbacks", [18, *from_bytes(bytes(32))]),
        tagged("fallbacks", [1, *from_bytes(bytes(41))]),
        tagged("fallbacks", [16, *from_bytes(bytes(1))]),
    ],
)
def test_skipped(skipped: list[int]) -> None:
    for data in ([*LEAST, *skipped], [*TIME, *skipped, *LEAST[7:]]):
        assert parse(text_of(data)).invoice == INVOICE


def test_the_first_field_of_a_kind_counts() -> None:
    data = [
        *LEAST,
        *tagged("payment_hash", from_bytes(bytes(32))),
        *tagged("payment_secret", from_bytes(bytes(32))),
        *tagged("description", from_bytes(b"coffee")),
        *tagged("expiry", [1]),
        *tagged("expiry", [2]),
        *tagged("features", groups_of(1 << 100)),
    ]
    assert parse(text_of(data)).invoice == replace(INVOICE, expiry=1)


def test_features_that_are_assumed_need_not_be_there() -> None:
    """BOLT #9: `payment_secret` goes without saying; the secret itself does not."""
    data = [*TIME, *HASH_FIELD, *SECRET_FIELD, *DESCRIPTION_FIELD]
    assert parse(text_of(data)).invoice == replace(INVOICE, features=Features())


def high_s(signature: bytes) -> bytes:
    """The same signature with the other S, which recovers to the same key by the other id."""
    s = ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([signature[64] ^ 1])


def test_a_high_s_where_the_key_is_recovered_only() -> None:
    def signer(message: bytes) -> bytes:
        return high_s(KEY.sign_recoverable(message))

    assert sign(INVOICE, signer).payee == PAYEE
    with pytest.raises(InvoiceError, match="not by the node"):
        sign(INVOICE, signer, node_id=PAYEE)


def test_the_named_node_needs_no_recovery() -> None:
    """BOLT #11: where there is an `n` field, the recovery id says nothing."""

    def signer(message: bytes) -> bytes:
        signature = KEY.sign_recoverable(message)
        return signature[:64] + bytes([signature[64] ^ 1])

    assert sign(INVOICE, signer, node_id=PAYEE).payee == PAYEE
    assert sign(INVOICE, signer).payee != PAYEE


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda signature: signature[:64], "65 bytes wanted, 64 given"),
        (lambda signature: signature + b"\x00", "65 bytes wanted, 66 given"),
        (lambda signature: signature[:64] + b"\x04", "recovery id is 4"),
        (lambda _: bytes(65), "no key|not by the node"),
        (lambda _: b"\xff" * 64 + b"\x00", "no key|no signature"),
    ],
)
def test_no_signature(change: Callable[[bytes], bytes], reason: str, named: bool) -> None:
    with pytest.raises(InvoiceError, match=f"signature: .*({reason})"):
        sign(
            INVOICE,
            lambda message: change(KEY.sign_recoverable(message)),
            node_id=PAYEE if named else None,
        )


def test_by_another_node_than_named() -> None:
    with pytest.raises(InvoiceError, match="not by the node"):
        sign(INVOICE, OTHER.sign_recoverable, node_id=PAYEE)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prefix": "ltc"}, "prefix: the currency is unknown"),
        ({"amount_msat": 0}, "amount: it is not within"),
        ({"amount_msat": 2_100_000_000_000_000_001}, "amount: it is not within"),
        ({"timestamp": 1 << 35}, "timestamp: it has no place"),
        ({"timestamp": -1}, "timestamp: it has no place"),
        ({"payment_hash": bytes(31)}, "payment_hash: 32 bytes wanted, 31 given"),
        ({"payment_secret": b""}, "payment_secret: 32 bytes wanted, 0 given"),
        ({"description": None}, "description: either"),
        ({"description_hash": bytes(32)}, "description: either"),
        ({"description_hash": bytes(31)}, "description_hash: 32 bytes"),
        ({"description": "\ud800"}, "description: it can't be written"),
        ({"description": "x" * 640}, "description: 640 bytes, at most 639 fit"),
        ({"payment_metadata": bytes(640)}, "payment_metadata: 640 bytes, at most 639 fit"),
        ({"expiry": -1}, "expiry: it is not within"),
        ({"expiry": 1 << 53}, "expiry: it is not within"),
        ({"min_final_cltv_expiry_delta": 1 << 32}, "min_final_cltv_expiry_delta: it is not"),
        ({"fallbacks": (Fallback(19, bytes(20)),)}, "fallbacks: one is no address"),
        ({"fallbacks": (Fallback(0, bytes(21)),)}, "fallbacks: one is no address"),
        ({"fallbacks": (Fallback(-1, bytes(20)),)}, "fallbacks: one is no address"),
        ({"fallbacks": [Fallback(0, bytes(20))]}, "text: it reads back as another"),
        ({"routes": ((),)}, "routes: one has no channels"),
        ({"routes": ((HINT,) * 13,)}, "routes: 663 bytes, at most 639 fit"),
        ({"routes": ((HINT,) * 12,) * 11}, "text: .* characters, at most 7089"),
        ({"features": Features.from_bits((8, 14, 24))}, "features: bit 24 is required"),
        ({"features": Features.from_bits((8, 14, 15))}, "features: bits 14 and 15 are both set"),
    ],
)
def test_can_not_be_made(change: dict[str, Any], reason: str) -> None:
    asked: list[bytes] = []

    def signer(message: bytes) -> bytes:
        asked.append(message)
        return KEY.sign_recoverable(message)

    with pytest.raises(InvoiceError, match=f"^invoice.{reason}"):
        sign(replace(INVOICE, **change), signer)
    # Nobody signs what nobody may read.
    assert not asked


@pytest.mark.parametrize(
    "hint",
    [
        {"pubkey": b"\x02" + b"\xff" * 32},
        {"pubkey": b""},
        {"fee_base_msat": 1 << 32},
        {"short_channel_id": -1},
    ],
)
def test_no_route(hint: dict[str, Any]) -> None:
    values = {name: getattr(HINT, name) for name in HINT.__struct_fields__} | hint
    with pytest.raises(InvoiceError, match="routes"):
        sign(replace(INVOICE, routes=((RouteHint(**values),),)), KEY.sign_recoverable)


def test_expires() -> None:
    assert INVOICE.expires_at == 1_700_003_600
    assert parse(text_of([*LEAST, *tagged("expiry", [])])).invoice.expires_at == 1_700_000_000


def test_features_that_a_payer_is_asked_for() -> None:
    features = Features.from_bits((Feature.BASIC_MPP, Feature.OPTION_PAYMENT_METADATA, 8, 14))
    assert sign(replace(INVOICE, features=features), KEY.sign_recoverable).invoice.features == (
        features
    )


def test_the_longest_invoice() -> None:
    """To the character: nothing that is signed is too long to be read."""
    longest = replace(
        INVOICE,
        amount_msat=None,
        description="d" * 639,
        payment_metadata=bytes(639),
        routes=((HINT,) * 12,) * 4,
    )
    length = len(sign(longest, KEY.sign_recoverable).text)
    # A fallback address of 20 bytes takes 36 characters.
    short = (MAXIMUM_LENGTH - length) // 36
    fallbacks = (Fallback(0, bytes(20)),) * short
    text = sign(replace(longest, fallbacks=fallbacks), KEY.sign_recoverable).text
    assert MAXIMUM_LENGTH - 36 < len(text) <= MAXIMUM_LENGTH
    with pytest.raises(InvoiceError, match="at most 7089"):
        sign(replace(longest, fallbacks=(*fallbacks, Fallback(0, bytes(20)))), KEY.sign_recoverable)


def test_texts_that_are_no_invoice() -> None:
    text = sign(INVOICE, KEY.sign_recoverable).text
    for wrong, reason in [
        ("", "no separator"),
        ("a" * (MAXIMUM_LENGTH + 1), "at most 7089"),
        (text[:-1], "checksum"),
        (text + "q", "checksum"),
        (f"lightning:{text}", "checksum|prefix"),
        (f" {text}", "out of range"),
        (text.replace("l", "\u212a", 1), "out of range"),
        (text.capitalize(), "mixed case"),
        # bech32m, which is for addresses.
        (bech32.encode(*bech32.decode(text, 1), bech32.BECH32_M_CONST).decode(), "checksum"),
    ]:
        with pytest.raises(InvoiceError, match=reason):
            parse(wrong)


@pytest.mark.parametrize("size", range(12))
def test_bytes_in_groups_of_five_bits(size: int) -> None:
    data = bytes(range(255, 255 - size, -1))
    groups = from_bytes(data)
    assert len(groups) == -(-size * 8 // 5)
    assert to_bytes("data", groups) == data
    assert to_padded_bytes(groups)[:size] == data
    assert number(groups) == int.from_bytes(data, "big") << len(groups) * 5 - size * 8
