"""Announcements and queries (BOLT 7)."""

from typing import Annotated

from lightning_proxy.bolt import codec
from lightning_proxy.bolt.codec import (
    U8,
    U16,
    U32,
    U64,
    Bytes32,
    ChainHash,
    ChannelId,
    Point,
    PrefixedBytes,
    ShortChannelId,
    Signature,
)
from lightning_proxy.bolt.messages.base import Message, Record, Structure, message
from lightning_proxy.bolt.tlv import Tlv


@message(259)
class AnnouncementSignatures(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    short_channel_id: ShortChannelId
    node_signature: Signature
    bitcoin_signature: Signature


@message(256)
class ChannelAnnouncement(Message, frozen=True, kw_only=True):
    node_signature_1: Signature
    node_signature_2: Signature
    bitcoin_signature_1: Signature
    bitcoin_signature_2: Signature
    features: PrefixedBytes
    chain_hash: ChainHash
    short_channel_id: ShortChannelId
    node_id_1: Point
    node_id_2: Point
    bitcoin_key_1: Point
    bitcoin_key_2: Point


@message(257)
class NodeAnnouncement(Message, frozen=True, kw_only=True):
    signature: Signature
    features: PrefixedBytes
    timestamp: U32
    node_id: Point
    rgb_color: Annotated[bytes, codec.FixedBytes(3)]
    alias: Bytes32
    addresses: PrefixedBytes


@message(258)
class ChannelUpdate(Message, frozen=True, kw_only=True):
    signature: Signature
    chain_hash: ChainHash
    short_channel_id: ShortChannelId
    timestamp: U32
    message_flags: U8
    channel_flags: U8
    cltv_expiry_delta: U16
    htlc_minimum_msat: U64
    fee_base_msat: U32
    fee_proportional_millionths: U32
    htlc_maximum_msat: U64


class QueryFlags(Record, frozen=True, kw_only=True):
    encoding_type: U8
    encoded_query_flags: Annotated[bytes, codec.remainder]


@message(261)
class QueryShortChannelIds(Message, frozen=True, kw_only=True):
    chain_hash: ChainHash
    encoded_short_ids: PrefixedBytes
    query_flags: Annotated[QueryFlags | None, Tlv(1, Structure(QueryFlags))] = None


@message(262)
class ReplyShortChannelIdsEnd(Message, frozen=True, kw_only=True):
    chain_hash: ChainHash
    full_information: U8


@message(263)
class QueryChannelRange(Message, frozen=True, kw_only=True):
    chain_hash: ChainHash
    first_blocknum: U32
    number_of_blocks: U32
    query_option: Annotated[int | None, Tlv(1, codec.bigsize)] = None


class TimestampsTlv(Record, frozen=True, kw_only=True):
    encoding_type: U8
    encoded_timestamps: Annotated[bytes, codec.remainder]


class ChannelUpdateChecksums(Record, frozen=True, kw_only=True):
    checksum_node_id_1: U32
    checksum_node_id_2: U32


@message(264)
class ReplyChannelRange(Message, frozen=True, kw_only=True):
    chain_hash: ChainHash
    first_blocknum: U32
    number_of_blocks: U32
    sync_complete: U8
    encoded_short_ids: PrefixedBytes
    timestamps_tlv: Annotated[TimestampsTlv | None, Tlv(1, Structure(TimestampsTlv))] = None
    checksums_tlv: Annotated[
        tuple[ChannelUpdateChecksums, ...] | None,
        Tlv(3, codec.Repeated(Structure(ChannelUpdateChecksums))),
    ] = None


@message(265)
class GossipTimestampFilter(Message, frozen=True, kw_only=True):
    chain_hash: ChainHash
    first_timestamp: U32
    timestamp_range: U32
