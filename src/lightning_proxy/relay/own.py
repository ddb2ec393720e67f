"""Which addresses are this machine's own: what is sent there never leaves it, however public.

The system is asked each time: interfaces come and go.
"""

import socket
from ipaddress import IPv4Address
from typing import Final

from lightning_proxy.networks import Address

#: No machine's: reserved (RFC 1112), and for what is to be discarded (RFC 6666).
_NOBODYS: Final = {socket.AF_INET: "240.0.0.1", socket.AF_INET6: "100::1"}
#: Nothing is sent there.
_PORT: Final = 9


def is_own(address: Address) -> bool:
    """Whether packets to this address end at this machine."""
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    if not _binds(family, str(address)):
        return False
    # Hosts that take over others' addresses may bind to any (`ip_nonlocal_bind`). There it is the
    # route that tells: to an address of its own, a host sends from just that.
    return not _binds(family, _NOBODYS[family]) or _sends_from(family, str(address)) == str(address)


def _binds(family: socket.AddressFamily, address: str) -> bool:
    """A socket has a local address, so the system lets it have no other."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _sends_from(family: socket.AddressFamily, address: str) -> str | None:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, _PORT))
            return str(probe.getsockname()[0])
    except OSError:
        return None
