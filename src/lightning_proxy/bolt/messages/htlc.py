"""Normal operation and message retransmission (BOLT 2)."""

from typing import Annotated

from lightning_proxy.bolt import codec
from lightning_proxy.bolt.codec import (
    U8,
    U16,
    U32,
    U64,
    Bytes32,
    ChannelId,
    Point,
    PrefixedBytes,
    Sha256,
    Signature,
)
from lightning_proxy.bolt.messages.base import Message, Record, Structure, message
from lightning_proxy.bolt.tlv import Tlv


@message(128)
class UpdateAddHtlc(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    id: U64
    amount_msat: U64
    payment_hash: Sha256
    cltv_expiry: U32
    onion_routing_packet: Annotated[bytes, codec.FixedBytes(1366)]
    blinded_path: Annotated[bytes | None, Tlv(0, codec.point)] = None


@message(130)
class UpdateFulfillHtlc(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    id: U64
    payment_preimage: Bytes32


@message(131)
class UpdateFailHtlc(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    id: U64
    reason: PrefixedBytes


@message(135)
class UpdateFailMalformedHtlc(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    id: U64
    sha256_of_onion: Sha256
    failure_code: U16


@message(127)
class StartBatch(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    batch_size: U16
    message_type: Annotated[int | None, Tlv(1, codec.u16)] = None


@message(132)
class CommitmentSigned(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    signature: Signature
    htlc_signature: Annotated[tuple[bytes, ...], codec.Counted(codec.signature)]
    funding_txid: Annotated[bytes | None, Tlv(1, codec.sha256)] = None


@message(133)
class RevokeAndAck(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    per_commitment_secret: Bytes32
    next_per_commitment_point: Point


@message(134)
class UpdateFee(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    feerate_per_kw: U32


class NextFunding(Record, frozen=True, kw_only=True):
    next_funding_txid: Sha256
    retransmit_flags: U8


class MyCurrentFundingLocked(Record, frozen=True, kw_only=True):
    my_current_funding_locked_txid: Sha256
    retransmit_flags: U8


@message(136)
class ChannelReestablish(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    next_commitment_number: U64
    next_revocation_number: U64
    your_last_per_commitment_secret: Bytes32
    my_current_per_commitment_point: Point
    next_funding: Annotated[NextFunding | None, Tlv(1, Structure(NextFunding))] = None
    my_current_funding_locked: Annotated[
        MyCurrentFundingLocked | None, Tlv(5, Structure(MyCurrentFundingLocked))
    ] = None
