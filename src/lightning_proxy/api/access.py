"""Who may use this relay at all, and under which name they reached it."""

import hmac

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from lightning_proxy.api.settings import ApiSettings
from lightning_proxy.networks import address_of
from lightning_proxy.rpc import ErrorCode, RpcError, normal_origin


class Access:
    """The operator's choice, asked at every door."""

    def __init__(self, settings: ApiSettings, origins: frozenset[str]) -> None:
        self._mode = settings.access
        self._tokens = [token.encode() for token in settings.tokens]
        self._allowlist = frozenset(bytes.fromhex(node_id) for node_id in settings.allowlist)
        self._origins = origins
        self.web_origins = frozenset(normal_origin(origin) for origin in settings.web_origins)
        # On loopback the browser of whoever runs the relay is the attack's only way in.
        self._guards_host = settings.on_loopback

    def check_request(self, request: web.Request) -> None:
        """Raise `RpcError` (unauthenticated, forbidden) where this request may not go on."""
        origin = request.headers.get(hdrs.ORIGIN)
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
                "This relay wants a token: send the header Authorization: Bearer <token>.",
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
        scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        found = False
        for token in self._tokens:
            found |= hmac.compare_digest(token, given.strip().encode("utf-8", "surrogateescape"))
        return found and scheme.lower() == "bearer"


def log_address(request: web.Request) -> str:
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
        if origin not in access.web_origins:
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
