"""A device's own key, which a wallet's node key authorised to act for it at a relay."""

import os
import secrets
from pathlib import Path
from typing import Final, NoReturn, Self

from coincurve import PrivateKey

from lightning_proxy.bolt.keys import sign_message
from lightning_proxy.rpc import Authenticate, authentication_text
from lightning_proxy.transport.handshake import Initiator
from lightning_proxy.wallet.errors import KeystoreError, WalletError
from lightning_proxy.wallet.keys import WalletKeys

_SIZE: Final = 32
_MAX_FILE: Final = 1024


class DeviceKeys:
    """What such a device authenticates with, in the place of `WalletKeys`.

    `node_id` is its wallet's (33 bytes). `wallet_keys` are the wallet's, where this device has them
    too: without them it sees and answers, but can't shake hands with peers.
    """

    def __init__(
        self, node_id: bytes, secret: bytes, wallet_keys: WalletKeys | None = None
    ) -> None:
        self.node_id = node_id
        self.device_key = PrivateKey(secret).public_key.format()
        self._secret = secret
        self._wallet_keys = wallet_keys

    def __repr__(self) -> str:
        return f"DeviceKeys(device_key={self.device_key.hex()})"

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError("a device's key is neither pickled nor copied")

    @classmethod
    def create(cls, path: Path, node_id: bytes) -> Self:
        """Make a key in a new file, which is for this user only; raises `KeystoreError`."""
        secret = PrivateKey(secrets.token_bytes(32)).secret
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise KeystoreError(f"{path} exists already, and is not overwritten.") from None
        except OSError as error:
            raise KeystoreError(f"{path} can't be written: {error.strerror}.") from None
        with os.fdopen(descriptor, "w") as file:
            file.write(secret.hex() + "\n")
        return cls(node_id, secret)

    @classmethod
    def load(cls, path: Path, node_id: bytes, wallet_keys: WalletKeys | None = None) -> Self:
        """The key in this file; raises `KeystoreError`."""
        try:
            with path.open(encoding="ascii") as file:
                secret = bytes.fromhex(file.read(_MAX_FILE).strip())
            # coincurve would fill a short one up.
            if len(secret) != _SIZE:
                raise ValueError
            return cls(node_id, secret, wallet_keys)
        except OSError as error:
            raise KeystoreError(f"{path} can't be read: {error.strerror}.") from None
        except ValueError:
            raise KeystoreError(f"{path} holds no device's key.") from None

    def authentication(self, origin: str, challenge: str) -> Authenticate:
        """The device's signature names the wallet that it is for."""
        text = authentication_text(origin, challenge, self.node_id.hex())
        return Authenticate(
            self.node_id.hex(), sign_message(self._secret, text), self.device_key.hex()
        )

    def initiator(self, remote_node_id: bytes) -> Initiator:
        """As `WalletKeys`; raises `WalletError` where this device has no node key."""
        if self._wallet_keys is None:
            raise WalletError("This device has no node key: it can't shake hands with a peer.")
        return self._wallet_keys.initiator(remote_node_id)
