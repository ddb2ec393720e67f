"""A wallet's seed in a file, encrypted under a passphrase (scrypt, XChaCha20-Poly1305)."""

import hashlib
import os
import secrets
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from Crypto.Cipher import ChaCha20_Poly1305

from lightning_proxy.wallet.errors import KeystoreError, WrongPassphrase
from lightning_proxy.wallet.keyfile import (
    NONCE_SIZE,
    SALT_SIZE,
    TAG_SIZE,
    Header,
    KeyFile,
    read,
    read_node_id,
)
from lightning_proxy.wallet.keys import WalletKeys

__all__ = ["DEFAULT_COST", "create", "load", "read_node_id"]

#: scrypt's N as a power of two: 128 MiB and a fraction of a second.
DEFAULT_COST: Final = 17
# scrypt's r, and p = 1: only N is to be tuned.
_BLOCK_SIZE: Final = 8
_KEY_SIZE: Final = 32


def create(path: Path, keys: WalletKeys, passphrase: str, *, cost: int = DEFAULT_COST) -> None:
    """Write the keys' seed to a new file that only its owner may read.

    The file appears whole or not at all, and never in another's place. Raises `KeystoreError`.
    """
    if not passphrase:
        raise KeystoreError("The passphrase is empty; choose one.")
    header = Header(
        version=1,
        node_id=keys.node_id.hex(),
        scrypt_cost=cost,
        salt=secrets.token_hex(SALT_SIZE),
        nonce=secrets.token_hex(NONCE_SIZE),
    )
    seed = dict(keys.private_keys())["seed"]
    ciphertext, tag = _cipher(header, passphrase).encrypt_and_digest(seed)
    _write_new(path, msgspec.json.encode(KeyFile(header, (ciphertext + tag).hex())))


def load(path: Path, passphrase: str) -> WalletKeys:
    """Read the keys; raises `WrongPassphrase` or another `KeystoreError`."""
    file = read(path)
    sealed = bytes.fromhex(file.ciphertext)
    try:
        seed = _cipher(file.header, passphrase).decrypt_and_verify(
            sealed[:-TAG_SIZE], sealed[-TAG_SIZE:]
        )
    except ValueError:
        raise WrongPassphrase(
            f"The passphrase does not open {path}, or the file was changed."
        ) from None
    return WalletKeys(seed)


def _cipher(header: Header, passphrase: str) -> ChaCha20_Poly1305.ChaCha20Poly1305Cipher:
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
