"""Files that are for the relay's own user: where wallets are woken, and its own key."""

import os
import stat
from pathlib import Path
from typing import Final

import structlog

_log = structlog.get_logger()

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
#: What SQLite puts beside its file; it gives them that file's mode when it makes them.
_BESIDE: Final = ("-wal", "-shm", "-journal")


def make_private(database: Path) -> None:
    """Make an SQLite file, if there is none, as nobody else's to read; raises `OSError`.

    One that is there, and what lies beside it, is tightened.
    """
    # SQLite would make it by the umask, which mostly lets everybody read.
    os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    for file in (database, *(database.with_name(database.name + end) for end in _BESIDE)):
        tighten(file)


def tighten(file: Path) -> None:
    """Take from others what they may do with this file, if it is there, and say so in the log."""
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode) or not mode & _OTHERS:
        return
    shown = f"{stat.S_IMODE(mode):04o}"
    try:
        file.chmod(stat.S_IMODE(mode) & ~_OTHERS)
    except OSError as error:
        # Some file systems have no modes; and it may be another user's.
        _log.warning("file_not_private", file=str(file), mode=shown, reason=error.strerror)
    else:
        _log.warning("file_made_private", file=str(file), mode=shown)
