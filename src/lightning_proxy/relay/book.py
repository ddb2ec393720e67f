"""The relay's channels beyond any one session: what is stored of them, and what the chain shows."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final, Self

import structlog

from lightning_proxy.bolt.chains import chain_name
from lightning_proxy.bolt.channel import Channel, ChannelState
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.chain import (
    ChainError,
    ChainSource,
    Output,
    OutputWatch,
    WatchedOutput,
)
from lightning_proxy.relay.broadcasts import Broadcasts
from lightning_proxy.relay.devices import LeaseKey, Leases
from lightning_proxy.relay.settings import RelaySettings
from lightning_proxy.relay.slots import Slots
from lightning_proxy.relay.store import ChannelStore, Database, StoredChannel
from lightning_proxy.rpc import Notification

if TYPE_CHECKING:
    from lightning_proxy.relay.session import Session

_log = structlog.get_logger()

#: What is on disk without both signatures could not be gone on with: it is not kept.
SIGNED: Final = frozenset({ChannelState.SIGNED, ChannelState.READY})
#: BOLT #2 says 2016 blocks, which are two weeks; in seconds.
_UNFUNDED_FOR: Final = 14 * 86_400.0


class ChannelBook:
    """Use as an async context manager, within the database's; `tell` notifies a wallet (node id).

    `source` is its owner's to close. Entering raises `StoreError`.
    """

    def __init__(
        self,
        settings: RelaySettings,
        database: Database,
        leases: Leases,
        tell: Callable[[bytes, Notification], None],
        source: ChainSource | None,
    ) -> None:
        self._leases = leases
        self._settings = settings
        self._store = ChannelStore(database)
        self.slots = Slots(database, settings.max_slots_per_wallet)
        self._source = source
        self._watch: OutputWatch
        #: Of these, those that failed.
        self._failed: set[tuple[bytes, bytes]] = set()
        #: With whom a wallet (node id) has a channel (final id), or is opening it.
        self._owners: dict[tuple[bytes, bytes], bytes] = {}
        #: Channels by wallet and peer (node ids), and by wallet.
        self._with: Counter[tuple[bytes, bytes]] = Counter()
        self._of: Counter[bytes] = Counter()
        #: Whose connection a wallet's (node id) channels with a peer (likewise) are on.
        self.holders: dict[tuple[bytes, bytes], Session] = {}
        self._broadcasts = Broadcasts(
            source, settings.chain_interval, self._store, tell, self._poke
        )

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self.slots.load()
            self._owners = await self._store.owners()
            self._failed = set(await self._store.failed())
            for (wallet, _), peer in self._owners.items():
                self._count((wallet, peer), 1)
            for wallet, channel_id in self._failed:
                self._uncount_failed(wallet, self._owners[wallet, channel_id])
            if self._source is not None:
                self._watch = await stack.enter_async_context(
                    OutputWatch(self._source, interval=self._settings.chain_interval)
                )
            await self._broadcasts.load()
            stack.push_async_callback(self._broadcasts.close)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    # ---- what is stored ----

    def has(self, wallet: bytes, peer: bytes) -> bool:
        """Whether this wallet has a channel with this peer that it can go on with."""
        return (wallet, peer) in self._with

    def has_any(self, wallet: bytes) -> bool:
        """Whether this wallet has a channel, of whatever state."""
        return wallet in self._of

    def has_room(self, wallet: bytes) -> bool:
        """Whether this wallet may have another channel."""
        return self._of[wallet] < self._settings.max_channels_per_wallet

    @property
    def total(self) -> int:
        """How many channels are stored."""
        return self._of.total()

    async def channels(self, wallet: bytes, peer: bytes) -> list[Channel]:
        """A wallet's channels with a peer, on no connection yet; raises `StoreError`."""
        channels = []
        for stored in await self._store.channels(wallet, peer):
            if stored.failure is not None or self.is_failed(wallet, stored.channel_id):
                continue
            channel = Channel.replay(stored.role, stored.features, stored.log)
            channel.disconnected()
            if await self._is_abandoned(stored, channel):
                await self.forget(wallet, peer, channel)
            else:
                channels.append(channel)
        return channels

    async def some_channels(self, wallet: bytes, after: bytes, count: int) -> list[StoredChannel]:
        """So many of a wallet's channels as they are stored: those behind this id, in order.

        Raises `StoreError`.
        """
        return await self._store.some_channels(wallet, after, count)

    async def save(self, wallet: bytes, peer: bytes, channel: Channel) -> None:
        """Returns when the channel is on the disk; raises `StoreError`."""
        stored = StoredChannel(
            wallet, channel.channel_id, peer, channel.role, channel.features, tuple(channel.log)
        )
        if await self._store.save(stored):
            self._owners[wallet, channel.channel_id] = peer
            self._count((wallet, peer), 1)
        await self._leases.keep(LeaseKey(wallet, peer, channel.temporary_channel_id))

    async def forget(self, wallet: bytes, peer: bytes, channel: Channel) -> None:
        """Remove a channel; raises `StoreError`."""
        await self._store.forget(wallet, peer, channel.channel_id)
        self._owners.pop((wallet, channel.channel_id), None)
        await self._leases.forget(LeaseKey(wallet, peer, channel.temporary_channel_id))
        self._count((wallet, peer), -1)

    def fail(
        self, wallet: bytes, peer: bytes, channel: Channel, reason: str
    ) -> Callable[[], Awaitable[None]]:
        """A channel is not gone on with, and not funded, from now on; what is returned stores that.

        It raises `StoreError`.
        """
        key = wallet, channel.channel_id
        if key not in self._failed:
            self._failed.add(key)
            self._uncount_failed(wallet, peer)
        self._broadcasts.failed(wallet, peer, channel.channel_id, reason)
        return partial(self._store.fail, wallet, peer, channel.channel_id, reason)

    def is_failed(self, wallet: bytes | None, channel_id: bytes) -> bool:
        """Whether this is a channel of the wallet's that failed."""
        return wallet is not None and (wallet, channel_id) in self._failed

    def _uncount_failed(self, wallet: bytes, peer: bytes) -> None:
        """It still takes the wallet's room, but there is nothing to connect for."""
        pair = wallet, peer
        self._with[pair] -= 1
        if not self._with[pair]:
            del self._with[pair]

    def claim(self, wallet: bytes | None, peer: bytes, channel_id: bytes) -> bool:
        """Whether this outpoint may be that of a channel with this peer: it is nobody else's.

        Two peers that name one outpoint would share, and spoil, one channel's log.
        """
        if wallet is None:
            return True
        return self._owners.setdefault((wallet, channel_id), peer) == peer

    def release(self, wallet: bytes | None, peer: bytes, channel: Channel) -> None:
        """The opening is over, and its outpoint anybody's again, unless the channel is stored."""
        key = wallet or b"", channel.channel_id
        if channel.state not in SIGNED:
            self._leases.drop(LeaseKey(key[0], peer, channel.temporary_channel_id))
            if self._owners.get(key) == peer:
                del self._owners[key]

    def _count(self, pair: tuple[bytes, bytes], change: int) -> None:
        wallet, _ = pair
        self._with[pair] += change
        self._of[wallet] += change
        # A counter keeps zeros, and `has` asks for the key.
        if not self._with[pair]:
            del self._with[pair]
        if not self._of[wallet]:
            del self._of[wallet]

    async def _is_abandoned(self, stored: StoredChannel, channel: Channel) -> bool:
        """BOLT #2: a channel that its opener never funded needs no memory for ever."""
        if (
            channel.role is not Role.ACCEPTER
            or channel.may_be_funded
            or stored.created > time.time() - _UNFUNDED_FOR
            or self._source is None
            or not self.sees(channel)
        ):
            return False
        created = channel.funding_created
        try:
            output = await self._source.output(created.funding_txid, created.funding_output_index)
        except ChainError:
            return False
        return output is None

    # ---- the chain ----

    def sees(self, channel: Channel) -> bool:
        """Whether there is a chain source, for this channel's chain."""
        chain = chain_name(channel.open_channel.chain_hash)
        return self._source is not None and self._source.chain == chain

    def watch(self, channel: Channel, changed: Callable[[Output | None], None]) -> WatchedOutput:
        """Be told what the chain shows of a funding output, now and whenever that changes."""
        created = channel.funding_created
        return self._watch.watch(created.funding_txid, created.funding_output_index, changed)

    def broadcast(self, wallet: bytes, peer: bytes, channel: Channel, transaction: bytes) -> None:
        """Publish a channel's funding transaction; raises `RpcError` (limit)."""
        if not self.is_failed(wallet, channel.channel_id):
            self._broadcasts.begin(wallet, peer, channel.channel_id, transaction)

    def _poke(self) -> None:
        self._watch.poke()

    def seen(self, wallet: bytes | None, channel: Channel) -> None:
        """The chain shows a channel's funding output."""
        if wallet is not None:
            self._broadcasts.seen(wallet, channel.channel_id)
