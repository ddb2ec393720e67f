"""BOLT #8's handshake, Noise_XK_secp256k1_ChaChaPoly_SHA256: both roles, acts one to three.

The wallet is the initiator; the responder serves the built-in peer and the tests.
"""

import secrets
from hashlib import sha256
from hmac import digest as hmac_digest
from typing import Final, NamedTuple

from coincurve import PrivateKey, PublicKey
from Crypto.Cipher import ChaCha20_Poly1305

ACT_ONE_SIZE: Final = 50
ACT_TWO_SIZE: Final = 50
ACT_THREE_SIZE: Final = 66

_PROTOCOL_NAME: Final = b"Noise_XK_secp256k1_ChaChaPoly_SHA256"
_PROLOGUE: Final = b"lightning"
_VERSION: Final = 0
_TAG_SIZE: Final = 16
_POINT_SIZE: Final = 33


class HandshakeError(Exception):
    """An act was refused; `code` is the BOLT #8 vectors' name for it, such as `ACT2_BAD_TAG`."""

    def __init__(self, code: str) -> None:
        super().__init__(f"the BOLT 8 handshake failed: {code}")
        self.code = code


class TransportKeys(NamedTuple):
    """What a handshake yields, 32 bytes each; both directions start from one chaining key."""

    sending_key: bytes
    receiving_key: bytes
    chaining_key: bytes

    def __repr__(self) -> str:
        return "TransportKeys(...)"


class _SymmetricState:
    """The Noise specification's SymmetricState: chaining key `ck`, hash `h`, temporary key."""

    def __init__(self, responder_static: bytes) -> None:
        self.ck = sha256(_PROTOCOL_NAME).digest()
        self.h = self.ck
        self._key = b""
        self.mix_hash(_PROLOGUE)
        self.mix_hash(responder_static)

    def mix_hash(self, data: bytes) -> None:
        self.h = sha256(self.h + data).digest()

    def mix_key(self, secret: PrivateKey, point: PublicKey) -> None:
        # BOLT #8: ECDH is SHA-256 of the compressed shared point, which is what this gives.
        self.ck, self._key = _hkdf(self.ck, secret.ecdh(point.format()))

    def encrypt_and_hash(self, plaintext: bytes, nonce: int = 0) -> bytes:
        cipher = self._cipher(nonce)
        ciphertext, tag = cipher.encrypt_and_digest(plaintext)
        sealed = ciphertext + tag
        self.mix_hash(sealed)
        return sealed

    def decrypt_and_hash(self, sealed: bytes, error: str, nonce: int = 0) -> bytes:
        cipher = self._cipher(nonce)
        try:
            plaintext = cipher.decrypt_and_verify(sealed[:-_TAG_SIZE], sealed[-_TAG_SIZE:])
        except ValueError:
            raise HandshakeError(error) from None
        self.mix_hash(sealed)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        return _hkdf(self.ck, b"")

    def _cipher(self, nonce: int) -> ChaCha20_Poly1305.ChaCha20Poly1305Cipher:
        cipher = ChaCha20_Poly1305.new(key=self._key, nonce=bytes(4) + nonce.to_bytes(8, "little"))
        cipher.update(self.h)
        return cipher


def check_act_one(data: bytes) -> None:
    """Raise `HandshakeError` for what is no act one, as far as that shows without a key."""
    _read_ephemeral(data, "ACT1")


def check_act_two(data: bytes) -> None:
    """The same for act two."""
    _read_ephemeral(data, "ACT2")


def check_act_three(data: bytes) -> None:
    """And for act three, of which all but the version is encrypted."""
    if len(data) != ACT_THREE_SIZE:
        raise HandshakeError("ACT3_READ_FAILED")
    if data[0] != _VERSION:
        raise HandshakeError("ACT3_BAD_VERSION")


