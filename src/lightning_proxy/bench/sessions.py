"""How many sessions a second a relay sets up, and how many pings it answers.

The relay is `lightning-proxy serve` in a process of its own; wallet and peers play in this one. All
their keys are fixed, the ephemeral ones too, so that the acts are the same bytes each time and cost
this side nothing: it is the relay that is measured. Real nodes choose fresh ones, and the relay
can't tell.
"""

import asyncio
import os
import re
import socket
import time
from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import msgspec
from coincurve import PrivateKey

from lightning_proxy.bench.figures import Figure
from lightning_proxy.bolt.features import DEFAULT_FEATURES
from lightning_proxy.bolt.messages import Init
from lightning_proxy.demo.programs import Program, environ_without_settings
from lightning_proxy.relay.store import IN_MEMORY
from lightning_proxy.transport import CipherState, PeerTransport
from lightning_proxy.transport.handshake import (
    ACT_ONE_SIZE,
    ACT_THREE_SIZE,
    Initiator,
    Responder,
)

#: Keep-alive connections of the wallet, with one set-up under way on each.
_CONNECTIONS: Final = 40
#: Pings of 150 bytes, and pongs that are as long.
_PADDING: Final = 144
_PONG_BYTES: Final = 146
_IN_FLIGHT: Final = (1, 4)
#: Sessions that are pinged in step; other groups go on meanwhile.
_GROUP: Final = 50
#: Seconds that the relay may take to start, and for all the set-ups.
_PATIENCE: Final = 60.0

_PEER_SECRET: Final = b"\x42" * 32
_PEER_NODE_ID: Final = PrivateKey(_PEER_SECRET).public_key.format()
_initiator = Initiator(b"\x21" * 32, _PEER_NODE_ID, b"\x12" * 32)
_responder = Responder(_PEER_SECRET, b"\x24" * 32)
_ACT_ONE: Final = _initiator.act_one()
_ACT_TWO: Final = _responder.act_one(_ACT_ONE)
_ACT_THREE: Final = _initiator.act_two(_ACT_TWO)
_KEYS: Final = _responder.act_three(_ACT_THREE)
_INIT: Final = Init(globalfeatures=b"", features=DEFAULT_FEATURES.to_bytes()).encode()


class BenchFailed(Exception):
    """The sentence says what failed."""


async def measure_sessions(sessions: int, seconds: float) -> AsyncGenerator[Figure, None]:
    """So many sessions, whose pings take `seconds` in all. Raises `BenchFailed`.

    Close it (`contextlib.aclosing`) to end what it has started. Rates by processor time are known
    on Linux only.
    """
    async with AsyncExitStack() as stack:
        relay = _Relay()
        await stack.enter_async_context(relay.program)
        url = await relay.url()
        peers = await stack.enter_async_context(_Peers())
        watch = relay.watch()
        await _set_up(url, peers.address, sessions)
        for figure in watch.rates("sessions set up", sessions):
            yield figure
        for in_flight in _IN_FLIGHT:
            watch = relay.watch()
            pongs = await peers.ping(in_flight, seconds / len(_IN_FLIGHT))
            what = f"pongs, {sessions:,} sessions, {in_flight} in flight"
            for figure in watch.rates(what, pongs):
                yield figure


class _Watch:
    """The time of the clock and of a process since it was made."""

    def __init__(self, process_id: int) -> None:
        self._stat = Path(f"/proc/{process_id}/stat")
        self._started = time.perf_counter()
        self._cpu = self._cpu_seconds()

    def rates(self, what: str, count: int) -> Iterator[Figure]:
        """Of `count` things that happened meanwhile."""
        yield Figure(what, count / (time.perf_counter() - self._started), "/s")
        spent = self._cpu_seconds() - self._cpu
        if spent > 0:
            yield Figure(what, count / spent, "/CPU-s")

    def _cpu_seconds(self) -> float:
        """User and system time of all threads; 0 where there is no /proc."""
        if not self._stat.exists():
            return 0.0
        # proc_pid_stat(5): what follows the name in parentheses, which may hold anything.
        fields = self._stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Relay:
    """A relay with default settings on a free port, and only its warnings in the log."""

    def __init__(self) -> None:
        serve = ["lightning_proxy", "serve", "--config", os.devnull, "--port", "0"]
        self.program = Program(
            "relay",
            [*serve, "--store", IN_MEMORY, "--log-format", "json", "--log-level", "warning"],
            self._take,
            environ=environ_without_settings(),
        )
        self._url: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def url(self) -> str:
        """Where it listens, once it does."""
        try:
            async with asyncio.timeout(_PATIENCE):
                return await self._url
        except TimeoutError:
            raise BenchFailed("the relay did not start in time") from None

    def watch(self) -> _Watch:
        """Its time from now on."""
        return _Watch(self.program.process_id)

    def _take(self, program: Program, line: dict[str, Any] | None) -> None:
        if self._url.done():
            return
        if line is None:
            self._url.set_exception(BenchFailed("\n".join(["the relay ended", *program.tail()])))
        elif line.get("event") == "ready":
            self._url.set_result(line["url"])


