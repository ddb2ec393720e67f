"""What relay and wallet know of the blockchain: sources, what watches outputs, a simulation."""

from lightning_proxy.chain.opening import open_source
from lightning_proxy.chain.publish import publish
from lightning_proxy.chain.source import (
    MINIMUM_FEERATE_PER_KW,
    BroadcastRejected,
    ChainError,
    ChainSource,
    ChainUnavailable,
    Output,
    Tip,
)
from lightning_proxy.chain.url import SourceURL
from lightning_proxy.chain.watch import OutputWatch, WatchedOutput

__all__ = [
    "MINIMUM_FEERATE_PER_KW",
    "BroadcastRejected",
    "ChainError",
    "ChainSource",
    "ChainUnavailable",
    "Output",
    "OutputWatch",
    "SourceURL",
    "Tip",
    "WatchedOutput",
    "open_source",
    "publish",
]
