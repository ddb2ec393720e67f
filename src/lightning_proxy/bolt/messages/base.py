"""The machinery of all messages: fields declared as annotations, compiled once a class."""

import re
import struct
from collections.abc import Callable, Mapping
from itertools import takewhile
from types import MappingProxyType
from typing import Any, ClassVar, Final, Generic, TypeAlias, TypeVar, get_type_hints

from msgspec import Struct

from lightning_proxy.bolt.codec import (
    Codec,
    CompressedPoint,
    FixedBytes,
    Integer,
    Reader,
    Writer,
    u16,
)
from lightning_proxy.bolt.errors import MalformedMessage, UnknownMessage
from lightning_proxy.bolt.tlv import Namespace, Records, Tlv

#: BOLT #8 gives a message a length of two bytes.
MAXIMUM_SIZE: Final = 65535

JSON: TypeAlias = "bool | int | str | list[JSON] | dict[str, JSON] | None"


def declared(cls: type[Struct]) -> tuple[dict[str, Codec[Any]], dict[str, Tlv]]:
    """The plain fields and the TLV records that a class declares, each in its order."""
    fields: dict[str, Codec[Any]] = {}
    records: dict[str, Tlv] = {}
    for name, hint in get_type_hints(cls, include_extras=True).items():
        for mark in getattr(hint, "__metadata__", ()):
            if isinstance(mark, Tlv):
                records[name] = mark
            elif isinstance(mark, Codec):
                fields[name] = mark
    return fields, records


class Record(Struct, frozen=True, kw_only=True, gc=False):
    """A group of fields inside a message: a BOLT subtype, or a TLV record of several fields."""


R = TypeVar("R", bound=Record)


class Structure(Codec[R], Generic[R]):
    """The codec of a `Record` class."""

    def __init__(self, cls: type[R]) -> None:
        self.cls = cls
        self.fields, _ = declared(cls)

    def read(self, reader: Reader, field: str) -> R:
        return self.cls(
            **{name: codec.read(reader, f"{field}.{name}") for name, codec in self.fields.items()}
        )

    def write(self, writer: Writer, field: str, value: R) -> None:
        if not isinstance(value, self.cls):
            writer.fail(field, f"{self.cls.__name__} wanted, {type(value).__name__} given")
        for name, codec in self.fields.items():
            codec.write(writer, f"{field}.{name}", getattr(value, name))


class _FixedFields:
    """A message's first fields, as far as their sizes are fixed: read and written in one go."""

    def __init__(self, fields: Mapping[str, Codec[Any]], start: int) -> None:
        fixed = dict(takewhile(lambda item: item[1].format is not None, fields.items()))
        self.names = tuple(fixed)
        self._struct = struct.Struct(">" + "".join(str(codec.format) for codec in fixed.values()))
        self._start = start
        self.end = start + self._struct.size
        self._kinds = [int if isinstance(codec, Integer) else bytes for codec in fixed.values()]
        self._sizes = [
            (at, codec.size)
            for at, codec in enumerate(fixed.values())
            if isinstance(codec, FixedBytes)
        ]
        self._checks = [
            (at, name, codec.check)
            for at, (name, codec) in enumerate(fixed.items())
            if isinstance(codec, CompressedPoint)
        ]

    def read(self, reader: Reader) -> dict[str, Any]:
        """The fields' values, of bytes that suffice; raises `MalformedMessage`."""
        values = self._struct.unpack_from(reader.data, self._start)
        for at, name, check in self._checks:
            check(reader, name, values[at])
        reader.position = self.end
        return dict(zip(self.names, values, strict=True))

    def write(self, writer: Writer, message: Struct) -> bool:
        """Whether the values' types and sizes were right, and are written.

        Raises `MalformedMessage`.
        """
        values = [getattr(message, name) for name in self.names]
        if [*map(type, values)] != self._kinds:
            return False
        for at, size in self._sizes:
            # `struct` would cut bytes off, or fill them up.
            if len(values[at]) != size:
                return False
        try:
            data = self._struct.pack(*values)
        except struct.error:
            return False
        for at, name, check in self._checks:
            check(writer, name, values[at])
        writer.put(data)
        return True


