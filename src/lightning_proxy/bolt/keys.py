"""Points of secp256k1, and the `signmessage` signatures by which nodes prove who they are."""

from hashlib import sha256
from typing import Final

from coincurve import PrivateKey, PublicKey

from lightning_proxy.bolt.errors import SignatureError

_PREFIX: Final = b"Lightning Signed Message:"
# The header byte of a compact signature by a compressed key is this plus the recovery id, 0 to 3.
_HEADER: Final = 31
_SIZE: Final = 65
# Zooko's base 32: each character is five bits, so 65 bytes are exactly 104 characters.
_ZBASE32: Final = "ybndrfg8ejkmcpqxot1uwisza345h769"
_ZBASE32_VALUES: Final = {character: value for value, character in enumerate(_ZBASE32)}
_LENGTH: Final = _SIZE * 8 // 5


def is_point(data: bytes) -> bool:
    """Whether these are the 33 bytes of a compressed point on the curve."""
    if len(data) != 33:
        return False
    try:
        PublicKey(data)
    except ValueError:
        return False
    return True


def sign_message(secret: bytes, text: str) -> str:
    """The signature of a text by a node's secret (32 bytes), as lnd, Core Lightning, eclair and
    LDK make it: recoverable ECDSA over the prefixed text's double SHA-256, in zbase32 (104
    characters).
    """
    signature = PrivateKey(secret).sign_recoverable(_digest(text), hasher=None)
    # coincurve puts the recovery id last, the header byte comes first.
    return _to_zbase32(bytes([_HEADER + signature[64]]) + signature[:64])


def recover_message_signer(signature: str, text: str) -> bytes:
    """The public key (33 bytes) that made this signature of the text.

    Some key comes out for nearly every well-formed signature: who asks compares it with the key
    that should have signed. Raises `SignatureError` for a malformed one.
    """
    data = _from_zbase32(signature)
    recovery_id = data[0] - _HEADER
    if not 0 <= recovery_id <= 3:
        raise SignatureError(f"a signature's first byte is 31 to 34, not {data[0]}")
    try:
        signer = PublicKey.from_signature_and_message(
            data[1:] + bytes([recovery_id]), _digest(text), hasher=None
        )
    except ValueError:
        raise SignatureError("no key can have made this signature") from None
    return signer.format()


def _digest(text: str) -> bytes:
    return sha256(sha256(_PREFIX + text.encode()).digest()).digest()


def _to_zbase32(data: bytes) -> str:
    number = int.from_bytes(data, "big")
    return "".join(_ZBASE32[number >> shift & 31] for shift in range(8 * len(data) - 5, -1, -5))


def _from_zbase32(text: str) -> bytes:
    if len(text) != _LENGTH:
        raise SignatureError(f"a signature has {_LENGTH} characters, not {len(text)}")
    number = 0
    for character in text:
        value = _ZBASE32_VALUES.get(character)
        if value is None:
            raise SignatureError("a signature is made of zbase32's characters, " + _ZBASE32)
        number = number << 5 | value
    return number.to_bytes(_SIZE, "big")
