"""Packages that import a part of theirs when it is asked for (PEP 562).

A command imports what it needs: `wallet info` neither HTTP nor transactions, `doctor` no database.
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def exporting(package: str, where: Mapping[str, tuple[str, ...]]) -> Callable[[str], Any]:
    """`__getattr__` of a package, from its modules' names and what each has for others.

    For the type checker the package imports the same under `TYPE_CHECKING`.
    """
    modules = {name: module for module, names in where.items() for name in names}

    def get(name: str) -> Any:
        module = modules.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{module}"), name)
        # Found by itself the next time.
        setattr(sys.modules[package], name, value)
        return value

    return get
