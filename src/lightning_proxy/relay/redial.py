"""Thousands of wallets may lose one peer at once: keeps their dials to it few and far between."""

import asyncio
import random
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from lightning_proxy.bolt.address import NodeAddress
from lightning_proxy.relay.settings import DialSettings
from lightning_proxy.relay.shares import NOBODY, Owner, Places
from lightning_proxy.rpc import ErrorCode, RpcError

#: Peers that are remembered; of more, those are forgotten that were dialled longest ago.
_MAX_PEERS: Final = 20_000


class _Peer:
    __slots__ = ("failures", "places", "probing", "until")

    def __init__(self, places: Places) -> None:
        self.failures = 0
        #: Loop time before which it is not dialled again.
        self.until = 0.0
        #: Whether the one dial is under way that finds out whether it is back.
        self.probing = False
        self.places = places


class PeerGate:
    """Asked before every dial, by the peer's node id and address: whose turn it is.

    Only what happens below BOLT 8, and once the dial began, counts as a failure: neither a wallet
    that sends a peer garbage nor wallets that keep the relay busy must keep others from it.
    """

    def __init__(self, settings: DialSettings) -> None:
        self._settings = settings
        self._places = Places(settings.max_concurrent, settings.max_waiting, settings.timeout)
        self._peers: OrderedDict[NodeAddress, _Peer] = OrderedDict()

    @asynccontextmanager
    async def turn(self, address: NodeAddress, owner: Owner = NOBODY) -> AsyncIterator[None]:
        """Dial inside; an `RpcError` from there, but for `limit`, counts as a failure.

        Raises `RpcError` (peer_unreachable, limit), which says when to try again.
        """
        peer = self._peer(address)
        self._check(address, peer)
        async with peer.places.place(owner), self._places.place(owner):
            # While this one waited, others may have found out.
            self._check(address, peer)
            async with self._attempt(peer):
                yield

    @asynccontextmanager
    async def _attempt(self, peer: _Peer) -> AsyncIterator[None]:
        probes = peer.failures > 0
        peer.probing |= probes
        try:
            yield
        except RpcError as error:
            if error.error is not ErrorCode.LIMIT:
                self._failed(peer)
            raise
        else:
            peer.failures = 0
        finally:
            if probes:
                peer.probing = False

    def _peer(self, address: NodeAddress) -> _Peer:
        peer = self._peers.get(address)
        if peer is None:
            settings = self._settings
            peer = self._peers[address] = _Peer(
                Places(
                    settings.max_concurrent_per_peer,
                    settings.max_waiting_per_peer,
                    settings.timeout,
                )
            )
        self._peers.move_to_end(address)
        if len(self._peers) > _MAX_PEERS:
            self._peers.popitem(last=False)
        return peer

    def _check(self, address: NodeAddress, peer: _Peer) -> None:
        now = asyncio.get_running_loop().time()
        if peer.failures and (peer.probing or now < peer.until):
            left = max(peer.until - now, self._settings.timeout if peer.probing else 0.0)
            raise RpcError(
                ErrorCode.PEER_UNREACHABLE,
                f"{address.host} could not be reached a moment ago; try again later.",
                retry_after=_spread(left),
            )

    def _failed(self, peer: _Peer) -> None:
        now = asyncio.get_running_loop().time()
        if now < peer.until:
            # Those that were under way together failed together: that is one failure.
            return
        first, most = self._settings.backoff_first, self._settings.backoff_most
        delay = min(most, first * 2.0 ** min(peer.failures, 32))
        peer.failures += 1
        peer.until = now + delay * random.uniform(0.75, 1.25)  # noqa: S311 - no secret


def _spread(seconds: float) -> float:
    """At least so many seconds, and not the same for all who ask."""
    return round(seconds * random.uniform(1.0, 1.5) + random.random(), 1)  # noqa: S311 - no secret
