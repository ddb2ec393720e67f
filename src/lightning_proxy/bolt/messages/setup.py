"""Connection setup, control and peer storage (BOLT 1)."""

from typing import Annotated

from lightning_proxy.bolt import codec
from lightning_proxy.bolt.codec import U16, ChannelId, PrefixedBytes
from lightning_proxy.bolt.messages.base import Message, message
from lightning_proxy.bolt.tlv import Tlv


@message(16)
class Init(Message, frozen=True, kw_only=True):
    globalfeatures: PrefixedBytes
    features: PrefixedBytes
    networks: Annotated[tuple[bytes, ...] | None, Tlv(1, codec.Repeated(codec.chain_hash))] = None
    remote_addr: Annotated[bytes | None, Tlv(3, codec.remainder)] = None


@message(17)
class Error(Message, frozen=True, kw_only=True):
    channel_id: ChannelId
    data: PrefixedBytes


@message(1)
class Warning(Message, frozen=True, kw_only=True):  # noqa: A001 - the name in BOLT #1
    channel_id: ChannelId
    data: PrefixedBytes


@message(18)
class Ping(Message, frozen=True, kw_only=True):
    num_pong_bytes: U16
    ignored: PrefixedBytes


@message(19)
class Pong(Message, frozen=True, kw_only=True):
    ignored: PrefixedBytes


@message(7)
class PeerStorage(Message, frozen=True, kw_only=True):
    blob: PrefixedBytes


@message(9)
class PeerStorageRetrieval(Message, frozen=True, kw_only=True):
    blob: PrefixedBytes
