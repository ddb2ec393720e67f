"""BOLT #1, appendix B: TLV streams of the namespaces n1 and n2."""

import re
from typing import Annotated, Any

import pytest
from msgspec import Struct

from lightning_proxy.bolt import codec
from lightning_proxy.bolt.codec import U64, Point, Reader, Writer
from lightning_proxy.bolt.errors import MalformedMessage
from lightning_proxy.bolt.messages.base import Record, Structure, declared
from lightning_proxy.bolt.tlv import Namespace, Records, Tlv
from tests.support.data import load_json

CASES = load_json("bolt01_tlv.json")["cases"]


class Tlv3(Record, frozen=True, kw_only=True):
    node_id: Point
    amount_msat_1: U64
    amount_msat_2: U64


class N1(Struct, frozen=True, kw_only=True):
    tlv1: Annotated[int | None, Tlv(1, codec.tu64)] = None
    tlv2: Annotated[int | None, Tlv(2, codec.short_channel_id)] = None
    tlv3: Annotated[Tlv3 | None, Tlv(3, Structure(Tlv3))] = None
    tlv4: Annotated[int | None, Tlv(254, codec.u16)] = None


class N2(Struct, frozen=True, kw_only=True):
    tlv1: Annotated[int | None, Tlv(0, codec.tu64)] = None
    tlv2: Annotated[int | None, Tlv(11, codec.tu32)] = None


STREAMS: dict[str, type[N1] | type[N2]] = {"n1": N1, "n2": N2}
CASES_BY_NAMESPACE = [(name, case) for case in CASES for name in case["namespace"].split(",")]
# A word of our reason for each reason of the vectors that begins so.
REASONS = {
    "type truncated": "wanted",
    "missing length": "wanted",
    "length truncated": "wanted",
    "missing value": "left",
    "value truncated": "left",
    "not minimally encoded": "not minimally encoded",
    "unknown even": "unknown even type",
    "greater than encoding length": "too many|at most",
    "less than encoding length": "wanted",
    "encoding for": "leading zero",
    "valid TLV records but": "not increasing",
    "valid (ignored) TLV records but": "not increasing",
    "duplicate TLV type": "not increasing",
    "`n1`s `node_id` is not a valid point": "02 or 03",
}
# Several fields of the values' text: `tlv3` `node_id`=02… `amount_msat_1`=1
_VALUE = re.compile(r"`(\w+)`=(\S+)")


def read(name: str, stream: bytes) -> tuple[N1 | N2, Records]:
    cls = STREAMS[name]
    values, unknown = Namespace(name, declared(cls)[1]).read(Reader(name, stream))
    return cls(**values), unknown


def plain(text: str) -> Any:
    if "x" in text:
        block, transaction, output = map(int, text.split("x"))
        return block << 40 | transaction << 16 | output
    return bytes.fromhex(text) if len(text) == 66 else int(text)


def test_the_vectors_are_all_there() -> None:
    assert len(CASES) == 57


@pytest.mark.parametrize(("name", "case"), CASES_BY_NAMESPACE)
def test_streams(name: str, case: dict[str, Any]) -> None:
    stream = bytes.fromhex(case["stream"])
    if not case["valid"]:
        (reason,) = [ours for theirs, ours in REASONS.items() if case["reason"].startswith(theirs)]
        with pytest.raises(MalformedMessage, match=reason) as caught:
            read(name, stream)
        assert caught.value.message == name
        return
    values, unknown = read(name, stream)
    writer = Writer(name)
    Namespace(name, declared(type(values))[1]).write(writer, values, unknown)
    assert writer.getvalue() == stream
    if "values" in case:
        record = case["values"].split("`")[1]
        wanted = {field: plain(text) for field, text in _VALUE.findall(case["values"])}
        value = getattr(values, record)
        if isinstance(value, Tlv3):
            assert {field: getattr(value, field) for field in wanted} == wanted
        else:
            assert [value] == list(wanted.values())
        assert unknown == ()
    else:
        assert values == STREAMS[name]()
        assert bool(unknown) == bool(stream)
