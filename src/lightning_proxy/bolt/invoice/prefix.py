"""What stands in front of an invoice for people to read: the currency, and the amount."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from lightning_proxy.bolt.errors import InvoiceError

#: How invoices begin after "ln", by the names of `chains`: BIP 173's prefixes, and BOLT #11's own
#: for signet. testnet and testnet4 share one; simnet's is btcd's.
PREFIXES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "bitcoin": "bc",
        "testnet": "tb",
        "testnet4": "tb",
        "signet": "tbs",
        "simnet": "sb",
        "regtest": "bcrt",
    }
)

_KNOWN: Final = frozenset(PREFIXES.values())
_READABLE: Final = re.compile(r"ln([a-z]+)(?:([0-9]+)([a-z]?))?")
# In tenths of a msat, so that all are whole numbers: what one of each unit is worth, largest first.
_UNITS: Final = {
    "": 1_000_000_000_000,
    "m": 1_000_000_000,
    "u": 1_000_000,
    "n": 1_000,
    "p": 1,
}
_TENTHS: Final = 10
#: All the bitcoin that there will ever be.
_MAXIMUM_MSAT: Final = 21_000_000 * 100_000_000_000
_MAXIMUM_DIGITS: Final = len(str(_MAXIMUM_MSAT * _TENTHS))


def read(text: str) -> tuple[str, int | None]:
    """The prefix (one of `PREFIXES`) and the amount in msat, None where the payer may choose it.

    `text` is lower case. Raises `InvoiceError`, also for an amount that no payment can have.
    """
    matched = _READABLE.fullmatch(text)
    if matched is None:
        raise InvoiceError("prefix", 'an invoice starts with "ln", a currency, and an amount')
    prefix, digits, multiplier = matched.groups()
    if prefix not in _KNOWN:
        raise InvoiceError("prefix", f"the currency is unknown; known are {sorted(_KNOWN)}")
    if digits is None:
        return prefix, None
    if multiplier not in _UNITS:
        raise InvoiceError("amount", f"{multiplier} is no multiplier; m, u, n and p are")
    if digits.startswith("0"):
        raise InvoiceError("amount", "a positive number without leading zeros is wanted")
    if len(digits) > _MAXIMUM_DIGITS:
        raise InvoiceError("amount", "more than all bitcoin")
    amount_msat, rest = divmod(int(digits) * _UNITS[multiplier], _TENTHS)
    if rest:
        raise InvoiceError("amount", "it is no whole number of millisatoshis")
    _check(amount_msat)
    return prefix, amount_msat


def write(prefix: str, amount_msat: int | None) -> str:
    """The text in front of an invoice, as short as can be; raises `InvoiceError`."""
    if prefix not in _KNOWN:
        raise InvoiceError("prefix", f"the currency is unknown; known are {sorted(_KNOWN)}")
    if amount_msat is None:
        return f"ln{prefix}"
    _check(amount_msat)
    tenths = amount_msat * _TENTHS
    multiplier, unit = next((name, unit) for name, unit in _UNITS.items() if tenths % unit == 0)
    return f"ln{prefix}{tenths // unit}{multiplier}"


def _check(amount_msat: int) -> None:
    if not 0 < amount_msat <= _MAXIMUM_MSAT:
        raise InvoiceError("amount", f"it is not within 1 to {_MAXIMUM_MSAT} msat")
