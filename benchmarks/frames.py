"""How long does one core take to seal and open a frame, from the shortest to the longest?

Our kernel, the others of ours that this CPU has, and other ChaCha20-Poly1305 transports in C, Go
and Rust, in one process (`rivals/frames.py`). A frame is whole: header and body, the key rotated
after each 500. All seal to the same bytes, or they don't take part.

"8 queued" are frames that wait for one write; the rivals seal them one by one. The last rows are
the same through Python, beside `reference.py` on pycryptodome.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from benchmarks.report import Results, Row, interleaved, main, progress
from benchmarks.rivals import RivalMissing
from benchmarks.rivals.frames import RIVALS, Implementation, Ours, rival
from lightning_proxy.transport import CipherState, kernel_name
from lightning_proxy.transport.frame import kernel_names
from lightning_proxy.transport.reference import ReferenceCipherState

#: Bytes of a body.
_SIZES: Final = (20, 50, 150, 300, 450, 832, 1500, 4096, 16_384, 65_535)
#: For kernels of ours that are not the best that this CPU has.
_KERNEL_SIZES: Final = (20, 150, 450, 1500, 16_384)
_QUEUED_SIZE: Final = 150
_PYTHON_SIZES: Final = (150, 1500, 16_384)
_ROUNDS: Final = 25
#: Nanoseconds of a sample.
_SAMPLE: Final = 5e6
#: Frames of the first one, which says how many the others take.
_TRIAL: Final = 20
#: Frames a call from Python: what one read of a busy socket brings.
_BATCH: Final = 16
_KEY: Final = b"\x01" * 32

#: The time of a frame, for bodies so long and so many frames.
Measure = Callable[[int, int], float]


def _sampler(measure: Measure, size: int) -> Callable[[], float]:
    """Takes one sample."""
    return partial(measure, size, max(_TRIAL, int(_SAMPLE / measure(size, _TRIAL))))


def _rows(
    operation: str, size: int, ours: Measure, others: dict[str, Measure], rivals: dict[str, Measure]
) -> list[Row]:
    """Our best kernel against all rivals, and our others against libsodium."""
    measures = (ours, *others.values(), *rivals.values())
    samples = interleaved(_ROUNDS, *(_sampler(measure, size) for measure in measures))
    best, *rest = samples
    beside = dict(zip(rivals, rest[len(others) :], strict=True))
    name = f"{operation}, {size:,} B"
    params: dict[str, int | str] = {"operation": operation, "body": size}
    rows = [Row(name, "ns", best, beside, more_is_better=False, params=params)]
    first = {name: beside[name] for name in ("libsodium",) if name in beside}
    for kernel, each in zip(others, rest, strict=False):
        own = {**params, "implementation": f"ours, {kernel}"}
        rows.append(Row(f"{name}, {kernel}", "ns", each, first, more_is_better=False, params=own))
    return rows


def _queued(ours: Ours, rivals: Sequence[Implementation]) -> Row:
    measures = (ours.seal_queued, *(each.seal for each in rivals))
    best, *rest = interleaved(_ROUNDS, *(_sampler(measure, _QUEUED_SIZE) for measure in measures))
    beside = dict(zip((each.name for each in rivals), rest, strict=True))
    return Row(f"seal, {_QUEUED_SIZE} B, 8 queued", "ns", best, beside, more_is_better=False)


def _from_python(seal_many: Callable[[list[bytes]], object], size: int) -> float:
    """Frames a second."""
    messages = [bytes(size)] * _BATCH
    calls = max(1, 200_000 // (size + 1000))
    started = time.perf_counter()
    for _ in range(calls):
        seal_many(messages)
    return calls * _BATCH / (time.perf_counter() - started)


def _python_row(size: int) -> Row:
    reference = ReferenceCipherState(_KEY, _KEY)

    def seal_many(messages: list[bytes]) -> bytes:
        return b"".join(map(reference.seal, messages))

    ours, theirs = interleaved(
        _ROUNDS,
        lambda: _from_python(CipherState(_KEY, _KEY).seal_many, size),
        lambda: _from_python(seal_many, size),
    )
    name = f"seal_many from Python, {size:,} B"
    return Row(name, "frames/s", ours, {"pycryptodome": theirs})


def run() -> Results:
    progress("our kernels")
    ours = Ours(kernel_name())
    others = [Ours(kernel) for kernel in kernel_names() if kernel != ours.name]
    rivals: list[Implementation] = []
    missing: dict[str, str] = {}
    for name in RIVALS:
        progress(name)
        try:
            rivals.append(rival(name))
        except RivalMissing as reason:
            missing[name] = str(reason)
    rows = []
    for operation in ("seal", "open"):
        for size in _SIZES:
            progress(f"{operation} {size:,} bytes")
            own, kernels, theirs = (
                {each.name: getattr(each, operation) for each in side}
                for side in ([ours], others if size in _KERNEL_SIZES else [], rivals)
            )
            rows += _rows(operation, size, own[ours.name], kernels, theirs)
    rows.append(_queued(ours, rivals))
    progress("from Python")
    rows += map(_python_row, _PYTHON_SIZES)
    return Results(rows, missing, {each.name: each.version for each in rivals})


if __name__ == "__main__":
    main("The time of a frame on one core", run)
