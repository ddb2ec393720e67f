"""How channels stand, on disk: one transaction for all that have moved meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from lightning_proxy.relay.store import StoreError

#: A wallet's node id, and the channel's id.
Key = tuple[bytes, bytes]
Write = Callable[[Mapping[Key, bytes]], Awaitable[None]]


class Snapshots:
    """`write` takes the snapshots of many channels and returns when they are on the disk.

    While one batch is written the next one gathers; of a channel only the latest is in it.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._batch: dict[Key, bytes] = {}
        #: Done once the batch that gathers is on the disk.
        self._written: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def save(self, wallet: bytes, channel_id: bytes, snapshot: bytes) -> None:
        """Returns when this, or a later one, is on the disk; raises `StoreError`.

        Who comes first is let go first.
        """
        self._batch[wallet, channel_id] = snapshot
        if self._written is None:
            self._written = asyncio.get_running_loop().create_future()
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        # Others wait for it, too.
        await asyncio.shield(self._written)

    async def _run(self) -> None:
        while (written := self._written) is not None:
            batch, self._batch, self._written = self._batch, {}, None
            try:
                await self._write(batch)
            except StoreError as error:
                written.set_exception(error)
                # Whoever waited may be gone.
                written.exception()
            else:
                written.set_result(None)
        self._task = None
