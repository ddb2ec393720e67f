"""`lightning-proxy wallet`: the reference wallet on the command line."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import structlog
import typer
from msgspec import structs

from lightning_proxy.bolt.address import parse
from lightning_proxy.bolt.errors import AddressError, BoltError
from lightning_proxy.rpc import normal_origin
from lightning_proxy.wallet import (
    ChannelKeysRequest,
    KeystoreError,
    Policy,
    Record,
    ReferenceWallet,
    Wallet,
    WalletError,
    WalletKeys,
    keystore,
    reference,
)
from lightning_proxy.wallet.approval import LineApproval, read_lines
from lightning_proxy.wallet.display import Output

_FAILED: Final = 1
_INTERRUPTED: Final = 130
_PASSPHRASE_VARIABLE: Final = "LIGHTNING_PROXY_WALLET_PASSPHRASE"  # noqa: S105 - its name
_MAX_PASSPHRASE: Final = 4096

app = typer.Typer(
    add_completion=False, help="The reference wallet: keys here, a place in the network at a relay."
)


class Approve(StrEnum):
    """Who decides about a channel that the policy allows."""

    ASK = "ask"
    POLICY = "policy"
    REFUSE = "refuse"


def _relay_url(value: str) -> str:
    try:
        normal_origin(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return value


def _peer(value: str) -> str:
    try:
        return str(parse(value))
    except AddressError as error:
        raise typer.BadParameter(str(error)) from None


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
        help=f"A file whose first line is the passphrase; else {_PASSPHRASE_VARIABLE} or a prompt.",
    ),
]
RelayUrl = Annotated[
    str,
    typer.Option(
        "--relay",
        envvar="LIGHTNING_PROXY_RELAY",
        callback=_relay_url,
        metavar="URL",
        help="The relay, such as http://127.0.0.1:3000.",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="LIGHTNING_PROXY_TOKEN",
        help="The relay's access token, where its operator wants one.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON, one value a line.")]
ApproveOption = Annotated[
    Approve,
    typer.Option(
        "--approve", help="Ask about each channel, leave it to the policy, or refuse all."
    ),
]
PolicyFile = Annotated[
    Path | None, typer.Option("--policy", help="A TOML file: which channels are accepted.")
]

DEFAULT_FILE: Final = Path(typer.get_app_dir("lightning-proxy")) / "wallet.json"


@app.callback()
def _configure() -> None:
    # Results go to stdout, so what the SDK logs must not.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


@app.command()
def create(
    file: WalletFile = DEFAULT_FILE, passphrase_file: PassphraseFile = None, json: Json = False
) -> None:
    """Make a new wallet, encrypted under a passphrase."""
    output = Output(json)
    passphrase = _read_passphrase(passphrase_file, confirm=True)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys = reference.create(file, passphrase)
    except (WalletError, OSError) as error:
        _fail(output, error)
    output.result(
        {"node_id": keys.node_id.hex(), "file": str(file)},
        f"Created the wallet of node {keys.node_id.hex()} in {file}.",
    )


@app.command()
def info(file: WalletFile = DEFAULT_FILE, json: Json = False) -> None:
    """Show the wallet's node id and what it answered; needs no passphrase."""
    output = Output(json)

    async def work() -> None:
        node_id = keystore.read_node_id(file)
        async with Record(reference.record_path(file), node_id) as record:
            channels = await record.channel_indices()
            output.wallet(node_id, file, len(channels), await record.latest(20))

    _run(output, work())


@app.command()
def connect(
    peer: Annotated[str, typer.Argument(callback=_peer, metavar="PEER", help="pubkey@host:port")],
    relay: RelayUrl,
    file: WalletFile = DEFAULT_FILE,
    token: Token = None,
    passphrase_file: PassphraseFile = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and answer what comes.")] = False,
    approve: ApproveOption = Approve.ASK,
    policy: PolicyFile = None,
    json: Json = False,
) -> None:
    """Have the relay connect to a peer; the connection stays when this command ends."""
    output = Output(json)
    keys = _load_keys(output, file, passphrase_file)
    if watch:
        work = _watch(output, file, keys, relay, token, _load_policy(output, policy), approve, peer)
        _run(output, work, interrupted=0)
        return

    async def connect_only() -> None:
        # Without a signer: who is not asked about channels does not accept any.
        async with Wallet(relay, keys, token=token) as wallet:
            output.connected(await wallet.connect(peer))

    _run(output, connect_only())


