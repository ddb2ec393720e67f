"""The relay's state on disk: a store for each part of it, over one database."""

from lightning_proxy.relay.store.channels import ChannelStore, StoredChannel
from lightning_proxy.relay.store.database import (
    IN_MEMORY,
    Database,
    StoreError,
    StoreUnavailable,
    is_url,
    parse_url,
)

__all__ = [
    "IN_MEMORY",
    "ChannelStore",
    "Database",
    "StoreError",
    "StoreUnavailable",
    "StoredChannel",
    "is_url",
    "parse_url",
]
