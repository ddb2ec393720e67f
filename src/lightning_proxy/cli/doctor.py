"""`lightning-proxy doctor`: whether this machine is fit to run the relay, and what to do if not."""

import asyncio
import errno
import os
import platform
import socket
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from importlib.metadata import version
from typing import Annotated, Final

import msgspec
import typer
import uvloop
from msgspec import Struct
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_proxy import __version__
from lightning_proxy.api import ApiSettings, SettingsError
from lightning_proxy.cli.machine import (
    KUBERNETES_ADVICE,
    SPARE_FILES,
    ConfigFile,
    raise_file_limit,
)
from lightning_proxy.config import (
    Config,
    ConfigError,
    default_file,
    load,
    made_by_kubernetes,
)
from lightning_proxy.terminal import flat, plain
from lightning_proxy.transport import CipherState, DecryptionError, PeerTransport, kernel_name
from lightning_proxy.transport.reference import ReferenceCipherState

_LIBRARIES: Final = ("uvloop", "aiohttp", "msgspec", "coincurve", "pycryptodome")
#: Too few to be of use to anybody.
_FEWEST_FILES: Final = 256
#: Body sizes at the edges of the kernel's blocks, and of the protocol.
_SIZES: Final = (0, 1, 15, 16, 17, 63, 64, 65, 150, 328, 1024, 65_535)
#: More than the 500 frames after which BOLT #8 rotates a key.
_FRAMES: Final = 1_100

app = typer.Typer(add_completion=False)


class Verdict(StrEnum):
    """What a check found."""

    FIT = "fit"
    LIMITED = "limited"
    UNFIT = "unfit"


class Check(Struct, frozen=True):
    """One thing that was looked at; `advice` where it is not simply fit."""

    name: str
    found: str
    verdict: Verdict = Verdict.FIT
    advice: str = ""


@app.command()
def doctor(
    config: ConfigFile = None,
    json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> None:
    """Check whether this machine is fit to run the relay with these settings.

    Exits with 1 if it is not.
    """
    checks = list(_examine(lambda: load(config or default_file(os.environ), os.environ)))
    unfit = [check for check in checks if check.verdict is Verdict.UNFIT]
    if json:
        typer.echo(msgspec.json.encode({"fit": not unfit, "checks": checks}).decode())
    else:
        _show(checks)
    for check in unfit:
        typer.echo(flat(f"Unfit: {check.name}: {check.found}. {check.advice}"), err=True)
    if unfit:
        raise typer.Exit(1)


def _examine(configure: Callable[[], Config]) -> Iterator[Check]:
    yield Check("lightning-proxy", __version__)
    yield Check("python", f"{platform.python_implementation()} {platform.python_version()}")
    yield Check("system", f"{platform.system()} {platform.machine()}")
    for library in _LIBRARIES:
        yield Check(library, version(library))
    yield check_kernel()
    yield _check_event_loop()
    try:
        settings = configure()
        api = settings.api.checked()
    except (ConfigError, SettingsError) as error:
        yield Check("settings", str(error), Verdict.UNFIT, "Correct the settings.")
        return
    yield Check("settings", f"access {api.access}")
    if foreign := made_by_kubernetes(os.environ):
        found = f"no settings: {', '.join(sorted(foreign))}"
        yield Check("environment", found, Verdict.LIMITED, KUBERNETES_ADVICE)
    yield check_files(raise_file_limit(), settings.relay.max_sessions)
    yield check_listening(api)
    if settings.relay.dial.source is not None:
        yield _check_dial_source(settings.relay.dial.source)


def check_kernel() -> Check:
    """Real frames of many sizes, across two key rotations, against the reference."""
    name = "encryption kernel"
    key, chaining_key = os.urandom(32), os.urandom(32)
    sealing, opening = CipherState(key, chaining_key), CipherState(key, chaining_key)
    reference = ReferenceCipherState(key, chaining_key)
    wrong = Check(
        name,
        f"{kernel_name()} makes wrong frames",
        Verdict.UNFIT,
        "Don't run the relay; set LIGHTNING_PROXY_KERNEL=scalar and report this processor.",
    )
    for number in range(_FRAMES):
        message = bytes([number % 256]) * _SIZES[number % len(_SIZES)]
        frame = sealing.seal(message)
        if frame != reference.seal(message):
            return wrong
        if opening.open(bytearray(frame)) != ([message], len(frame)):
            return wrong
    forged = bytearray(sealing.seal(b"forged"))
    forged[-1] ^= 1
    try:
        opening.open(forged)
    except DecryptionError:
        return Check(name, f"{kernel_name()}, {_FRAMES} frames as they should be")
    return wrong


def _check_event_loop() -> Check:
    """Bytes from a real socket through the event loop to a peer's transport."""

    async def work() -> str:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with theirs:
            _, transport = await loop.create_connection(lambda: PeerTransport(_Nobody()), sock=ours)
            theirs.sendall(b"hello")
            async with asyncio.timeout(5):
                heard: bytes = await transport.receive_exactly(5)
            transport.abort("done")
            await asyncio.sleep(0)
        return heard.decode()

    name, loop_name = "event loop", f"uvloop {version('uvloop')}"
    try:
        uvloop.run(work())
    except (OSError, TimeoutError) as error:
        return Check(name, f"{loop_name}: {error}", Verdict.UNFIT, "It can't read from sockets.")
    return Check(name, f"{loop_name} reads from sockets")


class _Nobody:
    """Hears of nothing."""

    def on_message(self, type: int, view: memoryview, /) -> None:
        """No message is expected."""

    def on_closed(self, reason: str, /) -> None:
        """Expected, and of no interest."""


def check_files(limit: int, max_sessions: int) -> Check:
    """Whether a session each fits into the limit on open files, wallets' sockets aside."""
    name = "open files"
    found = "no limit" if limit == sys.maxsize else f"at most {limit}"
    if limit < _FEWEST_FILES:
        return Check(name, found, Verdict.UNFIT, "Raise the hard limit (ulimit -Hn).")
    if limit < max_sessions + SPARE_FILES:
        advice = f"The settings allow {max_sessions} sessions, a file each: raise ulimit -Hn."
        return Check(name, found, Verdict.LIMITED, advice)
    return Check(name, found)


def check_listening(api: ApiSettings) -> Check:
    """Whether the relay could listen where the settings say."""
    name, where = "listening", f"{api.host} port {api.port}"
    try:
        family, *_, address = socket.getaddrinfo(
            api.host, api.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.create_server(address[:2], family=family):
            return Check(name, f"{where} is free")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            advice = "If that is no relay of yours, choose another port."
            return Check(name, f"{where} is in use", Verdict.LIMITED, advice)
        advice = "Set api.host to an address of this machine, and a port that it may use."
        return Check(name, f"{where}: {error.strerror}", Verdict.UNFIT, advice)


def _check_dial_source(source: str) -> Check:
    name = "dialling"
    try:
        family, *_, address = socket.getaddrinfo(source, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.bind(address)
    except OSError as error:
        advice = "Set relay.dial.source to an address of this machine."
        return Check(name, f"from {source}: {error.strerror}", Verdict.UNFIT, advice)
    return Check(name, f"from {source}")


_STYLES: Final = {Verdict.FIT: "green", Verdict.LIMITED: "yellow", Verdict.UNFIT: "bold red"}


def _show(checks: list[Check]) -> None:
    table = Table("what", "found", "", "what to do")
    for check in checks:
        verdict = Text(check.verdict, _STYLES[check.verdict])
        table.add_row(check.name, plain(check.found), verdict, plain(check.advice))
    Console().print(table)
