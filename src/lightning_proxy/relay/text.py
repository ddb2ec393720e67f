"""Strangers' words, made fit for a log, an error and a terminal."""

from typing import Final

#: Characters: enough for a sentence, too little to fill a disk or to carry anything else.
MAX_TEXT: Final = 500


def printable(text: str) -> str:
    """Printable ASCII of at most 500 characters (BOLT #1: other text is not to be shown)."""
    return "".join(char if " " <= char <= "~" else "?" for char in text[:MAX_TEXT])
