"""What an IP address leads to: this machine, a private network, or the world.

By IANA's registries of special-purpose addresses (RFC 6890), written out: what Python's `ipaddress`
knows of them differs between its versions.
"""

from collections.abc import Iterator
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from lightning_proxy.networks import Address, is_in

_SPECIAL4: Final = tuple(
    map(
        IPv4Network,
        (
            "10.0.0.0/8",  # private use, RFC 1918
            "100.64.0.0/10",  # shared address space of carriers, RFC 6598
            "169.254.0.0/16",  # link local, RFC 3927
            "172.16.0.0/12",  # private use
            "192.0.0.0/24",  # protocol assignments, RFC 6890
            "192.0.2.0/24",  # documentation, RFC 5737
            "192.88.99.0/24",  # relays of 6to4, deprecated by RFC 7526
            "192.168.0.0/16",  # private use
            "198.18.0.0/15",  # benchmarks, RFC 2544
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "240.0.0.0/4",  # reserved, RFC 1112
        ),
    )
)
#: Addresses of one's own by any of its spellings, RFC 1122.
_LOOPBACK4: Final = IPv4Network("127.0.0.0/8")
#: No destination at all: "this network" (which Linux takes for this machine), many, everybody.
_NOWHERE4: Final = tuple(map(IPv4Network, ("0.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32")))

#: All that is assigned as global unicast, RFC 4291.
_GLOBAL6: Final = IPv6Network("2000::/3")
_SPECIAL6: Final = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments, RFC 2928, Teredo among them
            "2001:db8::/32",  # documentation, RFC 3849
            "3fff::/20",  # documentation, RFC 9637
        ),
    )
)
_LOOPBACK6: Final = IPv6Address("::1")
_NOWHERE6: Final = tuple(map(IPv6Network, ("::/128", "ff00::/8")))

#: An IPv4 address and nothing else: as a socket of both families shows it, and as a translator does
#: (RFC 6052).
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_NAT64: Final = IPv6Network("64:ff9b::/96")
#: With an IPv4 address in the last four bytes: IPv4-compatible (RFC 4291), SIIT's (RFC 2765), and
#: what a local translator makes (RFC 8215).
_EMBEDDING: Final = tuple(map(IPv6Network, ("::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48")))
_6TO4: Final = IPv6Network("2002::/16")
_TEREDO: Final = IPv6Network("2001::/32")
#: ISATAP's interface identifiers (RFC 5214), before the IPv4 address.
_ISATAP: Final = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")


class Reach(IntEnum):
    """How far an address leads, the farthest first."""

    WORLD = 0
    PRIVATE = 1
    LOOPBACK = 2
    #: To nobody, or to many.
    NOWHERE = 3


def reach(address: Address) -> Reach:
    """Where this address leads, by the nearest of the addresses that are in it."""
    if isinstance(address, IPv4Address):
        if address in _LOOPBACK4:
            return Reach.LOOPBACK
        if is_in(address, _NOWHERE4):
            return Reach.NOWHERE
        return Reach.PRIVATE if is_in(address, _SPECIAL4) else Reach.WORLD
    if (same := same_as(address)) is not None:
        return reach(same)
    return max([_own_reach6(address), *map(reach, embedded(address))])


def same_as(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that this one is in another spelling."""
    if address in _MAPPED or address in _NAT64:
        return IPv4Address(address.packed[-4:])
    return None


def embedded(address: IPv6Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that packets to this one may end at, by one way of tunnelling or another.

    Some of any address's last bytes may look like one: that costs it nothing unless they lead near.
    """
    packed = address.packed
    if is_in(address, _EMBEDDING) and int(address) > 1:
        yield IPv4Address(packed[-4:])
    if address in _6TO4:
        yield IPv4Address(packed[2:6])
    if address in _TEREDO:
        yield IPv4Address(packed[4:8])
        yield IPv4Address(bytes(byte ^ 0xFF for byte in packed[-4:]))
    if packed[8:12] in _ISATAP:
        yield IPv4Address(packed[-4:])


def _own_reach6(address: IPv6Address) -> Reach:
    if address == _LOOPBACK6:
        return Reach.LOOPBACK
    if is_in(address, _NOWHERE6):
        return Reach.NOWHERE
    is_world = address in _GLOBAL6 and not is_in(address, _SPECIAL6)
    return Reach.WORLD if is_world else Reach.PRIVATE
