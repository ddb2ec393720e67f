"""How many payments a second does one relay take to its wallets, and how long does one take?

Three processes: a peer that pays, the relay with its store on disk, and the wallets that are paid.
Each wallet has one channel (option_anchors) and one session. Peer and wallets rebuild, check and
sign every commitment, and wallets peel each onion; they keep no record, which for a real wallet is
on another machine. A payment counts when the peer has its preimage, as a node's own count would.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Final, NamedTuple

from benchmarks.load import resident_bytes
from benchmarks.moving.channels import Channel, ready, store
from benchmarks.moving.peer import peer
from benchmarks.moving.process import Part, part
from benchmarks.moving.wallet import wallets
from benchmarks.report import Results, Row, main, progress
from benchmarks.serving import Relay, relay

#: Channels, and payments under way on each of them.
_LOADS: Final = ((1, 20), (100, 1), (1000, 1))
_ROUNDS: Final = 5
#: Seconds a round.
_SECONDS: Final = 3.0
#: Payments that are made one after the other.
_UNLOADED: Final = 300
_SHARES: Final = ("the peer's share", "the relay's share", "the wallets' share")
_ENDS: Final = ("to its preimage", "to its end")
#: The peer answers no ping; a thousand wallets in one process answer none within two seconds.
_SETTINGS: Final = {
    "LIGHTNING_PROXY_RELAY_PING_INTERVAL": "3600",
    "LIGHTNING_PROXY_RELAY_WALLET_PONG_TIMEOUT": "60",
}


class _Stage(NamedTuple):
    """All three, with every channel re-established."""

    payer: Part
    server: Relay
    paid: Part

    def cpu_seconds(self) -> list[float]:
        """Of each, so far."""
        return [
            self.payer.cpu_seconds(),
            self.server.cpu_seconds(),
            self.paid.cpu_seconds(),
        ]


@contextmanager
def _stage(channels: list[Channel]) -> Iterator[_Stage]:
    with tempfile.TemporaryDirectory(prefix="lightning-proxy-") as folder:
        path = Path(folder) / "relay.sqlite"
        asyncio.run(store(channels, path))
        with part(peer, channels) as payer:
            addresses = payer.ask("addresses")
            with (
                relay("--store", str(path), environment=_SETTINGS) as server,
                part(wallets, channels, server.url, server.port, addresses) as paid,
            ):
                paid.ask("ready")
                while payer.ask("connected") < len(channels):
                    pass
                yield _Stage(payer, server, paid)


def _loaded(count: int, under_way: int) -> Iterator[Row]:
    progress(f"{count:,} channels: opening")
    with _stage(ready(count)) as stage:
        progress(f"{count:,} channels, {under_way} payments under way on each")
        ahead = max(3, 3000 // count)
        stage.payer.ask("load", under_way, 1.0, ahead)
        rates, by_cpu, shares = [], [], []
        for _ in range(_ROUNDS):
            cpus = stage.cpu_seconds()
            payments, elapsed = stage.payer.ask("load", under_way, _SECONDS, ahead)
            used = [now - then for now, then in zip(stage.cpu_seconds(), cpus, strict=True)]
            rates.append(payments / elapsed)
            by_cpu.append(payments / used[1])
            shares.append([1000 * each / payments for each in used])
        name = f"payments, {count:,} channel" + "s" * (count > 1)
        yield Row(name, "/s", rates)
        yield Row(f"{name}, by the relay's processor", "/CPU-s", by_cpu)
        for whose, samples in zip(_SHARES, zip(*shares, strict=True), strict=True):
            yield Row(f"{name}: {whose}", "CPU-ms", samples, more_is_better=False)
        if count == 1:
            yield from _unloaded(stage)
        else:
            size = resident_bytes(stage.server.pid)
            yield Row(f"{name}: the relay's memory", "MB", [size / 1e6], more_is_better=False)


def _unloaded(stage: _Stage) -> Iterator[Row]:
    progress(f"{_UNLOADED} payments one at a time")
    times = stage.payer.ask("one_at_a_time", _UNLOADED)
    for what, samples in zip(_ENDS, zip(*times, strict=True), strict=True):
        percentiles = quantiles(samples, n=100)
        for at in (50, 99):
            name = f"a payment, one at a time, {what}, p{at}"
            yield Row(name, "ms", [percentiles[at - 1]], more_is_better=False)


def run() -> Results:
    return Results([row for load in _LOADS for row in _loaded(*load)])


if __name__ == "__main__":
    main("Payments", run)
