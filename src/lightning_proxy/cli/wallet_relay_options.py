"""Options of the commands of `lightning-proxy wallet` that have to do with relays and peers."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from lightning_proxy.bolt.address import parse
from lightning_proxy.bolt.errors import AddressError
from lightning_proxy.bolt.keys import is_point
from lightning_proxy.chain import SourceURL
from lightning_proxy.cli.machine import EXPOSED_ADVICE
from lightning_proxy.rpc import normal_origin

CHAIN_VARIABLE: Final = "LIGHTNING_PROXY_WALLET_CHAIN"
TOKEN_VARIABLE: Final = "LIGHTNING_PROXY_TOKEN"  # noqa: S105 - its name
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


def _chain_url(context: typer.Context, value: str | None) -> str | None:
    if value is not None:
        try:
            source = SourceURL.parse(value)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        if source.password is not None:
            _warn_if_exposed(context, "chain", "--chain", CHAIN_VARIABLE)
    return value


def _token(context: typer.Context, value: str | None) -> str | None:
    if value is not None:
        _warn_if_exposed(context, "token", "--token", TOKEN_VARIABLE)
    return value


def _warn_if_exposed(context: typer.Context, name: str, flag: str, variable: str) -> None:
    source = context.get_parameter_source(name)
    if source is not None and source.name == "COMMANDLINE":
        typer.echo(f"Warning: {flag}: {EXPOSED_ADVICE}; set {variable} instead.", err=True)


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
        envvar=TOKEN_VARIABLE,
        callback=_token,
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
        envvar=CHAIN_VARIABLE,
        callback=_chain_url,
        metavar="URL",
        help="The wallet's own chain source, such as bitcoind://user:password@127.0.0.1:8332, "
        "btcd://…, esplora+https://…. Without one, the relay's word about confirmations counts.",
    ),
]
Peer = Annotated[str, typer.Argument(callback=_peer, metavar="PEER", help="pubkey@host:port")]
ApproveOption = Annotated[
    Approve,
    typer.Option(
        "--approve", help="Ask about each channel, leave it to the policy, or refuse all."
    ),
]
PolicyFile = Annotated[
    Path | None, typer.Option("--policy", help="A TOML file: which channels are accepted.")
]
