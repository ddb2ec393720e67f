"""Lists for people: a table where it fits the screen, else each thing line by line.

Ids are to be copied, so nothing is ever cut off.
"""

from collections.abc import Sequence
from textwrap import TextWrapper
from typing import Final

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from lightning_proxy.terminal import plain

#: Wider than any table of ours.
_MEASURED: Final = 10_000
#: Between a name and what it has.
_GAP: Final = 2


def show(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    """Print these rows; a `Text` is shown as it is, a string on one line of its cell."""
    shown = [[cell if isinstance(cell, Text) else plain(cell) for cell in row] for row in rows]
    table = Table(*columns)
    for row in shown:
        table.add_row(*row)
    wanted = Measurement.get(console, console.options.update(max_width=_MEASURED), table).maximum
    if wanted <= console.width:
        console.print(table)
        return
    width = max(map(len, columns))
    for number, row in enumerate(shown):
        if number:
            console.print()
        for name, cell in zip(columns, row, strict=True):
            for at, line in enumerate(_lines(str(cell), console.width - width - _GAP)):
                label = Text(f"{'' if at else name:<{width + _GAP}}", style="bold")
                console.print(label + line, soft_wrap=True)


def _lines(text: str, width: int) -> list[str]:
    """Broken between words; what has none and is longer stays whole."""
    wrapping = TextWrapper(max(width, 1), break_long_words=False, break_on_hyphens=False)
    return [line for each in text.split("\n") for line in wrapping.wrap(each) or [""]]
