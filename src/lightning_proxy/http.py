"""What is called over HTTP: within one time limit, with answers of a bounded size.

A server may close an idle connection at the moment at which it is used again. A request that was
never answered on such a one goes once more, on a fresh one: it was lost, and not refused.
"""

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Self

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said; `body` ends where the most that is read was reached."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    is_whole: bool


class Client:
    """Use as an async context manager, or `close` it; made while an event loop runs.

    `timeout`: seconds for a request, from resolving the name to the answer's end, however often it
    is tried. `most`: bytes of an answer. The rest is `aiohttp.TCPConnector`'s.
    """

    def __init__(self, timeout: float, most: int, **connector: Any) -> None:
        self._timeout = timeout
        self._most = most
        self._kept = _new_session(aiohttp.TCPConnector(**connector))
        self._fresh = _new_session(aiohttp.TCPConnector(**connector, force_close=True))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up."""
        await self._kept.close()
        await self._fresh.close()

    async def ask(
        self, method: str, url: str | URL, body: bytes | None, headers: dict[str, str]
    ) -> Answer:
        """Follows no redirect. Raises `aiohttp.ClientError`, `OSError` (`TimeoutError` among them),
        `ValueError` for a URL that is none.
        """
        async with asyncio.timeout(self._timeout):
            try:
                return await self._ask(self._kept, method, url, body, headers)
            except _DroppedError:
                return await self._ask(self._fresh, method, url, body, headers)

    async def _ask(
        self,
        session: aiohttp.ClientSession,
        method: str,
        url: str | URL,
        body: bytes | None,
        headers: dict[str, str],
    ) -> Answer:
        use = SimpleNamespace(is_again=False)
        request = session.request(
            method, url, data=body, headers=headers, allow_redirects=False, trace_request_ctx=use
        )
        try:
            response = await request
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if use.is_again and not isinstance(error, aiohttp.ClientConnectorError):
                raise _DroppedError from error
            raise
        async with response:
            answer = bytearray()
            async for piece in response.content.iter_any():
                answer += piece
                if len(answer) > self._most:
                    # The rest is not waited for, nor is the connection used again.
                    response.close()
                    break
        is_whole = len(answer) <= self._most
        return Answer(response.status, response.headers, bytes(answer[: self._most]), is_whole)


class _DroppedError(Exception):
    """The connection was a used one, and went without a word of an answer."""


def _new_session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_note_use)
    return aiohttp.ClientSession(
        connector=connector,
        # `ask` has one for all that it tries.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        # What a proxy on the way unpacks could outgrow every bound.
        headers={"Accept-Encoding": "identity"},
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[trace],
    )


async def _note_use(
    _: aiohttp.ClientSession, use: SimpleNamespace, __: aiohttp.TraceConnectionReuseconnParams
) -> None:
    use.trace_request_ctx.is_again = True


def refusing_redirects() -> aiohttp.TraceConfig:
    """For sessions that follow none, where a request can't say so itself (a websocket's can't).

    They raise `ClientResponseError` with the redirect's status. A redirect would have us ask
    whatever only this machine reaches.
    """

    async def refuse(
        _: aiohttp.ClientSession, __: SimpleNamespace, sent: aiohttp.TraceRequestRedirectParams
    ) -> None:
        response = sent.response
        response.close()
        raise aiohttp.ClientResponseError(
            response.request_info, response.history, status=response.status
        )

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(refuse)
    return trace
