"""What a source's answers may say: every value of them passes here, or is a `ChainError`.

Hashes come in hex as explorers print them, and leave as bytes in that order.
"""

import math
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Final, TypeVar

import msgspec

from lightning_proxy.bolt.chains import chain_name
from lightning_proxy.bolt.opening import MAXIMUM_MONEY_SAT
from lightning_proxy.bolt.signing import parse_transaction
from lightning_proxy.chain.source import MINIMUM_FEERATE_PER_KW, ChainError

#: A bitcoin a 1000 virtual bytes is no feerate but a mistake; in satoshis a 1000 weight units.
MAX_FEERATE_PER_KW: Final = 25_000_000
#: A block's height goes into 3 bytes of a `short_channel_id` (BOLT #7).
_MAX_HEIGHT: Final = (1 << 24) - 1
# BIP 141 has room for fewer.
_MAX_TRANSACTIONS: Final = 1 << 16

_MAX_TEXT: Final = 200
# Conversions that would lose a digit raise instead.
_EXACT: Final = Context(prec=40, traps=[Inexact, InvalidOperation])

T = TypeVar("T")


def decode(body: bytes, shape: type[T], what: str) -> T:
    """A JSON answer of this shape."""
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ChainError(f"no sense in the {what}: {error}") from None


def block_hash(text: str, what: str) -> bytes:
    """A hash of 32 bytes, in the order that explorers print."""
    digest = hexadecimal(text, what)
    if len(digest) != 32:
        raise ChainError(f"no sense in the {what}: {len(digest)} bytes instead of 32")
    return digest


def hexadecimal(text: str, what: str) -> bytes:
    """Bytes out of hex."""
    try:
        # Spaces, which bytes.fromhex would skip, are no hex.
        if text.isalnum():
            return bytes.fromhex(text)
    except ValueError:
        pass
    if not text:
        return b""
    raise ChainError(f"no sense in the {what}: no hex")


def height(value: int) -> int:
    """A block's height."""
    return _between(value, 0, _MAX_HEIGHT, "block height")


def confirmations(value: int) -> int:
    """How many blocks there are from a transaction's own to the tip; 0 while it's in none."""
    return _between(value, 0, _MAX_HEIGHT + 1, "number of confirmations")


def position(value: int) -> int:
    """A transaction's place in its block."""
    return _between(value, 0, _MAX_TRANSACTIONS, "place in the block")


def satoshis(value: int) -> int:
    """An amount in satoshis."""
    return _between(value, 0, MAXIMUM_MONEY_SAT, "amount")


def bitcoins(value: Decimal) -> int:
    """An amount in satoshis, out of one in bitcoins."""
    # The comparison comes first: a number such as 1e999999 must not be written out.
    if value.is_finite() and 0 <= value <= 21_000_000:
        try:
            sat = _EXACT.multiply(value, Decimal(100_000_000))
            if sat == sat.to_integral_value():
                return int(sat)
        except (Inexact, InvalidOperation):
            pass
    raise ChainError("no sense in the amount: no number of satoshis")


def feerate(value: Decimal, per_kw: int) -> int:
    """A feerate in satoshis a 1000 weight units; one of `value`'s unit is `per_kw` of them."""
    if value.is_finite() and 0 <= value <= MAX_FEERATE_PER_KW:
        rate = math.ceil(value * per_kw)
        if rate <= MAX_FEERATE_PER_KW:
            return max(rate, MINIMUM_FEERATE_PER_KW)
    raise ChainError("no sense in the fee estimate")


def no_estimate(chain: str) -> int:
    """What a feerate is when its source has seen too little to know one."""
    if chain == "bitcoin":
        raise ChainError("the source has no fee estimate")
    return MINIMUM_FEERATE_PER_KW


def check_target(blocks: int) -> None:
    """`ValueError` for what of ours is no number of blocks to wait."""
    if blocks < 1:
        raise ValueError(f"no transaction confirms within {blocks} blocks")


def chain_of(genesis: bytes) -> str:
    """The name of the chain that begins with this block (as explorers print its hash)."""
    name = chain_name(genesis[::-1])
    if name is None:
        raise ChainError(f"its chain, which begins with {genesis.hex()}, has no name here")
    return name


def transaction_id(transaction: bytes) -> bytes:
    """The txid (as in messages) of a transaction of ours; `ValueError` for bytes that are none."""
    return parse_transaction(transaction).id[::-1]


def check_outpoint(txid: bytes, index: int) -> None:
    """`ValueError` for what of ours is no outpoint."""
    check_txid(txid)
    if not 0 <= index < 1 << 32:
        raise ValueError(f"{index} is no output's index")


def check_txid(txid: bytes) -> None:
    """`ValueError` for what of ours is no txid."""
    if len(txid) != 32:
        raise ValueError(f"a txid of {len(txid)} bytes instead of 32")


def quoted(text: str) -> str:
    """Foreign words fit for a log or a screen."""
    printable = "".join(char if char.isprintable() else " " for char in text[: _MAX_TEXT + 1])
    return printable if len(printable) <= _MAX_TEXT else printable[:_MAX_TEXT] + "…"


def _between(value: int, least: int, most: int, what: str) -> int:
    if not least <= value <= most:
        raise ChainError(f"no sense in the {what}")
    return value
