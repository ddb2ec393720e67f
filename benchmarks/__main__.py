"""`python -m benchmarks`: every benchmark; results.json, RESULTS.md and the plots."""

import argparse
import json
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.plots import draw
from benchmarks.report import Results, showing, table
from benchmarks.storage import document
from lightning_proxy.bench import machine

#: Modules with a `run`, and their headings.
BENCHMARKS: Final = {
    "frames": "Frames on one core",
    "pong": "Pongs",
    "density": "Many sessions in one process",
    "setup": "Setting sessions up",
    "signing": "From open_channel to accept_channel",
    "sleeping": "Wallets that sleep",
    "payments": "Payments",
}


def run_all(names: Sequence[str], console: Console) -> tuple[dict[str, Results], dict[str, str]]:
    """The results by module, and the tracebacks of those modules that failed."""
    results, failures = {}, {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as display:
        task = display.add_task("", total=len(names))

        def show(text: str) -> None:
            display.update(task, description=f"[bold]{name}[/]: {text}")
            if not console.is_terminal:
                console.print(f"{name}: {text}", markup=False)

        with showing(show):
            for name in names:
                show("starting")
                try:
                    results[name] = import_module(f"benchmarks.{name}").run()
                except Exception:  # noqa: BLE001 - what the others measured is kept
                    failures[name] = traceback.format_exc()
                display.advance(task)
    return results, failures


def markdown(
    results: Mapping[str, Results], failures: Mapping[str, str], plots: Sequence[tuple[Path, str]]
) -> Iterator[str]:
    """The lines of RESULTS.md."""
    yield from (
        "# Results",
        "",
        "Made by `make bench`; [README.md](README.md) says how to read it.",
    )
    yield ""
    versions = {
        rival: version for result in results.values() for rival, version in result.versions.items()
    }
    for name, value in {**machine(), **versions}.items():
        yield f"- {name}: {value}"
    for name, title in BENCHMARKS.items():
        if name in results:
            yield from ("", f"## {title}", "", table(results[name]))
        elif name in failures:
            reason = failures[name].strip().splitlines()[-1]
            yield from ("", f"## {title}", "", f"Failed: {reason}")
    for path, title in plots:
        yield from ("", f"![{title}](plots/{path.name})")


def main() -> int:
    """Run them; returns the exit code, 1 where one failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="the folder")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        parser.error(f"there is no {', '.join(sorted(unknown))}, but {', '.join(BENCHMARKS)}")
    console = Console(stderr=True, highlight=False)
    results, failures = run_all(arguments.names or list(BENCHMARKS), console)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    text = "\n".join(markdown(results, failures, draw(results, out / "plots"))) + "\n"
    (out / "RESULTS.md").write_text(text)
    (out / "results.json").write_text(json.dumps(document(results), indent=1) + "\n")
    print(text)
    for name, failure in failures.items():
        console.print(f"{name} failed:\n{failure}", style="red", markup=False)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
