"""Where the relay's state is: a file's name, or a server's URL."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sqlalchemy import URL

#: SQLite's own name for it.
IN_MEMORY: Final = ":memory:"
_POSTGRESQL: Final = ("postgresql://", "postgres://")
#: Options that are nobody's secret.
_SHOWN: Final = frozenset({"host", "port", "ssl", "sslmode", "sslrootcert"})
_HIDDEN: Final = "(hidden)"


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


def has_password(url: str) -> bool:
    """Whether a PostgreSQL URL has one; raises as `parse_url`."""
    parsed = parse_url(url)
    return parsed.password is not None or "password" in parsed.query


def without_secrets(url: str) -> str:
    """A PostgreSQL URL for people to see; raises as `parse_url`."""
    parsed = parse_url(url)
    return parsed.set(
        drivername="postgresql",
        username=None if parsed.username is None else _HIDDEN,
        password=None if parsed.password is None else _HIDDEN,
        query={name: value if name in _SHOWN else _HIDDEN for name, value in parsed.query.items()},
    ).render_as_string(hide_password=False)


def is_url(where: str) -> bool:
    """Whether a store's setting names a server and not a file."""
    return where.startswith(_POSTGRESQL)
