"""Channel close (BOLT 2)."""

from typing import Annotated

from lightning_proxy.bolt import codec
from lightning_proxy.bolt.codec import U32, U64, ChannelId, PrefixedBytes, Signature
from lightning_proxy.bolt.messages.base import Message, Record, Structure, message
from lightning_proxy.bolt.tlv import Tlv


@message(38)
class Shutdown(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    scriptpubkey: PrefixedBytes


@message(40)
class ClosingComplete(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    closer_scriptpubkey: PrefixedBytes
    closee_scriptpubkey: PrefixedBytes
    fee_satoshis: U64
    locktime: U32
    closer_output_only: Annotated[bytes | None, Tlv(1, codec.signature)] = None
    closee_output_only: Annotated[bytes | None, Tlv(2, codec.signature)] = None
    closer_and_closee_outputs: Annotated[bytes | None, Tlv(3, codec.signature)] = None


@message(41)
class ClosingSig(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    closer_scriptpubkey: PrefixedBytes
    closee_scriptpubkey: PrefixedBytes
    fee_satoshis: U64
    locktime: U32
    closer_output_only: Annotated[bytes | None, Tlv(1, codec.signature)] = None
    closee_output_only: Annotated[bytes | None, Tlv(2, codec.signature)] = None
    closer_and_closee_outputs: Annotated[bytes | None, Tlv(3, codec.signature)] = None


class FeeRange(Record, frozen=True, kw_only=True):
    min_fee_satoshis: U64
    max_fee_satoshis: U64


@message(39)
class ClosingSigned(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    fee_satoshis: U64
    signature: Signature
    fee_range: Annotated[FeeRange | None, Tlv(1, Structure(FeeRange))] = None
