"""Behind a proxy: who the client is and what it dialled, if a trusted proxy says so."""

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from lightning_proxy.networks import address_of, is_in, network_of

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class Forwarded:
    """`trusted` are networks (CIDR); raises `ValueError` for what is none."""

    def __init__(self, trusted: list[str]) -> None:
        self._trusted = [network_of(network) for network in trusted]

    def client(self, remote: str, forwarded_for: list[str]) -> str:
        """The nearest address that no trusted proxy has: what stands further away, anybody may say.

        `forwarded_for`: the values of X-Forwarded-For, as they came.
        """
        hops = [hop.strip() for value in forwarded_for for hop in value.split(",")]
        client = remote
        while self.trusts(client) and hops:
            hop = _without_port(hops.pop())
            if hop is None:
                break
            client = hop
        return client

    def trusts(self, address: str) -> bool:
        """Whether a trusted proxy has this address."""
        try:
            return is_in(address_of(address), self._trusted)
        except ValueError:
            return False

    def middleware(self) -> Middleware:
        """Gives handlers the client's view of the request."""

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            remote = request.remote or ""
            if not self.trusts(remote):
                return await handler(request)
            headers = request.headers
            client = self.client(remote, headers.getall(hdrs.X_FORWARDED_FOR, []))
            scheme = _SCHEMES.get(_last(headers.getall(hdrs.X_FORWARDED_PROTO, [])))
            host = _last(headers.getall(hdrs.X_FORWARDED_HOST, []))
            return await handler(
                request.clone(
                    remote=client, scheme=scheme or request.scheme, host=host or request.host
                )
            )

        return middleware


def _last(values: list[str]) -> str:
    """What the nearest proxy said."""
    return values[-1].rpartition(",")[2].strip() if values else ""


def _without_port(hop: str) -> str | None:
    """Some proxies write the client's port, too; None: that is no address."""
    bracketed, _, rest = hop.partition("]")
    if bracketed.startswith("[") and (not rest or rest.startswith(":")):
        hop = bracketed[1:]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    try:
        return str(address_of(hop))
    except ValueError:
        return None
