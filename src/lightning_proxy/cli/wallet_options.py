"""What all commands of `lightning-proxy wallet` share: the wallet's files, and how one fails."""

from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from lightning_proxy.wallet.printer import Printer

PASSPHRASE_VARIABLE: Final = "LIGHTNING_PROXY_WALLET_PASSPHRASE"  # noqa: S105 - its name
DEFAULT_FILE: Final = Path(typer.get_app_dir("lightning-proxy")) / "wallet.json"
_FAILED: Final = 1

WalletFile = Annotated[
    Path,
    typer.Option(
        "--file",
        envvar="LIGHTNING_PROXY_WALLET_FILE",
        dir_okay=False,
        help="The wallet's keys, encrypted; its record lies beside it.",
    ),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        help=f"A file whose first line is the passphrase; else {PASSPHRASE_VARIABLE} or a prompt.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON, one value a line.")]


def fail(output: Printer, error: Exception) -> NoReturn:
    """End the command, saying why."""
    output.error(error)
    raise typer.Exit(_FAILED) from None
