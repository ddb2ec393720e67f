"""Fair shares of what all have to share: who holds how much of it, and who gives way.

A budget belongs to whoever uses it: a network first, which costs money to have, and a wallet in it,
which costs nothing. Where a shared cap is reached the largest holder pays, never who comes next.
"""

import asyncio
import heapq
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Final, Generic, NamedTuple, TypeVar

from lightning_proxy.rpc import ErrorCode, RpcError

K = TypeVar("K", bound=Hashable)

#: Stale entries that a ranking keeps before it is made anew, beside as many as it has keys.
_STALE: Final = 64
#: Who has to give way comes back after so many seconds.
_RETRY: Final = 2.0


class Owner(NamedTuple):
    """Whose budget it is."""

    #: As `networks.block_of` names it; "": this machine's own, where users can't be told apart.
    network: str
    #: Its node id; empty: it has not said.
    wallet: bytes = b""


NOBODY: Final = Owner("")


class _Ranking(Generic[K]):
    """Amounts by key; the largest is found at once."""

    def __init__(self) -> None:
        self.of: dict[K, int] = {}
        #: (minus an amount, tie-breaker, key): a key's highest entry is never below its amount.
        self._heap: list[tuple[int, int, K]] = []
        self._pushed = 0

    def change(self, key: K, by: int) -> None:
        amount = self.of.get(key, 0) + by
        if amount <= 0:
            self.of.pop(key, None)
        else:
            self.of[key] = amount
            if by > 0:
                self._push(amount, key)

    def largest(self) -> K:
        """Raises `IndexError` where there is nobody."""
        while True:
            stated, _, key = self._heap[0]
            amount = self.of.get(key, 0)
            if amount == -stated:
                return key
            heapq.heappop(self._heap)
            if amount:
                self._push(amount, key)

    def _push(self, amount: int, key: K) -> None:
        if len(self._heap) > 2 * len(self.of) + _STALE:
            self._heap = [(-each, at, of) for at, (of, each) in enumerate(self.of.items())]
            heapq.heapify(self._heap)
            self._pushed = len(self._heap)
        self._pushed += 1
        heapq.heappush(self._heap, (-amount, self._pushed, key))


class Shares:
    """How much each owner holds."""

    def __init__(self) -> None:
        self.total = 0
        self._networks: _Ranking[str] = _Ranking()
        self._wallets: dict[str, _Ranking[bytes]] = {}

    def change(self, owner: Owner, by: int) -> None:
        """It holds so much more, or less."""
        self.total += by
        self._networks.change(owner.network, by)
        wallets = self._wallets.setdefault(owner.network, _Ranking())
        wallets.change(owner.wallet, by)
        if not wallets.of:
            del self._wallets[owner.network]

    def of(self, owner: Owner) -> tuple[int, int]:
        """What its network holds, and it itself."""
        wallets = self._wallets.get(owner.network)
        if wallets is None:
            return 0, 0
        return self._networks.of[owner.network], wallets.of.get(owner.wallet, 0)

    def largest(self) -> Owner:
        """Of the network that holds most, the wallet that does; raises `IndexError`."""
        network = self._networks.largest()
        return Owner(network, self._wallets[network].largest())

    def pays(self, owner: Owner) -> Owner:
        """Who gives way where `owner` wants one more than there is: itself, if nobody has more."""
        if not self.total:
            return owner
        largest = self.largest()
        level = int(largest.network == owner.network)
        return largest if self.of(largest)[level] > self.of(owner)[level] + 1 else owner


class Places:
    """So many places, for work that takes a while.

    Where all are taken, whoever has most gives one up to those that have fewer; of all that are
    here, inside or waiting, the cap is `most`. Who has to give way, or waits longer than
    `patience` (seconds), gets an `RpcError` (limit) that says when to come again.
    """

    def __init__(self, count: int, most: int, patience: float) -> None:
        self._count = count
        self._most = most
        self._patience = patience
        #: Those inside are more, for a moment, than hold a place: some are on their way out.
        self._inside = 0
        self._held = Shares()
        self._scopes: dict[Owner, dict[asyncio.Timeout, None]] = {}
        self._wanted = Shares()
        self._waiting: dict[Owner, dict[asyncio.Future[None], None]] = {}

    @asynccontextmanager
    async def place(self, owner: Owner) -> AsyncIterator[None]:
        """Work inside. Raises `RpcError` (limit), from inside as well."""
        if self._inside >= self._count:
            await self._wait(owner)
        else:
            self._enter(owner)
        scope = asyncio.timeout(None)
        self._scopes.setdefault(owner, {})[scope] = None
        try:
            async with scope:
                yield
        except TimeoutError:
            if not scope.expired():
                raise
            raise _try_later() from None
        finally:
            self._leave(owner, scope)
            self._inside -= 1
            self._let_in()

    async def _wait(self, owner: Owner) -> None:
        largest = self._held.pays(owner)
        if largest != owner:
            self._send_away(largest)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, {})[future] = None
        self._wanted.change(owner, 1)
        if self._inside + self._wanted.total > self._most:
            self._send_home(self._wanted.pays(owner))
        try:
            async with asyncio.timeout(self._patience):
                await future
        except BaseException as error:
            if future.done() and not future.cancelled() and future.exception() is None:
                # It was let in at the very moment at which it went.
                self._inside -= 1
                self._held.change(owner, -1)
                self._let_in()
            if isinstance(error, TimeoutError):
                raise _try_later() from None
            raise
        finally:
            if future in self._waiting.get(owner, {}):
                self._forget(owner, future)

    def _send_away(self, owner: Owner) -> None:
        """The oldest of its work, which has had most time, ends."""
        for scope in self._scopes.get(owner, {}):
            self._leave(owner, scope)
            scope.reschedule(asyncio.get_running_loop().time())
            break

    def _send_home(self, owner: Owner) -> None:
        """The last that came for it waits no more."""
        future = next(reversed(self._waiting[owner]))
        self._forget(owner, future)
        if not future.done():
            future.set_exception(_try_later())

    def _let_in(self) -> None:
        """Whoever has least is next; of those that have as much, who waits longest."""
        while self._waiting and self._inside < self._count:
            owner = min(self._waiting, key=self._held.of)
            future = next(iter(self._waiting[owner]))
            self._forget(owner, future)
            # Who was cancelled may not have heard of it yet.
            if not future.done():
                self._enter(owner)
                future.set_result(None)

    def _enter(self, owner: Owner) -> None:
        self._inside += 1
        self._held.change(owner, 1)

    def _leave(self, owner: Owner, scope: asyncio.Timeout) -> None:
        scopes = self._scopes.get(owner, {})
        if scope in scopes:
            del scopes[scope]
            self._held.change(owner, -1)
            if not scopes:
                del self._scopes[owner]

    def _forget(self, owner: Owner, future: "asyncio.Future[None]") -> None:
        waiting = self._waiting[owner]
        del waiting[future]
        self._wanted.change(owner, -1)
        if not waiting:
            del self._waiting[owner]


def _try_later() -> RpcError:
    return RpcError(
        ErrorCode.LIMIT,
        "The relay is busy, and others have less of it than you; try again in a moment.",
        retry_after=_RETRY,
    )
