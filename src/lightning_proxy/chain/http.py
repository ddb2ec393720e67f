"""One HTTP client for all sources: bounded in time and size, and silent about its password."""

import ssl
from base64 import b64encode
from pathlib import Path
from typing import Final

from aiohttp import (
    ClientError,
    ClientResponseError,
    ClientSession,
    ClientSSLError,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)

from lightning_proxy.chain.source import ChainError, ChainUnavailable
from lightning_proxy.chain.url import SourceURL
from lightning_proxy.http import Dropped, noting_reuse, once

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
        trust = _trust(url.cert)
        self._session = self._new_session(trust, keep=True)
        self._fresh = self._new_session(trust, keep=False)

    def _new_session(self, trust: ssl.SSLContext | bool, *, keep: bool) -> ClientSession:
        """`keep`: connections are used again."""
        return ClientSession(
            connector=TCPConnector(limit=_CONNECTIONS, ssl=trust, force_close=not keep),
            # What a proxy on the way unpacks could outgrow every bound.
            headers={"Accept-Encoding": "identity"},
            auto_decompress=False,
            cookie_jar=DummyCookieJar(),
            timeout=ClientTimeout(total=self._timeout),
            trace_configs=[noting_reuse()],
        )

    async def get(self, path: str) -> tuple[int, bytes]:
        """The status and the body that this path (from its slash) has."""
        return await self._request("GET", path, None)

    async def post(self, path: str, body: bytes, content_type: str) -> tuple[int, bytes]:
        """The status and the body of the answer to this body."""
        return await self._request("POST", path, body, {"Content-Type": content_type})

    async def close(self) -> None:
        """Hang up."""
        await self._session.close()
        await self._fresh.close()

    async def _request(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        address = self._url.endpoint + path
        headers = {**(headers or {}), **self._authorization()}
        # The errors' own chains end here: an aiohttp error has the request's headers.
        try:
            try:
                return await self._ask(self._session, method, address, body, headers)
            except Dropped:
                return await self._ask(self._fresh, method, address, body, headers)
        except TimeoutError:
            raise ChainUnavailable(
                f"{self._url.host} doesn't answer within {self._timeout:g} s"
            ) from None
        except (ClientSSLError, ClientResponseError) as error:
            # A certificate that we don't trust, which is a ValueError, too, or no HTTP: that is
            # another server, and not a late one.
            raise ChainError(f"can't ask {self._url.host}: {error}") from None
        except ValueError:
            # Its words are the whole URL.
            raise ChainError(f"{self._url.host} is no address that can be asked") from None
        except (ClientError, OSError) as error:
            raise ChainUnavailable(f"can't ask {self._url.host}: {error}") from None

    async def _ask(
        self,
        session: ClientSession,
        method: str,
        address: str,
        body: bytes | None,
        headers: dict[str, str],
    ) -> tuple[int, bytes]:
        async with once(
            session, method, address, data=body, headers=headers, allow_redirects=False
        ) as response:
            answer = bytearray()
            async for piece in response.content.iter_any():
                answer += piece
                if len(answer) > self._max_answer:
                    raise ChainError(
                        f"{self._url.host} answers with more than {self._max_answer} bytes"
                    )
        if response.status in (401, 403):
            raise ChainError(f"{self._url.host} refuses us: HTTP status {response.status}")
        if response.status in _NOT_NOW:
            raise ChainUnavailable(f"{self._url.host} is not ready: HTTP status {response.status}")
        return response.status, bytes(answer)

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
