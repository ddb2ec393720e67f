"""Decides when a wallet is woken: at once, not too often, again while it does not come."""

import asyncio
import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import structlog

from lightning_proxy.relay.buckets import Buckets
from lightning_proxy.relay.dial_policy import DialPolicy
from lightning_proxy.relay.resolver import Resolver
from lightning_proxy.relay.store import Database, StoreError
from lightning_proxy.relay.store.wakes import WakeStore
from lightning_proxy.relay.wake.adapter import Adapter, Delivered, Failed, Gone, Notice, Say
from lightning_proxy.relay.wake.http import GuardedHttp
from lightning_proxy.relay.wake.identity import Identity
from lightning_proxy.relay.wake.settings import WakeSettings
from lightning_proxy.relay.wake.targets import Target, Targets
from lightning_proxy.relay.wake.webhook import Webhook
from lightning_proxy.rpc import ErrorCode, RpcError, WakeKind, WakeReason, WakeTarget

_log = structlog.get_logger()

#: What goes first where several things wait: those that a peer waits for.
URGENCY: Final = {
    WakeReason.TEST: 0,
    WakeReason.DELEGATION: 1,
    WakeReason.SLOT_USED: 2,
    WakeReason.MESSAGE: 3,
    WakeReason.SESSION_LOST: 4,
}
#: What a peer waits for.
_WAITED_FOR: Final = frozenset({WakeReason.DELEGATION, WakeReason.SLOT_USED})
#: So many queues there are.
_RANKS: Final = 3
#: Seconds that a push is worth delivering for, where nothing says until when.
_LIFETIME: Final = {
    WakeReason.TEST: 60.0,
    WakeReason.DELEGATION: 60.0,
    WakeReason.SLOT_USED: 600.0,
    WakeReason.MESSAGE: 600.0,
    WakeReason.SESSION_LOST: 86_400.0,
}
#: Pushes that a wallet that comes and goes may get without a pause.
_AT_ONCE: Final = 5
#: Wallets that a push may be due for within one look.
_BURST: Final = 0.05


@dataclass(slots=True)
class WakeCounters:
    """Monotonic, since the process began."""

    wakes: int = 0
    wakes_delivered: int = 0
    wakes_failed: int = 0
    wakes_collapsed: int = 0
    wake_targets_gone: int = 0


class _Call:
    """A wallet that is wanted."""

    __slots__ = ("attempts", "due", "has_failed", "id", "last", "pushing", "reason", "timer")

    def __init__(self, reason: WakeReason, opaque_id: str, due: float | None) -> None:
        self.reason = reason
        self.id = opaque_id
        self.due = due
        self.attempts = 0
        #: Whether no receiver took the last push.
        self.has_failed = False
        #: Loop time of the last push.
        self.last = float("-inf")
        self.timer: asyncio.TimerHandle | None = None
        self.pushing: asyncio.Task[None] | None = None

    def notice(self, now: float) -> Notice:
        """What a push says at this loop time."""
        left = 0.0 if self.due is None else self.due - now
        # When the question is over, something else may still wait.
        return Notice(self.reason, self.id, left if left > 0 else _LIFETIME[self.reason])


