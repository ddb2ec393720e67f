"""Channel establishment, versions 1 and 2 (BOLT 2)."""

from typing import Annotated, Literal

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
    Sha256,
    Signature,
)
from lightning_proxy.bolt.messages.base import Message, message
from lightning_proxy.bolt.tlv import Tlv

UpfrontShutdownScript = Annotated[bytes | None, Tlv(0, codec.remainder)]
ChannelType = Annotated[bytes | None, Tlv(1, codec.remainder)]
RequireConfirmedInputs = Annotated[Literal[True] | None, Tlv(2, codec.flag)]


@message(32)
class OpenChannel(Message, frozen=True, kw_only=True):
    chain_hash: ChainHash
    temporary_channel_id: Bytes32
    funding_satoshis: U64
    push_msat: U64
    dust_limit_satoshis: U64
    max_htlc_value_in_flight_msat: U64
    channel_reserve_satoshis: U64
    htlc_minimum_msat: U64
    feerate_per_kw: U32
    to_self_delay: U16
    max_accepted_htlcs: U16
    funding_pubkey: Point
    revocation_basepoint: Point
    payment_basepoint: Point
    delayed_payment_basepoint: Point
    htlc_basepoint: Point
    first_per_commitment_point: Point
    channel_flags: U8
    upfront_shutdown_script: UpfrontShutdownScript = None
    channel_type: ChannelType = None


@message(33)
class AcceptChannel(Message, frozen=True, kw_only=True):
    temporary_channel_id: Bytes32
    dust_limit_satoshis: U64
    max_htlc_value_in_flight_msat: U64
    channel_reserve_satoshis: U64
    htlc_minimum_msat: U64
    minimum_depth: U32
    to_self_delay: U16
    max_accepted_htlcs: U16
    funding_pubkey: Point
    revocation_basepoint: Point
    payment_basepoint: Point
    delayed_payment_basepoint: Point
    htlc_basepoint: Point
    first_per_commitment_point: Point
    upfront_shutdown_script: UpfrontShutdownScript = None
    channel_type: ChannelType = None


@message(34)
class FundingCreated(Message, frozen=True, kw_only=True):
    temporary_channel_id: Bytes32
    funding_txid: Sha256
    funding_output_index: U16
    signature: Signature


@message(35)
class FundingSigned(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    signature: Signature


@message(36)
class ChannelReady(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    second_per_commitment_point: Point
    short_channel_id: Annotated[int | None, Tlv(1, codec.short_channel_id)] = None


@message(64)
class OpenChannel2(Message, frozen=True, kw_only=True):
    chain_hash: ChainHash
    temporary_channel_id: ChannelId
    funding_feerate_perkw: U32
    commitment_feerate_perkw: U32
    funding_satoshis: U64
    dust_limit_satoshis: U64
    max_htlc_value_in_flight_msat: U64
    htlc_minimum_msat: U64
    to_self_delay: U16
    max_accepted_htlcs: U16
    locktime: U32
    funding_pubkey: Point
    revocation_basepoint: Point
    payment_basepoint: Point
    delayed_payment_basepoint: Point
    htlc_basepoint: Point
    first_per_commitment_point: Point
    second_per_commitment_point: Point
    channel_flags: U8
    upfront_shutdown_script: UpfrontShutdownScript = None
    channel_type: ChannelType = None
    require_confirmed_inputs: RequireConfirmedInputs = None


@message(65)
class AcceptChannel2(Message, frozen=True, kw_only=True):
    temporary_channel_id: ChannelId
    funding_satoshis: U64
    dust_limit_satoshis: U64
    max_htlc_value_in_flight_msat: U64
    htlc_minimum_msat: U64
    minimum_depth: U32
    to_self_delay: U16
    max_accepted_htlcs: U16
    funding_pubkey: Point
    revocation_basepoint: Point
    payment_basepoint: Point
    delayed_payment_basepoint: Point
    htlc_basepoint: Point
    first_per_commitment_point: Point
    second_per_commitment_point: Point
    upfront_shutdown_script: UpfrontShutdownScript = None
    channel_type: ChannelType = None
    require_confirmed_inputs: RequireConfirmedInputs = None
