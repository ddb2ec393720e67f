"""Answers that take several questions, all of them put to one and the same chain."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from lightning_proxy.chain.source import ChainError, Tip

_ATTEMPTS: Final = 5

T = TypeVar("T")


class Moved(Exception):
    """What a source says now doesn't fit what it just said: the chain moved in between."""


async def steady(tip: Callable[[], Awaitable[Tip]], read: Callable[[Tip], Awaitable[T]]) -> T:
    """What `read` finds while the tip stays where it is; again and again if it doesn't.

    `read` gets the tip, and may raise `Moved`. Raises `ChainError` when the chain won't rest.
    """
    before = await tip()
    for _ in range(_ATTEMPTS):
        try:
            value = await read(before)
        except Moved:
            before = await tip()
            continue
        after = await tip()
        if after == before:
            return value
        before = after
    raise ChainError("the source's chain changes faster than it answers")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a transaction stands: its block (hash as explorers print it), and its place there."""

    block_hash: bytes
    index: int


class Places:
    """The places of the transactions last asked for. A block's content never changes."""

    _MOST: Final = 10_000

    def __init__(self) -> None:
        self._places: OrderedDict[bytes, Place] = OrderedDict()

    def get(self, txid: bytes) -> Place | None:
        """Where a transaction was last seen; that block may have been replaced since."""
        place = self._places.get(txid)
        if place is not None:
            self._places.move_to_end(txid)
        return place

    def set(self, txid: bytes, place: Place) -> None:
        """Remember a place, and forget the one that wasn't asked for longest."""
        self._places[txid] = place
        self._places.move_to_end(txid)
        if len(self._places) > self._MOST:
            self._places.popitem(last=False)
