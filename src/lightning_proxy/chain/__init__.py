"""What relay and wallet know of the blockchain: sources, what watches outputs, a simulation."""

from typing import TYPE_CHECKING

from lightning_proxy.lazily import exporting

if TYPE_CHECKING:
    from lightning_proxy.chain.opening import open_source
    from lightning_proxy.chain.publishing import GIVEN_UP_AFTER, publish
    from lightning_proxy.chain.source import (
        MINIMUM_FEERATE_PER_KW,
        BroadcastGivenUp,
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
    "GIVEN_UP_AFTER",
    "MINIMUM_FEERATE_PER_KW",
    "BroadcastGivenUp",
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

__getattr__ = exporting(
    __name__,
    {
        "opening": ("open_source",),
        "publishing": ("GIVEN_UP_AFTER", "publish"),
        "source": (
            "MINIMUM_FEERATE_PER_KW",
            "BroadcastGivenUp",
            "BroadcastRejected",
            "ChainError",
            "ChainSource",
            "ChainUnavailable",
            "Output",
            "Tip",
        ),
        "url": ("SourceURL",),
        "watch": (
            "OutputWatch",
            "WatchedOutput",
        ),
    },
)
