"""A node of few words on another project's transport: the loop that the scripted peers share.

It listens, sends ``init`` after each handshake, answers pings, counts what comes, and does what it
is told. JSON lines out (events) and in (commands). Stdlib only: it runs in the peer's environment.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

INIT, PING, PONG = 16, 18, 19
FIRST_CUSTOM_TYPE = 32768
# A message of this type comes back as it is, on the connection that brought it.
ECHO_TYPE = 65001

# What LDK wants to see (BOLT #9): data_loss_protect, var_onion_optin, static_remotekey,
# payment_secret and channel_type, each optional. No gossip_queries: nobody here answers them.
FEATURES = sum(1 << bit for bit in (1, 9, 13, 15, 45)).to_bytes(6, "big")
INIT_MESSAGE = INIT.to_bytes(2, "big") + bytes(2) + len(FEATURES).to_bytes(2, "big") + FEATURES


class Connection(Protocol):
    """One shaken connection of whichever transport; a message is its type and payload."""

    remote: bytes

    async def read(self) -> bytes: ...

    async def send(self, message: bytes) -> None: ...

    def close(self) -> None: ...


Greet = Callable[[Connection], Coroutine[Any, Any, None]]
Refuse = Callable[[BaseException], None]


class Transport(Protocol):
    """What a peer's own library has to be able to do."""

    node_id: bytes

    async def listen(self, host: str, greet: Greet, refuse: Refuse) -> int:
        """Listens on a free port, which it returns; greets each connection after its handshake."""
        ...


class Tally:
    """Counts custom messages; the digest covers type and payload of one after the other."""

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0
        self.digest = hashlib.sha256()

    def add(self, message: bytes) -> None:
        self.messages += 1
        self.bytes += len(message) - 2
        self.digest.update(message)

    def as_dict(self) -> dict[str, Any]:
        return {
            "messages": self.messages,
            "bytes": self.bytes,
            "sha256": self.digest.hexdigest(),
        }


def custom_message(index: int, size: int, message_type: int) -> bytes:
    """The load that all lab nodes send: a payload of `size` bytes whose first eight count."""
    return message_type.to_bytes(2, "big") + index.to_bytes(8, "big").ljust(
        size, bytes([index % 256])
    )


def emit(event: str, **fields: object) -> None:
    """Tells the driver, and the log: what a driver didn't wait for is often what went wrong."""
    line = json.dumps({"event": event, **fields})
    print(line, flush=True)
    print(line[:500], file=sys.stderr, flush=True)


class Responder:
    """Serves every connection; commands go to the latest."""

    def __init__(self, transport: Transport, init: bytes) -> None:
        self.transport = transport
        self.init = init
        self.current: Connection | None = None
        self.sent = Tally()
        self.received = Tally()
        self.pings_received = 0
        self.pongs_received = 0
        self.pong_bytes = 0

    async def run(self, host: str) -> None:
        """Serves until standard input ends."""
        port = await self.transport.listen(host, self.greet, self.refuse)
        node_id = self.transport.node_id.hex()
        emit("listening", node_id=node_id, address=f"{host}:{port}")
        while line := await asyncio.to_thread(sys.stdin.readline):
            try:
                await self.obey(json.loads(line))
            except (ValueError, KeyError, TypeError, OSError) as error:
                emit("failed", command=line.strip(), reason=repr(error))

    def refuse(self, error: BaseException) -> None:
        emit("handshake_failed", reason=repr(error))

    async def greet(self, connection: Connection) -> None:
        self.current = connection
        emit("connected", node_id=connection.remote.hex())
        try:
            await connection.send(self.init)
            while True:
                await self.handle(connection, await connection.read())
        except Exception as error:  # noqa: BLE001  (each library ends a connection in its own way)
            emit("closed", node_id=connection.remote.hex(), reason=repr(error))
        finally:
            with contextlib.suppress(OSError):
                connection.close()

    async def handle(self, connection: Connection, message: bytes) -> None:
        message_type = int.from_bytes(message[:2], "big")
        if message_type == PING:
            self.pings_received += 1
            num_pong_bytes = int.from_bytes(message[2:4], "big")
            # BOLT #1: a ping that asks for 65532 bytes or more wants no answer.
            if num_pong_bytes < 65532:
                await connection.send(
                    PONG.to_bytes(2, "big")
                    + num_pong_bytes.to_bytes(2, "big")
                    + bytes(num_pong_bytes)
                )
        elif message_type == PONG:
            self.pongs_received += 1
            self.pong_bytes += int.from_bytes(message[2:4], "big")
        elif message_type == ECHO_TYPE:
            await connection.send(message)
        elif message_type >= FIRST_CUSTOM_TYPE:
            self.received.add(message)
        else:
            emit("init" if message_type == INIT else "message", message=message.hex())

    async def obey(self, order: dict[str, Any]) -> None:
        command = order["command"]
        if command == "status":
            self.report()
            return
        if self.current is None:
            raise ValueError("nobody has connected yet")
        if command == "send":
            await self.current.send(bytes.fromhex(order["message"]))
        elif command == "pings":
            ping = PING.to_bytes(2, "big") + order["num_pong_bytes"].to_bytes(2, "big") + bytes(2)
            for _ in range(order["count"]):
                await self.current.send(ping)
        elif command == "custom":
            for index in range(order["count"]):
                message = custom_message(index, order["size"], order["type"])
                self.sent.add(message)
                await self.current.send(message)
        elif command == "close":
            self.current.close()
        else:
            raise ValueError(f"no such command: {command}")

    def report(self) -> None:
        emit(
            "status",
            sent=self.sent.as_dict(),
            received=self.received.as_dict(),
            pings_received=self.pings_received,
            pongs_received=self.pongs_received,
            pong_bytes=self.pong_bytes,
        )


def main(transport: Callable[[bytes], Transport]) -> None:
    """Runs a scripted peer as a program with a node key of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--init", type=bytes.fromhex, default=INIT_MESSAGE, help="hex")
    options = parser.parse_args()
    responder = Responder(transport(os.urandom(32)), options.init)
    asyncio.run(responder.run(options.host))
    # A blocking library may have threads in a read that nothing will end.
    sys.stdout.flush()
    os._exit(0)
