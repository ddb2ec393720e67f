"""One HTTP client for all sources: bounded in time and size, and silent about its password."""

import ssl
from base64 import b64encode
from pathlib import Path
from typing import Final

from aiohttp import ClientError, ClientResponseError, ClientSSLError

from lightning_proxy.chain.source import ChainError, ChainUnavailable
from lightning_proxy.chain.url import SourceURL
from lightning_proxy.http import Client

#: The most that one answer may have, in bytes. The greatest that a node may truly give is a block
#: full of one transaction, which it decodes for us: its 4 MB in hex, and most of that a second
#: time in words.
MAX_ANSWER: Final = 32 << 20

# At once to one source; the rest wait.
_CONNECTIONS: Final = 16
_MAX_COOKIE: Final = 1024
#: What a proxy or an overloaded server says.
_NOT_NOW: Final = frozenset({429, 502, 503, 504})


class HttpClient:
    """Asks one source over HTTP; everything that goes wrong is a `ChainError`.

    `timeout` is what one request may take in all, in seconds.
    """

    def __init__(self, url: SourceURL, timeout: float, *, max_answer: int = MAX_ANSWER) -> None:
        self._url = url
        self._timeout = timeout
        self._max_answer = max_answer
        self._client = Client(timeout, max_answer, limit=_CONNECTIONS, ssl=_trust(url.cert))

    async def get(self, path: str) -> tuple[int, bytes]:
        """The status and the body that this path (from its slash) has."""
        return await self._request("GET", path, None)

    async def post(self, path: str, body: bytes, content_type: str) -> tuple[int, bytes]:
        """The status and the body of the answer to this body."""
        return await self._request("POST", path, body, {"Content-Type": content_type})

    async def close(self) -> None:
        """Hang up."""
        await self._client.close()

    async def _request(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        host = self._url.host
        headers = {**(headers or {}), **self._authorization()}
        # The errors' own chains end here: an aiohttp error has the request's headers.
        try:
            answer = await self._client.ask(method, self._url.endpoint + path, body, headers)
        except TimeoutError:
            raise ChainUnavailable(f"{host} doesn't answer within {self._timeout:g} s") from None
        except ClientSSLError as error:
            # A certificate that we don't trust, which is a ValueError, too: that is another
            # server, and not a late one.
            raise ChainError(f"can't ask {host}: {error}") from None
        except ClientResponseError:
            # Its words are the whole URL, and what the server said.
            raise ChainError(f"can't ask {host}: it does not speak HTTP as we do") from None
        except ValueError:
            # Its words are the whole URL.
            raise ChainError(f"{host} is no address that can be asked") from None
        except OSError as error:
            raise ChainUnavailable(f"can't ask {host}: {error}") from None
        except ClientError as error:
            # Its words may be the server's.
            raise ChainUnavailable(f"can't ask {host}: {type(error).__name__}") from None
        if not answer.is_whole:
            raise ChainError(f"{host} answers with more than {self._max_answer} bytes")
        if answer.status in (401, 403):
            raise ChainError(f"{host} refuses us: HTTP status {answer.status}")
        if answer.status in _NOT_NOW:
            raise ChainUnavailable(f"{host} is not ready: HTTP status {answer.status}")
        return answer.status, answer.body

    def _authorization(self) -> dict[str, str]:
        if self._url.cookie is not None:
            # Read each time: bitcoind writes another one whenever it starts.
            credentials = _cookie(self._url.cookie)
        elif self._url.user is not None:
            credentials = f"{self._url.user}:{self._url.password}".encode()
        else:
            return {}
        return {"Authorization": f"Basic {b64encode(credentials).decode()}"}


def _trust(cert: Path | None) -> ssl.SSLContext | bool:
    if cert is None:
        return True
    try:
        return ssl.create_default_context(cafile=cert)
    except (OSError, ValueError) as error:
        # An SSLError is an OSError too. btcd writes it at its first start.
        kind = ChainUnavailable if isinstance(error, FileNotFoundError) else ChainError
        raise kind(f"can't read the certificate {cert}: {error}") from error


def _cookie(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_COOKIE).strip()
    except OSError as error:
        # bitcoind writes it as it starts; what else is wrong with it stays so.
        kind = ChainUnavailable if isinstance(error, FileNotFoundError) else ChainError
        raise kind(f"can't read the cookie {path}: {error.strerror}") from None
