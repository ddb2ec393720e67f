"""BOLT 4's onion packets, version 0: made for a whole route, and peeled by one hop.

Whoever peels needs one ECDH with the node's key, and gets it as a function, so that keys may stay
where they are. EC work is coincurve's, ChaCha20 is pycryptodome's.
"""

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from typing import Final, TypeAlias

from coincurve import PrivateKey, PublicKey
from Crypto.Cipher import ChaCha20

from lightning_proxy.bolt.codec import Reader, Writer, bigsize
from lightning_proxy.bolt.errors import MalformedMessage, OnionError, PayloadError
from lightning_proxy.bolt.onion.codes import FailureCode

#: Takes a point (33 bytes, on the curve) and gives the secret (32 bytes) that its owner shares
#: with this node: the SHA-256 of the product, compressed.
Ecdh: TypeAlias = Callable[[bytes], bytes]

#: The bytes of `hop_payloads` in a payment's onion; those of a message may be more or fewer.
PAYMENT_PAYLOADS_SIZE: Final = 1300

_NAME: Final = "onion_packet"
_VERSION: Final = b"\x00"
_POINT_SIZE: Final = 33
_HMAC_SIZE: Final = 32
_SECRET_SIZE: Final = 32
_PAYLOADS_AT: Final = len(_VERSION) + _POINT_SIZE
_OVERHEAD: Final = _PAYLOADS_AT + _HMAC_SIZE
# BOLT #4: no TLV record is shorter than two bytes, so payloads of 0 and 1 byte are reserved.
_MINIMUM_PAYLOAD: Final = 2
# The hop whose next HMAC is all zero is the last.
_LAST: Final = bytes(_HMAC_SIZE)
# BOLT #4: keys are used for one stream only, so the nonce may be fixed.
_NONCE: Final = bytes(12)
_BLINDED_NODE_ID: Final = b"blinded_node_id"


class KeyType(bytes, Enum):
    """What a key that comes of a shared secret is for."""

    RHO = b"rho"
    MU = b"mu"
    UM = b"um"
    PAD = b"pad"
    AMMAG = b"ammag"


@dataclass(frozen=True, slots=True)
class Hop:
    """A node of a route, and its payload without the length in front."""

    node_id: bytes
    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Onion:
    """A packet for the first hop, and what the origin shares with each hop, in their order.

    With the secrets the origin reads a returned failure: it keeps them, or the session key.
    """

    packet: bytes
    shared_secrets: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Peeled:
    """What an onion holds for one hop."""

    #: Without its length in front. It may hold secrets of the payment.
    payload: bytes = field(repr=False)
    #: Wraps a failure that this hop returns.
    shared_secret: bytes = field(repr=False)
    #: The packet for the next hop; None if this hop is the last.
    next_packet: bytes | None


def construct(
    hops: Sequence[Hop],
    session_key: bytes,
    associated_data: bytes,
    *,
    payloads_size: int = PAYMENT_PAYLOADS_SIZE,
) -> Onion:
    """The onion for a route of at least one hop, the last of `hops` being the recipient.

    `session_key` is a private key (32 bytes), random and used for this onion only. Every hop must
    be given the same `associated_data`: for a payment, the payment hash.

    Raises `MalformedMessage` for a node id that is no point, for a payload of fewer than two
    bytes, and for payloads that don't fit into `payloads_size` bytes; `ValueError` for a session
    key that is none.
    """
    secrets = shared_secrets(session_key, [hop.node_id for hop in hops])
    heads = [_length(hop.payload) + hop.payload for hop in hops]
    sizes = [len(head) + _HMAC_SIZE for head in heads]
    if not hops or sum(sizes) > payloads_size:
        reason = f"{len(hops)} hops of {sum(sizes)} bytes, 1 to {payloads_size} bytes fit"
        raise MalformedMessage(_NAME, "hop_payloads", reason)
    filler = _filler(secrets[:-1], sizes[:-1], payloads_size)
    payloads = apply_stream(derive_key(KeyType.PAD, session_key), bytes(payloads_size))
    tag = _LAST
    for index in reversed(range(len(hops))):
        secret = secrets[index]
        payloads = (heads[index] + tag + payloads)[:payloads_size]
        payloads = apply_stream(derive_key(KeyType.RHO, secret), payloads)
        if index == len(hops) - 1:
            payloads = payloads[: payloads_size - len(filler)] + filler
        tag = _hmac(derive_key(KeyType.MU, secret), payloads + associated_data)
    public_key = PrivateKey(session_key).public_key.format()
    return Onion(_VERSION + public_key + payloads + tag, secrets)


def shared_secrets(session_key: bytes, node_ids: Sequence[bytes]) -> tuple[bytes, ...]:
    """What the origin of an onion shares with each hop, 32 bytes each.

    Raises `MalformedMessage` for a node id that is no point, `ValueError` for a session key that
    is none.
    """
    if len(session_key) != _SECRET_SIZE:
        raise ValueError(f"a session key has {_SECRET_SIZE} bytes")
    ephemeral = PrivateKey(session_key)
    secrets = []
    for node_id in node_ids:
        try:
            point = PublicKey(node_id)
        except ValueError:
            raise MalformedMessage(_NAME, "public_key", "a hop's node id is no point") from None
        secret = ephemeral.ecdh(point.format())
        secrets.append(secret)
        ephemeral = ephemeral.multiply(_blinding(ephemeral.public_key.format(), secret))
    return tuple(secrets)


