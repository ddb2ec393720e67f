"""BOLT #8: a peer's bytes on one side, whole Lightning messages on the other."""

from lightning_proxy.transport.frame import CipherState, DecryptionError, kernel_name
from lightning_proxy.transport.peer import Pace, PeerTransport, SendQueueFull

__all__ = [
    "CipherState",
    "DecryptionError",
    "Pace",
    "PeerTransport",
    "SendQueueFull",
    "kernel_name",
]