@app.command()
def watch(
    relay: RelayUrl,
    file: WalletFile = DEFAULT_FILE,
    token: Token = None,
    passphrase_file: PassphraseFile = None,
    approve: ApproveOption = Approve.ASK,
    policy: PolicyFile = None,
    json: Json = False,
) -> None:
    """Stay connected: show what happens, and answer what the relay asks."""
    output = Output(json)
    keys = _load_keys(output, file, passphrase_file)
    work = _watch(output, file, keys, relay, token, _load_policy(output, policy), approve, None)
    _run(output, work, interrupted=0)


@app.command()
def sessions(
    relay: RelayUrl,
    file: WalletFile = DEFAULT_FILE,
    token: Token = None,
    passphrase_file: PassphraseFile = None,
    json: Json = False,
) -> None:
    """List the wallet's sessions at the relay."""
    output = Output(json)
    keys = _load_keys(output, file, passphrase_file)

    async def work() -> None:
        async with Wallet(relay, keys, token=token) as wallet:
            output.sessions(await wallet.sessions())

    _run(output, work())


@app.command()
def close(
    session: Annotated[str, typer.Argument(metavar="SESSION", help="A session's id.")],
    relay: RelayUrl,
    file: WalletFile = DEFAULT_FILE,
    token: Token = None,
    passphrase_file: PassphraseFile = None,
    json: Json = False,
) -> None:
    """Close the connection to a peer."""
    output = Output(json)
    keys = _load_keys(output, file, passphrase_file)

    async def work() -> None:
        async with Wallet(relay, keys, token=token) as wallet:
            await wallet.close_session(session)
            output.result({"session_id": session}, f"Closed session {session}.")

    _run(output, work())


async def _watch(
    output: Output,
    file: Path,
    keys: WalletKeys,
    relay: str,
    token: str | None,
    policy: Policy,
    approve: Approve,
    peer: str | None,
) -> None:
    approval = LineApproval(output.question)

    async def refuse(_: ChannelKeysRequest) -> bool:
        return False

    if approve is Approve.ASK:

        def take(line: str) -> None:
            hint = approval.take(line)
            if hint is not None:
                output.hint(hint)

        read_lines(sys.stdin.fileno(), take, approval.end)
    async with ReferenceWallet(
        file,
        keys,
        relay,
        policy=structs.replace(policy, approve_by_hand=approve is not Approve.POLICY),
        approve=refuse if approve is Approve.REFUSE else approval.approve,
        token=token,
    ) as wallet:
        output.watching(keys.node_id, relay)
        if peer is not None:
            output.connected(await wallet.client.connect(peer))
        async for event in wallet.watch():
            output.event(event)


def _run(
    output: Output, work: Coroutine[Any, Any, None], *, interrupted: int = _INTERRUPTED
) -> None:
    """Run to the end; `interrupted` is the exit code after Ctrl-C or SIGTERM."""

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: this runs in one
        with suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await work

    try:
        asyncio.run(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(interrupted) from None
    except (WalletError, BoltError) as error:
        _fail(output, error)


def _fail(output: Output, error: Exception) -> NoReturn:
    output.error(error)
    raise typer.Exit(_FAILED) from None


def _load_policy(output: Output, file: Path | None) -> Policy:
    try:
        return Policy() if file is None else Policy.load(file)
    except WalletError as error:
        _fail(output, error)


def _load_keys(output: Output, file: Path, passphrase_file: Path | None) -> WalletKeys:
    try:
        keystore.read_node_id(file)  # so that nobody is asked for a passphrase in vain
        return keystore.load(file, _read_passphrase(passphrase_file, confirm=False))
    except KeystoreError as error:
        _fail(output, error)


def _read_passphrase(file: Path | None, *, confirm: bool) -> str:
    if file is not None:
        try:
            with file.open(encoding="utf-8") as lines:
                return lines.readline(_MAX_PASSPHRASE).rstrip("\r\n")
        except (OSError, UnicodeError) as error:
            raise typer.BadParameter(f"{file} can't be read: {error}") from None
    passphrase = os.environ.get(_PASSPHRASE_VARIABLE)
    if passphrase is not None:
        return passphrase
    if not sys.stdin.isatty():
        raise typer.BadParameter(
            f"no passphrase: use --passphrase-file, {_PASSPHRASE_VARIABLE} or a terminal"
        )
    answer: str = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
    return answer
