"""The plots of RESULTS.md, as SVG files that are the same for the same numbers.

Drawn are rows whose `params` say where they belong:

- `operation` ("seal", "open") and `body` (bytes): the time of a frame against its size;
- `sessions`, of the server's processor time for a ping: pongs against sessions;
- `sessions`, of a quantity in bytes: resident memory against sessions.

`implementation` names a row's own side where that is not "ours", such as another kernel of ours.
A rival without numbers is named below the plot.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter

from benchmarks.report import Results, Row
from benchmarks.storage import OURS, seconds

#: In the order of the legend, ours first; each can be told from a white and from a dark page.
COLOURS: Final = (
    "#e8590c",
    "#1c7ed6",
    "#2b8a3e",
    "#ae3ec9",
    "#0c8599",
    "#e03131",
    "#a0673c",
    "#6b7a90",
)
#: Words, frames and grids.
GREY: Final = "#768390"
_MARKERS: Final = "os^Dv<>P"
_STYLE: Final[dict[Any, Any]] = {
    # Ids inside the file come from this instead of from chance.
    "svg.hashsalt": "lightning-proxy",
    "font.size": 9,
    "text.color": GREY,
    "axes.labelcolor": GREY,
    "axes.edgecolor": GREY,
    "axes.titlecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}

#: Points (x, y) of one line.
Line = list[tuple[float, float]]
#: Lines by name.
Lines = dict[str, Line]


class _Panel(NamedTuple):
    title: str
    xlabel: str
    ylabel: str
    lines: Lines


class Plot(NamedTuple):
    """One file: its name, what it shows, how its panels come from the rows."""

    name: str
    title: str
    panels: Callable[[Sequence[Row]], Sequence[_Panel]]
    #: The vertical axis: "log", or "linear" from zero.
    scale: str


def draw(results: Mapping[str, Results], folder: Path) -> list[tuple[Path, str]]:
    """Write the plots that there are rows for; returns each file with its title."""
    folder.mkdir(exist_ok=True)
    drawn = []
    for plot in PLOTS:
        path = folder / f"{plot.name}.svg"
        path.unlink(missing_ok=True)
        # Where a benchmark has rows to draw, the rivals that it misses are missing in the plot.
        panels: list[_Panel] = []
        missing: set[str] = set()
        for result in results.values():
            found = [panel for panel in plot.panels(result.rows) if panel.lines]
            if found:
                panels += found
                missing.update(result.missing)
        if panels:
            _draw(path, plot, panels, missing)
            drawn.append((path, plot.title))
    return drawn


def _sides(row: Row) -> dict[str, float]:
    """The median of each side by its name; rivals are drawn once, from the rows of "ours"."""
    ours = str(row.params.get("implementation", OURS))
    rivals = row.rivals if ours == OURS else {}
    return {ours: row.value, **{rival: median(each) for rival, each in rivals.items()}}


def _duration(value: float, unit: str) -> float:
    duration = seconds(value, unit)
    if duration is None:
        raise ValueError(f"{unit} is no time")
    return duration


def _frames(rows: Sequence[Row]) -> list[_Panel]:
    panels: dict[str, Lines] = {"seal": {}, "open": {}}
    for row in rows:
        if "body" not in row.params:
            continue
        lines = panels[str(row.params["operation"])]
        for side, value in _sides(row).items():
            duration = _duration(value, row.unit)
            lines.setdefault(side, []).append((float(row.params["body"]), duration))
    return [_Panel(name, "body, bytes", "a frame", lines) for name, lines in panels.items()]


def _against_sessions(rows: Sequence[Row], ylabel: str, y: Callable[[float, str], float]) -> _Panel:
    lines: Lines = {}
    for row in rows:
        for side, value in _sides(row).items():
            point = (float(row.params["sessions"]), y(value, row.unit))
            lines.setdefault(side, []).append(point)
    return _Panel("", "sessions", ylabel, lines)


def _pongs(rows: Sequence[Row]) -> list[_Panel]:
    chosen = [row for row in rows if "sessions" in row.params and row.unit != "B"]
    ylabel = "pongs per CPU-second of the server"
    return [_against_sessions(chosen, ylabel, lambda value, unit: 1 / _duration(value, unit))]


def _memory(rows: Sequence[Row]) -> list[_Panel]:
    chosen = [row for row in rows if "sessions" in row.params and row.unit == "B"]
    return [_against_sessions(chosen, "bytes per idle session", lambda value, _: value)]


PLOTS: Final = (
    Plot("frames", "Time of a frame against its size", _frames, "log"),
    Plot("pongs", "Pongs per CPU-second against sessions", _pongs, "linear"),
    Plot("memory", "Resident memory of a session against sessions", _memory, "linear"),
)


def _draw(path: Path, plot: Plot, panels: Sequence[_Panel], missing: Collection[str]) -> None:
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    names.sort(key=lambda name: not name.startswith(OURS))
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.0 + 4.0 * (len(panels) - 1) + 1.0, 4.2), layout="constrained")
        every = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axes, panel in zip(every, panels, strict=True):
            _draw_panel(axes, panel, names, plot.scale)
        every[0].set_ylabel(panels[0].ylabel)
        handles, labels = _legend(every, names)
        note = f"missing: {', '.join(sorted(missing))}" if missing else None
        columns = min(4, len(names))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, title=note)
        figure.suptitle(plot.title, color=GREY)
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})


def _draw_panel(axes: Axes, panel: _Panel, names: Sequence[str], scale: str) -> None:
    for name, line in panel.lines.items():
        index = names.index(name)
        x, y = zip(*sorted(line), strict=True)
        # Ours and its other kernels share a colour; rivals have one each.
        is_ours = name.startswith(OURS)
        rival = index - sum(each.startswith(OURS) for each in names)
        axes.plot(
            x,
            y,
            label=name,
            color=COLOURS[0] if is_ours else COLOURS[1 + rival % (len(COLOURS) - 1)],
            marker=_MARKERS[index % len(_MARKERS)],
            markersize=4,
            linewidth=2.4 if name == OURS else 1.4,
            linestyle=":" if is_ours and name != OURS else "-",
        )
    axes.set_title(panel.title)
    axes.set_xlabel(panel.xlabel)
    axes.grid(visible=True)
    axes.set_xscale("log")
    points = sorted({x for line in panel.lines.values() for x, _ in line})
    axes.set_xticks(points, [f"{x:,.0f}" for x in points], rotation=60)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    axes.set_yscale(scale)
    if scale == "linear":
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(EngFormatter("s" if scale == "log" else ""))


def _legend(every: Sequence[Axes], names: Sequence[str]) -> tuple[list[Artist], list[str]]:
    """The handle of each name, once, from whichever panel has it."""
    handles = {
        label: handle
        for axes in every
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    return [handles[name] for name in names], list(names)
