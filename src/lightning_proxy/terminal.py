"""Whatever is shown on a terminal: nothing in it that a terminal obeys, no line that isn't ours.

Much of it are strangers' words: peers', relays', push services'.
"""

import re
from typing import Final

from rich.text import Text

#: Characters of a stranger's words: a sentence or two.
_MAX_QUOTED: Final = 500
#: They look like a space, and count as letters and symbols.
_BLANKS: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")
#: Wider than any gap of ours; it could push what follows to the beginning of a line.
_WIDE_GAP: Final = re.compile(" {5,}")


def flat(line: str) -> str:
    """One line of text, with a `?` for each character that is no part of one.

    Those are line breaks and controls, the invisible ones that reorder text (`Cf`) included.
    """
    shown = "".join(char if char.isprintable() and char not in _BLANKS else "?" for char in line)
    return _WIDE_GAP.sub("    ", shown)


def plain(*lines: str, style: str = "") -> Text:
    """These lines, each `flat`, and without markup."""
    return Text("\n".join(map(flat, lines)), style)


def quoted(words: bytes) -> str:
    """What a peer said, in quotation marks.

    BOLT #1: what is not printable ASCII is not to be shown as it is.
    """
    text = words[: _MAX_QUOTED + 1].decode("latin-1")
    shown = "".join(char if " " <= char <= "~" else "?" for char in text[:_MAX_QUOTED])
    return '"' + shown.replace('"', "'") + ("…" if len(text) > _MAX_QUOTED else "") + '"'
