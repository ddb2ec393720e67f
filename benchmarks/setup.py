"""How many sessions a second can wallets set up, over REST and over the websocket?

A set-up is the whole of it: the wallet's request, the dial, acts one to three, both `init`s and the
relay's gossip filter, up to the last answer to the wallet. One process plays wallets and peers
(`rehearsed.py`, `wallets.py`) beside the relay's; every byte that they hear is compared, and a
sample of the sessions has to answer a ping.
"""

import asyncio
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import cycle, islice
from typing import Final

import uvloop

from benchmarks.rehearsed import Peer, listening, until
from benchmarks.report import Results, Row, main, progress
from benchmarks.serving import Relay, relay
from benchmarks.wallets import RestWallet, SocketSetUps, socket_wallet

#: Sessions a round, under the default cap of 4,000 over REST.
_SESSIONS: Final = 2000
_ROUNDS: Final = 5
#: Keep-alive connections over REST.
_CONNECTIONS: Final = 50
#: Wallets over the websocket, with as many sessions each as the relay allows by default.
_WALLETS: Final = 20
_IN_FLIGHT: Final = 4
#: Every so many sessions, one has to answer a ping.
_SAMPLE: Final = 50

#: Sets up a session with each peer.
SetUp = Callable[[Iterator[str]], Awaitable[object]]
#: Twenty wallets do the work of thousands here: their own limits are not what is measured.
_LIMITS: Final = {"LIGHTNING_PROXY_API_LIMITS_DIALS_PER_WALLET_BURST": "1000000"}


async def _rest(server: Relay) -> SetUp:
    host = server.url.partition("//")[2]
    loop = asyncio.get_running_loop()
    wallets = []
    for _ in range(_CONNECTIONS):
        _, wallet = await loop.create_connection(lambda: RestWallet(host), "127.0.0.1", server.port)
        wallets.append(wallet)
    return lambda peers: asyncio.gather(*(wallet.set_up(peers) for wallet in wallets))


async def _socket(server: Relay) -> SetUp:
    wallets = [SocketSetUps(await socket_wallet(server.url, server.port)) for _ in range(_WALLETS)]

    def set_up(peers: Iterator[str]) -> Awaitable[object]:
        share = _SESSIONS // _WALLETS
        return asyncio.gather(
            *(wallet.set_up(islice(peers, share), _IN_FLIGHT) for wallet in wallets)
        )

    return set_up


def _no_sessions(server: Relay) -> bool:
    with urllib.request.urlopen(f"{server.url}/metrics") as response:  # noqa: S310
        return b'sessions{state="ready"} 0.0' in response.read()


async def _round(
    server: Relay, set_up: SetUp, addresses: Sequence[str], ready: list[Peer]
) -> tuple[float, float]:
    """Set-ups a second, of the clock and of the relay's processor time."""
    peers = islice(cycle(addresses), _SESSIONS)
    cpu, started = server.cpu_seconds(), time.perf_counter()
    await set_up(peers)
    elapsed, cpu = time.perf_counter() - started, server.cpu_seconds() - cpu
    await until(lambda: len(ready) == _SESSIONS)
    there = ready.copy()
    ready.clear()
    sample = there[::_SAMPLE]
    for peer in sample:
        peer.ping()
    await until(lambda: len(ready) == len(sample))
    ready.clear()
    for peer in there:
        peer.transport.abort()
    while not await asyncio.to_thread(_no_sessions, server):  # noqa: ASYNC110 - not measured
        await asyncio.sleep(0.05)
    return _SESSIONS / elapsed, _SESSIONS / cpu


async def _measure() -> list[Row]:
    ready: list[Peer] = []
    rows = []
    async with listening(lambda: Peer(ready.append)) as addresses:
        for name, prepare in (("REST", _rest), ("the websocket", _socket)):
            with relay(environment=_LIMITS) as server:
                set_up = await prepare(server)
                progress(f"sessions over {name}: {_ROUNDS} times {_SESSIONS}")
                await _round(server, set_up, addresses, ready)
                samples = [await _round(server, set_up, addresses, ready) for _ in range(_ROUNDS)]
            by_clock, by_cpu = zip(*samples, strict=True)
            rows += [
                Row(f"sessions set up over {name}", "/s", by_clock),
                Row(f"sessions set up over {name}, by the relay's processor", "/CPU-s", by_cpu),
            ]
    return rows


def run() -> Results:
    return Results(uvloop.run(_measure()))


if __name__ == "__main__":
    main("Sessions a second", run)
