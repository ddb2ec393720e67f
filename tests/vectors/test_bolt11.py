"""BOLT #11's examples, valid and invalid."""

from hashlib import sha256
from typing import Any

import pytest
from btclib import bech32
from btclib.script.script_pub_key import ScriptPubKey
from coincurve import PrivateKey

from lightning_proxy.bolt.errors import InvoiceError
from lightning_proxy.bolt.features import Features
from lightning_proxy.bolt.invoice import Invoice, RouteHint, parse, sign
from lightning_proxy.bolt.invoice.fields import to_bytes, to_padded_bytes
from lightning_proxy.bolt.invoice.parts import DEFAULT_FEATURES
from tests.support.data import load_json

EXAMPLES = load_json("bolt11_invoices.json")
VALID: list[dict[str, Any]] = EXAMPLES["valid"]
SIGNED = [case for case in VALID if "signature_hex" in case["facts"]]
KEY = PrivateKey(bytes.fromhex(EXAMPLES["private_key"]))
PAYEE = KEY.public_key.format()
# By what each of them is about, what is wrong with it.
INVALID = {
    "Same, but adding invalid unknown feature 100": "features: bit 100 is required",
    "Bech32 checksum is invalid.": "text: no bech32: invalid checksum",
    "Malformed bech32 string (no 1)": "text: no bech32: no separator",
    "Malformed bech32 string (mixed case)": "text: no bech32: mixed case",
    "Signature is not recoverable.": "signature: no key",
    "String is too short.": "signature: it is cut off",
    "Invalid multiplier": "amount: x is no multiplier",
    "Invalid sub-millisatoshi precision.": "amount: it is no whole number",
    "Missing required `s` field.": "payment_secret: missing",
    "Non canonical signature (high-S) with 'n' field defined": "signature: not by the node",
}
HIGH_S = "Public-key recovery with high-S signature"
THINGS = (
    b"One piece of chocolate cake, one icecream cone, one pickle, one slice of swiss cheese, one "
    b"slice of salami, one lollypop, one piece of cherry pie, one sausage, one cupcake, and one "
    b"slice of watermelon"
)
COFFEE_FEATURES = Features.from_bits((8, 14, 99))


def example(start: str) -> Invoice:
    (case,) = [case for case in VALID if case["what"].startswith(start)]
    return parse(case["invoice"]).invoice


def test_the_examples_are_all_there() -> None:
    assert (len(VALID), len(SIGNED), len(EXAMPLES["invalid"])) == (16, 11, 10)
    assert {case["what"] for case in EXAMPLES["invalid"]} == set(INVALID)


@pytest.mark.parametrize("case", VALID, ids=lambda case: case["what"][:40])
def test_valid(case: dict[str, Any]) -> None:
    signed = parse(case["invoice"])
    invoice, facts = signed.invoice, case["facts"]
    assert signed.text == case["invoice"].lower()
    assert (signed.payee == PAYEE) == (case["what"] != HIGH_S)
    assert invoice.payment_secret == b"\x11" * 32
    assert invoice.timestamp == int(facts.get("timestamp", "1496314658"))
    default_hash = "0001020304050607080900010203040506070809000102030405060708090102"
    assert invoice.payment_hash.hex() == facts.get("payment_hash", default_hash)
    # Its fields in our order are the same invoice again.
    assert sign(invoice, KEY.sign_recoverable).invoice == invoice


@pytest.mark.parametrize("case", SIGNED, ids=lambda case: case["what"][:40])
def test_what_is_signed(case: dict[str, Any]) -> None:
    facts = case["facts"]
    message = bytes.fromhex(facts["signed_hex"])
    assert sha256(message).hexdigest() == facts["sha256"]
    signature = bytes.fromhex(facts["signature_hex"]) + bytes([int(facts["recovery_flag"])])
    if case["what"] != HIGH_S:
        assert KEY.sign_recoverable(message) == signature
    readable, data = bech32.decode(case["invoice"], bech32.BECH32_1_CONST)
    assert readable.encode() + to_padded_bytes(data[:-104]) == message
    assert to_bytes("signature", data[-104:]) == signature


