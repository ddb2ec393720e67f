"""Opens the socket to a peer, if policy allows the address that its name resolves to."""

import asyncio
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, IPPROTO_TCP, SOCK_STREAM

from aiohappyeyeballs import start_connection

from lightning_proxy.bolt.address import NodeAddress
from lightning_proxy.relay.dial_policy import DialPolicy
from lightning_proxy.relay.redial import PeerGate
from lightning_proxy.relay.resolver import Resolver
from lightning_proxy.relay.settings import DialSettings
from lightning_proxy.relay.shares import NOBODY, Owner
from lightning_proxy.rpc import ErrorCode, RpcError
from lightning_proxy.transport import Pace, PeerTransport
from lightning_proxy.transport.peer import Consumer


class Dialler:
    """Resolves, asks the policy, dials that very address. Other networks fit behind `dial`."""

    def __init__(
        self,
        settings: DialSettings,
        policy: DialPolicy,
        resolver: Resolver,
        pace: Pace | None = None,
    ) -> None:
        self._settings = settings
        self._policy = policy
        self._resolver = resolver
        self._pace = pace
        self._gate = PeerGate(settings)

    async def dial(
        self, peer: NodeAddress, consumer: Consumer, owner: Owner = NOBODY
    ) -> PeerTransport:
        """Connect to `peer`, for `owner`.

        Raises `RpcError`: address_forbidden, peer_unreachable, peer_timeout, limit.
        """
        async with self._gate.turn(peer, owner):
            try:
                async with asyncio.timeout(self._settings.timeout):
                    return await self._connect(peer, consumer)
            except TimeoutError:
                raise RpcError(
                    ErrorCode.PEER_TIMEOUT,
                    f"{peer.host} did not take the connection within {self._settings.timeout:g} s.",
                ) from None

    async def _connect(self, peer: NodeAddress, consumer: Consumer) -> PeerTransport:
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
        try:
            return await self._first(allowed, peer.port, consumer)
        except OSError:
            raise RpcError(
                ErrorCode.PEER_UNREACHABLE, f"{peer.host} port {peer.port} refuses the connection."
            ) from None

    async def _first(self, addresses: list[str], port: int, consumer: Consumer) -> PeerTransport:
        """The first of these addresses that takes the connection (RFC 8305); raises `OSError`."""
        loop = asyncio.get_running_loop()
        source = self._settings.source
        if len(addresses) == 1:
            _, protocol = await loop.create_connection(
                lambda: PeerTransport(consumer, self._pace),
                addresses[0],
                port,
                local_addr=(source, 0) if source else None,
            )
            return protocol
        connected = await start_connection(
            [_info(address, port) for address in addresses],
            local_addr_infos=[_info(source, 0)] if source else None,
            happy_eyeballs_delay=self._settings.attempt_delay,
            interleave=1,
            loop=loop,
        )
        try:
            _, protocol = await loop.create_connection(
                lambda: PeerTransport(consumer, self._pace), sock=connected
            )
        except BaseException:
            connected.close()
            raise
        return protocol


_Info = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]


def _info(address: str, port: int) -> _Info:
    """An address as `getaddrinfo` gives it."""
    if ip_address(address).version == 4:
        return AF_INET, SOCK_STREAM, IPPROTO_TCP, "", (address, port)
    return AF_INET6, SOCK_STREAM, IPPROTO_TCP, "", (address, port, 0, 0)
