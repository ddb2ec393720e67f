"""What the commands of `lightning-proxy wallet` share: options, passphrases, how a run ends."""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

from lightning_proxy.bolt.address import parse
from lightning_proxy.bolt.errors import AddressError, BoltError
from lightning_proxy.bolt.keys import is_point
from lightning_proxy.chain import ChainError, SourceURL
from lightning_proxy.rpc import normal_origin
from lightning_proxy.wallet import (
    KeystoreError,
    Policy,
    WalletError,
    WalletKeys,
    keystore,
)
from lightning_proxy.wallet.device import DeviceKeys
from lightning_proxy.wallet.display import Output

_FAILED: Final = 1
_INTERRUPTED: Final = 130
_PASSPHRASE_VARIABLE: Final = "LIGHTNING_PROXY_WALLET_PASSPHRASE"  # noqa: S105 - its name
_MAX_PASSPHRASE: Final = 4096
_KEY_DIGITS: Final = 66


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


def _optional_relay_url(value: str | None) -> str | None:
    return None if value is None else _relay_url(value)


def _chain_url(value: str | None) -> str | None:
    if value is not None:
        try:
            SourceURL.parse(value)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    return value


def public_key(value: str, what: str) -> str:
    """A public key's 66 hex digits, in lower case; raises `typer.BadParameter`."""
    try:
        key = bytes.fromhex(value)
    except ValueError:
        key = b""
    if len(value) != _KEY_DIGITS or not is_point(key):
        raise typer.BadParameter(f"write {what}, a public key of {_KEY_DIGITS} hex digits")
    return key.hex()


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
DeviceKeyFile = Annotated[
    Path | None,
    typer.Option(
        "--device-key",
        metavar="FILE",
        dir_okay=False,
        help="Come as the device whose key is in this file; needs no passphrase.",
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
# Not from the environment: with a relay, a list of channels needs the passphrase.
OptionalRelayUrl = Annotated[
    str | None,
    typer.Option(
        "--relay",
        callback=_optional_relay_url,
        metavar="URL",
        help="Ask this relay what its chain shows, where the wallet has no chain source.",
    ),
]
ChainUrl = Annotated[
    str | None,
    typer.Option(
        "--chain",
        envvar="LIGHTNING_PROXY_WALLET_CHAIN",
        callback=_chain_url,
        metavar="URL",
        help="The wallet's own chain source, such as bitcoind://user:password@127.0.0.1:8332, "
        "btcd://…, esplora+https://…. Without one, the relay's word about confirmations counts.",
    ),
]
Peer = Annotated[str, typer.Argument(callback=_peer, metavar="PEER", help="pubkey@host:port")]
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


def run(
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
    except (WalletError, BoltError, ChainError) as error:
        fail(output, error)


def fail(output: Output, error: Exception) -> NoReturn:
    output.error(error)
    raise typer.Exit(_FAILED) from None


def load_policy(output: Output, file: Path | None) -> Policy:
    try:
        return Policy() if file is None else Policy.load(file)
    except WalletError as error:
        fail(output, error)


def load_keys(output: Output, file: Path, passphrase_file: Path | None) -> WalletKeys:
    try:
        keystore.read_node_id(file)  # so that nobody is asked for a passphrase in vain
        return keystore.load(file, read_passphrase(passphrase_file, confirm=False))
    except KeystoreError as error:
        fail(output, error)


def find_keys(output: Output, file: Path, passphrase_file: Path | None) -> WalletKeys | None:
    """The wallet's keys, or None where somebody would have to be asked for the passphrase."""
    passphrase = find_passphrase(passphrase_file)
    try:
        return None if passphrase is None else keystore.load(file, passphrase)
    except KeystoreError as error:
        fail(output, error)


def load_device(
    output: Output, file: Path, device_key: Path, keys: WalletKeys | None = None
) -> DeviceKeys:
    """The device of the wallet in `file`; `keys` are the wallet's, where it has them too."""
    try:
        return DeviceKeys.load(device_key, keystore.read_node_id(file), keys)
    except KeystoreError as error:
        fail(output, error)


def read_passphrase(file: Path | None, *, confirm: bool) -> str:
    passphrase = find_passphrase(file)
    if passphrase is not None:
        return passphrase
    if not sys.stdin.isatty():
        raise typer.BadParameter(
            f"no passphrase: use --passphrase-file, {_PASSPHRASE_VARIABLE} or a terminal"
        )
    answer: str = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
    return answer


def find_passphrase(file: Path | None) -> str | None:
    """The passphrase, where it is to be had without asking anybody."""
    if file is not None:
        try:
            with file.open(encoding="utf-8") as lines:
                return lines.readline(_MAX_PASSPHRASE).rstrip("\r\n")
        except (OSError, UnicodeError) as error:
            raise typer.BadParameter(f"{file} can't be read: {error}") from None
    return os.environ.get(_PASSPHRASE_VARIABLE)
