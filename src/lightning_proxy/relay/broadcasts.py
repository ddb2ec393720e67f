"""Funding transactions that the relay publishes for wallets: each until it is seen, or given up."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from lightning_proxy.chain import GIVEN_UP_AFTER, BroadcastRejected, ChainSource, publish
from lightning_proxy.relay.store import ChannelStore, StoreError, given_up
from lightning_proxy.relay.text import printable
from lightning_proxy.rpc import MAX_SENTENCE, ErrorCode, FundingRefused, Notification, RpcError

_log = structlog.get_logger()

#: That may wait for the chain at once: of one wallet's, and of all.
_MAX_A_WALLET: Final = 50
_MAX: Final = 1000

#: A wallet (node id) and the final id of a channel of its.
Key = tuple[bytes, bytes]


@dataclass(slots=True)
class _Broadcast:
    """One that is under way. Whoever stops it lets a call that was made come to its end."""

    peer: bytes
    transaction: bytes
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    #: Why the channel failed, if it did.
    failure: str | None = None
    task: asyncio.Task[None] = field(init=False)


class Broadcasts:
    """`tell` notifies a wallet (node id), `published` is called for each that the source took.

    The store has a mark for each, until its end is known and told; the transaction itself is the
    wallet's, and a relay that was restarted asks for it again: so it never publishes for a channel
    of which it doesn't know whether the peer still has it.
    """

    def __init__(
        self,
        source: ChainSource | None,
        interval: float,
        store: ChannelStore,
        tell: Callable[[bytes, Notification], None],
        published: Callable[[], object],
    ) -> None:
        self._source = source
        self._interval = interval
        self._store = store
        self._tell = tell
        self._published = published
        self._under_way: dict[Key, _Broadcast] = {}
        self._of: Counter[bytes] = Counter()
        #: Those that the store has a mark for.
        self._marked: set[Key] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def load(self) -> None:
        """Raises `StoreError`."""
        self._marked = await self._store.broadcasting()

    async def close(self) -> None:
        """Publish no more; the marks stay."""
        tasks = [*(each.task for each in self._under_way.values()), *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def begin(self, wallet: bytes, peer: bytes, channel_id: bytes, transaction: bytes) -> None:
        """Publish a channel's funding transaction as soon as the source takes it.

        The wallet is told when it doesn't. Raises `RpcError` (limit).
        """
        key = wallet, channel_id
        if key in self._under_way:
            return
        if self._of[wallet] >= _MAX_A_WALLET:
            raise RpcError(
                ErrorCode.LIMIT,
                f"{_MAX_A_WALLET} transactions of this wallet wait for the chain; try later.",
            )
        if len(self._under_way) >= _MAX:
            raise RpcError(ErrorCode.LIMIT, "Too many transactions wait for the chain; try later.")
        broadcast = self._under_way[key] = _Broadcast(peer, transaction)
        self._of[wallet] += 1
        broadcast.task = asyncio.create_task(self._run(key, broadcast))

    def seen(self, wallet: bytes, channel_id: bytes) -> None:
        """The chain shows it: there is nothing left to publish, or to tell."""
        key = wallet, channel_id
        if (broadcast := self._under_way.get(key)) is not None:
            broadcast.stopped.set()
        if key in self._marked:
            self._unmark(key)

    def failed(self, wallet: bytes, peer: bytes, channel_id: bytes, reason: str) -> None:
        """Its channel failed: from now on nothing is published for it."""
        key = wallet, channel_id
        broadcast = self._under_way.get(key)
        if broadcast is None:
            if key in self._marked:
                # Of a former run of the relay's.
                self._say(key, peer, given_up(reason), final=True)
        elif not broadcast.stopped.is_set():
            broadcast.failure = reason
            broadcast.stopped.set()

    # ---- inside ----

    async def _run(self, key: Key, broadcast: _Broadcast) -> None:
        wallet, channel_id = key

        def refused(error: BroadcastRejected) -> None:
            if not broadcast.stopped.is_set():
                self._say(key, broadcast.peer, str(error), final=error.is_final)

        assert self._source is not None  # noqa: S101 - who broadcasts has asked `sees`
        try:
            since = await self._mark(key)
            is_published = await publish(
                self._source,
                broadcast.transaction,
                refused,
                interval=self._interval,
                seconds=GIVEN_UP_AFTER - (time.time() - since),
                stopped=broadcast.stopped,
            )
        finally:
            del self._under_way[key]
            self._of -= Counter((wallet,))
        if is_published:
            self._unmark(key)
            self._published()
        if broadcast.failure is not None:
            _log.warning("broadcast_ended", channel_id=channel_id.hex(), published=is_published)
            words = _went_out if is_published else given_up
            self._say(key, broadcast.peer, words(broadcast.failure), final=not is_published)

    def _say(self, key: Key, peer: bytes, reason: str, *, final: bool) -> None:
        wallet, channel_id = key
        if final:
            # The inbox takes the mark away with what it writes of this.
            self._marked.discard(key)
        told = FundingRefused(
            channel_id=channel_id.hex(),
            peer=peer.hex(),
            reason=printable(reason)[:MAX_SENTENCE],
            final=final,
        )
        self._tell(wallet, told)

    async def _mark(self, key: Key) -> float:
        """Since when it is being published, in Unix seconds."""
        try:
            since = await self._store.mark_broadcast(*key, time.time())
        except StoreError as error:
            # It is worth more published than noted.
            _log.error("broadcast_not_noted", error=str(error))
            return time.time()
        self._marked.add(key)
        return since

    def _unmark(self, key: Key) -> None:
        self._marked.discard(key)

        async def unmark() -> None:
            try:
                await self._store.unmark_broadcast(*key)
            except StoreError as error:
                _log.error("broadcast_not_noted", error=str(error))

        task = asyncio.create_task(unmark())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _went_out(failure: str) -> str:
    return f"the channel failed while this was being published, and it is: {failure}"
