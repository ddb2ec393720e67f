"""Lists for a wallet, in bytes that fit a frame: pages, or what there is room for."""

import heapq
from collections.abc import AsyncIterator, Callable, Iterable
from operator import attrgetter
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from lightning_proxy.rpc import LIST_BYTES, PAGE_GOAL, Listing, Page

T = TypeVar("T", bound=Struct)
P = TypeVar("P", bound=Page[Any])

_encode = msgspec.json.Encoder().encode


class Fitting(Generic[T]):
    """Of the elements that were put in as many as fit, the smallest ones.

    So no stranger who makes some of them huge gets the ordinary ones out.
    """

    def __init__(self, most: int = LIST_BYTES) -> None:
        #: Whether all are there.
        self.is_complete = True
        self._left = most
        #: The largest first, of equal ones the last that came: the numbers are negative.
        self._kept: list[tuple[int, int, T]] = []
        self._came = 0

    def put(self, item: T) -> None:
        size = _size_of(item)
        self._left -= size
        heapq.heappush(self._kept, (-size, -self._came, item))
        self._came += 1
        while self._left < 0:
            self._left -= heapq.heappop(self._kept)[0]
            self.is_complete = False

    @property
    def items(self) -> list[T]:
        """In the order in which they came."""
        return [item for _, _, item in sorted(self._kept, key=lambda kept: -kept[1])]


def fitting(items: Iterable[T]) -> Fitting[T]:
    """Those of these that fit."""
    kept = Fitting[T]()
    for item in items:
        kept.put(item)
    return kept


def listed(wanted: Listing, items: Iterable[T], page: type[P], name: str) -> list[T] | P:
    """The result of a list's method; the elements' ids have this name."""
    if wanted.limit is None and wanted.after is None:
        return fitting(items).items
    id_of: Callable[[T], str] = attrgetter(name)
    after = wanted.after or ""
    filling = _Filling(wanted)
    for item in sorted((each for each in items if id_of(each) > after), key=id_of):
        if not filling.put(item, id_of(item)):
            break
    return page(filling.items, filling.next)


async def listed_in_order(
    wanted: Listing, items: AsyncIterator[T], page: type[P], name: str
) -> list[T] | P:
    """The same of elements that come in the order of their ids, behind `wanted.after`."""
    if wanted.limit is None and wanted.after is None:
        kept = Fitting[T]()
        async for item in items:
            kept.put(item)
        return kept.items
    filling = _Filling(wanted)
    async for item in items:
        if not filling.put(item, getattr(item, name)):
            break
    return page(filling.items, filling.next)


class _Filling:
    """A page that is being filled."""

    def __init__(self, wanted: Listing) -> None:
        self.items: list[Any] = []
        self.next: str | None = None
        self._limit = wanted.limit
        self._left = PAGE_GOAL
        self._last = ""

    def put(self, item: Struct, id_: str) -> bool:
        """Whether there was room; a page that is empty has room for any element."""
        self._left -= _size_of(item)
        if self.items and (self._left < 0 or len(self.items) == self._limit):
            self.next = self._last
            return False
        self.items.append(item)
        self._last = id_
        return True


def _size_of(item: Struct) -> int:
    """Its bytes, with the comma; large integers in quotes come to no more than the frame allows."""
    return len(_encode(item)) + 1
