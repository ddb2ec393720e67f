"""What a peer says of channels before they are there: kept in order, until it is judged."""

from typing import Final

#: Bytes. Channels are read from the disk in a moment, and a peer says a message or two of each.
_WHILE_LOADING: Final = 1 << 20
#: A session that no wallet has adopted may stay so, and there may be thousands.
_WHILE_UNADOPTED: Final = 1 << 16
#: What a kept message takes beside its bytes, roughly.
_OVERHEAD: Final = 100


class Early:
    """Of one session."""

    __slots__ = ("_kept", "_size")

    def __init__(self) -> None:
        self._kept: list[tuple[int, bytes]] = []
        self._size = 0

    def keep(self, type_: int, raw: bytes, *, unadopted: bool) -> bool:
        """Whether there was room for it."""
        size = self._size + len(raw) + _OVERHEAD
        if size > (_WHILE_UNADOPTED if unadopted else _WHILE_LOADING):
            return False
        self._kept.append((type_, raw))
        self._size = size
        return True

    def take(self) -> list[tuple[int, bytes]]:
        """All that was kept, with its type; from now on it is whoever takes it who has it."""
        kept, self._kept, self._size = self._kept, [], 0
        return kept
