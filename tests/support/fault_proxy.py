"""A TCP proxy that commits a network's faults when it is told to: delays, splits, stalls, cuts."""

import asyncio
import random
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Self

#: Bytes of one read.
_CHUNK: Final = 65536
#: Lingering for 0 s: a close is a RST, and what was queued is gone.
_RESET: Final = struct.pack("ii", 1, 0)


def _running() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class Direction:
    """What happens to the bytes of one direction; change it at any time."""

    #: Seconds that each piece waits.
    delay: float = 0.0
    #: The longest piece, in bytes: 1 is byte by byte. None: as it came.
    split: int | None = None
    #: Pieces are of random lengths up to `split`.
    random_split: bool = False
    #: Bytes a second; None: as fast as it goes.
    rate: float | None = None
    #: Cut all connections, by a RST, after so many more bytes; then None again.
    cut_after: int | None = None
    _go: asyncio.Event = field(default_factory=_running)

    def stall(self) -> None:
        """Forward nothing; connections stay open."""
        self._go.clear()

    def resume(self) -> None:
        """Go on after a stall."""
        self._go.set()

    def heal(self) -> None:
        """Be as a good network again."""
        self.delay, self.split, self.random_split = 0.0, None, False
        self.rate = self.cut_after = None
        self.resume()

    def pieces(self, data: bytes, rng: random.Random) -> list[bytes]:
        """How `data` goes on."""
        pieces, at = [], 0
        while at < len(data):
            size = len(data) if self.split is None else self.split
            if self.random_split:
                size = rng.randint(1, size)
            pieces.append(data[at : at + size])
            at += size
        return pieces

    async def passage(self, piece: bytes) -> None:
        """Returns when `piece` may go on."""
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.rate is not None:
            await asyncio.sleep(len(piece) / self.rate)
        await self._go.wait()


def byte_by_byte(direction: Direction) -> None:
    """A fault for `up` or `down`: as TCP may do it."""
    direction.split = 1


def at_random(direction: Direction) -> None:
    """Another: pieces of up to 40 bytes."""
    direction.split, direction.random_split = 40, True


def slowly(direction: Direction) -> None:
    """Another: 2 ms for each piece, and 500 kB a second."""
    direction.delay, direction.rate = 0.002, 500_000


class _Connection:
    """One connection's task, and how it ends when it is cut."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None]
        self.reset = False

    def cut(self, *, reset: bool) -> None:
        self.reset = reset
        self.task.cancel()


class FaultProxy:
    """Use as an async context manager: `host` and `port` lead to the target's.

    `up` is the direction from who connects to the target, `down` the way back. The same seed
    makes the same random splits of the same reads.
    """

    def __init__(self, target: tuple[str, int], *, seed: int = 0, host: str = "127.0.0.1") -> None:
        self.target = target
        self.up = Direction()
        self.down = Direction()
        #: A connection that comes while this is False gets a RST.
        self.accepting = True
        #: Connections that came.
        self.connections = 0
        self.host = host
        self._rng = random.Random(seed)
        self._open: set[_Connection] = set()

    async def __aenter__(self) -> Self:
        self._listening = socket.create_server((self.host, 0), backlog=1024)
        self._listening.setblocking(False)
        self.port: int = self._listening.getsockname()[1]
        self._accepting = asyncio.create_task(self._accept())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._accepting.cancel()
        tasks = [self._accepting, *(connection.task for connection in self._open)]
        self.cut()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listening.close()

    @property
    def netloc(self) -> str:
        """Where it listens, as URLs have it."""
        return f"{self.host}:{self.port}"

    def heal(self) -> None:
        """Be as a good network again; connections that were cut stay so."""
        self.up.heal()
        self.down.heal()
        self.accepting = True

    def cut(self, *, reset: bool = True) -> int:
        """End all connections, by a RST or a FIN; returns how many there were."""
        for connection in self._open:
            connection.cut(reset=reset)
        return len(self._open)

    # ---- inside ----

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            came, _ = await loop.sock_accept(self._listening)
            self.connections += 1
            if not self.accepting:
                _close(came, reset=True)
                continue
            connection = _Connection()
            connection.task = asyncio.create_task(self._serve(connection, came))
            self._open.add(connection)

    async def _serve(self, connection: _Connection, came: socket.socket) -> None:
        """One connection from its beginning to its end."""
        gone = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            for end in (came, gone):
                end.setblocking(False)
                # A piece must leave as it is.
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(gone, self.target)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(came, gone, self.up))
                group.create_task(self._pump(gone, came, self.down))
        except* OSError:
            # One end's RST becomes the other's.
            connection.reset = True
        finally:
            self._open.discard(connection)
            _close(came, reset=connection.reset)
            _close(gone, reset=connection.reset)

    async def _pump(self, source: socket.socket, sink: socket.socket, direction: Direction) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(source, _CHUNK):
            for piece in direction.pieces(data, self._rng):
                await direction.passage(piece)
                allowed = direction.cut_after
                if allowed is not None and allowed < len(piece):
                    direction.cut_after = None
                    await loop.sock_sendall(sink, piece[:allowed])
                    self.cut()
                    return
                if allowed is not None:
                    direction.cut_after = allowed - len(piece)
                await loop.sock_sendall(sink, piece)
                # So that the other side has a chance to read the piece by itself.
                await asyncio.sleep(0)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def _close(end: socket.socket, *, reset: bool) -> None:
    with suppress(OSError):
        if reset:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        else:
            end.shutdown(socket.SHUT_WR)
    end.close()
