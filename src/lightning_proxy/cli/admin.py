"""What `lightning-proxy sessions`, `wallets`, `delegations` share: they ask a running relay."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, TypeVar

import aiohttp
import msgspec
import typer
from rich.console import Console

from lightning_proxy import tables
from lightning_proxy.api.admin_rows import PAGE
from lightning_proxy.config import ConfigError, default_file, load, with_places

_FAILED: Final = 1
_TIMEOUT: Final = 10.0
#: Columns of a terminal that is none: a line a row, for grep.
_WIDE: Final = 400

T = TypeVar("T")


def make(
    name: str,
    kind: type[T],
    columns: tuple[str, ...],
    row: Callable[[T], tuple[str, ...]],
    text: str,
) -> typer.Typer:
    """The command that lists the rows at `/<name>`: as a table, or a line of JSON each."""
    app = typer.Typer(add_completion=False)

    @app.command(help=text)
    def command(
        socket: Annotated[
            Path | None,
            typer.Option(
                envvar="LIGHTNING_PROXY_API_ADMIN_SOCKET",
                help="The relay's admin socket; else the one of its configuration.",
            ),
        ] = None,
        config: Annotated[
            Path | None,
            typer.Option(
                "--config", envvar="LIGHTNING_PROXY_CONFIG", help="The relay's TOML file."
            ),
        ] = None,
        json: Annotated[bool, typer.Option("--json", help="Write JSON, one value a line.")] = False,
    ) -> None:
        values = asyncio.run(_read(socket or _configured(config), name))
        if json:
            for value in values:
                typer.echo(msgspec.json.encode(value).decode())
            return
        rows = [row(msgspec.convert(value, kind)) for value in values]
        if not rows:
            typer.echo(f"No {name}.")
            return
        show(columns, rows)

    return app


def show(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print a list; an IPv6 address in it, [2001:b::1], is neither markup nor emoji."""
    width = None if os.isatty(1) else _WIDE
    console = Console(highlight=False, markup=False, emoji=False, width=width)
    tables.show(console, columns, rows)


async def _read(path: Path, name: str) -> list[Any]:
    """All rows, page by page."""
    rows: list[Any] = []
    try:
        async with (
            asyncio.timeout(_TIMEOUT),
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as http,
        ):
            while True:
                params = {"skip": str(len(rows))}
                async with http.get(f"http://relay/{name}", params=params) as response:
                    response.raise_for_status()
                    page = msgspec.json.decode(await response.read(), type=list[Any])
                rows += page
                if len(page) < PAGE:
                    return rows
    except TimeoutError:
        _fail(f"the relay at {path} does not answer")
    except (aiohttp.ClientError, OSError, msgspec.MsgspecError):
        _fail(f"no relay answers at {path}; is it running, as this user? (--socket)")


def _configured(file: Path | None) -> Path:
    try:
        settings = with_places(load(file or default_file(os.environ), os.environ), os.environ)
    except ConfigError as error:
        _fail(str(error))
    if settings.api.admin_socket is None:
        _fail(
            "this relay has no admin socket of its own (its store is in memory, or in too deep a "
            "folder): set api.admin_socket, and --socket here"
        )
    return Path(settings.api.admin_socket)


def _fail(sentence: str) -> NoReturn:
    typer.echo(f"Error: {sentence}", err=True)
    raise typer.Exit(_FAILED)
