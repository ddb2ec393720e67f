"""A delegation as the wallet sees it: decoded by itself, from the peer's raw bytes."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from lightning_proxy.bolt.chains import chain_name
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.messages import OpenChannel, decode
from lightning_proxy.rpc import Delegate, DelegationKind

#: BOLT #2: the bit of `channel_flags` by which the opener asks for a public channel.
_ANNOUNCE_CHANNEL = 1


class Refusal(Exception):
    """The wallet won't; `reason` is a sentence that the peer gets in its `error`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ChannelKeysRequest:
    """`channel_keys`: a peer (node id, 33 bytes) wants to open a channel with this wallet.

    `raw` is its `open_channel` as it came and `open_channel` what this wallet read in it;
    `deadline` is the relay's, in Unix seconds.
    """

    delegation_id: str
    session_id: str
    peer: bytes
    open_channel: OpenChannel
    raw: bytes
    deadline: float

    @classmethod
    def from_delegate(cls, delegate: Delegate) -> Self:
        """Read the envelope's raw message; its decoded form is the relay's word, and unused.

        Raises `Refusal` for an envelope that contradicts what is in it.
        """
        if len(delegate.messages) != 1:
            raise Refusal(
                f"{DelegationKind.CHANNEL_KEYS} is about one message, not {len(delegate.messages)}"
            )
        raw = bytes.fromhex(delegate.messages[0])
        try:
            message = decode(raw)
        except BoltError as error:
            raise Refusal(str(error)) from None
        if not isinstance(message, OpenChannel):
            raise Refusal(f"{DelegationKind.CHANNEL_KEYS} is not about {message.NAME}")
        if message.temporary_channel_id.hex() != delegate.channel_id:
            raise Refusal("the delegation names another channel than its open_channel")
        return cls(
            delegation_id=delegate.id,
            session_id=delegate.session_id,
            peer=bytes.fromhex(delegate.peer),
            open_channel=message,
            raw=raw,
            deadline=delegate.deadline,
        )

    @property
    def digest(self) -> bytes:
        """SHA-256 of all that an answer depends on; the first three parts have fixed lengths."""
        kind = sha256(DelegationKind.CHANNEL_KEYS.encode()).digest()
        return sha256(kind + bytes.fromhex(self.session_id) + self.peer + self.raw).digest()

    @property
    def chain(self) -> str:
        """The chain's name, or its hash in hex where it has none here."""
        chain_hash = self.open_channel.chain_hash
        return chain_name(chain_hash) or chain_hash.hex()

    @property
    def is_public(self) -> bool:
        """Whether the channel is to be announced."""
        return bool(self.open_channel.channel_flags & _ANNOUNCE_CHANNEL)
