"""Where the commands of `lightning-proxy wallet` have keys, passphrases and the policy from."""

import os
import sys
from pathlib import Path
from typing import Final

import typer

from lightning_proxy.cli.wallet_options import PASSPHRASE_VARIABLE, fail
from lightning_proxy.wallet import KeystoreError, Policy, WalletError, WalletKeys, keystore
from lightning_proxy.wallet.device import DeviceKeys
from lightning_proxy.wallet.keyfile import read_node_id
from lightning_proxy.wallet.printer import Printer

_MAX_PASSPHRASE: Final = 4096


def load_policy(output: Printer, file: Path | None) -> Policy:
    try:
        return Policy() if file is None else Policy.load(file)
    except WalletError as error:
        fail(output, error)


def load_keys(output: Printer, file: Path, passphrase_file: Path | None) -> WalletKeys:
    try:
        read_node_id(file)  # so that nobody is asked for a passphrase in vain
        return keystore.load(file, read_passphrase(passphrase_file, confirm=False))
    except KeystoreError as error:
        fail(output, error)


def find_keys(output: Printer, file: Path, passphrase_file: Path | None) -> WalletKeys | None:
    """The wallet's keys, or None where somebody would have to be asked for the passphrase."""
    passphrase = find_passphrase(passphrase_file)
    try:
        return None if passphrase is None else keystore.load(file, passphrase)
    except KeystoreError as error:
        fail(output, error)


def load_device(
    output: Printer, file: Path, device_key: Path, keys: WalletKeys | None = None
) -> DeviceKeys:
    """The device of the wallet in `file`; `keys` are the wallet's, where it has them too."""
    try:
        return DeviceKeys.load(device_key, read_node_id(file), keys)
    except KeystoreError as error:
        fail(output, error)


def read_passphrase(file: Path | None, *, confirm: bool) -> str:
    passphrase = find_passphrase(file)
    if passphrase is not None:
        return passphrase
    if not sys.stdin.isatty():
        raise typer.BadParameter(
            f"no passphrase: use --passphrase-file, {PASSPHRASE_VARIABLE} or a terminal"
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
    return os.environ.get(PASSPHRASE_VARIABLE)
