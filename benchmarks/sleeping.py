"""What does a wallet cost that sleeps, and how fast are thousands of them woken and back?

10,000 wallets, each with a session, a webhook to be woken by, and no socket. Then each one's peer
says something, all at once: the relay stores it and wakes the wallet, which comes, takes it,
acknowledges it and goes. Then the peers hang up, as one node does that is restarted: every wallet
is woken, and shakes hands again. At the end the relay itself is started anew on what it stored.

One process plays wallets, peers (`rehearsed.py`, `wallets.py`) and the webhooks' receiver: what a
second of the clock brings is limited by it as much as by the relay, what a second of the relay's
processor brings is not. The relay's caps on pushes are lifted; else it sends 200 a second. No other
program does the same, so what is compared is the same wallet online.
"""

import asyncio
import re
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import uvloop

from benchmarks.load import resident_bytes
from benchmarks.rehearsed import (
    ACT_ONE,
    ACT_THREE,
    ACT_TWO,
    INIT,
    KEYS,
    MESSAGES_SAID,
    Peer,
    listening,
    until,
)
from benchmarks.report import Results, Row, main, progress
from benchmarks.serving import Relay, relay
from benchmarks.wallets import SocketWallet, WalletFailed, socket_wallet
from lightning_proxy import rpc
from lightning_proxy.transport import CipherState

_WALLETS: Final = 10_000
#: The first of them warm the relay up; so many come online for the comparison.
_FIRST: Final = 500
_ONLINE: Final = 2000
#: Wallets that are under way at once: as many as may dial one peer at a time.
_AT_ONCE: Final = 100
#: Seconds.
_REST: Final = 2.0
_PATIENCE: Final = 300.0
_SETTINGS: Final = {
    "LIGHTNING_PROXY_RELAY_WAKE_RATE": "100000",
    "LIGHTNING_PROXY_RELAY_WAKE_MAX_CONCURRENT": "400",
    "LIGHTNING_PROXY_RELAY_WAKE_MAX_CONCURRENT_PER_HOST": "400",
    "LIGHTNING_PROXY_RELAY_WAKE_COOLDOWN": "0.01",
    # A wallet that is on its way needs no second push.
    "LIGHTNING_PROXY_RELAY_WAKE_RETRY_FIRST": "3600",
    "LIGHTNING_PROXY_RELAY_PING_INTERVAL": "3600",
}
#: Of an odd type that nobody knows, 150 bytes: a peer's first message after its `init`.
_MESSAGE: Final = CipherState(KEYS.sending_key, KEYS.chaining_key, 2 * MESSAGES_SAID).seal(
    b"\x80\x01" + bytes(148)
)


class Sleeper:
    """One wallet over all of its visits."""

    def __init__(self, number: int, relay_url: str, port: int, peer: str, webhook: str) -> None:
        self._secret = (number + 1).to_bytes(32, "big")
        self._url, self._port = relay_url, port
        self._peer = peer
        self._webhook = f"{webhook}/{number}"
        self._calls = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def come(self) -> None:
        """Connect, and say who it is."""
        self._socket: SocketWallet = await socket_wallet(
            self._url, self._port, self._secret, self._hear
        )

    def go(self) -> None:
        self._socket.close()

    async def settle_in(self) -> None:
        """The first visit: where it is woken, and a session."""
        await self.come()
        await self._call("wake_by_webhook", {"url": self._webhook})
        await self._connect()
        self.go()

    async def take_message(self) -> None:
        """Come, take what waits, acknowledge it, and go."""
        await self.come()
        await self._acknowledge("message")
        self.go()

    async def reconnect(self) -> None:
        """Come, learn that the session is over, and shake hands again."""
        await self.come()
        await self._acknowledge("closed")
        await self._connect()
        self.go()

    async def _acknowledge(self, method: str) -> None:
        told = await self._told.get()
        if told["method"] != method:
            raise WalletFailed(f"{told} came instead of {method}")
        await self._call("acknowledge", {"position": told["params"]["position"]})

    async def _connect(self) -> None:
        connected = await self._call("connect", {"peer": self._peer, "act_one": ACT_ONE.hex()})
        if connected["act_two"] != ACT_TWO.hex():
            raise WalletFailed("another act two")
        session_id = connected["session_id"]
        done = await self._call(
            "handshake",
            {
                "session_id": session_id,
                "act_three": ACT_THREE.hex(),
                "sending": _direction(KEYS.receiving_key),
                "receiving": _direction(KEYS.sending_key),
            },
        )
        if done["init"] != INIT.hex():
            raise WalletFailed("another init")
        await self._call("subscribe", {"session_id": session_id, "raw": True})

    async def _call(self, method: str, params: dict[str, Any]) -> Any:
        self._calls += 1
        waiter = self._waiting[self._calls] = asyncio.get_running_loop().create_future()
        self._socket.send(rpc.encode_request(self._calls, method, params).encode())
        return await waiter

    def _hear(self, text: bytes) -> None:
        said = msgspec.json.decode(text)
        if "method" in said:
            self._told.put_nowait(said)
        elif "error" in said:
            self._waiting.pop(said["id"]).set_exception(WalletFailed(text.decode()))
        else:
            self._waiting.pop(said["id"]).set_result(said["result"])


