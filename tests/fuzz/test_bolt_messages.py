"""Any bytes either decode and encode to the same bytes again, or name what is wrong with them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_proxy.bolt.errors import MalformedMessage, UnknownMessage
from lightning_proxy.bolt.messages import MESSAGES, Message, decode
from tests.unit.bolt.strategies import any_message, messages_of

TYPES = st.sampled_from(list(MESSAGES))


def check(data: bytes) -> Message | None:
    """The message in the data, if any; fails unless its encoding, or else the error, is right."""
    type_ = int.from_bytes(data[:2], "big")
    if len(data) >= 2 and type_ not in MESSAGES:
        with pytest.raises(UnknownMessage) as unknown:
            decode(data)
        assert unknown.value.type == type_
        return None
    try:
        message = decode(data)
    except MalformedMessage as error:
        malformed = error
    else:
        assert message.encode() == data
        return message
    if len(data) < 2:
        assert (malformed.message, malformed.field) == ("message", "type")
        return None
    layout = MESSAGES[type_].LAYOUT
    assert malformed.message == layout.name
    named = {"tlvs", *layout.fields, *layout.namespace.records}
    assert malformed.field.split(".")[0] in named
    return None


@pytest.mark.parametrize("cls", MESSAGES.values(), ids=lambda cls: cls.NAME)
def test_round_trip(cls: type[Message]) -> None:
    @settings(max_examples=20, deadline=None)
    @given(messages_of(cls))
    def round_trip(message: Message) -> None:
        assert check(message.encode()) == message

    round_trip()


@pytest.mark.parametrize("cls", MESSAGES.values(), ids=lambda cls: cls.NAME)
def test_truncated_at_every_byte(cls: type[Message]) -> None:
    @settings(max_examples=3, deadline=None)
    @given(messages_of(cls))
    def truncated(message: Message) -> None:
        data = message.encode()
        for size in range(len(data)):
            assert check(data[:size]) != message

    truncated()


@settings(max_examples=300, deadline=None)
@given(TYPES, st.binary(max_size=500))
def test_random_bytes(type_: int, data: bytes) -> None:
    check(type_.to_bytes(2, "big") + data)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=10))
def test_random_types(data: bytes) -> None:
    check(data)


@settings(max_examples=300, deadline=None)
@given(any_message(), st.data())
def test_one_byte_changed_put_in_or_taken_out(message: Message, data: st.DataObject) -> None:
    encoded = bytearray(message.encode())
    position = data.draw(st.integers(2, len(encoded) - 1))
    octet = data.draw(st.integers(0, 255))
    match data.draw(st.sampled_from(["change", "put in", "take out"])):
        case "change":
            encoded[position] = octet
        case "put in":
            encoded.insert(position, octet)
        case _:
            del encoded[position]
    check(bytes(encoded))
