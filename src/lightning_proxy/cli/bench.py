"""`lightning-proxy bench`: what this machine can do, in twenty seconds."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import aclosing
from typing import Annotated, Final

import msgspec
import typer
import uvloop
from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Column, Table
from rich.text import Text

from lightning_proxy.bench import (
    BenchFailed,
    Figure,
    machine,
    measure_frames,
    measure_sessions,
)
from lightning_proxy.cli.machine import SPARE_FILES, raise_file_limit

_FAILED: Final = 1
_INTERRUPTED: Final = 130
#: The shares of the time that frames and pings get; starting and setting up take the rest.
_FRAMES: Final = 0.3
_PINGS: Final = 0.45

app = typer.Typer(add_completion=False)


@app.command()
def bench(
    seconds: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="How long to measure, about.")
    ] = 20.0,
    sessions: Annotated[
        int, typer.Option(min=1, max=4_000, help="Sessions, as far as the file limit allows.")
    ] = 1_000,
    json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> None:
    """Measure what this machine can do.

    Frames are sealed and opened on one core. Then a relay of its own runs on this machine, sets up
    sessions with peers that play in this process, and answers their pings. "/s" is by the clock,
    which shares the machine with wallet and peers; "/CPU-s" is per second of the relay's processor
    time (on Linux), which is what a machine's capacity follows from.
    """
    figures: list[Figure] = []
    sessions = min(sessions, max(1, raise_file_limit() - SPARE_FILES))
    try:
        with Live(console=Console(stderr=True), transient=True) as live:

            def found(figure: Figure) -> None:
                figures.append(figure)
                live.update(Group(_table(figures), Spinner("dots", "measuring")))

            live.update(Spinner("dots", "measuring"))
            _measure(found, sessions, seconds)
    except BenchFailed as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(_FAILED) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(_INTERRUPTED) from None
    if json:
        typer.echo(msgspec.json.encode({"machine": machine(), "figures": figures}).decode())
    else:
        console = Console(highlight=False, soft_wrap=True)
        console.print(_table(figures))
        console.print(Text("\n".join(f"{name:8} {value}" for name, value in machine().items())))


def _measure(found: Callable[[Figure], None], sessions: int, seconds: float) -> None:
    for figure in measure_frames(seconds * _FRAMES):
        found(figure)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_measure_sessions(found, sessions, seconds * _PINGS))


async def _measure_sessions(found: Callable[[Figure], None], sessions: int, seconds: float) -> None:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - for the type checker: this runs in one
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with aclosing(measure_sessions(sessions, seconds)) as measuring:
        async for figure in measuring:
            found(figure)


def _table(figures: list[Figure]) -> Table:
    """A row for each thing, its rate by the clock beside that by the relay's processor."""
    rates: dict[str, dict[str, str]] = {}
    for figure in figures:
        rates.setdefault(figure.what, {})[figure.unit] = f"{figure.value:,.0f}"
    table = Table("what", Column("/s", justify="right"), Column("/CPU-s", justify="right"))
    for what, by_unit in rates.items():
        table.add_row(what, by_unit.get("/s"), by_unit.get("/CPU-s"))
    return table
