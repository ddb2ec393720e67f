"""Wallets that came once: what they left is not kept for ever, unless they ever had a channel."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from typing import Final

import structlog

from lightning_proxy.relay.store import Database, StoreError
from lightning_proxy.relay.store.wallets import WalletStore

_log = structlog.get_logger()

#: How often it is looked within the time that strangers are remembered; and seconds, at the most.
_LOOKS: Final = 20
_LONGEST: Final = 600.0


class Strangers:
    """Notes who comes. `here` gives those that have a session or a socket; `forgotten` are told."""

    def __init__(
        self,
        database: Database,
        forget_after: float,
        here: Callable[[], Collection[bytes]],
        forgotten: Callable[[Iterable[bytes]], None],
    ) -> None:
        self._store = WalletStore(database)
        self._forget_after = forget_after
        self._here = here
        self._forgotten = forgotten
        self._came: set[bytes] = set()

    def came(self, node_id: bytes) -> None:
        """A wallet logged in."""
        self._came.add(node_id)

    async def run(self) -> None:
        """Run for ever."""
        while True:
            await asyncio.sleep(min(_LONGEST, self._forget_after / _LOOKS))
            try:
                await self.look()
            except StoreError as error:
                _log.warning("strangers_unforgotten", error=str(error))

    async def look(self) -> None:
        """Write who came, and forget who did not; raises `StoreError`."""
        now, here = time.time(), self._here()
        came, self._came = self._came, set()
        try:
            # Who stays has come, too.
            await self._store.seen(came | set(here), now)
        except BaseException:
            self._came |= came
            raise
        while gone := await self._store.forget(now - self._forget_after, self._here()):
            self._forgotten(gone)
            _log.info("strangers_forgotten", wallets=len(gone))
