"""lightning-proxy-server: holds a wallet's place in the Lightning Network, without its keys."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str


def __getattr__(name: str) -> str:
    """`__version__`, by the package's metadata: few ask, and finding it takes a while."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version  # noqa: PLC0415

    return version("lightning-proxy-server")
