"""BOLT #3's keys: each commitment's own, from basepoints, points and per-commitment secrets."""

from hashlib import sha256
from typing import Final

from coincurve import PrivateKey, PublicKey

#: BOLT #3: per-commitment secrets are numbered downwards from here.
FIRST_COMMITMENT_INDEX: Final = (1 << 48) - 1


def derive_public_key(basepoint: bytes, per_commitment_point: bytes) -> bytes:
    """The key (33 bytes) that a basepoint becomes for one commitment.

    So come `local_delayedpubkey`, `local_htlcpubkey` and `remote_htlcpubkey` about. Raises
    `ValueError` for bytes that are no point.
    """
    return PublicKey(basepoint).add(_hash(per_commitment_point, basepoint)).format()


def derive_private_key(basepoint_secret: bytes, per_commitment_point: bytes) -> bytes:
    """The secret (32 bytes) of the key that `derive_public_key` gives."""
    key = PrivateKey(basepoint_secret)
    return key.add(_hash(per_commitment_point, key.public_key.format())).secret


def revocation_public_key(revocation_basepoint: bytes, per_commitment_point: bytes) -> bytes:
    """The `revocationpubkey` (33 bytes) of one commitment.

    The basepoint is the other side's, the point that of the commitment's owner: nobody has the
    secret until the owner gives its half away. Raises `ValueError` for bytes that are no point.
    """
    return PublicKey.combine_keys(
        [
            PublicKey(revocation_basepoint).multiply(
                _hash(revocation_basepoint, per_commitment_point)
            ),
            PublicKey(per_commitment_point).multiply(
                _hash(per_commitment_point, revocation_basepoint)
            ),
        ]
    ).format()


def revocation_private_key(
    revocation_basepoint_secret: bytes, per_commitment_secret: bytes
) -> bytes:
    """The secret (32 bytes) of the `revocationpubkey`, once the commitment was revoked."""
    base, revoked = PrivateKey(revocation_basepoint_secret), PrivateKey(per_commitment_secret)
    basepoint, point = base.public_key.format(), revoked.public_key.format()
    blinded = revoked.multiply(_hash(point, basepoint))
    return base.multiply(_hash(basepoint, point)).add(blinded.secret).secret


def per_commitment_secret(seed: bytes, index: int) -> bytes:
    """The secret (32 bytes) with this index (48 bits) under a per-commitment seed (32 bytes).

    Raises `ValueError` for an index that is none.
    """
    if not 0 <= index <= FIRST_COMMITMENT_INDEX:
        raise ValueError("a per-commitment secret's index has 48 bits")
    return derive_secret(seed, 48, index)


def derive_secret(base: bytes, bits: int, index: int) -> bytes:
    """The secret (32 bytes) with this index, from one whose index is the same above its lowest
    `bits` bits and has zeros there.

    From the highest of those bits down: where the index has one, the same bit of the value is
    flipped and the value hashed.
    """
    value = bytearray(base)
    for bit in range(bits - 1, -1, -1):
        if index >> bit & 1:
            value[bit // 8] ^= 1 << bit % 8
            value[:] = sha256(value).digest()
    return bytes(value)


def _hash(first: bytes, second: bytes) -> bytes:
    return sha256(first + second).digest()
