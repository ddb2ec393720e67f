"""Alembic's: one file in `versions` for each change of the relay's tables, named by its number."""

from pkgutil import iter_modules

from lightning_proxy.relay.store.migrations import versions


def newest() -> str:
    """The revision of a database that is up to date, told without Alembic."""
    return max(module.name.partition("_")[0] for module in iter_modules(versions.__path__))
