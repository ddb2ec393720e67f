"""How many frames one core seals and opens, through the same calls as the relay's."""

import secrets
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Final

from lightning_proxy.bench.figures import Figure
from lightning_proxy.transport import CipherState

#: Bytes: a ping, what most of the protocol's messages are below, a page of gossip, the longest.
_SIZES: Final = (20, 150, 1_500, 65_535)
#: Frames a call: what one read of a busy socket brings.
_BATCH: Final = 16
_ROUNDS: Final = 5


def measure_frames(seconds: float) -> Iterator[Figure]:
    """Takes about so long in all; each figure is the median of some rounds."""
    share = seconds / len(_SIZES) / 2
    key, chaining_key = secrets.token_bytes(32), secrets.token_bytes(32)
    for size in _SIZES:
        messages = [bytes(size)] * _BATCH
        sealing = CipherState(key, chaining_key)
        seal = partial(_seal, sealing, messages)
        yield Figure(f"seal {size:,} bytes", _rate(seal, share), "/s")
        # What is opened must have been sealed just so; part of the time goes into that.
        sealing, opening = CipherState(key, chaining_key), CipherState(key, chaining_key)
        open_ = partial(_open, sealing, opening, messages)
        yield Figure(f"open {size:,} bytes", _rate(open_, share), "/s")


def _seal(state: CipherState, messages: list[bytes]) -> float:
    started = time.perf_counter()
    state.seal_many(messages)
    return time.perf_counter() - started


def _open(sealing: CipherState, opening: CipherState, messages: list[bytes]) -> float:
    frames = bytearray(sealing.seal_many(messages))
    started = time.perf_counter()
    opening.open(frames)
    return time.perf_counter() - started


def _rate(measure: Callable[[], float], seconds: float) -> float:
    """Frames a second: the median of the rounds, each of many batches."""
    rates = []
    for _ in range(_ROUNDS):
        end = time.perf_counter() + seconds / _ROUNDS
        batches = spent = 0.0
        while time.perf_counter() < end or not batches:
            spent += measure()
            batches += 1
        rates.append(batches * _BATCH / spent)
    return median(rates)
