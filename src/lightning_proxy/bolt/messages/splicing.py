"""Quiescence and splicing (BOLT 2)."""

from typing import Annotated, Literal

from lightning_proxy.bolt import codec
from lightning_proxy.bolt.codec import S64, U8, U32, ChannelId, Point, Sha256
from lightning_proxy.bolt.messages.base import Message, message
from lightning_proxy.bolt.tlv import Tlv

RequireConfirmedInputs = Annotated[Literal[True] | None, Tlv(2, codec.flag)]


@message(2)
class Stfu(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    initiator: U8


@message(80)
class SpliceInit(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    funding_contribution_satoshis: S64
    funding_feerate_perkw: U32
    locktime: U32
    funding_pubkey: Point
    require_confirmed_inputs: RequireConfirmedInputs = None


@message(81)
class SpliceAck(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    funding_contribution_satoshis: S64
    funding_pubkey: Point
    require_confirmed_inputs: RequireConfirmedInputs = None


@message(77)
class SpliceLocked(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    splice_txid: Sha256
