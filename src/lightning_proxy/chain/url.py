"""One URL says all about a source of the blockchain: its kind, its address, how it is trusted."""

from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit


class SourceKind(Enum):
    """Who answers."""

    BITCOIND = auto()
    BTCD = auto()
    ESPLORA = auto()


_SCHEMES: Final = MappingProxyType(
    {
        "bitcoind": (SourceKind.BITCOIND, "http"),
        "bitcoind+https": (SourceKind.BITCOIND, "https"),
        "btcd": (SourceKind.BTCD, "https"),
        "btcd+http": (SourceKind.BTCD, "http"),
        "esplora+http": (SourceKind.ESPLORA, "http"),
        "esplora+https": (SourceKind.ESPLORA, "https"),
    }
)
_OPTIONS: Final = MappingProxyType(
    {
        SourceKind.BITCOIND: {"cert", "cookie"},
        SourceKind.BTCD: {"cert"},
        SourceKind.ESPLORA: {"cert"},
    }
)


@dataclass(frozen=True, slots=True)
class SourceURL:
    """A source's URL, taken apart and checked.

    | URL | the source |
    |---|---|
    | `bitcoind://user:password@host:port`, `bitcoind+https://…` | Bitcoin Core's JSON-RPC |
    | `btcd://user:password@host:port` (https), `btcd+http://…` | btcd's JSON-RPC |
    | `esplora+http://host:port/path`, `esplora+https://…` | an Esplora HTTP API |

    Options: `?cert=` the path of the certificate or authority (PEM) that https is trusted by
    instead of the system's; for bitcoind `?cookie=` the path of its cookie file instead of user
    and password. What user or password have besides letters, digits and `-._~` is escaped with
    percent signs.
    """

    kind: SourceKind
    #: Where requests go: http or https, host, port and path, without a trailing slash. The path
    #: may have somebody's key in it.
    endpoint: str = field(repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    cert: Path | None = None
    cookie: Path | None = None

    @property
    def host(self) -> str:
        """The source's name for people: host and port."""
        return urlsplit(self.endpoint).netloc

    def without_secrets(self, url: str) -> str:
        """The URL that this was read from, for people to see: its path may be somebody's key."""
        user = "" if self.user is None else "(hidden)@"
        path = "/(hidden)" if urlsplit(self.endpoint).path else ""
        files = {"cert": self.cert, "cookie": self.cookie}
        options = "&".join(f"{name}={file}" for name, file in files.items() if file is not None)
        scheme = url.partition("://")[0]
        return f"{scheme}://{user}{self.host}{path}{'?' if options else ''}{options}"

    @classmethod
    def parse(cls, url: str) -> Self:
        """Take a URL apart; `ValueError` with a sentence that quotes nothing secret of it."""
        scheme = url.partition("://")[0]
        if scheme not in _SCHEMES:
            raise ValueError(f"a chain source's URL begins with one of {', '.join(_SCHEMES)}")
        kind, transport = _SCHEMES[scheme]
        try:
            parts = urlsplit(url)
            port = parts.port
            options = _options(parts.query)
        except ValueError:
            # Python's own sentence may quote the password.
            raise ValueError(
                f"a {scheme} URL reads {scheme}://host:port, with special characters of "
                "a user or password escaped by percent signs"
            ) from None
        _check(kind, scheme, parts, options)
        host = parts.hostname or ""
        address = f"[{host}]" if ":" in host else host
        if port is not None:
            address += f":{port}"
        cert, cookie = options.get("cert"), options.get("cookie")
        return cls(
            kind,
            f"{transport}://{address}{parts.path.rstrip('/')}",
            None if parts.username is None else unquote(parts.username),
            None if parts.password is None else unquote(parts.password),
            Path(cert) if cert else None,
            Path(cookie) if cookie else None,
        )


def _options(query: str) -> dict[str, str]:
    if not query:
        return {}
    return dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True))


def _check(kind: SourceKind, scheme: str, parts: SplitResult, options: dict[str, str]) -> None:
    if not parts.hostname:
        raise ValueError(f"a {scheme} URL needs a host")
    shown = parts.netloc + parts.path
    if parts.fragment or " " in shown or not shown.isprintable():
        raise ValueError(f"a {scheme} URL has characters that are escaped by percent signs")
    if options.keys() - _OPTIONS[kind]:
        # Not named: it may be what follows a question mark in a password.
        raise ValueError(f"a {scheme} URL has no option but {', '.join(sorted(_OPTIONS[kind]))}")
    if "" in options.values():
        raise ValueError(f"an option of a {scheme} URL has no value")
    if "cert" in options and _SCHEMES[scheme][1] != "https":
        raise ValueError(f"cert is for https, and {scheme} is http")
    if (parts.username is None) != (parts.password is None):
        raise ValueError(f"a {scheme} URL has both a user and a password, or neither")
    if ":" in unquote(parts.username or ""):
        raise ValueError(f"the user of a {scheme} URL has a colon, which HTTP can't send")
    if kind is SourceKind.ESPLORA:
        return
    if parts.port is None:
        raise ValueError(f"a {scheme} URL needs a port")
    if parts.path.strip("/"):
        raise ValueError(f"a {scheme} URL has no path")
    if (parts.username is None) == ("cookie" not in options):
        ways = "a user and a password" + (" or a cookie" if "cookie" in _OPTIONS[kind] else "")
        raise ValueError(f"a {scheme} URL needs {ways}")