class Layout:
    """What a message class declares, ready to read and write."""

    def __init__(self, name: str, type_: int, cls: type["Message"]) -> None:
        self.name = name
        self.prefix = type_.to_bytes(2, "big")
        self.fields, records = declared(cls)
        self.namespace = Namespace(name, records)
        #: The names of all fields and records.
        self.names = (*self.fields, *records)
        self._fields = tuple(self.fields.items())
        self._fixed = _FixedFields(self.fields, len(self.prefix))
        self._others = self._fields[len(self._fixed.names) :]

    def read(self, data: bytes) -> dict[str, Any]:
        reader = Reader(self.name, data, len(self.prefix))
        if len(data) >= self._fixed.end:
            values = self._fixed.read(reader)
            fields = self._others
        else:
            # One by one, to name the field that is cut off.
            values, fields = {}, self._fields
        for name, codec in fields:
            values[name] = codec.read(reader, name)
        if reader.position < reader.end:
            records, unknown = self.namespace.read(reader)
            values.update(records)
            values["unknown_tlvs"] = unknown
        return values

    def write(self, message: "Message") -> bytes:
        writer = Writer(self.name)
        writer.put(self.prefix)
        # One by one, to name the field whose value doesn't fit.
        fields = self._others if self._fixed.write(writer, message) else self._fields
        for name, codec in fields:
            codec.write(writer, name, getattr(message, name))
        self.namespace.write(writer, message, message.unknown_tlvs)
        data = writer.getvalue()
        if len(data) > MAXIMUM_SIZE:
            writer.fail("size", f"{len(data)} bytes, at most {MAXIMUM_SIZE} fit")
        return data


class Message(Struct, frozen=True, kw_only=True, gc=False, repr_omit_defaults=True):
    """A message of the BOLTs: its fields, its known TLV records, and the unknown odd ones.

    A message for which the BOLTs define no TLVs keeps what follows its fields as such records too
    (BOLT #1: any message may have such an extension).
    """

    TYPE: ClassVar[int]
    NAME: ClassVar[str]
    LAYOUT: ClassVar[Layout]

    unknown_tlvs: Records = ()

    def encode(self) -> bytes:
        """The message with its type in front; raises `MalformedMessage` if a value doesn't fit."""
        return self.LAYOUT.write(self)


M = TypeVar("M", bound=Message)

_messages: dict[int, type[Message]] = {}

#: Every message class by its type.
MESSAGES: Final[Mapping[int, type[Message]]] = MappingProxyType(_messages)


def message(type_: int) -> Callable[[type[M]], type[M]]:
    """Makes a class the message of this type, named as the BOLTs spell the class's name."""

    def register(cls: type[M]) -> type[M]:
        if type_ in _messages:
            raise TypeError(f"{cls.__name__} and {_messages[type_].__name__} have one type")
        cls.TYPE = type_
        cls.NAME = re.sub(r"(?<=.)(?=[A-Z])", "_", cls.__name__).lower()
        cls.LAYOUT = Layout(cls.NAME, type_, cls)
        _messages[type_] = cls
        return cls

    return register


def decode(data: bytes | memoryview) -> Message:
    """The message in these bytes, which start with its type.

    Raises `UnknownMessage` for a type that isn't in `MESSAGES`, `MalformedMessage` for all else.
    """
    data = bytes(data)
    if len(data) > MAXIMUM_SIZE:
        raise MalformedMessage("message", "size", f"{len(data)} bytes, at most {MAXIMUM_SIZE} fit")
    type_ = u16.read(Reader("message", data), "type")
    cls = _messages.get(type_)
    if cls is None:
        raise UnknownMessage(type_)
    return cls(**cls.LAYOUT.read(data))


def is_known(type_: int) -> bool:
    return type_ in _messages


def name_of(type_: int) -> str:
    """The BOLTs' name of a message type, or "unknown(4711)"."""
    cls = _messages.get(type_)
    return f"unknown({type_})" if cls is None else cls.NAME


def to_dict(message: Message) -> dict[str, JSON]:
    """The message for JSON: bytes as hex, absent TLV records left out, its `name` first."""
    plain: dict[str, JSON] = {"name": message.NAME}
    layout = message.LAYOUT
    for field in layout.names:
        value = getattr(message, field)
        if value is not None:
            plain[field] = _plain(value)
    if message.unknown_tlvs:
        plain["unknown_tlvs"] = _plain(message.unknown_tlvs)
    return plain


def _plain(value: object) -> JSON:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, int):
        return value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Struct):
        return {field: _plain(getattr(value, field)) for field in value.__struct_fields__}
    raise TypeError(f"no message has a value of the type {type(value).__name__}")
