"""BOLT #7's vectors of extended queries, byte for byte and field for field."""

import struct
import zlib
from typing import Any

import pytest

from lightning_proxy.bolt.messages import (
    QueryChannelRange,
    QueryShortChannelIds,
    ReplyChannelRange,
    decode,
)
from tests.support.data import load_json

CASES = load_json("bolt07_extended_queries.json")["cases"]
WANT = {"WANT_TIMESTAMPS": 1, "WANT_CHECKSUMS": 2}
ENCODINGS = ["UNCOMPRESSED", "COMPRESSED_ZLIB"]


def unpacked(wanted: dict[str, Any], encoding: int, data: bytes) -> bytes:
    assert ENCODINGS[encoding] == wanted["encoding"]
    return zlib.decompress(data) if encoding else data


def short_channel_ids(wanted: dict[str, Any], data: bytes) -> list[str]:
    array = unpacked(wanted, data[0], data[1:])
    return [
        f"{number >> 40}x{number >> 16 & 0xFFFFFF}x{number & 0xFFFF}"
        for (number,) in struct.iter_unpack(">Q", array)
    ]


def test_the_vectors_are_all_there() -> None:
    assert len(CASES) == 10


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case['msg']['type']}-{len(case['hex'])}"
)
def test_queries(case: dict[str, Any]) -> None:
    data, wanted = bytes.fromhex(case["hex"]), case["msg"]
    message = decode(data)
    assert message.encode() == data
    assert type(message).__name__ == wanted["type"]
    match message:
        case QueryChannelRange():
            _check_query_channel_range(message, wanted)
        case QueryShortChannelIds():
            _check_query_short_channel_ids(message, wanted)
        case ReplyChannelRange():
            _check_reply_channel_range(message, wanted)
        case _:
            pytest.fail(f"an unexpected {message.NAME}")


def _check_query_channel_range(message: QueryChannelRange, wanted: dict[str, Any]) -> None:
    assert message.chain_hash.hex() == wanted["chainHash"]
    assert message.first_blocknum == wanted["firstBlockNum"]
    assert message.number_of_blocks == wanted["numberOfBlocks"]
    options = [text for record in wanted["tlvStream"]["records"] for text in record.split(" | ")]
    assert (message.query_option or 0) == sum(WANT[option] for option in options)


def _check_query_short_channel_ids(message: QueryShortChannelIds, wanted: dict[str, Any]) -> None:
    ids = wanted["shortChannelIds"]
    assert message.chain_hash.hex() == wanted["chainHash"]
    assert short_channel_ids(ids, message.encoded_short_ids) == ids["array"]
    records = wanted["tlvStream"]["records"]
    assert (message.query_flags is not None) == bool(records)
    if message.query_flags is not None:
        flags = unpacked(
            records[0], message.query_flags.encoding_type, message.query_flags.encoded_query_flags
        )
        assert list(flags) == records[0]["array"]


def _check_reply_channel_range(message: ReplyChannelRange, wanted: dict[str, Any]) -> None:
    ids = wanted["shortChannelIds"]
    assert message.chain_hash.hex() == wanted["chainHash"]
    assert message.first_blocknum == wanted["firstBlockNum"]
    assert message.number_of_blocks == wanted["numberOfBlocks"]
    assert message.sync_complete == wanted["complete"]
    assert short_channel_ids(ids, message.encoded_short_ids) == ids["array"]
    stamps, sums = message.timestamps_tlv, message.checksums_tlv
    assert (stamps is not None) == ("timestamps" in wanted)
    assert (sums is not None) == ("checksums" in wanted)
    if stamps is not None:
        array = unpacked(wanted["timestamps"], stamps.encoding_type, stamps.encoded_timestamps)
        assert list(struct.iter_unpack(">II", array)) == [
            (pair["timestamp1"], pair["timestamp2"]) for pair in wanted["timestamps"]["timestamps"]
        ]
    if sums is not None:
        assert [(pair.checksum_node_id_1, pair.checksum_node_id_2) for pair in sums] == [
            (pair["checksum1"], pair["checksum2"]) for pair in wanted["checksums"]["checksums"]
        ]
