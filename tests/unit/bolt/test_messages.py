"""The messages as their users meet them: values, errors, names, JSON."""

import json
import pickle
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from lightning_proxy.bolt.codec import Writer
from lightning_proxy.bolt.errors import MalformedMessage, UnknownMessage
from lightning_proxy.bolt.messages import (
    MAXIMUM_SIZE,
    MESSAGES,
    ClosingSigned,
    CommitmentSigned,
    FeeRange,
    Init,
    Message,
    OpenChannel,
    Ping,
    SpliceInit,
    Stfu,
    TxSignatures,
    Witness,
    decode,
    is_known,
    name_of,
    to_dict,
)
from lightning_proxy.bolt.messages.base import message as register
from tests.unit.bolt.samples import OPEN_CHANNEL
from tests.unit.bolt.strategies import any_message

# A channel's first message as lnd sends it for a channel type of its choice: 328 bytes.
_FIXED_SIZE = 2 + 32 + 32 + 6 * 8 + 4 + 2 + 2 + 6 * 33 + 1


def test_open_channel_has_the_bytes_of_bolt_2() -> None:
    data = OPEN_CHANNEL.encode()
    assert len(data) == _FIXED_SIZE + len("0000") // 2 + len("0103401000") // 2
    assert data[:2] == bytes([0, 32])
    assert data[2:34] == OPEN_CHANNEL.chain_hash
    assert data[66:74] == OPEN_CHANNEL.funding_satoshis.to_bytes(8, "big")
    assert data[-7:].hex() == "00000103401000"
    assert decode(data) == OPEN_CHANNEL
    assert decode(memoryview(bytearray(data))) == OPEN_CHANNEL


