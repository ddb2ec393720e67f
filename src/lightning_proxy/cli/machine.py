"""Between commands and the machine: configuration's file, open files, variables, process list."""

import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import typer

#: Files beside the peers' and wallets' sockets.
SPARE_FILES: Final = 64
#: About variables that are no settings.
KUBERNETES_ADVICE: Final = (
    "Kubernetes sets these for a service of that name; name the service otherwise, or set "
    "enableServiceLinks: false."
)

#: About secrets among a program's arguments.
EXPOSED_ADVICE: Final = (
    "It stands in the list of processes, where every user of this machine can read it"
)

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="LIGHTNING_PROXY_CONFIG",
        metavar="FILE",
        help="A TOML file; else lightning-proxy/config.toml in the user's configuration folder.",
    ),
]


def raise_file_limit() -> int:
    """Allow this process as many open files as it may have; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS has a lower limit than the "infinity" that it reports.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft
