"""What a benchmark returns: rows of named samples, ours beside each rival's of the same run."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from lightning_proxy.bench import machine


@dataclass(frozen=True)
class Row:
    """One measured quantity: our samples, and those of rivals that took turns with us.

    A ratio says how many times better ours is: `ours / rival` where more is better,
    `rival / ours` where less is (nanoseconds, bytes). `params` are what was varied, for
    results.json and the plots (plots.py says which ones it draws).
    """

    name: str
    unit: str
    samples: Sequence[float]
    rivals: Mapping[str, Sequence[float]] = field(default_factory=dict)
    more_is_better: bool = True
    params: Mapping[str, int | str] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The median of our samples."""
        return median(self.samples)

    def ratios(self) -> dict[str, float]:
        """How many times better ours is than each rival."""
        values = {rival: median(samples) for rival, samples in self.rivals.items()}
        if self.more_is_better:
            return {rival: self.value / value for rival, value in values.items()}
        return {rival: value / self.value for rival, value in values.items()}


@dataclass(frozen=True)
class Results:
    """The rows of one benchmark.

    `missing` are the rivals that could not take part, each with the reason; `versions` are those of
    the rivals that did.
    """

    rows: Sequence[Row]
    missing: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """One object; `ratios` holds every ratio by name."""
        return {
            "machine": machine(),
            "ratios": {
                f"{row.name} / {rival}": round(ratio, 3)
                for row in self.rows
                for rival, ratio in row.ratios().items()
            },
            "medians": {row.name: {"value": row.value, "unit": row.unit} for row in self.rows},
            "missing": dict(self.missing),
            "versions": dict(self.versions),
        }


def table(results: Results) -> str:
    """A Markdown table: ours, and a column for each rival with what it reached and our ratio."""
    rivals = list(dict.fromkeys(rival for row in results.rows for rival in row.rivals))
    lines = [
        " | ".join(["| what", "ours", *rivals]) + " |",
        "|---|" + "---:|" * (1 + len(rivals)),
    ]
    for row in results.rows:
        ratios = row.ratios()
        cells = [
            f"{number(median(row.rivals[rival]))} ({ratios[rival]:.2f}x)" if rival in ratios else ""
            for rival in rivals
        ]
        lines.append(" | ".join([f"| {row.name}, {row.unit}", number(row.value), *cells]) + " |")
    lines += [f"\nMissing: {rival} ({reason})" for rival, reason in results.missing.items()]
    return "\n".join(lines)


def number(value: float) -> str:
    """Three significant digits at least, thousands apart."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def interleaved(rounds: int, *measures: Callable[[], float]) -> list[list[float]]:
    """The samples of several measures that take turns, so that a noisy moment hits them all."""
    samples: list[list[float]] = [[] for _ in measures]
    for _ in range(rounds):
        for each, measure in zip(samples, measures, strict=True):
            each.append(measure())
    return samples


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


_show: Callable[[str], None] = _to_stderr


def progress(text: str) -> None:
    """What is under way: a line on standard error, or what `showing` put in its place."""
    _show(text)


@contextmanager
def showing(show: Callable[[str], None]) -> Iterator[None]:
    """Meanwhile `show` gets what is under way."""
    global _show  # noqa: PLW0603 - one program, one display
    _show = show
    try:
        yield
    finally:
        _show = _to_stderr


def main(title: str, run: Callable[[], Results]) -> None:
    """The command line of one benchmark module."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    results = run()
    print(json.dumps(results.to_json()) if arguments.json else table(results))
