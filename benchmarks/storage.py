"""results.json: what was measured, in pytest-benchmark's layout, so that its `compare` reads it."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import pytest_benchmark
from pytest_benchmark.stats import Stats
from pytest_benchmark.utils import get_commit_info

from benchmarks.report import Results, Row
from lightning_proxy.bench import machine

#: The implementation that is not a rival.
OURS: Final = "ours"
_SECONDS: Final = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}


def seconds(value: float, unit: str) -> float | None:
    """What one operation takes, from a time or from a rate ("/s", "frames/s", "/CPU-s").

    None for a quantity that is no time, such as bytes.
    """
    if unit in _SECONDS:
        return value * _SECONDS[unit]
    return 1 / value if unit.endswith(("/s", "/CPU-s")) else None


def document(results: Mapping[str, Results]) -> dict[str, Any]:
    """The results by the module that they come from.

    `benchmarks` has an entry for each implementation of each row, in seconds an operation, grouped
    by the row (`pytest-benchmark compare --group-by=group`). What is no time stands beside it in
    `quantities`, in its own unit.
    """
    entries = [
        entry
        for module, result in results.items()
        for row in result.rows
        for entry in _entries(module, row)
    ]
    return {
        "machine_info": machine(),
        "commit_info": get_commit_info("lightning-proxy-server"),
        "datetime": datetime.now(UTC).isoformat(),
        "version": pytest_benchmark.__version__,
        "benchmarks": [entry for entry in entries if "stats" in entry],
        "quantities": [entry for entry in entries if "stats" not in entry],
        "missing": {module: dict(result.missing) for module, result in results.items()},
        "versions": {module: dict(result.versions) for module, result in results.items()},
    }


def _entries(module: str, row: Row) -> Iterator[dict[str, Any]]:
    """Ours first; `ratio` says how many times better ours is than this one."""
    ratios = {OURS: 1.0, **row.ratios()}
    for implementation, samples in {OURS: row.samples, **row.rivals}.items():
        entry: dict[str, Any] = {
            "group": f"{module}: {row.name}",
            "name": f"{row.name} [{implementation}]",
            "fullname": f"benchmarks/{module}.py::{row.name} [{implementation}]",
            "params": {"implementation": implementation, **row.params},
            "param": implementation,
            "extra_info": {
                "unit": row.unit,
                "samples": list(samples),
                "ratio": round(ratios[implementation], 3),
            },
            "options": {},
        }
        durations = [seconds(sample, row.unit) for sample in samples]
        stats = Stats()
        for duration in durations:
            if duration is not None:
                stats.update(duration)
        if stats:
            entry["stats"] = {**stats.as_dict(), "iterations": 1}
        yield entry