class Waker:
    """Use as an async context manager, within the resolver's and the database's.

    Entering raises `StoreError`, `WakeError`. `wake` and `came` neither wait nor
    raise. A wallet has at most one push due, whatever happens meanwhile.
    """

    def __init__(
        self, settings: WakeSettings, policy: DialPolicy, resolver: Resolver, database: Database
    ) -> None:
        self.counters = WakeCounters()
        self._settings = settings
        self._policy = policy
        self._resolver = resolver
        self._database = database
        self._calls: dict[bytes, _Call] = {}
        #: Wallets whose push is due: those that a peer waits for, that a peer spoke to, that lost a
        #: session; and, last, those that want to see a push.
        self._queues: tuple[OrderedDict[bytes, _Call], ...] = tuple(
            OrderedDict() for _ in range(_RANKS)
        )
        self._tests: deque[asyncio.Future[None]] = deque()
        #: Wallets that had a test within the cooldown, and when (monotonic clock).
        self._tested: OrderedDict[bytes, float] = OrderedDict()
        #: A wallet that comes and goes is woken anew each time, but not without end.
        self._pace = Buckets(1 / settings.cooldown, _AT_ONCE)
        self._due = asyncio.Event()
        self._pushes: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        settings = self._settings
        self.identity = Identity.open(
            None if settings.identity is None else Path(settings.identity)
        )
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(
                GuardedHttp(self._policy, self._resolver, settings)
            )
            adapters: dict[WakeKind, Adapter] = {
                WakeKind.WEBHOOK: Webhook(http, self.identity),
            }
            self.vapid_public_key: str | None = None
            if settings.vapid_key is not None:
                # It takes long to import, and few need it.
                from lightning_proxy.relay.wake.web_push import VapidKey, WebPush  # noqa: PLC0415

                key = VapidKey(Path(settings.vapid_key))
                self.vapid_public_key = key.public_key
                adapters[WakeKind.WEB_PUSH] = WebPush(http, key, settings.vapid_subject)
            self._targets = Targets(
                WakeStore(self._database), adapters, settings.max_targets_per_wallet
            )
            await self._targets.load()
            runner = asyncio.create_task(self._run())
            stack.push_async_callback(self._stop, runner)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    # ---- what the relay says ----

    def wake(
        self, wallet: bytes, reason: WakeReason, opaque_id: str, due: float | None = None
    ) -> None:
        """A wallet (node id) that is away is wanted, by `due` (loop time) if that is set."""
        if not self._targets.of(wallet):
            return
        call = self._calls.get(wallet)
        if call is None:
            call = self._calls[wallet] = _Call(reason, opaque_id, due)
        else:
            self.counters.wakes_collapsed += 1
            is_news = (reason, opaque_id) != (call.reason, call.id)
            is_queued = any(wallet in queue for queue in self._queues)
            is_over = not (is_queued or call.pushing or call.timer)
            if is_over or URGENCY[reason] <= URGENCY[call.reason]:
                call.reason, call.id, call.due = reason, opaque_id, due
            if is_queued:
                # It may be urgent only now.
                self._enqueue(wallet, call)
                return
            if call.pushing or not is_news:
                return
            # Something new: a wallet that slept through the last pushes gets all attempts again,
            # at once if a peer waits for it. A peer that keeps talking to one that can't be
            # reached must not have it pushed to for ever.
            if reason not in _WAITED_FOR and call.attempts and self._since(call) < self._round:
                return
            call.attempts = 0
        delay = max(self._left_of_cooldown(call), self._pace.wait(wallet))
        self._push_in(wallet, call, delay)

    def came(self, wallet: bytes) -> None:
        """A device of the wallet's that can answer is there: no need to wake it, nor a cooldown."""
        self._drop(wallet)

    def reaches(self, wallet: bytes) -> bool:
        """Whether a wallet that is wanted may come for it: there is where to push to, and the last
        push was taken, or is on its way.
        """
        call = self._calls.get(wallet)
        return bool(self._targets.of(wallet)) and not (call and call.has_failed)

    def over(
        self,
        wallet: bytes,
        opaque_id: str,
        instead: Callable[[], tuple[WakeReason, str, float | None] | None],
    ) -> None:
        """This is over; `instead` gives what else the wallet is wanted for, if for anything."""
        call = self._calls.get(wallet)
        if call is None or call.id != opaque_id:
            return
        following = instead()
        if following is not None:
            call.reason, call.id, call.due = following
            return
        if call.pushing is not None:
            # It may wait for its turn still.
            call.pushing.cancel()
        self._drop(wallet)

    def _drop(self, wallet: bytes) -> None:
        call = self._calls.pop(wallet, None)
        for queue in self._queues:
            queue.pop(wallet, None)
        if call is not None and call.timer is not None:
            call.timer.cancel()

    # ---- what wallets say ----

    async def add(self, wallet: bytes, kind: WakeKind, address: Any) -> WakeTarget:
        """Raises `RpcError` (invalid_params, address_forbidden, limit), `StoreError`."""
        return await self._targets.add(wallet, kind, address)

    async def remove(self, wallet: bytes, target_id: str) -> None:
        """Raises `RpcError` (invalid_params), `StoreError`."""
        await self._targets.remove(wallet, target_id)

    def forget(self, wallet: bytes) -> None:
        """The store has no targets of this wallet's any more: there is nowhere to wake it."""
        self._targets.forget(wallet)
        self.came(wallet)

    def targets(self, wallet: bytes) -> list[WakeTarget]:
        return [target.describe() for target in self._targets.of(wallet)]

    async def test(self, wallet: bytes) -> list[WakeTarget]:
        """Push to all targets now, and return how that went; raises `RpcError` (limit)."""
        now = time.monotonic()
        since = now - self._settings.cooldown
        _forget_until(self._tested, since)
        # Targets alone don't tell: one may be taken away and added anew.
        if wallet in self._tested or any(
            each.attempted > since for each in self._targets.of(wallet)
        ):
            raise RpcError(
                ErrorCode.LIMIT,
                "This wallet was just woken; try again in a moment.",
                retry_after=self._settings.cooldown,
            )
        self._tested[wallet] = now
        # In its turn, after what is not for show, and within the same rate.
        turn = asyncio.get_running_loop().create_future()
        self._tests.append(turn)
        self._due.set()
        await turn
        notice = Notice(WakeReason.TEST, "0" * 32, _LIFETIME[WakeReason.TEST])
        await self._push_to(wallet, lambda: notice)
        return self.targets(wallet)

    # ---- inside ----

    @property
    def _round(self) -> float:
        """Seconds that all attempts together take, and a bit."""
        return self._settings.retry_first * 2.0**self._settings.max_attempts

    def _since(self, call: _Call) -> float:
        """Seconds since the last push."""
        return asyncio.get_running_loop().time() - call.last

    def _left_of_cooldown(self, call: _Call) -> float:
        return max(0.0, self._settings.cooldown - self._since(call))

    def _push_in(self, wallet: bytes, call: _Call, delay: float) -> None:
        if call.timer is not None:
            call.timer.cancel()
        loop = asyncio.get_running_loop()
        call.timer = loop.call_later(delay, self._enqueue, wallet, call) if delay > 0 else None
        if call.timer is None:
            self._enqueue(wallet, call)

    def _enqueue(self, wallet: bytes, call: _Call) -> None:
        call.timer = None
        for rank, queue in enumerate(self._queues):
            if rank == _rank(call.reason):
                # Who is there already keeps its place.
                queue[wallet] = call
            else:
                queue.pop(wallet, None)
        self._due.set()

    async def _run(self) -> None:
        """Take what is due, so many a second."""
        while True:
            await self._due.wait()
            for _ in range(max(1, int(self._settings.rate * _BURST))):
                if not self._take_one():
                    self._due.clear()
                    break
            await asyncio.sleep(max(_BURST, 1 / self._settings.rate))

    def _take_one(self) -> bool:
        queue = next(filter(None, self._queues), None)
        if queue is None:
            return self._let_test()
        wallet, call = queue.popitem(last=False)
        opens = [each.not_before for each in self._targets.of(wallet)]
        if not opens:
            # All that there were are gone.
            del self._calls[wallet]
        elif (closed := min(opens) - time.monotonic()) > 0:
            # Its receivers asked for peace: that is no attempt.
            self._push_in(wallet, call, closed)
        else:
            call.pushing = task = asyncio.create_task(self._push(wallet, call))
            self._pushes.add(task)
            task.add_done_callback(self._pushes.discard)
        return True

    def _let_test(self) -> bool:
        while self._tests:
            turn = self._tests.popleft()
            if not turn.done():
                turn.set_result(None)
                return True
        return False

    async def _push(self, wallet: bytes, call: _Call) -> None:
        call.attempts += 1
        call.last = asyncio.get_running_loop().time()
        self.counters.wakes += 1
        said = None

        def say() -> Notice | None:
            """What the wallet is wanted for by now: it may have waited long for its turn."""
            nonlocal said
            if self._calls.get(wallet) is not call:
                return None
            if said is None:
                said = call.reason, call.id
                self._pace.take(wallet)
            call.last = asyncio.get_running_loop().time()
            return call.notice(call.last)

        try:
            was_taken = await self._push_to(wallet, say)
        finally:
            call.pushing = None
        call.has_failed = said is not None and not was_taken
        if self._calls.get(wallet) is not call:
            return
        if call.reason in _WAITED_FOR and said not in (None, (call.reason, call.id)):
            # It came while this push was under way, to a receiver that may be slow. Of what is
            # less, a wallet that comes for this finds out: a peer that keeps talking would have it
            # pushed to for ever.
            call.attempts = 0
            self._push_in(wallet, call, self._left_of_cooldown(call))
        elif call.attempts < self._settings.max_attempts:
            delay = self._settings.retry_first * 2.0 ** (call.attempts - 1)
            self._push_in(wallet, call, delay * random.uniform(0.75, 1.25))  # noqa: S311

    async def _push_to(self, wallet: bytes, say: Say) -> bool:
        """Whether a receiver took it."""
        due = [each for each in self._targets.of(wallet) if each.not_before <= time.monotonic()]
        return any(await asyncio.gather(*(self._push_one(wallet, each, say) for each in due)))

    async def _push_one(self, wallet: bytes, target: Target, say: Say) -> bool:
        outcome = await target.push(say, wallet)
        log = _log.bind(wallet=wallet.hex(), host=target.host)
        match outcome:
            case Delivered():
                self.counters.wakes_delivered += 1
                log.debug("wake_delivered")
            case Failed(why) | Gone(why):
                self.counters.wakes_failed += 1
                log.info("wake_failed", why=why)
        if isinstance(outcome, Gone):
            self.counters.wake_targets_gone += 1
            try:
                await self._targets.gone(wallet, target)
            except StoreError as error:
                log.warning("wake_target_not_removed", error=str(error))
        return isinstance(outcome, Delivered)

    async def _stop(self, runner: asyncio.Task[None]) -> None:
        for call in self._calls.values():
            if call.timer is not None:
                call.timer.cancel()
        tasks = [runner, *self._pushes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _rank(reason: WakeReason) -> int:
    """Which queue it waits in."""
    if reason in _WAITED_FOR:
        return 0
    return 2 if reason is WakeReason.SESSION_LOST else 1


def _forget_until(times: OrderedDict[bytes, float], until: float) -> None:
    """Forget the oldest, up to this time."""
    while times and next(iter(times.values())) <= until:
        times.popitem(last=False)
