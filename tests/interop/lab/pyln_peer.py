"""Core Lightning's pyln-proto as a responder (runs in pyln-proto's environment)."""

import asyncio
import socket
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

from tests.interop.lab.responder import Greet, Refuse, main

MAX_CONNECTIONS = 32

# By name: the type checker's environment has no pyln-proto.
wire = import_module("pyln.proto.wire")


class WholeReads:
    """A socket whose ``recv`` gives all that was asked for, unless the stream ends.

    pyln-proto takes a message's header in one ``recv(18)`` and gives up when TCP delivered only a
    part of it, as happens under load. That is its own fault and not what the lab is about.
    """

    def __init__(self, wrapped: socket.socket) -> None:
        self._socket = wrapped
        self.send = wrapped.sendall
        self.shutdown = wrapped.shutdown
        self.close = wrapped.close

    def recv(self, size: int) -> bytes:
        return self._socket.recv(size, socket.MSG_WAITALL)


class PylnConnection:
    """A ``LightningConnection`` after its handshake; it blocks, so each read has a thread."""

    def __init__(self, connection: Any) -> None:
        connection.connection = WholeReads(connection.connection)
        self._connection = connection
        self.remote: bytes = connection.remote_pubkey.serializeCompressed()

    async def read(self) -> bytes:
        message: bytes = await asyncio.to_thread(self._connection.read_message)
        return message

    async def send(self, message: bytes) -> None:
        await asyncio.to_thread(self._connection.send_message, message)

    def close(self) -> None:
        # Ends a read that waits in its thread, which closing alone would not.
        self._connection.connection.shutdown(socket.SHUT_RDWR)
        self._connection.connection.close()


class PylnTransport:
    """pyln-proto's own server socket, whose ``accept`` shakes hands too."""

    def __init__(self, private_key: bytes) -> None:
        key = wire.PrivateKey(private_key)
        self.node_id: bytes = key.public_key().serializeCompressed()
        self._server = wire.LightningServerSocket(key)
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, greet: Greet, refuse: Refuse) -> int:
        # Every connection keeps a thread in its read.
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(MAX_CONNECTIONS + 8))
        self._server.bind((host, 0))
        self._server.listen()

        async def accept() -> None:
            while True:
                try:
                    connection, _ = await asyncio.to_thread(self._server.accept)
                except Exception as error:  # noqa: BLE001  (pyln-proto raises what it likes here)
                    refuse(error)
                    continue
                self._keep(greet(PylnConnection(connection)))

        self._keep(accept())
        port: int = self._server.getsockname()[1]
        return port

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


if __name__ == "__main__":
    main(PylnTransport)
