"""The file of a wallet's keys as it lies on the disk: its form, and whose it is.

To read that takes no passphrase, and no cryptography.
"""

from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from lightning_proxy.rpc.words import NodeId
from lightning_proxy.wallet.errors import KeystoreError

SEED_SIZE: Final = 32
SALT_SIZE: Final = 32
NONCE_SIZE: Final = 24
TAG_SIZE: Final = 16
_MAX_FILE_SIZE: Final = 4096


def _hex(size: int) -> Meta:
    # In pairs: `$` also matches before a final newline, which an even length then has no room for.
    return Meta(pattern=r"^(?:[0-9a-f]{2})*$", min_length=2 * size, max_length=2 * size)


class Header(Struct, frozen=True, forbid_unknown_fields=True):
    """All but the ciphertext; the cipher authenticates it."""

    version: Literal[1]
    node_id: NodeId
    # The cost is read before anything could vouch for it, so it is bounded: 256 MiB at most.
    scrypt_cost: Annotated[int, Meta(ge=10, le=18)]
    salt: Annotated[str, _hex(SALT_SIZE)]
    nonce: Annotated[str, _hex(NONCE_SIZE)]


class KeyFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The seed, encrypted."""

    header: Header
    ciphertext: Annotated[str, _hex(SEED_SIZE + TAG_SIZE)]


def read(path: Path) -> KeyFile:
    """What the file holds; raises `KeystoreError`."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_SIZE + 1)
    except FileNotFoundError:
        raise KeystoreError(f"There is no wallet in {path}; create one first.") from None
    except OSError as error:
        raise KeystoreError(f"{path} can't be read: {error.strerror}.") from None
    if len(data) > _MAX_FILE_SIZE:
        raise KeystoreError(f"{path} is no wallet: it is too long.")
    try:
        return msgspec.json.decode(data, type=KeyFile)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise KeystoreError(f"{path} is damaged, or no wallet of this version: {error}.") from None


def read_node_id(path: Path) -> bytes:
    """The node id (33 bytes) that the file claims, which only `keystore.load` proves.

    Raises `KeystoreError`.
    """
    return bytes.fromhex(read(path).header.node_id)


def record_path(path: Path) -> Path:
    """Where the record of the wallet in this file is: beside it."""
    return path.with_name(f"{path.name}.record")
