"""Lists for people: a table where it fits the screen, else each thing line by line.

Ids are to be copied, so nothing is ever cut off.
"""

from collections.abc import Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text


def show(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    """Print these rows."""
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    wanted = Measurement.get(console, console.options.update(max_width=_MEASURED), table).maximum
    if wanted <= console.width:
        console.print(table)
        return
    width = max(map(len, columns))
    for number, row in enumerate(rows):
        if number:
            console.print()
        for name, cell in zip(columns, row, strict=True):
            text = cell if isinstance(cell, Text) else Text(cell)
            lines = text.split("\n") or [Text()]
            for at, line in enumerate(lines):
                label = Text(f"{'' if at else name:<{width}}  ", style="bold")
                console.print(label + line, soft_wrap=True)


#: Wider than any table of ours.
_MEASURED = 10_000
