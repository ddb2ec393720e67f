"""Where each wallet is woken: kept in memory, with a copy on disk."""

import secrets
import time
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from lightning_proxy.relay.store.wakes import StoredTarget, WakeStore
from lightning_proxy.relay.wake.adapter import (
    Adapter,
    Delivered,
    Failed,
    Gone,
    Outcome,
    Say,
    Spared,
)
from lightning_proxy.rpc import MAX_SENTENCE, ErrorCode, RpcError, WakeKind, WakeTarget

_UNKNOWN: Final = "This wallet is not woken there."


@dataclass(slots=True, eq=False)
class Target:
    """One place, and how it went there lately; times in Unix seconds."""

    id: str
    adapter: Adapter
    address: Any
    host: str
    created: float
    last_attempt: float | None = None
    last_success: float | None = None
    failure: str | None = None
    #: By the monotonic clock, which no jump of the wall's moves: the last attempt, and before when
    #: the receiver asked for no more.
    attempted: float = float("-inf")
    not_before: float = float("-inf")

    async def push(self, say: Say) -> Outcome:
        """Push what there is to say when the turn has come, and note how that went."""
        before = self.last_attempt, self.attempted
        self.last_attempt = time.time()
        self.attempted = time.monotonic()
        outcome = await self.adapter.send(self.address, say)
        match outcome:
            case Delivered():
                self.last_success, self.failure = time.time(), None
            case Failed(why, words) | Gone(why, words):
                self.failure = f"{why}: {words}" if words else why
            case Spared():
                self.last_attempt, self.attempted = before
        if isinstance(outcome, Failed):
            self.not_before = time.monotonic() + (outcome.retry_after or 0.0)
        return outcome

    def describe(self) -> WakeTarget:
        """What the wallet is shown of it."""
        return WakeTarget(
            target_id=self.id,
            kind=self.adapter.kind,
            host=self.host,
            created=self.created,
            last_attempt=self.last_attempt,
            last_success=self.last_success,
            failure=None if self.failure is None else self.failure[:MAX_SENTENCE],
        )


class Targets:
    """Of all wallets. `load` first; it and what writes raise `StoreError`."""

    def __init__(self, store: WakeStore, adapters: dict[WakeKind, Adapter], most: int) -> None:
        self._store = store
        self._adapters = adapters
        self._most = most
        self._of: dict[bytes, list[Target]] = {}

    def forget(self, wallet: bytes) -> None:
        """The store has none of this wallet's any more."""
        self._of.pop(wallet, None)

    async def load(self) -> None:
        for stored in await self._store.all():
            adapter = self._adapters.get(stored.kind)
            # An operator may take a way to wake away, and bring it back.
            if adapter is None:
                continue
            address = msgspec.json.decode(stored.target, type=adapter.target)
            try:
                host = adapter.check(address)
            except RpcError:
                continue
            target = Target(stored.target_id, adapter, address, host, stored.created)
            self._of.setdefault(stored.wallet, []).append(target)

    def of(self, wallet: bytes) -> tuple[Target, ...]:
        return tuple(self._of.get(wallet, ()))

    async def add(self, wallet: bytes, kind: WakeKind, address: Any) -> WakeTarget:
        """Raises `RpcError` (invalid_params, address_forbidden, limit), `StoreError`."""
        adapter = self._adapters.get(kind)
        if adapter is None:
            raise RpcError(
                ErrorCode.INVALID_PARAMS,
                "This relay has no Web Push; its operator can make a key for it.",
            )
        host = adapter.check(address)
        for known in self.of(wallet):
            if known.adapter is adapter and known.address == address:
                return known.describe()
        if len(self.of(wallet)) >= self._most:
            raise RpcError(
                ErrorCode.LIMIT, f"This wallet is woken in {self._most} places already; remove one."
            )
        target = Target(secrets.token_hex(16), adapter, address, host, time.time())
        # In memory first: two requests at once may not both find the last free place.
        self._of.setdefault(wallet, []).append(target)
        try:
            await self._store.add(
                StoredTarget(target.id, wallet, kind, msgspec.json.encode(address), target.created)
            )
        except BaseException:
            self._forget(wallet, target)
            raise
        return target.describe()

    async def remove(self, wallet: bytes, target_id: str) -> None:
        """Raises `RpcError` (invalid_params), `StoreError`."""
        for target in self.of(wallet):
            if target.id == target_id:
                await self.gone(wallet, target)
                return
        raise RpcError(ErrorCode.INVALID_PARAMS, _UNKNOWN)

    async def gone(self, wallet: bytes, target: Target) -> None:
        """It is of no use any more; raises `StoreError`."""
        await self._store.remove(target.id)
        self._forget(wallet, target)

    def _forget(self, wallet: bytes, target: Target) -> None:
        targets = self._of.get(wallet, [])
        if target in targets:
            targets.remove(target)
        if not targets:
            self._of.pop(wallet, None)
