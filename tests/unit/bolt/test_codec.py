"""What the fundamental types refuse, in both directions."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_proxy.bolt import codec
from lightning_proxy.bolt.codec import Codec, Reader, Writer
from lightning_proxy.bolt.errors import MalformedMessage
from tests.unit.bolt.strategies import values_of

EVERY_CODEC: dict[str, Codec[Any]] = {
    "u8": codec.u8,
    "u16": codec.u16,
    "u32": codec.u32,
    "u64": codec.u64,
    "s8": codec.s8,
    "s16": codec.s16,
    "s32": codec.s32,
    "s64": codec.s64,
    "tu16": codec.tu16,
    "tu32": codec.tu32,
    "tu64": codec.tu64,
    "bigsize": codec.bigsize,
    "sha256": codec.sha256,
    "signature": codec.signature,
    "point": codec.point,
    "prefixed_bytes": codec.prefixed_bytes,
    "remainder": codec.remainder,
    "counted": codec.Counted(codec.signature),
    "repeated": codec.Repeated(codec.chain_hash),
    "flag": codec.flag,
}


def written(kind: Codec[Any], value: Any) -> bytes:
    writer = Writer("message")
    kind.write(writer, "field", value)
    return writer.getvalue()


@pytest.mark.parametrize("name", EVERY_CODEC)
@given(data=st.data())
def test_round_trip(name: str, data: st.DataObject) -> None:
    kind = EVERY_CODEC[name]
    value = data.draw(values_of(kind))
    reader = Reader("message", written(kind, value))
    assert kind.read(reader, "field") == value
    assert reader.left == 0


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("u8", 256, "256 is not within 0 to 255"),
        ("u16", -1, "-1 is not within 0 to 65535"),
        ("u32", 2**32, "is not within"),
        ("u64", 2**64, "is not within"),
        ("s64", -(2**63) - 1, "is not within"),
        ("tu16", 65536, "is not within"),
        ("bigsize", 2**64, "is not within"),
        ("u8", "1", "an integer wanted, str given"),
        ("sha256", bytes(31), "32 bytes wanted, 31 given"),
        ("sha256", "00" * 32, "bytes wanted, str given"),
        ("signature", bytes(65), "64 bytes wanted, 65 given"),
        ("point", b"\x04" + bytes(32), "starts with 02 or 03"),
        ("prefixed_bytes", bytes(65536), "65536 is not within 0 to 65535"),
        ("remainder", None, "bytes wanted, NoneType given"),
        ("counted", [bytes(64)], "a tuple wanted, list given"),
        ("counted", (bytes(63),), "64 bytes wanted, 63 given"),
        ("repeated", (bytes(33),), "32 bytes wanted, 33 given"),
        ("flag", False, "True or None wanted"),
    ],
)
def test_values_that_do_not_fit(name: str, value: Any, reason: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        written(EVERY_CODEC[name], value)
    assert str(caught.value).startswith("message.field: ")
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("u8", "", "1 byte wanted, 0 left"),
        ("u64", "00" * 7, "8 bytes wanted, 7 left"),
        ("tu16", "010000", "at most 2 bytes wanted, 3 given"),
        ("tu32", "0001", "a leading zero byte"),
        ("point", "04" + "00" * 32, "starts with 02 or 03"),
        ("point", "02" + "00" * 31, "33 bytes wanted, 32 left"),
        ("prefixed_bytes", "000300ff", "3 bytes wanted, 2 left"),
        ("counted", "0002" + "00" * 64, "64 bytes wanted, 0 left"),
        ("repeated", "00" * 33, "32 bytes wanted, 1 left"),
    ],
)
def test_bytes_that_are_no_value(name: str, data: str, reason: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        EVERY_CODEC[name].read(Reader("message", bytes.fromhex(data)), "field")
    assert reason in caught.value.reason


def test_a_reader_does_not_go_past_its_end() -> None:
    reader = Reader("message", bytes(8))
    reader.end = 4
    with pytest.raises(MalformedMessage, match="8 bytes wanted, 4 left"):
        codec.u64.read(reader, "field")
    assert reader.rest() == bytes(4)
