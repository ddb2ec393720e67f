"""Who may use this relay at all, and under which name they reached it."""

import base64
import hmac
import re
from collections.abc import Mapping
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from lightning_proxy.api.settings import ApiSettings
from lightning_proxy.networks import address_of
from lightning_proxy.rpc import ErrorCode, RpcError, normal_origin, page_origin

#: Characters of a token in a subprotocol.
_MAX_TOKEN: Final = 4096
_AS_IT_CAME: Final = ("utf-8", "surrogateescape")
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")


class Access:
    """The operator's choice, asked at every door."""

    def __init__(self, settings: ApiSettings, origins: frozenset[str]) -> None:
        self._mode = settings.access
        self._tokens = [token.encode() for token in settings.tokens]
        self._allowlist = frozenset(bytes.fromhex(node_id) for node_id in settings.allowlist)
        self._origins = origins
        self._metrics = settings.metrics
        self._metrics_token = (settings.metrics_token or "").encode()
        self._is_local = settings.is_local
        self.web_origins = frozenset(page_origin(origin) for origin in settings.web_origins)
        # On loopback the browser of whoever runs the relay is the attack's only way in.
        self._guards_host = settings.on_loopback

    def check_request(self, request: web.Request) -> None:
        """Raise `RpcError` (unauthenticated, forbidden) where this request may not go on."""
        origin = request.headers.get(hdrs.ORIGIN)
        origin = None if origin is None else origin.lower()
        if origin is not None and origin not in self.web_origins and origin not in self._origins:
            raise RpcError(
                ErrorCode.FORBIDDEN,
                "Pages of that origin may not use this relay; its operator can add it to "
                "web_origins.",
            )
        if self._guards_host:
            # A name that resolves to loopback may be anybody's (DNS rebinding).
            self.origin_of(request)
        if self._mode == "token" and not self._has_token(request):
            raise RpcError(
                ErrorCode.UNAUTHENTICATED,
                "This relay wants a token: send the header Authorization: Bearer <token>, or, from "
                "a page, offer the websocket's subprotocol token.<the token in base64url>.",
            )

    def check_metrics(self, request: web.Request) -> None:
        """Raise `RpcError` (unauthenticated, forbidden) for who may not read the metrics here."""
        if self._guards_host:
            self.origin_of(request)
        if self._metrics == "token":
            scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
            right = hmac.compare_digest(self._metrics_token, given.strip().encode(*_AS_IT_CAME))
            if scheme.lower() != "bearer" or not right:
                raise RpcError(
                    ErrorCode.UNAUTHENTICATED,
                    "The metrics want a token of their own: Authorization: Bearer <metrics_token>.",
                )
        elif self._metrics == "admin" and not self._is_local:
            raise RpcError(
                ErrorCode.FORBIDDEN,
                "The metrics are for this relay's operator: they are at the admin socket, and here "
                'with metrics = "token" or "open".',
            )

    def check_rest(self) -> None:
        """Raise `RpcError` (forbidden) where a wallet has to show its node key first."""
        if self._mode == "allowlist":
            raise RpcError(
                ErrorCode.FORBIDDEN,
                "This relay serves listed wallets only, and they authenticate over the websocket.",
            )

    def check_wallet(self, node_id: bytes) -> None:
        """Raise `RpcError` (forbidden) for a wallet that is not on the list."""
        if self._mode == "allowlist" and node_id not in self._allowlist:
            raise RpcError(
                ErrorCode.FORBIDDEN, "This relay serves listed wallets only, and not this one."
            )

    def origin_of(self, request: web.Request) -> str:
        """The origin that the client dialled, if it is one of ours; raises `RpcError` (forbidden).

        Never simply what the client says: a wallet signs for this name, and a signature for
        another relay's name has to be worthless here.
        """
        for scheme in (request.scheme, "https", "http"):
            origin = f"{scheme}://{request.host}"
            # A normal origin is its own normal form, and most clients send that.
            if origin in self._origins:
                return origin
            try:
                origin = normal_origin(origin)
            except ValueError:
                continue
            if origin in self._origins:
                return origin
        raise RpcError(
            ErrorCode.FORBIDDEN,
            "This relay does not know itself by that name; its operator can add it to origins.",
        )

    def _has_token(self, request: web.Request) -> bool:
        """Whether a token came, and each that came is right."""
        given = _tokens_of(request.headers)
        return bool(given) and all(map(self._is_token, given))

    def _is_token(self, given: bytes) -> bool:
        found = False
        for token in self._tokens:
            found |= hmac.compare_digest(token, given)
        return found


def _tokens_of(headers: Mapping[str, str]) -> list[bytes]:
    """The tokens in a request's headers; what can't be read is a wrong one.

    A page's script can't set headers for a websocket: it offers the token as a subprotocol, which
    is never chosen. (In a URL it would end in logs.)
    """
    found = []
    if (header := headers.get(hdrs.AUTHORIZATION)) is not None:
        scheme, _, given = header.partition(" ")
        is_bearer = scheme.lower() == "bearer"
        found.append(given.strip().encode(*_AS_IT_CAME) if is_bearer else b"")
    for offered in headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "").split(","):
        kind, dot, encoded = offered.strip().partition(".")
        if kind == "token" and dot:
            found.append(_decoded(encoded))
    return found


def _decoded(text: str) -> bytes:
    """base64url without padding; nothing for what is none."""
    if len(text) > _MAX_TOKEN or not _BASE64URL.fullmatch(text):
        return b""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""


def log_address(request: web.BaseRequest) -> str:
    """The client's address for a log line."""
    try:
        return str(address_of(request.remote or ""))
    except ValueError:
        return "unknown"


def cross_origin(access: Access) -> Middleware:
    """CORS for the pages that the operator allows; others get no leave and no hint."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or origin.lower() not in access.web_origins:
            return await handler(request)
        preflight = request.method == hdrs.METH_OPTIONS
        response = web.Response(status=204) if preflight else await handler(request)
        if not response.prepared:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.VARY] = hdrs.ORIGIN
            if preflight:
                response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = "GET, POST"
                response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = "Authorization, Content-Type"
        return response

    return middleware
