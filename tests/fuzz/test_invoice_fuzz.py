"""Invoices of any text: read, or refused in words; what is signed is read again as it was."""

from btclib import bech32
from coincurve import PrivateKey
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lightning_proxy.bolt.errors import InvoiceError
from lightning_proxy.bolt.features import Features
from lightning_proxy.bolt.invoice import (
    PREFIXES,
    Fallback,
    Invoice,
    RouteHint,
    SignedInvoice,
    parse,
    sign,
)
from lightning_proxy.bolt.invoice.fields import TAGS, from_bytes, groups_of, to_padded_bytes
from lightning_proxy.bolt.invoice.parts import DEFAULT_FEATURES

KEY = PrivateKey(b"\x31" * 32)
PAYEE = KEY.public_key.format()
HASHES = st.binary(min_size=32, max_size=32)
PREFIX = st.sampled_from(sorted(set(PREFIXES.values())))
AMOUNTS = st.none() | st.integers(1, 10**6) | st.integers(1, 2_100_000_000_000_000_000)
GROUPS = st.integers(0, 31)

PROGRAM_20 = st.binary(min_size=20, max_size=20)
FALLBACKS = (
    st.builds(Fallback, st.sampled_from([0, 17, 18]), PROGRAM_20)
    | st.builds(Fallback, st.just(0), HASHES)
    | st.builds(Fallback, st.integers(1, 16), st.binary(min_size=2, max_size=40))
)
HINTS = st.builds(
    RouteHint,
    pubkey=st.just(PAYEE),
    short_channel_id=st.integers(0, 2**64 - 1),
    fee_base_msat=st.integers(0, 2**32 - 1),
    fee_proportional_millionths=st.integers(0, 2**32 - 1),
    cltv_expiry_delta=st.integers(0, 2**16 - 1),
)
# Unknown features are odd, and known ones either, but not both.
FEATURES = st.builds(
    lambda odd, mpp: Features.from_bits({8, 14, *mpp, *(2 * half + 1 for half in odd)}),
    st.sets(st.integers(30, 300), max_size=4),
    st.sampled_from([(), (16,), (17,), (48,)]),
)


@st.composite
def invoices(draw: st.DrawFn) -> Invoice:
    hashed = draw(st.booleans())
    return Invoice(
        prefix=draw(PREFIX),
        amount_msat=draw(AMOUNTS),
        timestamp=draw(st.integers(0, 2**35 - 1)),
        payment_hash=draw(HASHES),
        payment_secret=draw(HASHES),
        description=None if hashed else draw(st.text(max_size=150)),
        description_hash=draw(HASHES) if hashed else None,
        payment_metadata=draw(st.none() | st.binary(max_size=639)),
        expiry=draw(st.integers(0, 2**53 - 1)),
        min_final_cltv_expiry_delta=draw(st.integers(0, 2**32 - 1)),
        fallbacks=tuple(draw(st.lists(FALLBACKS, max_size=3))),
        routes=tuple(
            tuple(route)
            for route in draw(st.lists(st.lists(HINTS, min_size=1, max_size=4), max_size=3))
        ),
        features=draw(FEATURES | st.just(Features())),
    )


def signed_groups(start: str, data: list[int]) -> str:
    signature = KEY.sign_recoverable(start.encode() + to_padded_bytes(data))
    return bech32.encode(start, [*data, *from_bytes(signature)], 1).decode()


def check(text: str) -> SignedInvoice | None:
    try:
        signed = parse(text)
    except InvoiceError as error:
        assert len(str(error)) < 200
        return None
    # It can be signed again, and says the same.
    try:
        assert sign(signed.invoice, KEY.sign_recoverable).invoice == signed.invoice
    except InvoiceError as error:
        # A writer may not require a feature and offer it, too; a reader takes it as required.
        assert "both set" in str(error)
    return signed


@settings(deadline=None)
@given(invoices(), st.booleans())
def test_round_trip(invoice: Invoice, named: bool) -> None:
    signed = sign(invoice, KEY.sign_recoverable, node_id=PAYEE if named else None)
    assert (signed.invoice, signed.payee) == (invoice, PAYEE)
    assert parse(signed.text.upper()) == signed


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300) | st.from_regex(r"(ln|LN)?[a-zA-Z0-9]{0,300}", fullmatch=True))
@example("lnbc1")
@example("1")
def test_any_text(text: str) -> None:
    check(text)


HRP = st.builds(
    "ln{}{}".format,
    PREFIX | st.just("ltc"),
    st.from_regex(r"([0-9]{0,30}[munpx]?)?", fullmatch=True),
)


@settings(max_examples=300, deadline=None)
@given(HRP, st.lists(GROUPS, max_size=300))
def test_bech32_of_anything(start: str, data: list[int]) -> None:
    check(bech32.encode(start, data, 1).decode())


@st.composite
def tagged(draw: st.DrawFn) -> list[int]:
    tag = draw(st.sampled_from([*TAGS.values()]) | GROUPS)
    data = draw(
        st.lists(GROUPS, max_size=60)
        | st.integers(51, 54).map(lambda size: [0] * size)
        | st.binary(max_size=110).map(from_bytes)
    )
    return [tag, *groups_of(len(data), 2), *data]


BASE = Invoice(
    prefix="bc",
    timestamp=1_700_000_000,
    payment_hash=bytes(32),
    payment_secret=bytes(32),
    description="",
    features=DEFAULT_FEATURES,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(tagged(), max_size=5), st.booleans(), st.integers(0, 5))
def test_signed_fields_of_any_kind(added: list[list[int]], whole: bool, cut: int) -> None:
    data = BASE.to_groups(None) if whole else groups_of(1_700_000_000, 7)
    for field in added:
        data += field
    signed = check(signed_groups("lnbc", data[: len(data) - cut]))
    if not added and whole and not cut:
        assert signed is not None


@settings(max_examples=200, deadline=None)
@given(invoices(), st.data())
def test_no_character_changes_unnoticed(invoice: Invoice, data: st.DataObject) -> None:
    text = sign(invoice, KEY.sign_recoverable, node_id=PAYEE).text
    position = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l"))
    changed = text[:position] + character + text[position + 1 :]
    assert changed == text or check(changed) is None
