"""Thousands of wallets may lose one peer at once: keeps their dials to it few and far between."""

import asyncio
import random
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from lightning_proxy.bolt.address import NodeAddress
from lightning_proxy.relay.settings import DialSettings
from lightning_proxy.rpc import ErrorCode, RpcError

#: Peers that are remembered; of more, those are forgotten that were dialled longest ago.
_MAX_PEERS: Final = 20_000
#: Who is sent away because others are dialling comes back after this long, in seconds, and a bit.
_QUEUE_RETRY: Final = 2.0


class _Peer:
    __slots__ = ("failures", "probing", "slots", "until", "waiting")

    def __init__(self, slots: int) -> None:
        self.failures = 0
        #: Loop time before which it is not dialled again.
        self.until = 0.0
        #: Whether the one dial is under way that finds out whether it is back.
        self.probing = False
        self.slots = asyncio.Semaphore(slots)
        self.waiting = 0


class PeerGate:
    """Asked before every dial, by the peer's node id and address.

    Only what happens below BOLT 8 counts as a failure: a wallet that sends a peer garbage must not
    keep other wallets from it.
    """

    def __init__(self, settings: DialSettings) -> None:
        self._settings = settings
        self._peers: OrderedDict[NodeAddress, _Peer] = OrderedDict()

    @asynccontextmanager
    async def turn(self, address: NodeAddress) -> AsyncIterator[None]:
        """Dial inside; an `RpcError` from there counts as a failure.

        Raises `RpcError` (peer_unreachable, limit), which says when to try again.
        """
        peer = self._peer(address)
        self._check(address, peer)
        peer.probing = peer.failures > 0
        peer.waiting += 1
        try:
            async with peer.slots:
                yield
        except RpcError:
            self._failed(peer)
            raise
        else:
            peer.failures = 0
        finally:
            peer.waiting -= 1
            peer.probing = False

    def _peer(self, address: NodeAddress) -> _Peer:
        peer = self._peers.get(address)
        if peer is None:
            peer = self._peers[address] = _Peer(self._settings.max_concurrent_per_peer)
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
        if peer.waiting >= self._settings.max_waiting_per_peer:
            raise RpcError(
                ErrorCode.LIMIT,
                f"Many wallets are being connected to {address.host}; try again in a moment.",
                retry_after=_spread(_QUEUE_RETRY),
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
