"""Integers that JSON's readers may not have room for: numbers, or decimal strings.

JavaScript, for one, reads every number as a double, which holds integers up to 2^53 - 1 exactly.
Amounts, `short_channel_id`s and commitment numbers may be larger. A wallet may always write them
as strings of canonical decimal digits; how they come to it, it says in `authenticate`.
"""

import re
from collections.abc import Callable
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct
from msgspec.inspect import (
    AnyType,
    DictType,
    ListType,
    Metadata,
    StructType,
    Type,
    UnionType,
    type_info,
)

#: What every reader of JSON holds exactly.
MAX_SAFE: Final = 2**53 - 1
#: One form for each number; 19 digits hold any of 63 bits.
DECIMAL: Final = r"^(?:0|[1-9][0-9]{0,18})$(?!\n)"
#: What the published schema shows as a number or a string.
LARGE: Final = "x-large-integer"

_decimal: Final = re.compile(DECIMAL)

#: What is counted here; no reader loses a digit.
Count = Annotated[int, Meta(ge=0, le=MAX_SAFE)]
# msgspec bounds integers by 63 bits at most; no amount of BOLT 2 that a node accepts is larger.
Amount = Annotated[int, Meta(ge=0, le=2**63 - 1, extra_json_schema={LARGE: True})]


class Integers(StrEnum):
    """How large integers come to a wallet."""

    NUMBER = "number"
    STRING = "string"  # every `Amount`, and every integer of a delegation's `decoded`


def in_strings(value: Any) -> Any:
    """A message's payload with its large integers as strings, ready for any encoder of JSON."""
    if isinstance(value, list):
        return [in_strings(item) for item in value]
    if isinstance(value, Struct):
        return _changed(msgspec.to_builtins(value), _inspect(type(value)), _written, _all_written)
    return value


def read_in_strings(data: bytes | msgspec.Raw, kind: Any) -> Any:
    """Decode as `kind`, large integers that are strings included; no other string is a number.

    Raises `msgspec.ValidationError`, `msgspec.DecodeError`.
    """
    return msgspec.convert(_changed(msgspec.json.decode(data), _inspect(kind), _read), kind)


def has_large(kind: Any) -> bool:
    """Whether there is a large integer anywhere in this type."""
    return _has_large(kind)


@cache
def _has_large(kind: Any) -> bool:
    # What `repr` shows of a type is all that there is to it, to whatever depth.
    return LARGE in repr(_inspect(kind))


@cache
def _inspect(kind: Any) -> Type:
    return type_info(kind)


def _changed(
    value: Any,
    kind: Type,
    change: Callable[[Any], Any],
    change_any: Callable[[Any], Any] | None = None,
) -> Any:
    """A value of builtins, changed where its type has a large integer, or may have anything.

    The value is used up.
    """
    match kind:
        case Metadata(extra_json_schema=extra) if extra is not None and LARGE in extra:
            value = change(value)
        case Metadata(type=inner):
            value = _changed(value, inner, change, change_any)
        case UnionType(types=members):
            for member in members:
                value = _changed(value, member, change, change_any)
        case StructType(fields=fields) if isinstance(value, dict):
            for field in fields:
                name = field.encode_name
                if name in value:
                    value[name] = _changed(value[name], field.type, change, change_any)
        case ListType(item_type=inner) if isinstance(value, list):
            value = [_changed(item, inner, change, change_any) for item in value]
        case DictType(value_type=inner) if isinstance(value, dict):
            value = {n: _changed(item, inner, change, change_any) for n, item in value.items()}
        case AnyType() if change_any is not None:
            value = change_any(value)
    return value


def _read(value: Any) -> Any:
    return int(value) if isinstance(value, str) and _decimal.match(value) else value


def _written(value: Any) -> Any:
    return str(value) if type(value) is int else value


def _all_written(value: Any) -> Any:
    if isinstance(value, list):
        return [_all_written(item) for item in value]
    if isinstance(value, dict):
        return {name: _all_written(item) for name, item in value.items()}
    return _written(value)
