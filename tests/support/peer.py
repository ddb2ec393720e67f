"""A peer for the faults that a real one won't commit: BOLT #8 with every byte in the test's hand.

Its frames come from `reference.py`, so that the code under test never talks to itself.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from coincurve import PrivateKey

from lightning_proxy.transport.handshake import (
    ACT_ONE_SIZE,
    ACT_THREE_SIZE,
    Responder,
    TransportKeys,
)
from lightning_proxy.transport.reference import ReferenceCipherState

_WAIT = 10.0


class PeerConnection:
    """One accepted socket; `handshake()` first, then whole messages, or `raw` bytes at any time."""

    def __init__(
        self, node_secret: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader, self.writer = reader, writer
        self.responder = Responder(node_secret)
        self._buffer = b""
        self._opened: list[bytes] = []
        self.init = b""
        self.session_id = ""

    async def handshake(self) -> None:
        await self.raw(self.responder.act_one(await self.read(ACT_ONE_SIZE)))
        self.use(self.responder.act_three(await self.read(ACT_THREE_SIZE)))

    def use(self, keys: TransportKeys) -> None:
        self.sending = ReferenceCipherState(keys.sending_key, keys.chaining_key)
        self.receiving = ReferenceCipherState(keys.receiving_key, keys.chaining_key)

    async def read(self, size: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(size), _WAIT)

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def send(self, *messages: bytes) -> None:
        await self.raw(b"".join(self.sending.seal(message) for message in messages))

    async def receive(self) -> bytes:
        """The next message; `EOFError` when the other side has hung up."""
        while not self._opened:
            self._opened, used = self.receiving.open(self._buffer)
            self._buffer = self._buffer[used:]
            if not self._opened:
                data = await asyncio.wait_for(self.reader.read(65536), _WAIT)
                if not data:
                    raise EOFError("the other side hung up")
                self._buffer += data
        return self._opened.pop(0)

    def stop_reading(self) -> None:
        """Take no byte any more."""
        cast("asyncio.ReadTransport", self.writer.transport).pause_reading()

    async def closed(self) -> bytes:
        """Wait until the other side hangs up; what it still said, undecrypted."""
        try:
            return await asyncio.wait_for(self.reader.read(-1), _WAIT)
        except ConnectionResetError:
            return b""

    async def close(self) -> None:
        self.writer.transport.abort()
        await asyncio.sleep(0)


class ScriptedPeer:
    """A listening node: `address` to connect to, `accept()` for the connections that came."""

    def __init__(self, node_secret: bytes) -> None:
        self.node_secret = node_secret
        self.node_id = PrivateKey(node_secret).public_key.format()
        self._connections: asyncio.Queue[PeerConnection] = asyncio.Queue()
        self._all: list[PeerConnection] = []

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = PeerConnection(self.node_secret, reader, writer)
        self._all.append(connection)
        self._connections.put_nowait(connection)

    async def accept(self) -> PeerConnection:
        return await asyncio.wait_for(self._connections.get(), _WAIT)

    @asynccontextmanager
    async def serve(self, host: str = "127.0.0.1") -> AsyncIterator["ScriptedPeer"]:
        server = await asyncio.start_server(self._connected, host, 0)
        self.port = server.sockets[0].getsockname()[1]
        self.address = f"{self.node_id.hex()}@{host}:{self.port}"
        try:
            yield self
        finally:
            server.close()
            for connection in self._all:
                await connection.close()
