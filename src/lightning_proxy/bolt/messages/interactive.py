"""Interactive transaction construction (BOLT 2)."""

from typing import Annotated, Literal

from lightning_proxy.bolt import codec
from lightning_proxy.bolt.codec import U32, U64, ChannelId, PrefixedBytes, Sha256
from lightning_proxy.bolt.messages.base import Message, Record, Structure, message
from lightning_proxy.bolt.tlv import Tlv

FundingOutputContribution = Annotated[int | None, Tlv(0, codec.s64)]
RequireConfirmedInputs = Annotated[Literal[True] | None, Tlv(2, codec.flag)]


@message(66)
class TxAddInput(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    serial_id: U64
    prevtx: PrefixedBytes
    prevtx_vout: U32
    sequence: U32
    shared_input_txid: Annotated[bytes | None, Tlv(0, codec.sha256)] = None


@message(67)
class TxAddOutput(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    serial_id: U64
    sats: U64
    script: PrefixedBytes


@message(68)
class TxRemoveInput(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    serial_id: U64


@message(69)
class TxRemoveOutput(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    serial_id: U64


@message(70)
class TxComplete(Message, frozen=True, kw_only=True):
    channel_id: ChannelId


class Witness(Record, frozen=True, kw_only=True):
    witness_data: PrefixedBytes


@message(71)
class TxSignatures(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    txid: Sha256
    witnesses: Annotated[tuple[Witness, ...], codec.Counted(Structure(Witness))]
    shared_input_signature: Annotated[bytes | None, Tlv(0, codec.signature)] = None


@message(72)
class TxInitRbf(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    locktime: U32
    feerate: U32
    funding_output_contribution: FundingOutputContribution = None
    require_confirmed_inputs: RequireConfirmedInputs = None


@message(73)
class TxAckRbf(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    funding_output_contribution: FundingOutputContribution = None
    require_confirmed_inputs: RequireConfirmedInputs = None


@message(74)
class TxAbort(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    data: PrefixedBytes
