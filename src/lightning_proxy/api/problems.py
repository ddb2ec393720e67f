"""Errors over HTTP: problem details (RFC 9457) with a stable code and a sentence."""

import math

import msgspec
import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from lightning_proxy.rpc import ErrorCode, RpcError

_log = structlog.get_logger()

_CODES = {error.status: error for error in reversed(ErrorCode)} | {
    404: ErrorCode.METHOD_UNKNOWN,
    405: ErrorCode.METHOD_UNKNOWN,
    413: ErrorCode.TOO_LARGE,
}


class Problem(msgspec.Struct, frozen=True):
    """RFC 9457 §3, with our stable `code` beside it."""

    type: str
    title: str
    status: int
    detail: str
    code: str


def problem(error: RpcError, status: int | None = None) -> web.Response:
    """The response that tells of this error."""
    status = status or error.error.status
    body = Problem(
        type="about:blank",
        title=error.error.code.replace("_", " "),
        status=status,
        detail=error.sentence,
        code=error.error.code,
    )
    headers: dict[str, str] = {}
    if status == 401:
        headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    if error.retry_after is not None:
        headers[hdrs.RETRY_AFTER] = str(math.ceil(error.retry_after))
    return web.Response(
        body=msgspec.json.encode(body),
        status=status,
        content_type="application/problem+json",
        headers=headers,
    )


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every failure into problem details; what is our fault is logged, and says no more."""
    try:
        return await handler(request)
    except RpcError as error:
        return problem(error)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        code = _CODES.get(error.status, ErrorCode.INVALID_REQUEST)
        return problem(RpcError(code, f"{error.reason}."), error.status)
    except web.RequestPayloadError:
        # `at_the_door` deals with it, as with all that is no HTTP.
        raise
    except ConnectionResetError:
        # The client is gone: there is nobody to tell, and nothing that went wrong here.
        return web.Response(status=400)
    except Exception as error:  # noqa: BLE001 - a request's failure must stay its own
        _log.error("request_failed", path=request.path, error=type(error).__name__, exc_info=True)
        return problem(RpcError(ErrorCode.INTERNAL, "The relay failed on this; it is logged."))
