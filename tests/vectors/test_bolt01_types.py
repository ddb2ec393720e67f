"""BOLT #1, appendices A and D: BigSize and the signed integers."""

from typing import Any

import pytest

from lightning_proxy.bolt import codec
from lightning_proxy.bolt.codec import Reader, Writer
from lightning_proxy.bolt.errors import MalformedMessage
from tests.support.data import load_json

DECODING, ENCODING = load_json("bolt01_bigsize.json")["cases"]
(SIGNED,) = load_json("bolt01_signed.json")["cases"]
SIGNED_BY_SIZE = {1: codec.s8, 2: codec.s16, 4: codec.s32, 8: codec.s64}

# The vectors' words for an error, and ours.
REASONS = {
    "decoded bigsize is not canonical": "not minimally encoded",
    "unexpected EOF": "wanted",
    "EOF": "wanted",
}


def test_the_vectors_are_all_there() -> None:
    assert (len(DECODING), len(ENCODING), len(SIGNED)) == (18, 8, 23)


@pytest.mark.parametrize("case", DECODING, ids=lambda case: case["name"])
def test_bigsize_is_read(case: dict[str, Any]) -> None:
    reader = Reader("appendix_a", bytes.fromhex(case["bytes"]))
    if "exp_error" in case:
        with pytest.raises(MalformedMessage, match=REASONS[case["exp_error"]]):
            codec.bigsize.read(reader, "value")
    else:
        assert codec.bigsize.read(reader, "value") == case["value"]
        assert reader.left == 0


@pytest.mark.parametrize("case", ENCODING, ids=lambda case: case["name"])
def test_bigsize_is_written(case: dict[str, Any]) -> None:
    writer = Writer("appendix_a")
    codec.bigsize.write(writer, "value", case["value"])
    assert writer.getvalue().hex() == case["bytes"]


@pytest.mark.parametrize("case", SIGNED, ids=lambda case: str(case["value"]))
def test_signed_integers(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["bytes"])
    kind = SIGNED_BY_SIZE[len(data)]
    assert kind.read(Reader("appendix_d", data), "value") == case["value"]
    writer = Writer("appendix_d")
    kind.write(writer, "value", case["value"])
    assert writer.getvalue() == data


@pytest.mark.parametrize("case", SIGNED, ids=lambda case: str(case["value"]))
def test_signed_integers_stand_in_the_fewest_bytes(case: dict[str, Any]) -> None:
    size = len(bytes.fromhex(case["bytes"]))
    for smaller in (kind for of, kind in SIGNED_BY_SIZE.items() if of < size):
        with pytest.raises(MalformedMessage, match="is not within"):
            smaller.write(Writer("appendix_d"), "value", case["value"])
