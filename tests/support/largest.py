"""The largest value that a type of the wire API allows, as its schema has it."""

import json
import re
import sys
from typing import Any

import msgspec
from msgspec import inspect
from msgspec.inspect import Type

from lightning_proxy.rpc import MAX_BYTES

#: Of each kind of text the one whose JSON is longest comes first.
_LETTERS = ("\x01", "f", "A")


class Unbounded(AssertionError):
    """Something may be as large as it likes: give it a bound, and it will fit a frame."""


def largest(kind: Any) -> Any:
    """A value of this type of which no other's JSON is much longer; raises `Unbounded`."""
    return msgspec.convert(_plain(inspect.type_info(kind), repr(kind)), kind)


def variants(kind: Any) -> list[Any]:
    """The largest of each member of a union, or of the one type."""
    info = inspect.type_info(kind)
    members = info.types if isinstance(info, inspect.UnionType) else (info,)
    return [msgspec.convert(_plain(member, repr(kind)), kind) for member in members]


def size_of(value: Any) -> int:
    return len(msgspec.json.encode(value))


def _plain(kind: Type, where: str) -> Any:
    value: Any
    match kind:
        case inspect.Metadata(type=inspect.ListType(item_type=item), extra_json_schema=extra) if (
            extra and MAX_BYTES in extra
        ):
            value = _filled(item, extra[MAX_BYTES], where)
        case inspect.Metadata(type=inner):
            value = _plain(inner, where)
        case inspect.UnionType(types=members):
            value = max((_plain(member, where) for member in members), key=_size)
        case inspect.StructType(fields=fields, cls=cls):
            value = {
                each.encode_name: _plain(each.type, f"{cls.__name__}.{each.name}")
                for each in fields
            }
        case inspect.ListType(item_type=item, max_length=int(most)):
            value = [_plain(item, where)] * most
        case inspect.DictType(key_type=key, value_type=inner, max_length=int(most)):
            name = _plain(key, where)
            value = {f"{n:x}".rjust(len(name), "f"): _plain(inner, where) for n in range(most)}
        case _:
            value = _scalar(kind, where)
    return value


def _scalar(kind: Type, where: str) -> Any:
    value: Any
    match kind:
        case inspect.StrType(max_length=int(most), pattern=pattern):
            value = _text(most, pattern, where)
        case inspect.IntType(le=int(most), multiple_of=multiple):
            value = most - most % (multiple or 1)
        case inspect.FloatType(le=most):
            # What is a little less has more digits.
            value = -sys.float_info.max if most is None else most - 1e-10
        case inspect.EnumType(cls=members):
            value = max((each.value for each in members), key=len)
        case inspect.BoolType():
            value = False
        case inspect.NoneType():
            value = None
        case _:
            raise Unbounded(f"{where}: {kind}")
    return value


def _filled(item: Type, most: int, where: str) -> list[Any]:
    """A list of so many bytes."""
    match item:
        case inspect.DictType(value_type=inspect.AnyType()):
            return [{"": "f" * (most - 9)}]
    one = _plain(item, where)
    return [one] * ((most - 1) // (_size(one) + 1))


def _text(most: int, pattern: str | None, where: str) -> str:
    for letter in _LETTERS:
        text = letter * most
        if pattern is None or re.search(pattern, text):
            return text
    raise Unbounded(f"{where}: no text for {pattern}")


def _size(plain: Any) -> int:
    return len(json.dumps(plain))