def _direction(key: bytes) -> dict[str, Any]:
    return {"key": key.hex(), "nonce": 0, "chaining_key": KEYS.chaining_key.hex()}


class Receiver(asyncio.Protocol):
    """One connection of the relay's, on which webhooks are called."""

    _NUMBER: Final = re.compile(rb"POST /(\d+) HTTP/1\.1\r\n")
    _LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: *(\d+)\r\n")

    def __init__(self, on_push: Callable[[int], None]) -> None:
        self._on_push = on_push
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (head := self._buffer.find(b"\r\n\r\n") + 4) > 3:
            number = self._NUMBER.match(self._buffer)
            length = self._LENGTH.search(self._buffer, 0, head)
            if number is None or length is None:
                raise WalletFailed(f"no push: {self._buffer!r}")
            end = head + int(length[1])
            if len(self._buffer) < end:
                return
            self._buffer = self._buffer[end:]
            self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            self._on_push(int(number[1]))


class Crowd:
    """All wallets, the peers' ends of their sessions, and what becomes of pushes."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self._sleepers: list[Sleeper] = []
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._woken: set[int] = set()
        #: What a wallet does that is woken; None: nobody should be.
        self._visit: Callable[[Sleeper], Awaitable[None]] | None = None
        self._visits: list[asyncio.Task[None]] = []
        self._all_woken = asyncio.Event()

    async def settle_in(self, sleepers: Sequence[Sleeper]) -> None:
        """These wallets' first visits."""
        self._sleepers += sleepers
        await asyncio.gather(*(self._attend(each, Sleeper.settle_in) for each in sleepers))
        await until(lambda: len(self.peers) == len(self._sleepers))

    async def woken(
        self, visit: Callable[[Sleeper], Awaitable[None]], why: Callable[[], None]
    ) -> tuple[float, float]:
        """Seconds until all were woken for this reason, and until all have made their visit."""
        self._visit, self._visits, self._woken = visit, [], set()
        self._all_woken.clear()
        started = time.perf_counter()
        why()
        async with asyncio.timeout(_PATIENCE):
            await self._all_woken.wait()
            pushed = time.perf_counter() - started
            await asyncio.gather(*self._visits)
        self._visit = None
        return pushed, time.perf_counter() - started

    def push(self, number: int) -> None:
        """A webhook was called."""
        if self._visit is None:
            # The relay stops, which is the sessions' end.
            return
        if number in self._woken:
            raise WalletFailed(f"wallet {number} was woken twice")
        self._woken.add(number)
        self._visits.append(asyncio.create_task(self._attend(self._sleepers[number], self._visit)))
        if len(self._woken) == len(self._sleepers):
            self._all_woken.set()

    async def _attend(self, sleeper: Sleeper, visit: Callable[[Sleeper], Awaitable[None]]) -> None:
        async with self._at_once:
            await visit(sleeper)


@asynccontextmanager
async def _receiving(crowd: Crowd) -> AsyncIterator[str]:
    """Where webhooks are called."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Receiver(crowd.push), "127.0.0.1", 0, backlog=4096)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


class _Meter:
    """The clock and the relay's processor since it was made."""

    def __init__(self, server: Relay) -> None:
        self._server = server
        self._cpu = server.cpu_seconds()

    def rows(self, what: str, seconds: float) -> Iterator[Row]:
        """Of all wallets within these seconds."""
        cpu = self._server.cpu_seconds() - self._cpu
        yield Row(what, "/s", [_WALLETS / seconds])
        yield Row(f"{what}, by the relay's processor", "/CPU-s", [_WALLETS / cpu])


