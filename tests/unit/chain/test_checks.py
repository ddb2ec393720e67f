"""What passes out of foreign mouths, and what doesn't."""

from decimal import Decimal

import pytest

from lightning_proxy.bolt.opening import MAXIMUM_MONEY_SAT
from lightning_proxy.chain import ChainError, checks


@pytest.mark.parametrize(
    ("bitcoins", "sat"),
    [
        ("0", 0),
        ("0.00000001", 1),
        ("1E-8", 1),
        ("20999999.97690000", 2_099_999_997_690_000),
        ("0.1", 10_000_000),
        ("21000000", MAXIMUM_MONEY_SAT),
        ("0E+9999999", 0),
        ("-0.0", 0),
        ("1." + "0" * 300, 100_000_000),
    ],
)
def test_bitcoins(bitcoins: str, sat: int) -> None:
    assert checks.bitcoins(Decimal(bitcoins)) == sat


@pytest.mark.parametrize(
    "bitcoins",
    [
        "NaN",
        "sNaN",
        "Infinity",
        "-0.00000001",
        "21000000.00000001",
        "0.000000001",
        "1E+999999",
        "1e-999999",
        "1." + "0" * 300 + "1",
    ],
)
def test_no_bitcoins(bitcoins: str) -> None:
    with pytest.raises(ChainError, match="amount"):
        checks.bitcoins(Decimal(bitcoins))


@pytest.mark.parametrize(
    ("rate", "per_kw", "expected"),
    [
        ("1", 250, 253),
        ("0", 250, 253),
        ("1.0121", 250, 254),
        ("87.882", 250, 21_971),
        ("0.00001234", 25_000_000, 309),
        ("0.00010000474974513054", 25_000_000, 2_501),
        ("1e-999999", 250, 253),
        ("1", 25_000_000, 25_000_000),
    ],
)
def test_feerates_are_rounded_up(rate: str, per_kw: int, expected: int) -> None:
    assert checks.feerate(Decimal(rate), per_kw) == expected


@pytest.mark.parametrize("rate", ["NaN", "sNaN", "-1", "Infinity", "1.00000001", "1e999999"])
def test_no_feerates(rate: str) -> None:
    with pytest.raises(ChainError, match="fee estimate"):
        checks.feerate(Decimal(rate), 25_000_000)


@pytest.mark.parametrize("text", ["0", "zz", "0 0", " 00", "\u0660\u0660", "0x00"])
def test_no_hex(text: str) -> None:
    with pytest.raises(ChainError, match="no hex"):
        checks.hexadecimal(text, "script")


def test_foreign_words_are_made_fit_to_read() -> None:
    assert checks.quoted("bad\x1b[2J\n\u202e") == "bad [2J  "
    assert len(checks.quoted("x" * 10_000)) == 201