def ecdh_with(private_key: bytes) -> Ecdh:
    """The ECDH of a private key (32 bytes) that is at hand; raises `ValueError` for none."""
    return PrivateKey(private_key).ecdh


def peel(
    packet: bytes, ecdh: Ecdh, associated_data: bytes, *, path_key: bytes | None = None
) -> Peeled:
    """Opens an onion of any size by its node's key.

    `path_key` is what came along where this hop is inside a blinded path and not its first. Who
    takes payments must refuse an onion seen before: two of one `shared_secret` are the same.

    Raises `OnionError` for an onion of another version, with a key that is no point, or whose HMAC
    isn't right; `PayloadError`, with the shared secret, for one that holds no payload;
    `MalformedMessage` for too few bytes, and for a path key that is no point.
    """
    if len(packet) < _OVERHEAD:
        reason = f"{len(packet)} bytes, at least {_OVERHEAD} wanted"
        raise MalformedMessage(_NAME, "size", reason)
    version, public_key = packet[:1], packet[1:_PAYLOADS_AT]
    payloads, tag = packet[_PAYLOADS_AT:-_HMAC_SIZE], packet[-_HMAC_SIZE:]
    if version != _VERSION:
        raise OnionError(FailureCode.INVALID_ONION_VERSION, f"version {version[0]} is unknown")
    try:
        ephemeral = PublicKey(public_key)
    except ValueError:
        raise OnionError(FailureCode.INVALID_ONION_KEY, "public_key is no point") from None
    secret = ecdh(_unblinded(ephemeral, path_key, ecdh))
    wanted = _hmac(derive_key(KeyType.MU, secret), payloads + associated_data)
    if not hmac.compare_digest(wanted, tag):
        raise OnionError(FailureCode.INVALID_ONION_HMAC, "the HMAC is not right")
    # Twice the length: what moves up from behind is the next hop's filler.
    opened = apply_stream(derive_key(KeyType.RHO, secret), payloads + bytes(len(payloads)))
    payload, next_tag, rest = _first_of(opened, len(payloads), secret)
    if next_tag == _LAST:
        return Peeled(payload, secret, None)
    next_key = ephemeral.multiply(_blinding(public_key, secret)).format()
    next_packet = _VERSION + next_key + rest[: len(payloads)] + next_tag
    return Peeled(payload, secret, next_packet)


def derive_key(key_type: KeyType, secret: bytes) -> bytes:
    """The key (32 bytes) of this type that comes of a secret (32 bytes)."""
    return _hmac(key_type.value, secret)


def apply_stream(key: bytes, data: bytes, position: int = 0) -> bytes:
    """The data XOR the pseudo-random stream of a key, from this position of the stream on."""
    cipher = ChaCha20.new(key=key, nonce=_NONCE)
    cipher.seek(position)
    return cipher.encrypt(data)


def _first_of(opened: bytes, size: int, secret: bytes) -> tuple[bytes, bytes, bytes]:
    """The payload in front of opened `hop_payloads`, the next HMAC, and what follows them."""
    reader = Reader(_NAME, opened)
    reader.end = size
    try:
        length = bigsize.read(reader, "length")
        if length < _MINIMUM_PAYLOAD:
            reader.fail("length", f"payloads of {length} bytes are reserved")
        payload = reader.take(length, "payload")
        tag = reader.take(_HMAC_SIZE, "hmac")
    except MalformedMessage as error:
        raise PayloadError(0, 0, f"{error.field}: {error.reason}", secret) from None
    return payload, tag, opened[reader.position :]


def _length(payload: bytes) -> bytes:
    writer = Writer(_NAME)
    if len(payload) < _MINIMUM_PAYLOAD:
        writer.fail("payload", f"{len(payload)} bytes, at least {_MINIMUM_PAYLOAD} wanted")
    bigsize.write(writer, "length", len(payload))
    return writer.getvalue()


def _filler(secrets: Sequence[bytes], sizes: Sequence[int], payloads_size: int) -> bytes:
    """What stands at the end of `hop_payloads` when the last hop gets them.

    Each hop before it takes `size` bytes off the front and moves zeros up from behind, under the
    same stream as all the rest.
    """
    filler = b""
    for secret, size in zip(secrets, sizes, strict=True):
        position = payloads_size - len(filler)
        filler = apply_stream(derive_key(KeyType.RHO, secret), filler + bytes(size), position)
    return filler


def _unblinded(ephemeral: PublicKey, path_key: bytes | None, ecdh: Ecdh) -> bytes:
    """The point to do ECDH with: inside a blinded path, the onion is for a blinded node id.

    Instead of the node's key, the point is multiplied: the product is the same.
    """
    if path_key is None:
        return ephemeral.format()
    try:
        point = PublicKey(path_key).format()
    except ValueError:
        raise MalformedMessage(_NAME, "path_key", "it is no point") from None
    return ephemeral.multiply(_hmac(_BLINDED_NODE_ID, ecdh(point))).format()


def _blinding(public_key: bytes, secret: bytes) -> bytes:
    """The factor by which a hop's ephemeral key becomes the next hop's."""
    return sha256(public_key + secret).digest()


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")
