"""Room that many share: where it is used up, who holds most gives way, never who comes next."""

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

T = TypeVar("T", bound=Hashable)

#: Amounts are told apart to an eighth.
_BITS: Final = 3


class Room(Generic[T]):
    """In bytes: `each` for one holder, `together` for all of them.

    Holders are kept by what they hold, in a few hundred classes at most, so that to find the
    largest takes as long among many as among few. Who holds nothing costs nothing.
    """

    def __init__(self, each: int, together: int) -> None:
        self.each: Final = each
        self.used = 0
        self._together = together
        self._classes: dict[int, dict[T, None]] = {}

    def change(self, holder: T, before: int, after: int) -> None:
        """It held so much, and holds so much now."""
        self.used += after - before
        old, new = _class_of(before), _class_of(after)
        if old == new:
            return
        if before:
            same = self._classes[old]
            del same[holder]
            if not same:
                del self._classes[old]
        if after:
            self._classes.setdefault(new, {})[holder] = None

    def pays(self) -> T | None:
        """Who has to give some of it up: of those that hold most, to an eighth, one."""
        if self.used <= self._together:
            return None
        return next(iter(self._classes[max(self._classes)]))


def _class_of(amount: int) -> int:
    """Its highest bit, and the next few: larger amounts have no lower class."""
    bits = amount.bit_length()
    return bits << _BITS | (amount >> max(0, bits - 1 - _BITS)) & ((1 << _BITS) - 1)
