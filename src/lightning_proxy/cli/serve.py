"""`lightning-proxy serve`: runs the relay until it is told to stop."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Final, NoReturn

import msgspec
import structlog
import typer
import uvloop

from lightning_proxy import __version__, logs
from lightning_proxy.api import Server, SettingsError
from lightning_proxy.audit import audit
from lightning_proxy.chain import ChainError, SourceURL
from lightning_proxy.cli.machine import (
    EXPOSED_ADVICE,
    KUBERNETES_ADVICE,
    ConfigFile,
    raise_file_limit,
)
from lightning_proxy.config import (
    Config,
    ConfigError,
    Setting,
    default_file,
    load,
    made_by_kubernetes,
    with_places,
)
from lightning_proxy.relay import StoreError
from lightning_proxy.relay.store import has_password, is_url
from lightning_proxy.relay.wake.adapter import WakeError
from lightning_proxy.transport import kernel_name

_log = structlog.get_logger()

_FAILED: Final = 1
_MISCONFIGURED: Final = 2
#: Seconds that a shutdown may take beside what the settings give to answers and to peers: the last
#: writing, and the wallets' sockets.
_SHUTDOWN_MARGIN: Final = 4.0
#: Objects made between two looks for reference cycles. Python's 700 is for short scripts: here one
#: burst of messages makes more, nearly all of them free again at once, and every look at them would
#: find sessions that live on.
_GC_THRESHOLD: Final = 20_000

app = typer.Typer(add_completion=False)


@app.command()
def serve(
    config: ConfigFile = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on; 0: a free one.")] = None,
    access: Annotated[
        str | None, typer.Option(metavar="open|token|allowlist", help="Who may use this relay.")
    ] = None,
    token: Annotated[
        list[str] | None,
        typer.Option(
            help="An access token. Other users of this machine can see flags: prefer the file."
        ),
    ] = None,
    allow_node: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE_ID", help="A wallet on the allowlist, by its node id."),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="A URL under which wallets reach this relay."),
    ] = None,
    open_to_the_world: Annotated[
        bool | None,
        typer.Option("--open-to-the-world", help="Allow open access beyond this machine."),
    ] = None,
    allow_private: Annotated[
        bool | None,
        typer.Option("--allow-private", help="Dial peers at private addresses, too."),
    ] = None,
    dial_source: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="The local address to dial peers from.")
    ] = None,
    chain: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where the relay sees the chain: bitcoind://, btcd:// or esplora+https://.",
        ),
    ] = None,
    chain_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="A file whose first line is that URL: its password is your own."
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|URL",
            help="What must survive a restart: a file, or postgresql://user:password@host/name; "
            "else lightning-proxy/relay.sqlite in the user's state folder.",
        ),
    ] = None,
    tls_certificate: Annotated[
        str | None, typer.Option(metavar="FILE", help="For TLS: the certificate, and those above.")
    ] = None,
    tls_key: Annotated[
        str | None, typer.Option(metavar="FILE", help="For TLS: the certificate's key.")
    ] = None,
    vapid_key: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The key for Web Push: see lightning-proxy vapid."),
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(metavar="debug|info|warning|error", help="How much to log.")
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(metavar="console|json", help="For people, or for programs.")
    ] = None,
    audit_file: Annotated[
        str | None,
        typer.Option("--audit", metavar="FILE", help="Write a line for every outcome there."),
    ] = None,
    print_config: Annotated[
        bool,
        typer.Option("--print-config", help="Print the settings in force as JSON, and exit."),
    ] = False,
) -> None:
    """Run the relay.

    Every setting can stand in the TOML file or in the environment, as
    LIGHTNING_PROXY_<SECTION>_<NAME>; flags win over the environment, the environment over the file.
    """
    flags = [
        Setting(*flag)
        for flag in (
            ("--host", ("api", "host"), host),
            ("--port", ("api", "port"), port),
            ("--access", ("api", "access"), access),
            ("--token", ("api", "tokens"), token),
            ("--allow-node", ("api", "allowlist"), allow_node),
            ("--origin", ("api", "origins"), origin),
            ("--open-to-the-world", ("api", "open_to_the_world"), open_to_the_world),
            ("--allow-private", ("relay", "dial", "allow_private"), allow_private),
            ("--dial-source", ("relay", "dial", "source"), dial_source),
            ("--chain", ("relay", "chain"), chain),
            ("--chain-file", ("relay", "chain_file"), chain_file),
            ("--store", ("relay", "store"), store),
            ("--tls-certificate", ("api", "tls_certificate"), tls_certificate),
            ("--tls-key", ("api", "tls_key"), tls_key),
            ("--vapid-key", ("relay", "wake", "vapid_key"), vapid_key),
            ("--log-level", ("log", "level"), log_level),
            ("--audit", ("log", "audit"), audit_file),
            ("--log-format", ("log", "format"), log_format),
        )
        if flag[-1] not in (None, [])
    ]
    try:
        settings = load(config or default_file(os.environ), os.environ, flags)
        settings = with_places(settings, os.environ)
        if print_config:
            typer.echo(msgspec.json.format(msgspec.json.encode(settings.shown())).decode())
            return
        server = Server(settings.relay, settings.api)
    except (ConfigError, SettingsError) as error:
        _fail(str(error), _MISCONFIGURED)
    logs.set_up(settings.log)
    if foreign := made_by_kubernetes(os.environ):
        _log.warning("variables_ignored", names=sorted(foreign), reason=KUBERNETES_ADVICE)
    for flag, name in _exposed(chain, store, token):
        advice = f"{EXPOSED_ADVICE}: set {name} in the environment, or the configuration file."
        _log.warning("secret_in_process_list", flag=flag, reason=advice)
    if settings.log.audit is not None:
        try:
            audit.open(Path(settings.log.audit))
        except OSError as error:
            _fail(f"log.audit: {settings.log.audit}: {error.strerror}", _MISCONFIGURED)
    raise_file_limit()
    # What is loaded by now stays for good: no look at it is worth its time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    uvloop.run(_run(server, settings))


def _exposed(
    chain: str | None, store: str | None, tokens: list[str] | None
) -> Iterator[tuple[str, str]]:
    """The flags that hold a secret, each with the name of the setting; all of them are checked."""
    if chain is not None and SourceURL.parse(chain).password is not None:
        yield "--chain", "LIGHTNING_PROXY_RELAY_CHAIN or LIGHTNING_PROXY_RELAY_CHAIN_FILE"
    if store is not None and is_url(store) and has_password(store):
        yield "--store", "LIGHTNING_PROXY_RELAY_STORE"
    if tokens:
        yield "--token", "LIGHTNING_PROXY_API_TOKENS"


async def _run(server: Server, settings: Config) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    starting = asyncio.current_task()

    def stop(number: int) -> None:
        _log.info("stopping", signal=signal.Signals(number).name)
        stopped.set()
        if starting is not None:
            # It may wait for what the relay rests on.
            starting.cancel()
        # A second signal ends an operator's patience.
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    relay = settings.relay
    patience = relay.answers_timeout + relay.close_timeout + _SHUTDOWN_MARGIN
    try:
        async with AsyncExitStack() as stack:
            limit = await stack.enter_async_context(asyncio.timeout(None))
            # Before the start, which may wait: unhandled, it would end the process.
            loop.add_signal_handler(signal.SIGHUP, _reload, server)
            await _start(stack, server, settings)
            starting = None
            _announce(server, settings)
            await stopped.wait()
            limit.reschedule(loop.time() + patience)
    except asyncio.CancelledError:
        if not stopped.is_set():
            raise
    except TimeoutError:
        _fail(f"the shutdown took longer than {patience:g} s and was cut short", _FAILED)
    _log.info("stopped")


def _reload(server: Server) -> None:
    """What an operator may renew while the relay runs; one that fails does not keep the other."""
    renewed: list[str] = []
    failed = False
    for what, reload in (("audit log", audit.reopen), ("certificate", server.reload)):
        try:
            if reload():
                renewed.append(what)
        except (SettingsError, OSError) as error:
            failed = True
            _log.error("not_reloaded", what=what, reason=str(error))
    if not failed:
        # Named, for settings are none of it: those are read at the start.
        _log.info("reloaded", what=renewed)


async def _start(stack: AsyncExitStack, server: Server, settings: Config) -> None:
    try:
        await stack.enter_async_context(server)
    except SettingsError as error:
        _fail(str(error), _MISCONFIGURED)
    except (StoreError, ChainError, WakeError) as error:
        _fail(str(error), _FAILED)
    except OSError as error:
        where = f"{settings.api.host} port {settings.api.port}"
        _fail(f"the relay can't listen on {where}: {error.strerror}", _FAILED)


def _announce(server: Server, settings: Config) -> None:
    if settings.log.format == "json":
        typer.echo(msgspec.json.encode({"event": "ready", "url": server.url}).decode())
    else:
        typer.echo(
            f"lightning-proxy {__version__} is ready at {server.url} (kernel {kernel_name()})"
        )
    sys.stdout.flush()


def _fail(sentence: str, code: int) -> NoReturn:
    typer.echo(f"Error: {sentence}", err=True)
    raise typer.Exit(code)
