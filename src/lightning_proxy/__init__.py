"""lightning-proxy-server: holds a wallet's place in the Lightning Network, without its keys."""

from importlib.metadata import version

__version__ = version("lightning-proxy-server")
