"""The relay: sessions with peers, what it answers itself, and what it asks the wallet."""

from typing import TYPE_CHECKING

from lightning_proxy.lazily import exporting

if TYPE_CHECKING:
    from lightning_proxy.relay.counters import Counters
    from lightning_proxy.relay.inbox import Inbox, Socket
    from lightning_proxy.relay.relay import Relay
    from lightning_proxy.relay.session import Session
    from lightning_proxy.relay.settings import DialSettings, RelaySettings
    from lightning_proxy.relay.store import StoreError

__all__ = [
    "Counters",
    "DialSettings",
    "Inbox",
    "Relay",
    "RelaySettings",
    "Session",
    "Socket",
    "StoreError",
]

__getattr__ = exporting(
    __name__,
    {
        "counters": ("Counters",),
        "inbox": (
            "Inbox",
            "Socket",
        ),
        "relay": ("Relay",),
        "session": ("Session",),
        "settings": (
            "DialSettings",
            "RelaySettings",
        ),
        "store": ("StoreError",),
    },
)
