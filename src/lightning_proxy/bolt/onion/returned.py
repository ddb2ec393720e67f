"""How a failure comes back (BOLT 4, "Returning Errors"): wrapped by each hop, read by the origin.

The fields that `option_attribution_data` adds stand beside `reason`, not in it: they are left
alone here.
"""

import hmac
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from msgspec import Struct

from lightning_proxy.bolt import codec
from lightning_proxy.bolt.codec import Reader, Writer
from lightning_proxy.bolt.errors import MalformedMessage, RequirementError
from lightning_proxy.bolt.messages import UpdateFailMalformedHtlc
from lightning_proxy.bolt.onion.codes import FailureFlag, flags_of
from lightning_proxy.bolt.onion.failures import Failure, decode
from lightning_proxy.bolt.onion.sphinx import KeyType, apply_stream, derive_key

_NAME: Final = "return_packet"
_HMAC_SIZE: Final = 32
# BOLT #4: failure and padding together. Older nodes can't read any other size.
_MINIMUM_SIZE: Final = 256
# BOLT #4: as many as the longest route has hops, so that the time that reading takes tells nobody
# where on the route the failing hop is.
_ROUNDS: Final = 27
# What the rounds after the last hop work with.
_NO_SECRET: Final = bytes(32)
_UNHASHED: Final = bytes(32)


class Returned(Struct, frozen=True, kw_only=True):
    """A failure, and which hop of the route says so; 0 is the first."""

    hop: int
    failure: Failure


class Unreadable(Struct, frozen=True, kw_only=True):
    """Something failed, and that is all there is to know: a hop lied, or spoilt what it relayed.

    `hop` is the one that wrote what can't be read; None if that isn't known either.
    """

    hop: int | None
    reason: str


def wrap_failure(shared_secret: bytes, failure: Failure) -> bytes:
    """The `reason` with which the erring node fails an HTLC: 292 bytes, more for a long failure.

    `shared_secret` is that of the onion which came with it. Raises `MalformedMessage` for a value
    that doesn't fit.
    """
    message = failure.encode()
    writer = Writer(_NAME)
    codec.prefixed_bytes.write(writer, "failuremsg", message)
    codec.prefixed_bytes.write(writer, "pad", bytes(max(0, _MINIMUM_SIZE - len(message))))
    body = writer.getvalue()
    return relay_failure(shared_secret, _hmac(shared_secret, body) + body)


def relay_failure(shared_secret: bytes, reason: bytes) -> bytes:
    """The `reason` that a hop passes on towards the origin; `shared_secret` is that hop's."""
    return apply_stream(derive_key(KeyType.AMMAG, shared_secret), reason)


def read_failure(shared_secrets: Sequence[bytes], reason: bytes) -> Returned | Unreadable:
    """What the `reason` of an `update_fail_htlc` says to the origin of the payment.

    `shared_secrets` are those of its onion, in the order of the hops. Never raises: what comes
    back is whatever some node on the way made of it. Which hop it was makes no difference to the
    work done.
    """
    hop: int | None = None
    body = b""
    for index in range(max(_ROUNDS, len(shared_secrets))):
        known = index < len(shared_secrets)
        secret = shared_secrets[index] if known else _NO_SECRET
        reason = relay_failure(secret, reason)
        opened = reason[_HMAC_SIZE:]
        right = hmac.compare_digest(_hmac(secret, opened), reason[:_HMAC_SIZE])
        if right and known and hop is None:
            hop, body = index, opened
    if hop is None:
        return Unreadable(hop=None, reason="no hop's HMAC is right")
    reader = Reader(_NAME, body)
    try:
        failure = decode(codec.prefixed_bytes.read(reader, "failuremsg"))
        codec.prefixed_bytes.read(reader, "pad")
    except MalformedMessage as error:
        return Unreadable(hop=hop, reason=str(error))
    return Returned(hop=hop, failure=failure)


def malformed_failure(message: UpdateFailMalformedHtlc) -> Failure:
    """The failure by which a peer says that it can't open the onion it was given.

    The origin reads it so, as the first hop's; a hop before the peer wraps it as its own. Raises
    `RequirementError` for a code without BADONION: BOLT #2 closes the connection then.
    """
    if FailureFlag.BADONION not in flags_of(message.failure_code):
        raise RequirementError("failure_code", f"{message.failure_code:#06x} without BADONION")
    return decode(message.failure_code.to_bytes(2, "big") + message.sha256_of_onion)


def read_malformed(message: UpdateFailMalformedHtlc, onion: bytes) -> Returned | Unreadable:
    """What an `update_fail_malformed_htlc` says to the origin of the payment.

    `onion` is what the origin sent. Who was given another one has nothing to say about this one:
    it was altered on the way there. (BOLT #2 lets a peer leave the hash out, as zeros.) Raises
    `RequirementError` as `malformed_failure`.
    """
    failure = malformed_failure(message)
    if message.sha256_of_onion not in {sha256(onion).digest(), _UNHASHED}:
        return Unreadable(hop=None, reason="the first hop was given another onion than was sent")
    return Returned(hop=0, failure=failure)


def _hmac(shared_secret: bytes, body: bytes) -> bytes:
    return hmac.digest(derive_key(KeyType.UM, shared_secret), body, "sha256")
