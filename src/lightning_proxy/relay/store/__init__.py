"""The relay's state on disk: a store for each part of it, over one database."""

from typing import TYPE_CHECKING

from lightning_proxy.lazily import exporting

if TYPE_CHECKING:
    from lightning_proxy.relay.store.channels import ChannelStore, StoredChannel, given_up
    from lightning_proxy.relay.store.database import Database, StoreError, StoreUnavailable
    from lightning_proxy.relay.store.where import (
        IN_MEMORY,
        has_password,
        is_url,
        parse_url,
        without_secrets,
    )

__all__ = [
    "IN_MEMORY",
    "ChannelStore",
    "Database",
    "StoreError",
    "StoreUnavailable",
    "StoredChannel",
    "given_up",
    "has_password",
    "is_url",
    "parse_url",
    "without_secrets",
]

__getattr__ = exporting(
    __name__,
    {
        "channels": (
            "ChannelStore",
            "StoredChannel",
            "given_up",
        ),
        "database": ("Database", "StoreError", "StoreUnavailable"),
        "where": ("IN_MEMORY", "has_password", "is_url", "parse_url", "without_secrets"),
    },
)
