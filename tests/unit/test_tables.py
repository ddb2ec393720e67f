"""Lists on screens of all widths."""

from io import StringIO

import pytest
from rich.console import Console
from rich.text import Text

from lightning_proxy import tables

COLUMNS = ("channel", "peer", "state")
ROWS: list[tuple[str | Text, ...]] = [
    ("ab" * 32, "02" * 33, "open"),
    ("cd" * 32, Text("03" * 33), Text("closed on\nthe chain")),
]


@pytest.mark.parametrize("width", [20, 80, 100, 170, 300])
def test_nothing_is_cut_and_everything_fits_that_can(width: int) -> None:
    out = StringIO()
    tables.show(Console(file=out, width=width, soft_wrap=True), COLUMNS, ROWS)
    text = out.getvalue()
    for whole in ("ab" * 32, "cd" * 32, "02" * 33, "03" * 33, "closed on", "the chain", *COLUMNS):
        assert whole in text
    if width in (80, 100):
        # Too narrow for the table: a line each.
        assert max(map(len, text.splitlines())) <= 80
        assert "channel  " + "ab" * 32 in text
