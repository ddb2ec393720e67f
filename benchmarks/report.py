"""What a benchmark returns: rows of named samples, ours beside each rival's of the same run."""

import argparse
import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from lightning_proxy import __version__
from lightning_proxy.transport import kernel_name


@dataclass(frozen=True)
class Row:
    """One measured quantity: our samples, and those of rivals that took turns with us.

    A ratio says how many times better ours is: `ours / rival` where more is better,
    `rival / ours` where less is (nanoseconds, bytes).
    """

    name: str
    unit: str
    samples: Sequence[float]
    rivals: Mapping[str, Sequence[float]] = field(default_factory=dict)
    more_is_better: bool = True

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
    """The rows of one benchmark, and the rivals that could not take part, each with the reason."""

    rows: Sequence[Row]
    missing: Mapping[str, str] = field(default_factory=dict)

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
        }


def machine() -> dict[str, str]:
    """Where the numbers come from."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return {
        "cpu": cpu,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "kernel": kernel_name(),
        "version": __version__,
    }


def table(results: Results) -> str:
    """A Markdown table: ours, and beside it each rival with the ratio."""
    lines = ["| what | ours | against |", "|---|---:|---|"]
    for row in results.rows:
        against = "; ".join(
            f"{ratio:.2f} x {rival} ({number(median(row.rivals[rival]))})"
            for rival, ratio in row.ratios().items()
        )
        lines.append(f"| {row.name} | {number(row.value)} {row.unit} | {against} |")
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


def progress(text: str) -> None:
    """What is under way, to the terminal's standard error."""
    print(text, file=sys.stderr, flush=True)


def main(title: str, run: Callable[[], Results]) -> None:
    """The command line of one benchmark module."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    results = run()
    print(json.dumps(results.to_json()) if arguments.json else table(results))
