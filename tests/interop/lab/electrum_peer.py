"""Electrum's Lightning transport as a responder (runs in Electrum's environment)."""

import asyncio
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any

from tests.interop.lab.responder import Greet, Refuse, main

# By name: the type checker's environment has no Electrum.
lntransport = import_module("electrum.lntransport")


class ElectrumConnection:
    """One ``LNResponderTransport`` after its handshake."""

    def __init__(self, transport: Any, remote: bytes) -> None:
        self.remote = remote
        self._transport = transport
        self._messages: AsyncIterator[bytes] = transport.read_messages()

    async def read(self) -> bytes:
        return await anext(self._messages)

    async def send(self, message: bytes) -> None:
        self._transport.send_bytes(message)
        await self._transport.writer.drain()

    def close(self) -> None:
        self._transport.close()


class ElectrumTransport:
    """Electrum as it would be a server, on asyncio streams."""

    def __init__(self, private_key: bytes) -> None:
        self._private_key = private_key
        self.node_id: bytes = lntransport.privkey_to_pubkey(private_key)

    async def listen(self, host: str, greet: Greet, refuse: Refuse) -> int:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            transport = lntransport.LNResponderTransport(self._private_key, reader, writer)
            try:
                remote = await transport.handshake()
            except Exception as error:  # noqa: BLE001  (Electrum raises what it likes here)
                writer.close()
                refuse(error)
                return
            await greet(ElectrumConnection(transport, remote))

        self._server = await asyncio.start_server(accept, host, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port


if __name__ == "__main__":
    main(ElectrumTransport)
