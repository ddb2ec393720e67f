"""A wallet's seed in a file, encrypted under a passphrase (scrypt, XChaCha20-Poly1305)."""

import hashlib
import os
import secrets
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from Crypto.Cipher import ChaCha20_Poly1305
from msgspec import Meta, Struct

from lightning_proxy.rpc.types import NodeId
from lightning_proxy.wallet.errors import KeystoreError, WrongPassphrase
from lightning_proxy.wallet.keys import SEED_SIZE, WalletKeys

#: scrypt's N as a power of two: 128 MiB and a fraction of a second.
DEFAULT_COST: Final = 17
# scrypt's r, and p = 1: only N is to be tuned.
_BLOCK_SIZE: Final = 8
_SALT_SIZE: Final = 32
_NONCE_SIZE: Final = 24
_TAG_SIZE: Final = 16
_KEY_SIZE: Final = 32
_MAX_FILE_SIZE: Final = 4096


def _hex(size: int) -> Meta:
    # In pairs: `$` also matches before a final newline, which an even length then has no room for.
    return Meta(pattern=r"^(?:[0-9a-f]{2})*$", min_length=2 * size, max_length=2 * size)


class _Header(Struct, frozen=True, forbid_unknown_fields=True):
    """All but the ciphertext; the cipher authenticates it."""

    version: Literal[1]
    node_id: NodeId
    # The cost is read before anything could vouch for it, so it is bounded: 256 MiB at most.
    scrypt_cost: Annotated[int, Meta(ge=10, le=18)]
    salt: Annotated[str, _hex(_SALT_SIZE)]
    nonce: Annotated[str, _hex(_NONCE_SIZE)]


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    header: _Header
    ciphertext: Annotated[str, _hex(SEED_SIZE + _TAG_SIZE)]


def create(path: Path, keys: WalletKeys, passphrase: str, *, cost: int = DEFAULT_COST) -> None:
    """Write the keys' seed to a new file that only its owner may read.

    The file appears whole or not at all, and never in another's place. Raises `KeystoreError`.
    """
    if not passphrase:
        raise KeystoreError("The passphrase is empty; choose one.")
    header = _Header(
        version=1,
        node_id=keys.node_id.hex(),
        scrypt_cost=cost,
        salt=secrets.token_hex(_SALT_SIZE),
        nonce=secrets.token_hex(_NONCE_SIZE),
    )
    seed = dict(keys.private_keys())["seed"]
    ciphertext, tag = _cipher(header, passphrase).encrypt_and_digest(seed)
    _write_new(path, msgspec.json.encode(_File(header, (ciphertext + tag).hex())))


def load(path: Path, passphrase: str) -> WalletKeys:
    """Read the keys; raises `WrongPassphrase` or another `KeystoreError`."""
    file = _read(path)
    sealed = bytes.fromhex(file.ciphertext)
    try:
        seed = _cipher(file.header, passphrase).decrypt_and_verify(
            sealed[:-_TAG_SIZE], sealed[-_TAG_SIZE:]
        )
    except ValueError:
        raise WrongPassphrase(
            f"The passphrase does not open {path}, or the file was changed."
        ) from None
    return WalletKeys(seed)


def read_node_id(path: Path) -> bytes:
    """The node id (33 bytes) that the file claims, which only `load` proves.

    Raises `KeystoreError`.
    """
    return bytes.fromhex(_read(path).header.node_id)


def _read(path: Path) -> _File:
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
        return msgspec.json.decode(data, type=_File)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise KeystoreError(f"{path} is damaged, or no wallet of this version: {error}.") from None


def _cipher(header: _Header, passphrase: str) -> ChaCha20_Poly1305.ChaCha20Poly1305Cipher:
    key = hashlib.scrypt(
        # One passphrase has one form, on whatever keyboard it was typed.
        unicodedata.normalize("NFKC", passphrase).encode("utf-8", "surrogatepass"),
        salt=bytes.fromhex(header.salt),
        n=1 << header.scrypt_cost,
        r=_BLOCK_SIZE,
        p=1,
        maxmem=(128 * _BLOCK_SIZE << header.scrypt_cost) + (1 << 20),
        dklen=_KEY_SIZE,
    )
    cipher = ChaCha20_Poly1305.new(key=key, nonce=bytes.fromhex(header.nonce))
    cipher.update(msgspec.json.encode(header))
    return cipher


def _write_new(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        # A link, unlike a rename, fails where a file is already.
        path.hardlink_to(temporary)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except FileExistsError:
        raise KeystoreError(f"{path} exists already, and is not overwritten.") from None
    except OSError as error:
        raise KeystoreError(f"{path} can't be written: {error.strerror}.") from None
    finally:
        with suppress(OSError):
            temporary.unlink()