def test_a_message_does_not_keep_the_buffer_it_came_from() -> None:
    buffer = bytearray(OPEN_CHANNEL.encode())
    message = decode(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert message == OPEN_CHANNEL


def test_the_error_names_message_and_field() -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode(OPEN_CHANNEL.encode()[: 2 + 64 + 48 + 8 + 12])
    error = caught.value
    assert str(error) == "open_channel.funding_pubkey: 33 bytes wanted, 12 left"
    assert (error.message, error.field) == ("open_channel", "funding_pubkey")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert str(again) == str(error)


def test_every_cut_names_the_field_that_is_cut_off() -> None:
    data, start = OPEN_CHANNEL.encode(), 2
    for name, codec in OpenChannel.LAYOUT.fields.items():
        writer = Writer("open_channel")
        codec.write(writer, name, getattr(OPEN_CHANNEL, name))
        end = start + len(writer.getvalue())
        for cut in range(start, end):
            with pytest.raises(MalformedMessage) as caught:
                decode(data[:cut])
            assert caught.value.field == name
        start = end
    assert start == _FIXED_SIZE


@pytest.mark.parametrize("name", OpenChannel.LAYOUT.fields)
def test_a_value_that_does_not_fit_is_named(name: str) -> None:
    value = getattr(OPEN_CHANNEL, name)
    if isinstance(value, int):
        unfit: tuple[object, ...] = (-1, 1 << 64, "1", None, b"\x01")
    else:
        unfit = (value[:-1], value + b"\x00", bytearray(value), value.hex(), 7, None)
    for each in unfit:
        with pytest.raises(MalformedMessage) as caught:
            msgspec.structs.replace(OPEN_CHANNEL, **{name: each}).encode()
        assert (caught.value.message, caught.value.field) == ("open_channel", name)


@pytest.mark.parametrize("prefix", [b"\x00", b"\x01", b"\x04", b"\xff"])
def test_a_point_that_has_no_form_of_one_is_named(prefix: bytes) -> None:
    point = OPEN_CHANNEL.htlc_basepoint
    unfit = prefix + point[1:]
    with pytest.raises(MalformedMessage, match=r"open_channel.htlc_basepoint: .* 02 or 03"):
        msgspec.structs.replace(OPEN_CHANNEL, htlc_basepoint=unfit).encode()
    with pytest.raises(MalformedMessage, match=r"open_channel.htlc_basepoint: .* 02 or 03"):
        decode(OPEN_CHANNEL.encode().replace(point, unfit))


@given(any_message())
def test_fields_of_fixed_sizes_are_written_as_one_by_one(message: Message) -> None:
    writer = Writer(message.NAME)
    writer.put(message.TYPE.to_bytes(2, "big"))
    for name, codec in message.LAYOUT.fields.items():
        codec.write(writer, name, getattr(message, name))
    message.LAYOUT.namespace.write(writer, message, message.unknown_tlvs)
    assert message.encode() == writer.getvalue()


@pytest.mark.parametrize(
    ("tail", "text"),
    [
        ("0400", "open_channel.tlvs: record of the unknown even type 4"),
        ("0105", "open_channel.channel_type: record 1 of 5 bytes, 0 left"),
        ("0305aabb", "open_channel.tlvs: record 3 of 5 bytes, 2 left"),
        ("01000000", "open_channel.tlvs: type 0 after type 1: not increasing"),
        ("00000000", "open_channel.tlvs: type 0 after type 0: not increasing"),
        ("fd000100", "open_channel.tlvs: bigsize 1 is not minimally encoded"),
        ("01fd000100", "open_channel.channel_type: bigsize 1 is not minimally encoded"),
        ("01", "open_channel.channel_type: 1 byte wanted, 0 left"),
    ],
)
def test_tlv_errors_name_the_record(tail: str, text: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode(OPEN_CHANNEL.encode()[:_FIXED_SIZE] + bytes.fromhex(tail))
    assert str(caught.value) == text


def test_a_record_of_several_fields() -> None:
    message = ClosingSigned(
        channel_id=bytes(32),
        fee_satoshis=1,
        signature=bytes(64),
        fee_range=FeeRange(min_fee_satoshis=1, max_fee_satoshis=2),
    )
    data = message.encode()
    assert data[-18:].hex() == "0110" + "0000000000000001" + "0000000000000002"
    assert decode(data) == message
    assert to_dict(message)["fee_range"] == {"min_fee_satoshis": 1, "max_fee_satoshis": 2}
    short = data[:-18] + b"\x01\x0f" + data[-16:-1]
    with pytest.raises(MalformedMessage) as caught:
        decode(short)
    assert str(caught.value) == "closing_signed.fee_range.max_fee_satoshis: 8 bytes wanted, 7 left"
    with pytest.raises(MalformedMessage, match="fee_range: record 1 has 1 bytes too many"):
        decode(data[:-18] + b"\x01\x11" + data[-16:] + b"\x00")


def test_repeated_and_counted_fields() -> None:
    init = Init(globalfeatures=b"", features=b"\x02", networks=(b"\x01" * 32, b"\x02" * 32))
    assert init.encode().hex() == "001000000001" + "02" + "0140" + "01" * 32 + "02" * 32
    assert decode(init.encode()) == init
    signed = CommitmentSigned(
        channel_id=bytes(32), signature=bytes(64), htlc_signature=(b"\x01" * 64, b"\x02" * 64)
    )
    assert signed.encode()[98:100] == bytes([0, 2])
    assert decode(signed.encode()) == signed
    signatures = TxSignatures(
        channel_id=bytes(32), txid=bytes(32), witnesses=(Witness(witness_data=b"\x01\x02"),)
    )
    assert signatures.encode()[66:].hex() == "0001" + "0002" + "0102"
    assert decode(signatures.encode()) == signatures


def test_an_empty_record_is_true_or_none() -> None:
    fields: dict[str, Any] = {
        "channel_id": bytes(32),
        "funding_contribution_satoshis": -5,
        "funding_feerate_perkw": 253,
        "locktime": 0,
        "funding_pubkey": b"\x02" + bytes(32),
    }
    plain, required = SpliceInit(**fields), SpliceInit(**fields, require_confirmed_inputs=True)
    assert required.encode() == plain.encode() + b"\x02\x00"
    assert decode(required.encode()) == required
    assert decode(plain.encode()) == plain
    with pytest.raises(MalformedMessage, match="require_confirmed_inputs: True or None wanted"):
        SpliceInit(**fields | {"require_confirmed_inputs": False}).encode()


def test_unknown_odd_records_are_kept_in_their_place() -> None:
    data = OPEN_CHANNEL.encode() + bytes.fromhex("0501aa" + "fe0001000f00")
    message = decode(data)
    assert message.unknown_tlvs == ((5, b"\xaa"), (65551, b""))
    assert message.encode() == data
    assert to_dict(message)["unknown_tlvs"] == [[5, "aa"], [65551, ""]]


def test_a_message_without_tlvs_of_its_own_keeps_its_extension() -> None:
    data = Ping(num_pong_bytes=1, ignored=b"").encode() + bytes.fromhex("0100")
    message = decode(data)
    assert message == Ping(num_pong_bytes=1, ignored=b"", unknown_tlvs=((1, b""),))
    assert message.encode() == data


@pytest.mark.parametrize(
    "records",
    [((4, b""),), ((1, b""),), ((5, b""), (5, b"")), ((7, b""), (5, b"")), ((2**64 + 1, b""),)],
)
def test_unknown_records_that_no_one_may_send(records: tuple[tuple[int, bytes], ...]) -> None:
    fields = {name: getattr(OPEN_CHANNEL, name) for name in OPEN_CHANNEL.LAYOUT.fields}
    with pytest.raises(MalformedMessage, match=r"open_channel\.tlvs"):
        OpenChannel(**fields, unknown_tlvs=records).encode()


def test_messages_are_immutable() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        OPEN_CHANNEL.push_msat = 1  # type: ignore[misc]


def test_unknown_types() -> None:
    with pytest.raises(UnknownMessage, match="4711") as caught:
        decode((4711).to_bytes(2, "big") + b"anything")
    assert caught.value.type == 4711
    assert not is_known(4711)
    assert name_of(4711) == "unknown(4711)"
    assert is_known(32)
    assert name_of(32) == "open_channel"


@pytest.mark.parametrize("data", [b"", b"\x00"])
def test_less_than_a_type(data: bytes) -> None:
    with pytest.raises(MalformedMessage, match=r"message\.type: 2 bytes wanted"):
        decode(data)


def test_no_message_is_longer_than_the_transport_allows() -> None:
    largest = Ping(num_pong_bytes=0, ignored=bytes(MAXIMUM_SIZE - 6))
    assert decode(largest.encode()) == largest
    with pytest.raises(MalformedMessage, match=r"ping\.size: 65536 bytes, at most 65535 fit"):
        Ping(num_pong_bytes=0, ignored=bytes(MAXIMUM_SIZE - 5)).encode()
    with pytest.raises(MalformedMessage, match=r"message\.size: 65536 bytes"):
        decode(bytes(MAXIMUM_SIZE + 1))


def test_two_messages_cannot_have_one_type() -> None:
    with pytest.raises(TypeError, match="OpenChannel have one type"):
        register(32)(Stfu)
    assert MESSAGES[32] is OpenChannel
    assert Stfu.TYPE == 2


def test_to_dict() -> None:
    plain = to_dict(OPEN_CHANNEL)
    assert list(plain)[:3] == ["name", "chain_hash", "temporary_channel_id"]
    assert plain["name"] == "open_channel"
    assert plain["funding_satoshis"] == 1_000_000
    assert plain["funding_pubkey"] == OPEN_CHANNEL.funding_pubkey.hex()
    assert plain["upfront_shutdown_script"] == ""
    fields = {name: getattr(OPEN_CHANNEL, name) for name in OPEN_CHANNEL.LAYOUT.fields}
    assert set(to_dict(OpenChannel(**fields))) == {"name", *fields}


@settings(max_examples=100, deadline=None)
@given(any_message())
def test_to_dict_is_json_for_every_message(message: Message) -> None:
    plain = to_dict(message)
    assert json.loads(json.dumps(plain)) == plain
    assert plain["name"] == message.NAME
