"""What the demo's programs say: one JSON object a line on stdout, stamped with the Unix time."""

import time
from typing import Any, Final, Protocol

import msgspec

#: Bytes; a line holds a whole frame of the relay's socket, with a Lightning message in hex twice.
MAX_LINE: Final = 1 << 20


class Emit(Protocol):
    """Takes what happened, and what there is to say of it."""

    def __call__(self, event: str, /, **fields: Any) -> None: ...


def emit(event: str, /, **fields: Any) -> None:
    """Say that something happened."""
    line = {"event": event, "at": time.time(), **fields}
    print(msgspec.json.encode(line).decode(), flush=True)
