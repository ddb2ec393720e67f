"""Where a node is: "pubkey@host:port", read strictly and written in one form."""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

from lightning_proxy.bolt.errors import AddressError
from lightning_proxy.bolt.keys import is_point
from lightning_proxy.networks import ascii_name

#: BOLT #1: the port of Lightning.
DEFAULT_PORT: Final = 9735

_FORM: Final = "write pubkey@host:port, the public key as 66 hex digits"
_NODE_ID: Final = re.compile(r"0[23][0-9a-fA-F]{64}")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
# RFC 1035: 255 bytes on the wire are 253 characters without the final dot.
_MAXIMUM_HOST: Final = 253
_MAXIMUM_SHOWN: Final = 80


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """A node's public key (33 bytes), its host (IPv4, IPv6 or a DNS name) and its TCP port."""

    node_id: bytes
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.node_id.hex()}@{host}:{self.port}"


# Many wallets have the same few peers: their sessions share the address, and its point is checked
# once.
@lru_cache(maxsize=4096)
def parse(text: str) -> NodeAddress:
    """The address in "pubkey@host:port"; the port is 9735 when none is given.

    The host becomes its canonical form: IPv6 compressed, a DNS name in lower case and ASCII (IDNA)
    without its final dot. Raises `AddressError` with a sentence that says what to write.
    """
    node_id, at, place = text.partition("@")
    if not at:
        raise AddressError(f"{_shown(text)} has no '@': {_FORM}")
    if not _NODE_ID.fullmatch(node_id):
        raise AddressError(f"{_shown(node_id)} is no public key: {_FORM}, starting with 02 or 03")
    if not is_point(bytes.fromhex(node_id)):
        raise AddressError(f"{node_id} is no point of secp256k1: check the digits")
    host, port = _split(place)
    return NodeAddress(bytes.fromhex(node_id), _host(host), _port(port))


def _split(place: str) -> tuple[str, str | None]:
    if place.startswith("["):
        host, bracket, rest = place[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise AddressError(f"{_shown(place)} is no IPv6 address with a port: write [host]:port")
        if ":" not in host:
            raise AddressError(f"{_shown(host)} in brackets is no IPv6 address")
        return host, rest[1:] if rest else None
    host, colon, port = place.partition(":")
    if ":" in port:
        raise AddressError(f"{_shown(place)}: write an IPv6 address in brackets, [host]:port")
    return host, port if colon else None


def _port(text: str | None) -> int:
    if text is None:
        return DEFAULT_PORT
    if not _PORT.fullmatch(text) or not 0 < int(text) < 65536:
        raise AddressError(f"{_shown(text)} is no port: write a number from 1 to 65535")
    return int(text)


def _host(host: str) -> str:
    if not host:
        raise AddressError(f"the host is missing: {_FORM}")
    if ":" in host:
        return _ipv6(host)
    try:
        return str(IPv4Address(host))
    except AddressValueError:
        return _dns_name(host)


def _ipv6(host: str) -> str:
    # A zone ("fe80::1%eth0") means something on one machine only, and never on the relay's.
    if "%" in host:
        raise AddressError(f"{_shown(host)} has a zone: write the IPv6 address without it")
    try:
        address = IPv6Address(host)
    except AddressValueError:
        raise AddressError(f"{_shown(host)} is no IPv6 address") from None
    # RFC 5952 §5, which Python follows from 3.13 on.
    mapped = address.ipv4_mapped
    return str(address) if mapped is None else f"::ffff:{mapped}"


def _dns_name(host: str) -> str:
    # The length first: IDNA's cost grows faster than its input.
    if len(host) > _MAXIMUM_HOST + 1:
        raise AddressError(f"a host name has at most {_MAXIMUM_HOST} characters, not {len(host)}")
    try:
        name = ascii_name(host)
    except ValueError:
        raise AddressError(f"{_shown(host)} is no host name") from None
    name = name.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > _MAXIMUM_HOST or not all(map(_LABEL.fullmatch, labels)):
        raise AddressError(
            f"{_shown(host)} is no host name: write labels of 1 to 63 letters, digits or '-'"
        )
    # Resolvers read "127.1", "2130706433" and "0x7f000001" as IPv4 addresses, so no name ends so.
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]):
        raise AddressError(f"{_shown(host)} is no IPv4 address: write four numbers from 0 to 255")
    return name


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MAXIMUM_SHOWN else text[:_MAXIMUM_SHOWN] + "…")
