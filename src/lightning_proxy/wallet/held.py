"""Which openings a living process of this wallet works on: a lock each, which ends with it."""

import fcntl
import os
from pathlib import Path
from typing import Final

from lightning_proxy.wallet.errors import RecordError

#: Of a channel's temporary id, enough to tell it from others.
_NAMED: Final = 16


class HeldOpenings:
    """Beside the record in `path`. Even after `kill -9` nothing seems to be held; `close` at last.

    Methods take a channel's temporary id (32 bytes), and raise `RecordError`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: dict[bytes, int] = {}

    def hold(self, temporary_channel_id: bytes) -> bool:
        """Whether this process holds it from now on; no: it, or another, does already."""
        if temporary_channel_id in self._held:
            return False
        file = self._file(temporary_channel_id)
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BaseException:
                os.close(descriptor)
                raise
        except BlockingIOError:
            return False
        except OSError as error:
            raise RecordError(f"{file} can't be locked: {error.strerror}.") from None
        self._held[temporary_channel_id] = descriptor
        return True

    def release(self, temporary_channel_id: bytes) -> None:
        """It is over, or this process is."""
        descriptor = self._held.pop(temporary_channel_id, None)
        if descriptor is not None:
            # While it is locked: nobody takes the file that is being removed for a new one.
            self._file(temporary_channel_id).unlink(missing_ok=True)
            os.close(descriptor)

    def close(self) -> None:
        """Release all."""
        for temporary_channel_id in list(self._held):
            self.release(temporary_channel_id)

    def _file(self, temporary_channel_id: bytes) -> Path:
        name = temporary_channel_id.hex()[:_NAMED]
        return self._path.with_name(f"{self._path.name}.opening-{name}")
