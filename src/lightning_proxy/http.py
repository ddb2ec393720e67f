"""What aiohttp's client leaves to who uses it: redirects, and kept connections that were dropped.

A server may close an idle connection at the moment at which it is used again. A request that was
never answered on such a one goes once more, on a fresh one: it was lost, and not refused.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import aiohttp


class Dropped(Exception):
    """The connection was a used one, and went without a word of an answer."""


def noting_reuse() -> aiohttp.TraceConfig:
    """For the sessions that `once` is called with."""

    async def reused(
        _: aiohttp.ClientSession,
        context: SimpleNamespace,
        __: aiohttp.TraceConnectionReuseconnParams,
    ) -> None:
        if context.trace_request_ctx is not None:
            context.trace_request_ctx.reused = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(reused)
    return trace


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


@asynccontextmanager
async def once(
    session: aiohttp.ClientSession, method: str, url: Any, **options: Any
) -> AsyncIterator[aiohttp.ClientResponse]:
    """`session.request`, which raises `Dropped` besides: then the request goes once more."""
    context = SimpleNamespace(reused=False)
    request = session.request(method, url, trace_request_ctx=context, **options)
    try:
        response = await request.__aenter__()
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        if context.reused and not isinstance(error, aiohttp.ClientConnectorError):
            raise Dropped from error
        raise
    async with response:
        yield response