class _Peer:
    """One connection that the relay made."""

    def __init__(self) -> None:
        self.transport = PeerTransport(self)
        self.closed: str | None = None

    def on_message(self, type: int, view: memoryview, /) -> None:
        """The relay's `init` and gossip filter: nothing to do."""

    def on_closed(self, reason: str, /) -> None:
        """Remembered, for whoever waits for a pong."""
        self.closed = reason

    async def shake_hands(self, connection: socket.socket) -> None:
        """On an accepted connection, as a responder whose part is known beforehand."""
        loop, transport = asyncio.get_running_loop(), self.transport
        await loop.connect_accepted_socket(lambda: transport, connection)
        # A relay that goes now is missed by the wallet.
        with suppress(ConnectionError):
            if await transport.receive_exactly(ACT_ONE_SIZE) != _ACT_ONE:
                transport.abort("another act one")
            transport.write_raw(_ACT_TWO)
            await transport.receive_exactly(ACT_THREE_SIZE)
            transport.start(
                CipherState(_KEYS.sending_key, _KEYS.chaining_key),
                CipherState(_KEYS.receiving_key, _KEYS.chaining_key),
            )
            transport.send(_INIT)

    async def until_answered(self, pongs: int) -> None:
        """Until so many pongs came in all. Raises `BenchFailed`."""
        while self.transport.pongs_received < pongs:
            if self.closed is not None:
                raise BenchFailed(f"a session ended: {self.closed}")
            await asyncio.sleep(0)


class _Peers:
    """All connections that the relay makes, while used as an async context manager."""

    address: str

    def __init__(self) -> None:
        self._peers: list[_Peer] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        listening.setblocking(False)
        self.address = f"{_PEER_NODE_ID.hex()}@127.0.0.1:{listening.getsockname()[1]}"
        self._start(self._accept(listening))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        for peer in self._peers:
            peer.transport.abort("the bench is over")

    async def ping(self, in_flight: int, seconds: float) -> int:
        """Keep about so many pings under way on each session; returns how many pongs came."""
        end = asyncio.get_running_loop().time() + seconds
        groups = [self._peers[at : at + _GROUP] for at in range(0, len(self._peers), _GROUP)]
        counts = await asyncio.gather(*(_ping_group(group, in_flight, end) for group in groups))
        return sum(counts)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                connection, _ = await loop.sock_accept(listening)
                peer = _Peer()
                self._peers.append(peer)
                self._start(peer.shake_hands(connection))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _ping_group(peers: Sequence[_Peer], in_flight: int, end: float) -> int:
    clock = asyncio.get_running_loop().time
    before = [peer.transport.pongs_received for peer in peers]
    rounds = 0
    while clock() < end:
        rounds += 1
        for peer in peers:
            for _ in range(in_flight):
                peer.transport.send_ping(_PONG_BYTES, _PADDING)
        for peer, pongs in zip(peers, before, strict=True):
            await peer.until_answered(pongs + rounds * in_flight)
    return rounds * in_flight * len(peers)


# ---- the wallet ----


async def _set_up(url: str, peer: str, sessions: int) -> None:
    """Sessions with this peer, over REST. Raises `BenchFailed`."""
    left = iter(range(sessions))
    wallets = (_set_up_some(url, peer, left) for _ in range(min(_CONNECTIONS, sessions)))
    try:
        async with asyncio.timeout(_PATIENCE):
            await asyncio.gather(*wallets)
    except TimeoutError:
        raise BenchFailed(f"{sessions} sessions took longer than {_PATIENCE:g} s") from None
    except (OSError, EOFError) as error:
        raise BenchFailed(f"the relay can't be reached: {error}") from None


async def _set_up_some(url: str, peer: str, left: Iterator[int]) -> None:
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    connect = msgspec.json.encode({"url": peer, "message": _ACT_ONE.hex()})
    # The wallet sends with what its peer receives with.
    keys = {
        "sending": _KEYS.receiving_key.hex(),
        "receiving": _KEYS.sending_key.hex(),
        "chaining": _KEYS.chaining_key.hex(),
    }
    handshake = msgspec.json.encode({"message": _ACT_THREE.hex(), "keys": keys})
    try:
        for _ in left:
            connected = await _post(reader, writer, where.netloc, "/api/connect", connect)
            if connected["message"] != _ACT_TWO.hex():
                raise BenchFailed("the relay gave another act two than the peer")
            path = f"/api/handshake/{connected['id']}"
            await _post(reader, writer, where.netloc, path, handshake)
    finally:
        writer.close()


async def _post(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, path: str, body: bytes
) -> dict[str, Any]:
    """One request on a kept connection; a client for real use would cost more than the relay."""
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)\r\n", head)
    if length is None:
        raise BenchFailed("the relay's answer has no length")
    answer = await reader.readexactly(int(length[1]))
    if not head.startswith(b"HTTP/1.1 200 "):
        raise BenchFailed(f"the relay refused {path.rpartition('/')[0]}: {answer.decode()}")
    decoded: dict[str, Any] = msgspec.json.decode(answer)
    return decoded
