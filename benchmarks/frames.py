"""How many frames a second does one core seal and open?

Beside it in the same run: `reference.py`, which is the same on pycryptodome's ChaCha20-Poly1305.
"""

import time

from benchmarks.report import Results, Row, interleaved, main, progress
from lightning_proxy.transport import CipherState
from lightning_proxy.transport.reference import ReferenceCipherState

_KEY = b"\x01" * 32
_SIZES = (20, 150, 1500, 16_384, 65_535)
_ROUNDS = 7
#: Frames a call: what one read of a busy socket brings.
_BATCH = 16


def _seal(state: CipherState, message: bytes, calls: int) -> float:
    messages = [message] * _BATCH
    started = time.perf_counter()
    for _ in range(calls):
        state.seal_many(messages)
    return calls * _BATCH / (time.perf_counter() - started)


def _open(message: bytes, calls: int) -> float:
    sending, receiving = CipherState(_KEY, _KEY), CipherState(_KEY, _KEY)
    streams = [sending.seal_many([message] * _BATCH) for _ in range(calls)]
    started = time.perf_counter()
    for stream in streams:
        receiving.open(stream)
    return calls * _BATCH / (time.perf_counter() - started)


def _reference(message: bytes, calls: int) -> float:
    state = ReferenceCipherState(_KEY, _KEY)
    started = time.perf_counter()
    for _ in range(calls):
        state.seal(message)
    return calls / (time.perf_counter() - started)


def run() -> Results:
    rows = []
    for size in _SIZES:
        progress(f"frames of {size} bytes")
        message = bytes(size)
        state = CipherState(_KEY, _KEY)
        calls = max(20, 400_000 // (size + 200))
        seal, opened, reference = interleaved(
            _ROUNDS,
            lambda: _seal(state, message, calls),  # noqa: B023 - called before the loop goes on
            lambda: _open(message, calls),  # noqa: B023
            lambda: _reference(message, calls),  # noqa: B023
        )
        rivals = {"pycryptodome": reference}
        rows += [
            Row(f"seal, {size:,} B", "frames/s", seal, rivals),
            Row(f"open, {size:,} B", "frames/s", opened, rivals),
        ]
    return Results(rows)


if __name__ == "__main__":
    main("Frames a second on one core", run)
