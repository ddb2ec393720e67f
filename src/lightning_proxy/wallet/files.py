"""A wallet's two files: its keys, and beside them its record."""

from pathlib import Path

from lightning_proxy.wallet import database, keystore
from lightning_proxy.wallet.keyfile import record_path
from lightning_proxy.wallet.keys import WalletKeys

__all__ = ["create", "record_path"]


def create(
    path: Path, passphrase: str, *, keys: WalletKeys | None = None, cost: int | None = None
) -> WalletKeys:
    """Make a new wallet, its keys' file and its record; never in another's place.

    `cost` is the keystore's. Raises `KeystoreError`, `RecordError`.
    """
    keys = keys or WalletKeys.generate()
    # The record first: keys without their record can't be used, and a record alone hurts nobody.
    database.create(record_path(path), keys.node_id, 0)
    try:
        keystore.create(path, keys, passphrase, cost=cost or keystore.DEFAULT_COST)
    except BaseException:
        record_path(path).unlink()
        raise
    return keys
