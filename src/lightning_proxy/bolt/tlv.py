"""TLV streams (BOLT 1, "Type-Length-Value Format"), strict in both directions."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from lightning_proxy.bolt.codec import Codec, Reader, Writer, bigsize

#: Records by type and value, in the order of the stream.
Records = tuple[tuple[int, bytes], ...]

_STREAM = "tlvs"


class Tlv(NamedTuple):
    """Marks a field as a TLV record of this type: `Annotated[bytes | None, Tlv(…)] = None`."""

    type: int
    codec: Codec[Any]


class Namespace:
    """The records that a message's or an onion's TLV stream may have, by the name of the field."""

    def __init__(self, name: str, records: Mapping[str, Tlv]) -> None:
        self.name = name
        self.records = records
        self._known = {record.type: (field, record.codec) for field, record in records.items()}
        if len(self._known) != len(records):
            raise TypeError(f"{name} declares a TLV type twice")
        self._in_order = sorted((tlv.type, field, tlv.codec) for field, tlv in records.items())

    def read(self, reader: Reader) -> tuple[dict[str, Any], Records]:
        """All records up to the reader's end: the known by field, the unknown odd ones as bytes.

        Raises `MalformedMessage` for a stream that isn't canonical, and for an unknown even type.
        """
        values: dict[str, Any] = {}
        unknown: list[tuple[int, bytes]] = []
        stream_end = reader.end
        previous = -1
        while reader.position < stream_end:
            type_ = bigsize.read(reader, _STREAM)
            if type_ <= previous:
                reader.fail(_STREAM, f"type {type_} after type {previous}: not increasing")
            previous = type_
            field, codec = self._known.get(type_, (None, None))
            length = bigsize.read(reader, field or _STREAM)
            if length > stream_end - reader.position:
                reader.fail(
                    field or _STREAM,
                    f"record {type_} of {length} bytes, {stream_end - reader.position} left",
                )
            if field is None or codec is None:
                if type_ % 2 == 0:
                    reader.fail(_STREAM, f"record of the unknown even type {type_}")
                unknown.append((type_, reader.take(length, _STREAM)))
                continue
            reader.end = reader.position + length
            values[field] = codec.read(reader, field)
            if reader.position != reader.end:
                reader.fail(field, f"record {type_} has {reader.left} bytes too many")
            reader.end = stream_end
        return values, tuple(unknown)

    def write(self, writer: Writer, values: object, unknown: Records) -> None:
        """The attributes of `values` that are not None, and the unknown records, by type.

        Raises `MalformedMessage`, also for an unknown record that `read` would refuse.
        """
        records = [
            (type_, self._value(field, codec, value))
            for type_, field, codec in self._in_order
            if (value := getattr(values, field)) is not None
        ]
        if unknown:
            self._check_unknown(writer, unknown)
            records = sorted([*records, *unknown])
        for type_, value in records:
            bigsize.write(writer, _STREAM, type_)
            bigsize.write(writer, _STREAM, len(value))
            writer.put(value)

    def _value(self, field: str, codec: Codec[Any], value: object) -> bytes:
        writer = Writer(self.name)
        codec.write(writer, field, value)
        return writer.getvalue()

    def _check_unknown(self, writer: Writer, unknown: Records) -> None:
        previous = -1
        for type_, value in unknown:
            if type_ <= previous:
                writer.fail(_STREAM, f"type {type_} after type {previous}: not increasing")
            if type_ % 2 == 0 or type_ in self._known:
                writer.fail(_STREAM, f"type {type_} is no unknown odd type")
            if not isinstance(value, bytes):
                writer.fail(_STREAM, f"the value of record {type_} must be bytes")
            previous = type_
