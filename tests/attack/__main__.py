"""`python -m tests.attack`: the floods; exit code 1 where a limit was missed."""

import argparse
import asyncio
import json
import signal
import sys
from contextlib import suppress
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from tests.attack import __doc__ as description
from tests.attack.floods import FLOODS
from tests.attack.run import Phase, run
from tests.interop.lab.process import LabError


async def attack(
    floods: list[str], seconds: float, python: str, phases: list[Phase], console: Console
) -> bool:
    """Run them, up to the end or to Ctrl-C; whether it came to the end."""

    def report(phase: Phase) -> None:
        phases.append(phase)
        console.print(f"{phase.flood}, {phase.phase}: {', '.join(phase.missed) or 'well'}")
        for sentence in phase.failed:
            console.print(f"  {sentence}", markup=False)

    running = asyncio.create_task(run(floods, seconds, python, report))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    with suppress(asyncio.CancelledError):
        await running
        return True
    return False


def table(phases: list[Phase]) -> Table:
    """What was measured."""
    rows = Table(title="floods, and those who mean well beside them")
    for name in ("nr", "flood", "phase"):
        rows.add_column(name)
    for name in (
        "RSS MB",
        "+MB",
        "stored MB",
        "CPU",
        "flood of",
        "refused",
        "ping p99 ms",
        "login ms",
        "dial ms",
        "lost",
        "missed",
    ):
        rows.add_column(name, justify="right")
    for each in phases:
        rows.add_row(
            str(each.number),
            each.flood,
            each.phase,
            f"{each.rss / 1e6:.0f}",
            f"{each.growth / 1e6:+.0f}",
            f"{each.stored / 1e6:.1f}",
            f"{each.cpu / each.seconds:.0%}",
            f"{each.done:,}",
            f"{each.refused:,}",
            f"{each.ping_p99 * 1e3:.1f}",
            f"{each.login * 1e3:.0f}",
            f"{each.dial * 1e3:.0f}",
            str(each.lost),
            ", ".join(each.missed),
            end_section=each.phase == "after",
        )
    return rows


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.attack",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--flood", action="append", choices=list(FLOODS), help="this one; may be repeated"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="of each phase (default: 5)")
    parser.add_argument(
        "--python", default=sys.executable, help="whose release of the relay is attacked"
    )
    parser.add_argument("--json", metavar="FILE", help="write what was measured here, too")
    options = parser.parse_args()
    console = Console(stderr=True, highlight=False)
    phases: list[Phase] = []
    finished = False
    try:
        floods = options.flood or list(FLOODS)
        finished = uvloop.run(attack(floods, options.seconds, options.python, phases, console))
    except LabError as error:
        console.print(str(error), style="red", markup=False)
    if options.json:
        found = json.dumps([each.to_json() for each in phases], indent=1)
        Path(options.json).write_text(found, encoding="utf-8")
    Console(highlight=False, width=140).print(table(phases))
    if not finished:
        console.print("it did not come to its end", style="red")
    return 0 if finished and not any(each.missed for each in phases) else 1


if __name__ == "__main__":
    sys.exit(main())
