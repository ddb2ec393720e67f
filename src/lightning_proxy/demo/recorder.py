"""A TCP forwarder between wallet and relay that keeps every byte of both directions."""

import asyncio
from contextlib import suppress
from itertools import cycle
from types import TracebackType
from typing import Final, Self

_BLOCK: Final = 65536
#: Bytes kept of one direction; a demo exchanges some thousand.
_MAX_RECORDED: Final = 64 << 20

_MASKED, _LENGTH, _COMPRESSED = 0x80, 0x7F, 0x40


class Recorder:
    """Listens on loopback while the block lasts, and forwards to `target_port`, once that is set.

    `streams` has one recording for each direction of each connection.
    """

    port: int
    target_port: int

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self._connections: set[asyncio.Task[None]] = set()
        self.streams: list[bytearray] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, self._host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def recorded(self) -> list[bytes]:
        """All that crossed: as it was on the wire, and again without the websocket's masks.

        Raises `ValueError` where a stream can't be read as the websocket that it should be.
        """
        streams = [bytes(stream) for stream in self.streams]
        return [*streams, *map(unmask, streams)]

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._forward(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            other_reader, other_writer = await asyncio.open_connection(self._host, self.target_port)
            try:
                await asyncio.gather(
                    self._pump(reader, other_writer), self._pump(other_reader, writer)
                )
            finally:
                other_writer.transport.abort()
        writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = bytearray()
        self.streams.append(stream)
        while block := await reader.read(_BLOCK):
            # Recorded before it goes on: what is not kept does not cross.
            if len(stream) + len(block) > _MAX_RECORDED:
                raise OSError("too much to record")
            stream += block
            writer.write(block)
            await writer.drain()
        writer.write_eof()


def unmask(stream: bytes) -> bytes:
    """The payloads of one direction of a websocket, after its HTTP head (RFC 6455).

    A frame that is cut off at the end counts as far as it goes. Raises `ValueError` for a stream
    without a head, and for compressed frames.
    """
    head, end, frames = stream.partition(b"\r\n\r\n")
    if not end or b"websocket" not in head.lower():
        raise ValueError("this is no websocket")
    payloads = bytearray()
    at = 0
    while at + 2 <= len(frames):
        if frames[at] & _COMPRESSED:
            raise ValueError("this websocket is compressed")
        masked, size = frames[at + 1] & _MASKED, frames[at + 1] & _LENGTH
        at += 2
        extended = {126: 2, 127: 8}.get(size, 0)
        if extended:
            size = int.from_bytes(frames[at : at + extended], "big")
            at += extended
        mask = bytes(4)
        if masked:
            mask = frames[at : at + 4]
            at += 4
        payload = frames[at : at + size]
        payloads += bytes(byte ^ key for byte, key in zip(payload, cycle(mask), strict=False))
        at += size
    return bytes(payloads)
