"""The relay's own key, with which it signs webhooks: no wallet's, and worth nothing on a chain."""

import secrets
from pathlib import Path
from typing import Final

from coincurve import PrivateKey

from lightning_proxy.bolt.keys import sign_message
from lightning_proxy.relay.private import tighten
from lightning_proxy.relay.wake.adapter import WakeError
from lightning_proxy.relay.wake.key_file import write_key

_SIZE: Final = 32


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
        secret = _fresh()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_key(path, secret.hex().encode() + b"\n")
        except FileExistsError:
            return cls._read(path)
        except OSError as error:
            raise WakeError(f"{path} can't be written: {error.strerror}") from None
        return cls(secret)

    @classmethod
    def _read(cls, path: Path) -> "Identity":
        try:
            tighten(path)
            secret = bytes.fromhex(path.read_text("ascii").strip())
            # coincurve would fill a short one up.
            if len(secret) != _SIZE:
                raise ValueError
            return cls(secret)
        except OSError as error:
            raise WakeError(f"{path} can't be read: {error.strerror}") from None
        except ValueError:
            raise WakeError(f"{path} holds no key: 32 bytes in hex") from None

    def sign(self, text: str) -> str:
        """Lightning's signmessage, zbase32."""
        return sign_message(self._secret, text)


def _fresh() -> bytes:
    return PrivateKey(secrets.token_bytes(_SIZE)).secret
