"""Where the relay's state is: a file's name, or a server's URL."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sqlalchemy import URL

#: SQLite's own name for it.
IN_MEMORY: Final = ":memory:"
_POSTGRESQL: Final = ("postgresql://", "postgres://")


def parse_url(url: str) -> "URL":
    """SQLAlchemy's URL of a PostgreSQL database; raises `ValueError`, repeating no password."""
    # It takes long to import, and a file's name needs none of it.
    from sqlalchemy import make_url  # noqa: PLC0415
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

    try:
        parsed = make_url(url).set(drivername="postgresql+asyncpg")
    except (ArgumentError, ValueError):
        raise ValueError("write postgresql://user:password@host:port/database") from None
    if not parsed.database:
        raise ValueError("it names no database: postgresql://user:password@host:port/database")
    return parsed


def is_url(where: str) -> bool:
    """Whether a store's setting names a server and not a file."""
    return where.startswith(_POSTGRESQL)
