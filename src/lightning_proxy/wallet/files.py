"""A wallet's two files: its keys, and beside them its record."""

from pathlib import Path

from lightning_proxy.wallet import keystore
from lightning_proxy.wallet.keys import WalletKeys
from lightning_proxy.wallet.record import Record


def record_path(path: Path) -> Path:
    """Where the record of the wallet in this file is: beside it."""
    return path.with_name(f"{path.name}.record")


def create(
    path: Path, passphrase: str, *, keys: WalletKeys | None = None, cost: int | None = None
) -> WalletKeys:
    """Make a new wallet, its keys' file and its record; never in another's place.

    `cost` is the keystore's. Raises `KeystoreError`, `RecordError`.
    """
    keys = keys or WalletKeys.generate()
    # The record first: keys without their record can't be used, and a record alone hurts nobody.
    Record.create(record_path(path), keys.node_id)
    try:
        keystore.create(path, keys, passphrase, cost=cost or keystore.DEFAULT_COST)
    except BaseException:
        record_path(path).unlink()
        raise
    return keys
