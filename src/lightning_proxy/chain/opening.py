"""Opening a source by its URL."""

from typing import Final

from lightning_proxy.chain.bitcoind import BitcoindSource
from lightning_proxy.chain.esplora import EsploraSource
from lightning_proxy.chain.http import HttpClient
from lightning_proxy.chain.source import ChainSource
from lightning_proxy.chain.url import SourceKind, SourceURL

#: How long a source may take for one answer, in seconds.
DEFAULT_PATIENCE: Final = 15.0


async def open_source(url: str | SourceURL, *, patience: float = DEFAULT_PATIENCE) -> ChainSource:
    """Connect to the source that a URL names (see `SourceURL`) and learn its chain.

    Each request to it may take `patience` seconds. Raises `ValueError` for a URL that says nothing
    we know, `ChainError` when the source can't be reached or knows no chain of `bolt.chains`.
    """
    where = SourceURL.parse(url) if isinstance(url, str) else url
    client = HttpClient(where, patience)
    try:
        if where.kind is SourceKind.ESPLORA:
            return await EsploraSource.open(client)
        return await BitcoindSource.open(client, where.kind)
    except BaseException:
        await client.close()
        raise
