"""BOLT 1's fundamental types: each one codec, read from a Reader and written to a Writer.

All are strict: nothing is read past the end, and of several possible encodings of a value only
the minimal one is accepted, so that what was read is written back byte for byte.
"""

from abc import ABC, abstractmethod
from typing import Annotated, Any, Final, Generic, Literal, NoReturn, TypeVar

from lightning_proxy.bolt.errors import MalformedMessage

T = TypeVar("T")

_POINT_PREFIXES: Final = b"\x02\x03"


class Reader:
    """A position in bytes; `end` bounds what may be read, `name` says in errors what is read."""

    __slots__ = ("data", "end", "name", "position")

    def __init__(self, name: str, data: bytes, position: int = 0) -> None:
        self.name = name
        self.data = data
        self.position = position
        self.end = len(data)

    @property
    def left(self) -> int:
        return self.end - self.position

    def fail(self, field: str, reason: str) -> NoReturn:
        raise MalformedMessage(self.name, field, reason)

    def take(self, size: int, field: str) -> bytes:
        """The next `size` bytes; raises `MalformedMessage` when there are fewer."""
        start = self.position
        stop = start + size
        if stop > self.end:
            self.fail(field, f"{_bytes(size)} wanted, {self.end - start} left")
        self.position = stop
        return self.data[start:stop]

    def rest(self) -> bytes:
        start, self.position = self.position, self.end
        return self.data[start : self.end]


class Writer:
    """The parts of an encoding; `name` says in errors what is written."""

    __slots__ = ("name", "parts")

    def __init__(self, name: str) -> None:
        self.name = name
        self.parts: list[bytes] = []

    def fail(self, field: str, reason: str) -> NoReturn:
        raise MalformedMessage(self.name, field, reason)

    def put(self, data: bytes) -> None:
        self.parts.append(data)

    def getvalue(self) -> bytes:
        return b"".join(self.parts)


class Codec(ABC, Generic[T]):
    """How one type of value stands on the wire. `field` names it in errors.

    `format` is the `struct` module's for a type of one size, None for others.
    """

    format: str | None = None

    @abstractmethod
    def read(self, reader: Reader, field: str) -> T:
        """Raises `MalformedMessage`."""

    @abstractmethod
    def write(self, writer: Writer, field: str, value: T) -> None:
        """Raises `MalformedMessage` when the value doesn't fit."""


class Integer(Codec[int]):
    """A big-endian integer of `size` bytes, two's complement if signed."""

    _FORMATS: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}

    def __init__(self, size: int, *, signed: bool = False) -> None:
        self.size = size
        self.signed = signed
        self.format = self._FORMATS[size].lower() if signed else self._FORMATS[size]
        bits = 8 * size
        self.minimum = -(1 << (bits - 1)) if signed else 0
        self.maximum = (1 << (bits - 1 if signed else bits)) - 1

    def read(self, reader: Reader, field: str) -> int:
        return int.from_bytes(reader.take(self.size, field), "big", signed=self.signed)

    def write(self, writer: Writer, field: str, value: int) -> None:
        _check_integer(writer, field, value, self.minimum, self.maximum)
        writer.put(value.to_bytes(self.size, "big", signed=self.signed))


class TruncatedInteger(Codec[int]):
    """An unsigned integer without its leading zero bytes: the last value of a TLV record."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.maximum = (1 << (8 * size)) - 1

    def read(self, reader: Reader, field: str) -> int:
        data = reader.rest()
        if len(data) > self.size:
            reader.fail(field, f"at most {_bytes(self.size)} wanted, {len(data)} given")
        if data[:1] == b"\x00":
            reader.fail(field, "not minimally encoded: a leading zero byte")
        return int.from_bytes(data, "big")

    def write(self, writer: Writer, field: str, value: int) -> None:
        _check_integer(writer, field, value, 0, self.maximum)
        writer.put(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class BigSize(Codec[int]):
    """BOLT #1, appendix A: 1, 3, 5 or 9 bytes, whichever is the fewest."""

    _SIZES: Final = {0xFD: (2, 0xFD), 0xFE: (4, 1 << 16), 0xFF: (8, 1 << 32)}

    def read(self, reader: Reader, field: str) -> int:
        first = reader.take(1, field)[0]
        if first < 0xFD:
            return first
        size, minimum = self._SIZES[first]
        value = int.from_bytes(reader.take(size, field), "big")
        if value < minimum:
            reader.fail(field, f"bigsize {value} is not minimally encoded")
        return value

    def write(self, writer: Writer, field: str, value: int) -> None:
        _check_integer(writer, field, value, 0, 2**64 - 1)
        if value < 0xFD:
            writer.put(value.to_bytes(1, "big"))
        elif value < 1 << 16:
            writer.put(b"\xfd" + value.to_bytes(2, "big"))
        elif value < 1 << 32:
            writer.put(b"\xfe" + value.to_bytes(4, "big"))
        else:
            writer.put(b"\xff" + value.to_bytes(8, "big"))


