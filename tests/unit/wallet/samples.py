"""A peer, its opening, and the delegation that a relay makes of it."""

import time
from typing import Any

import msgspec
from coincurve import PrivateKey

from lightning_proxy.bolt.features import DEFAULT_FEATURES
from lightning_proxy.bolt.messages import Init, OpenChannel
from lightning_proxy.rpc import Delegate, DelegationKind
from lightning_proxy.wallet.request import ChannelKeysRequest
from tests.unit.bolt.samples import OPEN_CHANNEL

SEED = bytes(range(1, 33))
PEER_SECRET = b"\x42" * 32
PEER = PrivateKey(PEER_SECRET).public_key.format()
PEER_ADDRESS = f"{PEER.hex()}@127.0.0.1:9735"
PEER_INIT = Init(globalfeatures=b"", features=DEFAULT_FEATURES.to_bytes())
SESSION_ID = "5e" * 16

__all__ = ["OPEN_CHANNEL"]


def open_channel(**changes: Any) -> OpenChannel:
    return msgspec.structs.replace(OPEN_CHANNEL, **changes)


def temporary_id(number: int) -> bytes:
    """Of the channel that the question of this number is about."""
    return OPEN_CHANNEL.temporary_channel_id if number == 1 else bytes([number] * 32)


def delegate(number: int = 1, message: OpenChannel | None = None, **changes: Any) -> Delegate:
    now = time.time()
    message = message or open_channel(temporary_channel_id=temporary_id(number))
    envelope = Delegate(
        id=f"{number:032x}",
        session_id=SESSION_ID,
        peer=PEER.hex(),
        channel_id=message.temporary_channel_id.hex(),
        kind=DelegationKind.CHANNEL_KEYS,
        sequence=number,
        created=now,
        deadline=now + 60,
        messages=[message.encode().hex()],
    )
    return msgspec.structs.replace(envelope, **changes)


def request(number: int = 1, **changes: Any) -> ChannelKeysRequest:
    message = open_channel(**{"temporary_channel_id": temporary_id(number), **changes})
    return ChannelKeysRequest.from_delegate(delegate(number, message))


def session_info(session_id: str = SESSION_ID, **changes: Any) -> dict[str, Any]:
    return {
        "session_id": session_id,
        "peer": PEER_ADDRESS,
        "state": "ready",
        "created": 1.0,
        "init": PEER_INIT.encode().hex(),
        **changes,
    }
