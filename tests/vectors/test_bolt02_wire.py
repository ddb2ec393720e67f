"""The BOLTs' own table of messages: every message, field and TLV has that name, order and width.

A second encoder, which knows nothing but the table, has to give the same bytes as the classes.
"""

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from lightning_proxy.bolt.messages import MESSAGES, Message
from tests.unit.bolt.strategies import messages_of

TABLE = Path(__file__).parent.parent / "data" / "wire_messages.csv"
INTEGERS = {
    "byte": 1,
    "u8": 1,
    "u16": 2,
    "u32": 4,
    "u64": 8,
    "s64": 8,
    "short_channel_id": 8,
}
BYTES = {"chain_hash": 32, "channel_id": 32, "sha256": 32, "signature": 64, "point": 33}


@dataclass
class Row:
    name: str
    type: str
    count: str


class Table:
    def __init__(self) -> None:
        self.types: dict[str, int] = {}
        self.fields: defaultdict[str, list[Row]] = defaultdict(list)
        self.subtypes: defaultdict[str, list[Row]] = defaultdict(list)
        self.tlv_types: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self.tlv_fields: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
        self.namespaces: dict[str, str] = {}
        for kind, owner, *rest in csv.reader(TABLE.read_text().splitlines()):
            match kind:
                case "msgtype":
                    self.types[owner] = int(rest[0])
                    # Some messages have TLVs, but no line that says so.
                    self.namespaces[owner] = f"{owner}_tlvs"
                case "msgdata" if rest[0] == "tlvs":
                    self.namespaces[owner] = rest[1]
                case "msgdata":
                    self.fields[owner].append(Row(*rest))
                case "subtypedata":
                    self.subtypes[owner].append(Row(*rest))
                case "tlvtype":
                    self.tlv_types[owner][rest[0]] = int(rest[1])
                case "tlvdata":
                    self.tlv_fields[owner, rest[0]].append(Row(*rest[1:]))

    def implied(self, rows: list[Row]) -> set[str]:
        """The rows that are another one's length."""
        return {row.count for row in rows} & {row.name for row in rows}

    def encode(self, message: Message) -> bytes:
        name = message.NAME
        data = self.types[name].to_bytes(2, "big") + self._rows(self.fields[name], message)
        namespace = self.namespaces[name]
        for record, type_ in sorted(self.tlv_types[namespace].items(), key=lambda item: item[1]):
            value = getattr(message, record)
            if value is not None:
                rows = self.tlv_fields[namespace, record]
                body = self._value(rows[0], value) if len(rows) == 1 else self._rows(rows, value)
                data += bytes([type_]) + bigsize(len(body)) + body
        return data

    def _rows(self, rows: list[Row], values: object) -> bytes:
        lengths = {row.count: row.name for row in rows}
        return b"".join(
            len(getattr(values, lengths[row.name])).to_bytes(2, "big")
            if row.name in lengths
            else self._value(row, getattr(values, row.name))
            for row in rows
        )

    def _value(self, row: Row, value: Any) -> bytes:
        if not row.count:
            return self._scalar(row.type, value)
        if row.type != "byte":
            return b"".join(self._scalar(row.type, item) for item in value)
        assert isinstance(value, bytes)
        assert not row.count.isdigit() or len(value) == int(row.count)
        return value

    def _scalar(self, type_: str, value: Any) -> bytes:
        if type_ in self.subtypes:
            return self._rows(self.subtypes[type_], value)
        if type_ == "bigsize":
            return bigsize(value)
        if type_ in INTEGERS:
            assert isinstance(value, int)
            return value.to_bytes(INTEGERS[type_], "big", signed=type_ == "s64")
        assert isinstance(value, bytes)
        assert len(value) == BYTES[type_]
        return value


def bigsize(value: int) -> bytes:
    if value < 0xFD:
        return bytes([value])
    size = 2 if value < 2**16 else 4 if value < 2**32 else 8
    return bytes([{2: 0xFD, 4: 0xFE, 8: 0xFF}[size]]) + value.to_bytes(size, "big")


WIRE = Table()


def test_the_table_and_the_classes_have_the_same_messages() -> None:
    assert len(WIRE.types) == 49
    assert {cls.NAME: type_ for type_, cls in MESSAGES.items()} == WIRE.types
    assert all(type_ == cls.TYPE for type_, cls in MESSAGES.items())


@pytest.mark.parametrize("name", WIRE.types)
def test_names_and_order(name: str) -> None:
    layout = MESSAGES[WIRE.types[name]].LAYOUT
    rows = WIRE.fields[name]
    implied = WIRE.implied(rows)
    assert list(layout.fields) == [row.name for row in rows if row.name not in implied]
    assert {record: tlv.type for record, tlv in layout.namespace.records.items()} == WIRE.tlv_types[
        WIRE.namespaces[name]
    ]


@pytest.mark.parametrize("cls", MESSAGES.values(), ids=lambda cls: cls.NAME)
def test_widths(cls: type[Message]) -> None:
    @settings(max_examples=20, deadline=None)
    @given(messages_of(cls, unknown=False))
    def encodes_as_the_table_says(message: Message) -> None:
        assert message.encode() == WIRE.encode(message)

    encodes_as_the_table_says()