class FixedBytes(Codec[bytes]):
    """Exactly `size` bytes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.format = f"{size}s"

    def read(self, reader: Reader, field: str) -> bytes:
        return reader.take(self.size, field)

    def write(self, writer: Writer, field: str, value: bytes) -> None:
        _check_bytes(writer, field, value)
        if len(value) != self.size:
            writer.fail(field, f"{_bytes(self.size)} wanted, {len(value)} given")
        writer.put(value)


class CompressedPoint(FixedBytes):
    """A compressed point by its form only; whether it is on the curve, `keys.is_point` knows."""

    def __init__(self) -> None:
        super().__init__(33)

    def check(self, stream: Reader | Writer, field: str, value: bytes) -> None:
        """Raises `MalformedMessage` for 33 bytes that don't have the form of a point."""
        if value[0] not in _POINT_PREFIXES:
            stream.fail(field, "a compressed point starts with 02 or 03")

    def read(self, reader: Reader, field: str) -> bytes:
        value = super().read(reader, field)
        self.check(reader, field, value)
        return value

    def write(self, writer: Writer, field: str, value: bytes) -> None:
        super().write(writer, field, value)
        self.check(writer, field, value)


class LengthPrefixed(Codec[bytes]):
    """Bytes after their number as u16: the BOLTs' pair of a length field and `length*byte`."""

    def read(self, reader: Reader, field: str) -> bytes:
        return reader.take(u16.read(reader, field), field)

    def write(self, writer: Writer, field: str, value: bytes) -> None:
        _check_bytes(writer, field, value)
        u16.write(writer, field, len(value))
        writer.put(value)


class Remainder(Codec[bytes]):
    """`...*byte`: all bytes up to the end of the TLV record."""

    def read(self, reader: Reader, field: str) -> bytes:
        return reader.rest()

    def write(self, writer: Writer, field: str, value: bytes) -> None:
        _check_bytes(writer, field, value)
        writer.put(value)


class Counted(Codec[tuple[T, ...]]):
    """Values after their number as u16."""

    def __init__(self, item: Codec[T]) -> None:
        self.item = item

    def read(self, reader: Reader, field: str) -> tuple[T, ...]:
        read = self.item.read
        return tuple([read(reader, field) for _ in range(u16.read(reader, field))])

    def write(self, writer: Writer, field: str, value: tuple[T, ...]) -> None:
        _check_tuple(writer, field, value)
        u16.write(writer, field, len(value))
        for item in value:
            self.item.write(writer, field, item)


class Repeated(Codec[tuple[T, ...]]):
    """`...*item`: values up to the end of the TLV record; an item is never empty."""

    def __init__(self, item: Codec[T]) -> None:
        self.item = item

    def read(self, reader: Reader, field: str) -> tuple[T, ...]:
        items = []
        while reader.left:
            items.append(self.item.read(reader, field))
        return tuple(items)

    def write(self, writer: Writer, field: str, value: tuple[T, ...]) -> None:
        _check_tuple(writer, field, value)
        for item in value:
            self.item.write(writer, field, item)


class Flag(Codec[Literal[True]]):
    """A TLV record without a value, which says all by being there."""

    def read(self, reader: Reader, field: str) -> Literal[True]:
        return True

    def write(self, writer: Writer, field: str, value: Literal[True]) -> None:
        if value is not True:
            writer.fail(field, "True or None wanted")


def _bytes(size: int) -> str:
    return "1 byte" if size == 1 else f"{size} bytes"


# The annotations promise the types; these guard against callers that mypy didn't see, which would
# otherwise put something else on the wire, or raise something that doesn't name the field.
def _check_integer(writer: Writer, field: str, value: Any, minimum: int, maximum: int) -> None:
    if not isinstance(value, int):
        writer.fail(field, f"an integer wanted, {type(value).__name__} given")
    if not minimum <= value <= maximum:
        writer.fail(field, f"{value} is not within {minimum} to {maximum}")


def _check_bytes(writer: Writer, field: str, value: Any) -> None:
    if not isinstance(value, bytes):
        writer.fail(field, f"bytes wanted, {type(value).__name__} given")


def _check_tuple(writer: Writer, field: str, value: Any) -> None:
    if not isinstance(value, tuple):
        writer.fail(field, f"a tuple wanted, {type(value).__name__} given")


# The names of BOLT #1, "Fundamental Types".
u8: Final = Integer(1)
u16: Final = Integer(2)
u32: Final = Integer(4)
u64: Final = Integer(8)
s8: Final = Integer(1, signed=True)
s16: Final = Integer(2, signed=True)
s32: Final = Integer(4, signed=True)
s64: Final = Integer(8, signed=True)
tu16: Final = TruncatedInteger(2)
tu32: Final = TruncatedInteger(4)
tu64: Final = TruncatedInteger(8)
bigsize: Final = BigSize()
bytes32: Final = FixedBytes(32)
chain_hash: Final = bytes32
channel_id: Final = bytes32
sha256: Final = bytes32
signature: Final = FixedBytes(64)
point: Final = CompressedPoint()
short_channel_id: Final = u64
prefixed_bytes: Final = LengthPrefixed()
remainder: Final = Remainder()
flag: Final = Flag()

# The same as annotations of a message's fields.
U8 = Annotated[int, u8]
U16 = Annotated[int, u16]
U32 = Annotated[int, u32]
U64 = Annotated[int, u64]
S64 = Annotated[int, s64]
Bytes32 = Annotated[bytes, bytes32]
ChainHash = Annotated[bytes, chain_hash]
ChannelId = Annotated[bytes, channel_id]
Sha256 = Annotated[bytes, sha256]
Signature = Annotated[bytes, signature]
Point = Annotated[bytes, point]
ShortChannelId = Annotated[int, short_channel_id]
PrefixedBytes = Annotated[bytes, prefixed_bytes]
