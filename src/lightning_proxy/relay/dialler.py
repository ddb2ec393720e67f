"""Opens the socket to a peer, if policy allows the address that its name resolves to."""

import asyncio
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from lightning_proxy.bolt.address import NodeAddress
from lightning_proxy.relay.redial import PeerGate
from lightning_proxy.relay.resolver import Resolver
from lightning_proxy.relay.settings import DialSettings
from lightning_proxy.rpc import ErrorCode, RpcError
from lightning_proxy.transport import PeerTransport
from lightning_proxy.transport.peer import Consumer

_Address = IPv4Address | IPv6Address

#: RFC 6052: IPv6 addresses that a translator turns into the IPv4 address in their last 4 bytes.
_NAT64 = IPv6Network("64:ff9b::/96")


class DialPolicy:
    """Which addresses may be dialled: a relay must not be a port scanner of its own network."""

    def __init__(self, settings: DialSettings, *, relay_on_loopback: bool) -> None:
        allow_loopback = settings.allow_loopback
        self._allow_loopback = relay_on_loopback if allow_loopback is None else allow_loopback
        self._allow_private = settings.allow_private
        self._allow = [ip_network(network) for network in settings.allow]
        self._deny = [ip_network(network) for network in settings.deny]

    def allows(self, address: _Address) -> bool:
        """Whether this resolved address may be dialled."""
        address = _as_reached(address)
        if any(address in network for network in self._deny):
            return False
        if any(address in network for network in self._allow):
            return True
        if address.is_multicast or address.is_unspecified:
            return False
        if address.is_loopback:
            return self._allow_loopback
        return address.is_global or self._allow_private


def _as_reached(address: _Address) -> _Address:
    """The IPv4 address that an IPv6 one stands for, where it does: policy is about the target."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address in _NAT64:
            return IPv4Address(address.packed[-4:])
    return address


class Dialler:
    """Resolves, asks the policy, dials that very address. Other networks fit behind `dial`."""

    def __init__(self, settings: DialSettings, policy: DialPolicy, resolver: Resolver) -> None:
        self._settings = settings
        self._policy = policy
        self._resolver = resolver
        self._slots = asyncio.Semaphore(settings.max_concurrent)
        self._gate = PeerGate(settings)

    async def dial(self, peer: NodeAddress, consumer: Consumer) -> PeerTransport:
        """Connect to `peer`.

        Raises `RpcError`: address_forbidden, peer_unreachable, peer_timeout, limit.
        """
        async with self._gate.turn(peer):
            try:
                async with asyncio.timeout(self._settings.timeout), self._slots:
                    return await self._connect(peer, consumer)
            except TimeoutError:
                raise RpcError(
                    ErrorCode.PEER_TIMEOUT,
                    f"{peer.host} did not take the connection within {self._settings.timeout:g} s.",
                ) from None

    async def _connect(self, peer: NodeAddress, consumer: Consumer) -> PeerTransport:
        loop = asyncio.get_running_loop()
        try:
            addresses = await self._resolver.resolve(peer.host, peer.port)
        except OSError:
            raise RpcError(
                ErrorCode.PEER_UNREACHABLE, f"{peer.host} could not be resolved; check the name."
            ) from None
        allowed = [text for text in addresses if self._policy.allows(ip_address(text))]
        if not allowed:
            raise RpcError(
                ErrorCode.ADDRESS_FORBIDDEN,
                f"This relay does not dial the address of {peer.host}; its operator allows only "
                "others.",
            )
        source = (self._settings.source, 0) if self._settings.source else None
        for address in allowed:
            try:
                _, protocol = await loop.create_connection(
                    lambda: PeerTransport(consumer), address, peer.port, local_addr=source
                )
            except OSError:
                continue
            return protocol
        raise RpcError(
            ErrorCode.PEER_UNREACHABLE, f"{peer.host} port {peer.port} refuses the connection."
        )
