"""A process full of peers: BOLT 8 responders that count pongs, and ping as fast as they may.

Run by sessions.py; commands come on standard input, one JSON object a line, answers go out alike.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import cast

import uvloop
from coincurve import PrivateKey

from lightning_proxy.bolt.features import DEFAULT_FEATURES
from lightning_proxy.bolt.messages import Init
from lightning_proxy.transport import CipherState, PeerTransport
from lightning_proxy.transport.handshake import Responder

_SECRET = b"\x42" * 32
_INIT = Init(globalfeatures=b"", features=DEFAULT_FEATURES.to_bytes()).encode()


class Peer(PeerTransport):
    """One accepted connection: it shakes hands at once, and is its own consumer."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        task = asyncio.get_running_loop().create_task(self.shake_hands())
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)

    def on_message(self, type: int, view: memoryview) -> None:
        """The relay's `init` and gossip filter; nothing to do."""

    def on_closed(self, reason: str) -> None:
        peers.discard(self)

    async def shake_hands(self) -> None:
        responder = Responder(_SECRET)
        self.write_raw(responder.act_one(await self.receive_exactly(50)))
        keys = responder.act_three(await self.receive_exactly(66))
        self.start(
            CipherState(keys.sending_key, keys.chaining_key),
            CipherState(keys.receiving_key, keys.chaining_key),
        )
        self.send(_INIT)
        peers.add(self)


class _OwnConsumer:
    """PeerTransport wants its consumer before it exists itself."""

    peer: Peer

    def on_message(self, type: int, view: memoryview) -> None:
        self.peer.on_message(type, view)

    def on_closed(self, reason: str) -> None:
        self.peer.on_closed(reason)


class RawPeer(asyncio.Protocol):
    """For the plain echo: the same number of bytes, and nothing done with them."""

    def __init__(self) -> None:
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)
        raw_peers.append(self)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)


peers: set[Peer] = set()
raw_peers: list[RawPeer] = []
_tasks: set[asyncio.Task[None]] = set()


def _accept() -> Peer:
    consumer = _OwnConsumer()
    consumer.peer = Peer(consumer)
    return consumer.peer


async def _exchange(
    send: list[Callable[[], None]],
    received: list[Callable[[], int]],
    in_flight: int,
    seconds: float,
) -> dict[str, float]:
    """Keep so many messages in flight on each connection; count what comes back."""
    loop = asyncio.get_running_loop()
    before = [count() for count in received]
    sent = before.copy()
    started = loop.time()
    while loop.time() - started < seconds:
        for index, count in enumerate(received):
            while sent[index] - count() < in_flight:
                send[index]()
                sent[index] += 1
        await asyncio.sleep(0)
    elapsed = loop.time() - started
    answered = sum(count() for count in received) - sum(before)
    return {"answered": answered, "seconds": elapsed}


async def _ping(in_flight: int, seconds: float) -> dict[str, float]:
    """Pings of 150 bytes on every session."""
    chosen = list(peers)
    return await _exchange(
        [partial(peer.send_ping, 144, 144) for peer in chosen],
        [partial(getattr, peer, "pongs_received") for peer in chosen],
        in_flight,
        seconds,
    )


async def _echo(in_flight: int, seconds: float) -> dict[str, float]:
    """The same bytes as a ping's frame on every raw connection."""
    frame = bytes(150 + 34)
    return await _exchange(
        [partial(peer.transport.write, frame) for peer in raw_peers],
        [lambda peer=peer: peer.received // len(frame) for peer in raw_peers],  # type: ignore[misc]
        in_flight,
        seconds,
    )


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_accept, "127.0.0.1", 0, backlog=4096)
    raw = await loop.create_server(RawPeer, "127.0.0.1", 0, backlog=4096)
    port, raw_port = (each.sockets[0].getsockname()[1] for each in (server, raw))
    node_id = PrivateKey(_SECRET).public_key.format().hex()
    print(json.dumps({"address": f"{node_id}@127.0.0.1:{port}", "raw": raw_port}), flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command = json.loads(line)
        exchange = _echo if command.pop("raw", False) else _ping
        print(json.dumps(await exchange(**command)), flush=True)
    server.close()
    raw.close()


if __name__ == "__main__":
    uvloop.run(_serve())
