"""What the relay says to gossip: it knows no channel, asks for none, and answers so (BOLT #7)."""

from typing import Final

from lightning_proxy.bolt.messages import (
    ChannelAnnouncement,
    ChannelUpdate,
    GossipTimestampFilter,
    NodeAnnouncement,
    QueryChannelRange,
    QueryShortChannelIds,
    ReplyChannelRange,
    ReplyShortChannelIdsEnd,
    decode,
)

#: Every message of BOLT #7 that concerns the graph (`announcement_signatures` concerns a channel).
GOSSIP_TYPES: Final = frozenset(
    message.TYPE
    for message in (
        ChannelAnnouncement,
        NodeAnnouncement,
        ChannelUpdate,
        QueryShortChannelIds,
        ReplyShortChannelIdsEnd,
        QueryChannelRange,
        ReplyChannelRange,
        GossipTimestampFilter,
    )
)
QUERY_TYPES: Final = frozenset((QueryShortChannelIds.TYPE, QueryChannelRange.TYPE))

#: BOLT #7: an array of short channel ids begins with its encoding; 0 is "uncompressed".
_NO_SHORT_CHANNEL_IDS: Final = b"\x00"
# channel_update: type, signature, chain_hash, short_channel_id.
_SCID_AT: Final = 2 + 64 + 32
_SCID_SIZE: Final = 8
_NEVER: Final = 0xFFFF_FFFF


def filter_nothing_matches(chain_hash: bytes) -> bytes:
    """A `gossip_timestamp_filter` for updates of the end of time: the peer sends no gossip."""
    return GossipTimestampFilter(
        chain_hash=chain_hash, first_timestamp=_NEVER, timestamp_range=0
    ).encode()


def answer_query(message: bytes) -> bytes:
    """The truthful answer to a query: nothing. Raises `MalformedMessage`.

    It matters that there is one: lnd's syncer waits for ever without.
    """
    query = decode(message)
    if isinstance(query, QueryShortChannelIds):
        # BOLT #7: who keeps no up-to-date information on the chain says so by 0.
        return ReplyShortChannelIdsEnd(chain_hash=query.chain_hash, full_information=0).encode()
    if not isinstance(query, QueryChannelRange):
        raise TypeError(f"{query.NAME} is no query")
    return ReplyChannelRange(
        chain_hash=query.chain_hash,
        first_blocknum=query.first_blocknum,
        number_of_blocks=query.number_of_blocks,
        # BOLT #7: true on the final reply, and this is the only one.
        sync_complete=1,
        encoded_short_ids=_NO_SHORT_CHANNEL_IDS,
    ).encode()


def short_channel_id_of(update: memoryview) -> int | None:
    """Which channel a raw `channel_update` is about; None where it is cut off before that."""
    if len(update) < _SCID_AT + _SCID_SIZE:
        return None
    return int.from_bytes(update[_SCID_AT : _SCID_AT + _SCID_SIZE], "big")
