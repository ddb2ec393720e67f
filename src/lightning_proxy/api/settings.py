"""What an operator can set about the port that wallets use."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct, field

from lightning_proxy.api.limits import LimitSettings
from lightning_proxy.api.tls import Certificate, CertificateError
from lightning_proxy.networks import is_loopback, network_of
from lightning_proxy.rpc import normal_origin

_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


class SettingsError(ValueError):
    """The settings contradict each other; the sentence says what to change."""


class ApiSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The listening address, who may come in, and under which names."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 3000
    #: open: anybody; token: who has one of `tokens`; allowlist: the node ids of `allowlist`.
    access: Literal["open", "token", "allowlist"] | None = None
    tokens: list[Annotated[str, Meta(min_length=16)]] = []
    allowlist: list[Annotated[str, Meta(pattern="^0[23][0-9a-f]{64}$")]] = []
    #: Open to anybody though bound to more than loopback: has to be said in so many words.
    open_to_the_world: bool = False
    #: The URLs under which wallets reach this relay; unset: the loopback names of `port`.
    #: A wallet signs its authentication for one of them only.
    origins: list[str] = []
    #: Web pages, by origin, whose scripts may use the API.
    web_origins: list[str] = []
    #: Files (PEM) for TLS, both or none; they are read again on SIGHUP.
    tls_certificate: str | None = None
    tls_key: str | None = None
    #: Networks (CIDR) of proxies whose X-Forwarded-For, -Proto and -Host are believed.
    trusted_proxies: list[str] = []
    #: Who reads /metrics here: admin: nobody, unless only this machine is served, for the admin
    #: socket has it, too; token: who has `metrics_token`; open: anybody.
    metrics: Literal["admin", "token", "open"] = "admin"
    metrics_token: Annotated[str, Meta(min_length=16)] | None = None
    limits: LimitSettings = field(default_factory=LimitSettings)
    #: The operator's own socket (a file), for lightning-proxy sessions, wallets and delegations.
    #: `serve` has a place for it beside the store where this is unset.
    admin_socket: str | None = None
    #: Seconds for a connection's first request, TLS's handshake before it, and a request's body.
    request_timeout: Annotated[float, Meta(gt=0, le=600)] = 10.0
    #: Seconds that an idle connection is kept after a request: longer than proxies in front keep
    #: theirs (nginx 60 s, Traefik 90 s, Caddy 120 s), or they would use one that is just closed.
    keepalive_timeout: Annotated[float, Meta(gt=0, le=3600)] = 130.0
    #: Seconds from a websocket's opening to `authenticate`.
    authentication_timeout: Annotated[float, Meta(gt=0, le=600)] = 10.0

    def __repr__(self) -> str:
        return f"ApiSettings(host={self.host!r}, port={self.port}, access={self.access!r})"

    @property
    def on_loopback(self) -> bool:
        """Whether nobody but this machine can connect; it may do so for others."""
        return is_loopback(self.host)

    @property
    def is_local(self) -> bool:
        """Whether nobody but this machine is served: no proxy in front of it brings others."""
        return self.on_loopback and not self.trusted_proxies and all(map(_is_local, self.origins))

    def checked(self) -> "ApiSettings":
        """The settings with `access` filled in; raises `SettingsError`."""
        access = self.access or ("open" if self.is_local else None)
        if access is None:
            where = f"bound to {self.host}"
            if self.on_loopback:
                where = "with origins beyond this machine, or trusted_proxies, in front of it"
            raise SettingsError(
                f"{where}, the relay needs to know who may use it: set access to "
                '"token", "allowlist" or "open"'
            )
        if access == "open" and not self.on_loopback and not self.open_to_the_world:
            raise SettingsError(
                f"bound to {self.host} with access open, anybody on the network could use this "
                "relay: choose token or allowlist, or set open_to_the_world = true"
            )
        if access == "token" and not self.tokens:
            raise SettingsError('access "token" needs at least one token of 16 characters')
        if (self.metrics == "token") is not (self.metrics_token is not None):
            raise SettingsError('metrics "token" and metrics_token go together')
        if access == "allowlist" and not self.allowlist:
            raise SettingsError('access "allowlist" needs at least one node id')
        if not self.on_loopback and not self.origins:
            raise SettingsError(
                f"bound to {self.host}, the relay can't know its public name: set origins, such "
                'as ["https://relay.example.com"]'
            )
        if (self.tls_certificate is None) is not (self.tls_key is None):
            raise SettingsError("tls_certificate and tls_key go together")
        try:
            for network in self.trusted_proxies:
                network_of(network)
        except ValueError as error:
            raise SettingsError(f"trusted_proxies: {error}") from None
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        return ApiSettings(**{**fields, "access": access})

    def origins_on(self, port: int) -> frozenset[str]:
        """The normal origins under which the relay answers, once it listens on `port`."""
        names = self.origins or [
            f"{self.scheme}://{name}:{port}" for name in (*_LOOPBACK_NAMES, self._url_host())
        ]
        try:
            return frozenset(normal_origin(name) for name in names)
        except ValueError as error:
            raise SettingsError(f"origins: {error}") from None

    def url_on(self, port: int) -> str:
        """A URL that reaches the relay from this machine."""
        return f"{self.scheme}://{self._url_host()}:{port}"

    @property
    def scheme(self) -> str:
        """Of what it listens for; a proxy in front may speak another."""
        return "http" if self.tls_certificate is None else "https"

    def tls(self) -> Certificate | None:
        """None: no TLS. Raises `SettingsError` for files that won't do."""
        if self.tls_certificate is None or self.tls_key is None:
            return None
        try:
            return Certificate(self.tls_certificate, self.tls_key)
        except CertificateError as error:
            raise unusable(error) from None

    def _url_host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def _is_local(origin: str) -> bool:
    try:
        return is_loopback(urlsplit(normal_origin(origin)).hostname or "")
    except ValueError:
        # `origins_on` says what is wrong with it.
        return False


def unusable(error: CertificateError) -> SettingsError:
    return SettingsError(f"tls_certificate, tls_key: {error}")
