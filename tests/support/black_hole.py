"""An address that takes no connection and refuses none: whoever dials it waits."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def black_hole(host: str = "127.0.0.1") -> Iterator[int]:
    """Its port. A listener whose queue is full gets no more connections: their SYNs are dropped."""
    with socket.socket() as listening:
        listening.bind((host, 0))
        listening.listen(0)
        filling = [socket.socket() for _ in range(8)]
        try:
            for each in filling:
                each.setblocking(False)
                with suppress(BlockingIOError):
                    each.connect(listening.getsockname())
            yield listening.getsockname()[1]
        finally:
            for each in filling:
                each.close()
