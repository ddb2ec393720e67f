"""`python -m tests.soak`: the random-kill suite; exit code 1 where anything went wrong."""

import argparse
import asyncio
import json
import secrets
import signal
import sys
from contextlib import suppress

import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.soak import __doc__ as description
from tests.soak.run import LabError, Soak
from tests.soak.tally import Tally


async def soak(tally: Tally, kills: int, store: str | None, console: Console) -> None:
    """Run it, up to the end or to Ctrl-C; `tally` has what it saw."""
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as display:
        task = display.add_task("", total=kills)

        def report() -> None:
            text = f"{tally.sent:,} sent, {tally.settled:,} settled, {tally.faults.total()} wrong"
            display.update(task, completed=tally.kills, description=text)

        running = asyncio.create_task(Soak(tally, kills, report, store).run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, running.cancel)
        with suppress(asyncio.CancelledError):
            await running


def table(tally: Tally) -> Table:
    """What was counted."""
    rows = Table(title=f"soak, seed {tally.seed}", show_header=False)
    rows.add_column()
    rows.add_column(justify="right")
    for name, value in tally.numbers().items():
        rows.add_row(name.replace("_", " "), f"{value:,}" if name != "seed" else str(value))
    return rows


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=200, help="how often (default: 200)")
    parser.add_argument("--seed", type=int, help="of all dice; default: a fresh one")
    parser.add_argument("--store", metavar="URL", help="the relay's store; default: SQLite")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    console = Console(stderr=True, highlight=False)
    console.print(f"seed {seed}")
    tally = Tally(seed)
    try:
        uvloop.run(soak(tally, options.kills, options.store, console))
    except LabError as error:
        console.print(str(error), style="red", markup=False)
    if options.json:
        print(json.dumps(tally.to_json()))
    else:
        Console(highlight=False).print(table(tally))
    for sentence in tally.sentences:
        console.print(sentence, style="red", markup=False)
    if not tally.finished:
        console.print("it did not come to its end", style="red")
    return 0 if tally.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
