"""What a wallet signs to prove its node key, and for whom."""

import re
from urllib.parse import urlsplit

from lightning_proxy.networks import ascii_name

_DEFAULT_PORTS = {"http": 80, "https": 443}
#: Of schemes of which the web knows nothing (an opaque origin, "null", is everybody's).
_PAGE_ORIGIN = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[a-zA-Z0-9._~-]+(?::[0-9]{1,5})?")
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


def normal_origin(url: str) -> str:
    """The origin of a relay's URL: `scheme://host[:port]`, lower case, no default port.

    `ws` counts as `http` and `wss` as `https`, so that one relay has one origin whichever way it
    was dialled. Raises `ValueError` with a sentence that says what to write.
    """
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise ValueError(f"{url!r} is no relay URL; write http://host:port or https://host")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else _ascii(parts.hostname)
    port = parts.port
    return (
        f"{scheme}://{host}"
        if port in (None, _DEFAULT_PORTS[scheme])
        else f"{scheme}://{host}:{port}"
    )


def page_origin(origin: str) -> str:
    """The origin of a page, an app or an extension, as its `Origin` header has it, in lower case.

    `https://wallet.example`, `capacitor://localhost`, `chrome-extension://<id>`. Raises
    `ValueError` with a sentence that says what to write.
    """
    if origin.partition(":")[0].lower() in _SCHEMES:
        return normal_origin(origin)
    if not _PAGE_ORIGIN.fullmatch(origin):
        raise ValueError(f"{origin!r} is no origin; write a scheme and a host: app://localhost")
    return origin.lower()


def _ascii(name: str) -> str:
    """A name as it is dialled, and as the `Host` header has it."""
    try:
        return ascii_name(name)
    except ValueError as error:
        raise ValueError(f"{name!r} is no host name: {error}") from None


def authentication_text(origin: str, challenge: str, node_id: str | None = None) -> str:
    """The text to sign; the wallet passes the origin that *it* dialled, never the one it was told.

    So a relay that passes another relay's challenge on gets a signature that is good for itself
    only. `node_id` (hex): a device signs by its own key, and names the wallet that it acts for.
    """
    text = f"lightning-proxy/v1 authenticate {origin} {challenge}"
    return text if node_id is None else f"{text} {node_id}"
