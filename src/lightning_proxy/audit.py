"""The audit log: a line of JSON for every outcome that an operator may have to account for."""

import errno
import os
import time
from pathlib import Path

import msgspec
import structlog

_log = structlog.get_logger()


class AuditLog:
    """Appends to one file, which is for its owner only.

    A line that can't be written is counted, and costs nothing else: on a full disk the relay goes
    on. No key and no message stands in it.
    """

    def __init__(self) -> None:
        #: Lines that could not be written.
        self.failures = 0
        self._path: Path | None = None
        self._descriptor: int | None = None
        self._is_failing = False
        #: Whether the file ends in the beginning of a line: the disk was full in the midst of it.
        self._is_torn = False

    def open(self, path: Path) -> None:
        """Write to this file from now on; raises `OSError`."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.close()
        self._path, self._descriptor, self._is_torn = path, descriptor, False

    def reopen(self) -> bool:
        """The file was moved away (logrotate): begin a new one, if there is any.

        Raises `OSError`, and then writes to the one that it has.
        """
        if self._path is None:
            return False
        self.open(self._path)
        return True

    def close(self) -> None:
        """Write nothing more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __call__(self, event: str, **values: object) -> None:
        """Write a line; bytes become hex. Never raises for what the disk does."""
        if self._descriptor is None:
            return
        said = {name: v.hex() if isinstance(v, bytes) else v for name, v in values.items()}
        line = msgspec.json.encode({"time": time.time(), "event": event, **said}) + b"\n"
        if self._is_torn:
            line = b"\n" + line
        try:
            # One call a line: several may append at once.
            written = os.write(self._descriptor, line)
        except OSError as error:
            self._failed(error.strerror or str(error))
            return
        if written:
            self._is_torn = not line[:written].endswith(b"\n")
        if written < len(line):
            self._failed(os.strerror(errno.ENOSPC))
        else:
            self._is_failing = False

    def _failed(self, reason: str) -> None:
        self.failures += 1
        if not self._is_failing:
            self._is_failing = True
            _log.error("audit_failing", reason=reason)


#: The process's one.
audit = AuditLog()
