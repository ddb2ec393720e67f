"""Key files: whole or not there at all, and nobody else's to read."""

import os
import secrets
from pathlib import Path


def write_key(file: Path, content: bytes, *, replace: bool = False) -> None:
    """Raises `OSError`: `FileExistsError` where there is one and it isn't to be replaced."""
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as writer:
            writer.write(content)
            writer.flush()
            os.fsync(writer.fileno())
        if replace:
            fresh.replace(file)
        else:
            file.hardlink_to(fresh)
    finally:
        fresh.unlink(missing_ok=True)
