"""A bounded queue that is read by `async for` and never makes its writer wait."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Stream(AsyncIterator[T], Generic[T]):
    """Holds the last `limit` items that nobody has read yet; `dropped` counts the lost ones."""

    def __init__(self, limit: int) -> None:
        self.dropped = 0
        self._items: deque[T] = deque()
        self._limit = limit
        self._changed = asyncio.Event()
        self._ended = False
        self._error: Exception | None = None

    def put(self, item: T) -> None:
        """Add an item; when full, the oldest one goes."""
        if self._ended:
            return
        if len(self._items) == self._limit:
            self._items.popleft()
            self.dropped += 1
        self._items.append(item)
        self._changed.set()

    def end(self, error: Exception | None = None) -> None:
        """No more items: the reader gets what is left, then the error or the end."""
        if not self._ended:
            self._ended = True
            self._error = error
            self._changed.set()

    async def __anext__(self) -> T:
        while not self._items:
            if self._ended:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._items.popleft()
