"""A channel's state machine (BOLT #2), sans-I/O, the same for relay and wallet."""

from lightning_proxy.bolt.channel.opening import (
    SIGNED,
    Channel,
    ChannelState,
    Entry,
    Need,
    funding_script_of,
)

__all__ = ["SIGNED", "Channel", "ChannelState", "Entry", "Need", "funding_script_of"]
