"""The tagged fields of an invoice, and the groups of five bits that they are made of."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

from lightning_proxy.bolt.errors import InvoiceError

#: Five bits each, as one character of bech32 carries them.
Groups: TypeAlias = Sequence[int]

#: The types of fields by their names here; BOLT #11 calls them by the letters.
TAGS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "payment_hash": 1,  # p
        "routes": 3,  # r
        "features": 5,  # 9
        "expiry": 6,  # x
        "fallbacks": 9,  # f
        "description": 13,  # d
        "payment_secret": 16,  # s
        "node_id": 19,  # n
        "description_hash": 23,  # h
        "min_final_cltv_expiry_delta": 24,  # c
        "payment_metadata": 27,  # m
    }
)

_NAMES: Final = {tag: name for name, tag in TAGS.items()}
_BITS: Final = 5
_HEAD: Final = 3
_MAXIMUM_LENGTH: Final = (1 << 2 * _BITS) - 1


def split(data: Groups) -> Iterator[tuple[str, Groups]]:
    """The fields by their names; those that BOLT #11 doesn't know are left out.

    Raises `InvoiceError` for a field that goes on beyond the end.
    """
    position = 0
    while position < len(data):
        head = data[position : position + _HEAD]
        start = position + _HEAD
        if start + number(head[1:]) > len(data):
            raise InvoiceError("fields", "the last one is cut off")
        position = start + number(head[1:])
        name = _NAMES.get(head[0])
        if name is not None:
            yield name, data[start:position]


def field(name: str, data: Groups) -> list[int]:
    """One field with its type and length; raises `InvoiceError` for one that is too long."""
    if len(data) > _MAXIMUM_LENGTH:
        room = _MAXIMUM_LENGTH * _BITS // 8
        raise InvoiceError(name, f"{len(data) * _BITS // 8} bytes, at most {room} fit")
    return [TAGS[name], *groups_of(len(data), 2), *data]


def number(groups: Groups) -> int:
    value = 0
    for group in groups:
        value = value << _BITS | group
    return value


def minimal_number(name: str, groups: Groups) -> int:
    """Raises `InvoiceError` for a number with leading zeros.

    BOLT #11 lets a reader refuse such an invoice.
    """
    if groups and groups[0] == 0:
        raise InvoiceError(name, "not minimally encoded: a leading zero")
    return number(groups)


def groups_of(value: int, size: int | None = None) -> list[int]:
    """A number that isn't negative, in `size` groups, or in the fewest (none for 0)."""
    if size is None:
        size = -(-value.bit_length() // _BITS)
    return [value >> _BITS * index & 0x1F for index in reversed(range(size))]


def to_bytes(name: str, groups: Groups) -> bytes:
    """What the groups carry; raises `InvoiceError` where the bits that fill them up aren't zero."""
    data, padding = divmod(number(groups), 1 << len(groups) * _BITS % 8)
    if padding:
        raise InvoiceError(name, "the bits after the last byte aren't zero")
    return data.to_bytes(len(groups) * _BITS // 8, "big")


def to_padded_bytes(groups: Groups) -> bytes:
    """What the groups carry, with zeros up to a whole byte."""
    size = -(-len(groups) * _BITS // 8)
    return (number(groups) << size * 8 - len(groups) * _BITS).to_bytes(size, "big")


def from_bytes(data: bytes) -> list[int]:
    """Bytes as groups, the last one filled up with zeros."""
    size = -(-len(data) * 8 // _BITS)
    return groups_of(int.from_bytes(data, "big") << size * _BITS - len(data) * 8, size)
