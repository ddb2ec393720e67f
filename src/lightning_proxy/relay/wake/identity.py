"""The relay's own key, with which it signs webhooks: no wallet's, and worth nothing on a chain."""

import os
import secrets
from pathlib import Path

from coincurve import PrivateKey

from lightning_proxy.bolt.keys import sign_message
from lightning_proxy.relay.wake.adapter import WakeError


class Identity:
    """`node_id` is what wallets know it by (33 bytes)."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.node_id = PrivateKey(secret).public_key.format()

    def __repr__(self) -> str:
        return f"Identity({self.node_id.hex()})"

    @classmethod
    def open(cls, path: Path | None) -> "Identity":
        """The key in this file, made if there is none; without a file: one for this process.

        Raises `WakeError`.
        """
        if path is None:
            return cls(_fresh())
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return cls._read(path)
        except OSError as error:
            raise WakeError(f"{path} can't be written: {error.strerror}") from None
        secret = _fresh()
        with os.fdopen(descriptor, "w") as file:
            file.write(secret.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        return cls(secret)

    @classmethod
    def _read(cls, path: Path) -> "Identity":
        try:
            return cls(bytes.fromhex(path.read_text("ascii").strip()))
        except OSError as error:
            raise WakeError(f"{path} can't be read: {error.strerror}") from None
        except ValueError:
            raise WakeError(f"{path} holds no key: 32 bytes in hex") from None

    def sign(self, text: str) -> str:
        """Lightning's signmessage, zbase32."""
        return sign_message(self._secret, text)


def _fresh() -> bytes:
    return PrivateKey(secrets.token_bytes(32)).secret
