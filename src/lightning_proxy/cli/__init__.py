"""The command `lightning-proxy`; a subcommand's module is imported when that one is run."""

from importlib import import_module
from typing import Annotated, Any, Final

import typer

import lightning_proxy
from lightning_proxy.cli.lazy import LazyCommands

#: Modules of this package that have an `app`, and what the list of commands says of them.
COMMANDS: Final = {
    "serve": "Run the relay.",
    "wallet": "The reference wallet: make keys, connect through a relay, answer what it asks.",
    "demo": "Show the whole flow on this machine, and prove that no private key crossed the relay.",
    "bench": "Measure what this machine can do: frames, sessions and pongs a second.",
    "vapid": "Make the key by which push services know this relay.",
    "sessions": "List the sessions that the running relay holds.",
    "wallets": "List the wallets that have something at the running relay.",
    "delegations": "List what the running relay waits for.",
    "doctor": "Check whether this machine is fit to run the relay.",
}


class Commands(LazyCommands):
    commands_by_name = COMMANDS

    @classmethod
    def load(cls, name: str) -> Any:
        return typer.main.get_command(import_module(f"{__name__}.{name}").app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lightning-proxy {lightning_proxy.__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    # A local variable may hold a key.
    pretty_exceptions_show_locals=False,
)


@app.callback()
def _root(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Hold a wallet's place in the Lightning Network while it sleeps, without its keys."""


def main() -> None:
    """Run the command line."""
    app(prog_name="lightning-proxy")