async def _memory(server: Relay, crowd: Crowd, sleepers: list[Sleeper]) -> Row:
    """Bytes of a wallet that sleeps, beside those of one with a socket."""
    progress(f"{_FIRST:,} wallets")
    await crowd.settle_in(sleepers[:_FIRST])
    await asyncio.sleep(_REST)
    base = resident_bytes(server.pid)
    progress(f"{_WALLETS:,} wallets")
    await crowd.settle_in(sleepers[_FIRST:])
    await asyncio.sleep(_REST)
    asleep = resident_bytes(server.pid)
    progress(f"{_ONLINE:,} of them online")
    for start in range(0, _ONLINE, _AT_ONCE):
        await asyncio.gather(*(each.come() for each in sleepers[start : start + _AT_ONCE]))
    await asyncio.sleep(_REST)
    online = resident_bytes(server.pid)
    for each in sleepers[:_ONLINE]:
        each.go()
    await asyncio.sleep(_REST)
    sleeping = (asleep - base) / (_WALLETS - _FIRST)
    return Row(
        f"resident memory per sleeping wallet with a session, {_WALLETS:,} wallets",
        "B",
        [sleeping],
        {"the same online": [sleeping + (online - asleep) / _ONLINE]},
        more_is_better=False,
    )


def _stored(store: Path) -> float:
    """Bytes on disk for each wallet."""
    return sum(path.stat().st_size for path in store.parent.glob(f"{store.name}*")) / _WALLETS


async def _measure_in(store: Path) -> list[Row]:
    crowd = Crowd()
    async with listening(lambda: Peer(crowd.peers.append)) as addresses, _receiving(crowd) as hook:
        with relay("--store", str(store), environment=_SETTINGS) as server:
            peers = cycle(addresses)
            sleepers = [
                Sleeper(number, server.url, server.port, next(peers), hook)
                for number in range(_WALLETS)
            ]
            rows = [await _memory(server, crowd, sleepers)]

            progress(f"a message for each of {_WALLETS:,} sleeping wallets")
            meter = _Meter(server)
            pushed, came = await crowd.woken(
                Sleeper.take_message, lambda: _say(crowd.peers, _MESSAGE)
            )
            rows.append(Row("sleeping wallets woken by webhook", "/s", [_WALLETS / pushed]))
            rows += meter.rows("messages stored, wallets woken, come and gone", came)

            progress(f"{_WALLETS:,} sessions lost at once")
            meter = _Meter(server)
            lost, crowd.peers = crowd.peers, []
            _, back = await crowd.woken(Sleeper.reconnect, lambda: _hang_up(lost))
            rows += meter.rows("sessions lost, wallets woken, sessions set up again", back)
            rows.append(
                Row(
                    f"from the loss of {_WALLETS:,} sessions to the last one back",
                    "s",
                    [back],
                    more_is_better=False,
                )
            )
            await asyncio.sleep(_REST)
            rows.append(
                Row(
                    "store on disk per sleeping wallet", "B", [_stored(store)], more_is_better=False
                )
            )
    return rows


def _restart(store: Path) -> Row:
    """Of a relay with all that; nobody is there to be woken."""
    progress("the relay's own restart")
    started = time.perf_counter()
    with relay("--store", str(store), environment=_SETTINGS):
        seconds = time.perf_counter() - started
    return Row(
        f"start of a relay with {_WALLETS:,} wallets' state", "s", [seconds], more_is_better=False
    )


def _say(peers: Sequence[Peer], frame: bytes) -> None:
    for peer in peers:
        peer.transport.write(frame)


def _hang_up(peers: Sequence[Peer]) -> None:
    for peer in peers:
        peer.transport.abort()


async def _measure() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="sleeping-") as folder:
        store = Path(folder) / "relay.sqlite"
        return [*await _measure_in(store), _restart(store)]


def run() -> Results:
    return Results(uvloop.run(_measure()))


if __name__ == "__main__":
    main("Wallets that sleep", run)
