"""Addresses, networks and host names, compared by what they are, not by their spelling.

A socket of both families shows an IPv4 client as `::ffff:192.0.2.1`.
"""

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final, TypeAlias

import idna

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

#: Bytes of an address that say whose it is: what a customer gets costs money, more of it more.
_BLOCKS: Final = {4: 3, 6: 7}
#: Of `::ffff:0:0/96`.
_MAPPED_BITS: Final = 96


def address_of(text: str) -> Address:
    """An address; a mapped one is the IPv4 address that it maps. Raises `ValueError`."""
    return unmapped(ip_address(text))


def unmapped(address: Address) -> Address:
    """A mapped address as the one that it maps, any other as it is."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def block_of(text: str) -> str | None:
    """The /24 or /56 of an address, by name, for who shares a budget; None: it is this machine's.

    What is no address is a block of its own.
    """
    try:
        address = address_of(text)
    except ValueError:
        return text
    if address.is_loopback:
        return None
    return address.packed[: _BLOCKS[address.version]].hex()


def network_of(text: str) -> Network:
    """A network, or a single address as one; mapped as in `address_of`. Raises `ValueError`."""
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network


def ascii_name(name: str) -> str:
    """A host's name as it is dialled; raises `ValueError` (`idna.IDNAError`) for one that is none.

    As browsers read names: IDNA 2003, which Python's own codec is, makes another of "faß".
    """
    return name if name.isascii() else idna.encode(name, uts46=True).decode("ascii")


def is_loopback(host: str) -> bool:
    """Whether a host, by its spelling, is this machine and reached by nobody else."""
    try:
        return address_of(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_in(address: Address, networks: Iterable[Network]) -> bool:
    """Whether one of these networks has this address."""
    address = unmapped(address)
    return any(address in network for network in networks)