class Initiator:
    """The side that dials: `act_one()`, then `act_two(data)` gives act three, then `keys`.

    `static_secret` is the node's private key, `remote_node_id` the compressed public key that it
    dials. `ephemeral_secret` is for test vectors only; without it a fresh one is made. Raises
    `ValueError` for keys that are none, `HandshakeError` for a bad act two.
    """

    keys: TransportKeys

    def __init__(
        self, static_secret: bytes, remote_node_id: bytes, ephemeral_secret: bytes | None = None
    ) -> None:
        self._static = PrivateKey(static_secret)
        self._remote_static = PublicKey(remote_node_id)
        self._ephemeral = PrivateKey(ephemeral_secret or _fresh_secret())
        self._state = _SymmetricState(self._remote_static.format())

    def act_one(self) -> bytes:
        """50 bytes: version, ephemeral key, tag."""
        ephemeral = self._ephemeral.public_key.format()
        self._state.mix_hash(ephemeral)
        self._state.mix_key(self._ephemeral, self._remote_static)
        return bytes([_VERSION]) + ephemeral + self._state.encrypt_and_hash(b"")

    def act_two(self, data: bytes) -> bytes:
        """Take act two, give act three (66 bytes): version, encrypted static key, tag."""
        remote_ephemeral = _read_ephemeral(data, "ACT2")
        self._state.mix_hash(remote_ephemeral.format())
        self._state.mix_key(self._ephemeral, remote_ephemeral)
        self._state.decrypt_and_hash(data[1 + _POINT_SIZE :], "ACT2_BAD_TAG")
        static = self._state.encrypt_and_hash(self._static.public_key.format(), nonce=1)
        self._state.mix_key(self._static, remote_ephemeral)
        tag = self._state.encrypt_and_hash(b"")
        sending, receiving = self._state.split()
        self.keys = TransportKeys(sending, receiving, self._state.ck)
        return bytes([_VERSION]) + static + tag


class Responder:
    """The side that was dialled: `act_one(data)` gives act two, `act_three(data)` gives the keys.

    Afterwards `remote_node_id` names the initiator. Raises `HandshakeError` for a bad act.
    """

    remote_node_id: bytes

    def __init__(self, static_secret: bytes, ephemeral_secret: bytes | None = None) -> None:
        self._static = PrivateKey(static_secret)
        self._ephemeral = PrivateKey(ephemeral_secret or _fresh_secret())
        self._state = _SymmetricState(self._static.public_key.format())

    def act_one(self, data: bytes) -> bytes:
        """Take act one, give act two (50 bytes)."""
        remote_ephemeral = _read_ephemeral(data, "ACT1")
        self._state.mix_hash(remote_ephemeral.format())
        self._state.mix_key(self._static, remote_ephemeral)
        self._state.decrypt_and_hash(data[1 + _POINT_SIZE :], "ACT1_BAD_TAG")
        ephemeral = self._ephemeral.public_key.format()
        self._state.mix_hash(ephemeral)
        self._state.mix_key(self._ephemeral, remote_ephemeral)
        return bytes([_VERSION]) + ephemeral + self._state.encrypt_and_hash(b"")

    def act_three(self, data: bytes) -> TransportKeys:
        """Take act three."""
        check_act_three(data)
        static = self._state.decrypt_and_hash(
            data[1 : 1 + _POINT_SIZE + _TAG_SIZE], "ACT3_BAD_CIPHERTEXT", nonce=1
        )
        remote_static = _read_point(static, "ACT3_BAD_PUBKEY")
        self._state.mix_key(self._ephemeral, remote_static)
        self._state.decrypt_and_hash(data[1 + _POINT_SIZE + _TAG_SIZE :], "ACT3_BAD_TAG")
        receiving, sending = self._state.split()
        self.remote_node_id = static
        return TransportKeys(sending, receiving, self._state.ck)


def _fresh_secret() -> bytes:
    return PrivateKey(secrets.token_bytes(32)).secret


def _hkdf(salt: bytes, material: bytes) -> tuple[bytes, bytes]:
    """HKDF-SHA256 (RFC 5869) with empty info, two outputs of 32 bytes."""
    extracted = hmac_digest(salt, material, "sha256")
    first = hmac_digest(extracted, b"\x01", "sha256")
    return first, hmac_digest(extracted, first + b"\x02", "sha256")


def _read_ephemeral(data: bytes, act: str) -> PublicKey:
    if len(data) != ACT_ONE_SIZE:
        raise HandshakeError(f"{act}_READ_FAILED")
    if data[0] != _VERSION:
        raise HandshakeError(f"{act}_BAD_VERSION")
    return _read_point(data[1 : 1 + _POINT_SIZE], f"{act}_BAD_PUBKEY")


def _read_point(data: bytes, error: str) -> PublicKey:
    try:
        return PublicKey(data)
    except ValueError:
        raise HandshakeError(error) from None