def test_many_are_written_as_they_stand() -> None:
    same = [
        case["what"]
        for case in VALID
        if sign(parse(case["invoice"]).invoice, KEY.sign_recoverable).text == case["invoice"]
    ]
    assert len(same) == 6


def test_amounts_and_descriptions() -> None:
    donation = example("Please make a donation")
    assert donation.amount_msat is None
    assert donation.description == "Please consider supporting this project"
    assert (donation.expiry, donation.min_final_cltv_expiry_delta) == (3600, 18)
    assert donation.features == DEFAULT_FEATURES
    coffee = example("Please send $3 for a cup")
    assert (coffee.amount_msat, coffee.expiry) == (250_000_000, 60)
    assert coffee.description == "1 cup coffee"
    assert coffee.expires_at == 1496314658 + 60
    assert example("Please send 0.0025 BTC").description == "ナンセンス 1杯"
    things = example("Now send $24")
    assert things.description is None
    assert things.description_hash == sha256(THINGS).digest()
    pico = example("Please send 0.00967878534 BTC")
    assert (pico.amount_msat, pico.expiry) == (967_878_534, 604_800)
    assert pico.min_final_cltv_expiry_delta == 10
    metadata = example("Please send 0.01 BTC with payment metadata")
    assert metadata.payment_metadata == bytes.fromhex("01fafaf0")
    assert metadata.features == Features.from_bits((8, 14, 48))


def test_features() -> None:
    beans = example("Please send $30 for coffee beans")
    assert beans.features == COFFEE_FEATURES
    assert example("Same, but all upper case") == beans
    # Fields of the wrong length, an unknown one, and a fallback address of an unknown version.
    assert example("Same, but including fields which must be ignored") == beans


def test_routes() -> None:
    (route,) = example("On mainnet, with fallback address 1Rusty").routes
    rest = "9e03a901b85534ff1e92c43c74431f7ce72046060fcf7a95c37e148f78c77255"
    assert route == (
        RouteHint(
            pubkey=bytes.fromhex("02" + rest),
            short_channel_id=66051 << 40 | 263430 << 16 | 1800,
            fee_base_msat=1,
            fee_proportional_millionths=20,
            cltv_expiry_delta=3,
        ),
        RouteHint(
            pubkey=bytes.fromhex("03" + rest),
            short_channel_id=197637 << 40 | 395016 << 16 | 2314,
            fee_base_msat=2,
            fee_proportional_millionths=30,
            cltv_expiry_delta=4,
        ),
    )


@pytest.mark.parametrize(
    ("start", "address"),
    [
        ("The same, on testnet", "mk2QpYatsKicvFVuTAQLBryyccRXMUaGHP"),
        ("On mainnet, with fallback address 1Rusty", "1RustyRX2oai4EYYDpQGWvEL62BBGqN9T"),
        ("On mainnet, with fallback (P2SH)", "3EktnHQD7RiAE6uzMj2ZifT9YgRrkSgzQX"),
        ("On mainnet, with fallback (P2WPKH)", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
        (
            "On mainnet, with fallback (P2WSH)",
            "bc1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qccfmv3",
        ),
        (
            "On mainnet, with fallback (P2TR)",
            "bc1pptdvg0d2nj99568qn6ssdy4cygnwuxgw2ukmnwgwz7jpqjz2kszse2s3lm",
        ),
    ],
)
def test_fallback_addresses(start: str, address: str) -> None:
    invoice = example(start)
    (fallback,) = invoice.fallbacks
    assert fallback.scriptpubkey == ScriptPubKey.from_address(address).script
    assert invoice.prefix == ("tb" if "testnet" in start else "bc")


@pytest.mark.parametrize("case", EXAMPLES["invalid"], ids=lambda case: case["what"])
def test_invalid(case: dict[str, Any]) -> None:
    with pytest.raises(InvoiceError) as caught:
        parse(case["invoice"])
    assert str(caught.value).startswith(f"invoice.{INVALID[case['what']]}")
