"""How results look: rows of named numbers, as JSON or as a Markdown table."""

import argparse
import json
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from lightning_proxy import __version__
from lightning_proxy.transport import kernel_name


@dataclass(frozen=True)
class Row:
    """One measured number; `ratio` compares it with `against`, measured in the same run."""

    name: str
    value: float
    unit: str
    ratio: float | None = None
    against: str = ""


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


def table(rows: list[Row]) -> str:
    """A Markdown table."""
    lines = ["| what | measured | ratio |", "|---|---:|---|"]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f} x {row.against}"
        lines.append(f"| {row.name} | {number(row.value)} {row.unit} | {ratio} |")
    return "\n".join(lines)


def number(value: float) -> str:
    """Three significant digits, thousands apart."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def interleaved(rounds: int, *measures: Callable[[], float]) -> list[float]:
    """The medians of several measures that take turns, so that a noisy moment hits them all."""
    results: list[list[float]] = [[] for _ in measures]
    for _ in range(rounds):
        for result, measure in zip(results, measures, strict=True):
            result.append(measure())
    return [median(result) for result in results]


def progress(text: str) -> None:
    """What is under way, to the terminal's standard error."""
    print(text, file=sys.stderr, flush=True)


def main(title: str, run: Callable[[], list[Row]]) -> None:
    """The command line of one benchmark module."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    rows = run()
    if arguments.json:
        print(json.dumps({"machine": machine(), "results": [asdict(row) for row in rows]}))
    else:
        print(table(rows))
