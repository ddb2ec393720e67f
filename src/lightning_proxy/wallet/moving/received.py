"""What becomes of an HTLC that the peer offers: taken, failed, or left for now. Pure.

It is judged once it is irrevocable, never before: until then the preimage would be given away for
nothing.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from lightning_proxy.bolt.channel.updates import Removal
from lightning_proxy.bolt.errors import OnionError, PayloadError
from lightning_proxy.bolt.messages import (
    UpdateAddHtlc,
    UpdateFailHtlc,
    UpdateFailMalformedHtlc,
    UpdateFulfillHtlc,
)
from lightning_proxy.bolt.onion import (
    Ecdh,
    Failure,
    FailureCode,
    Payload,
    Peeled,
    peel,
    wrap_failure,
)
from lightning_proxy.bolt.onion import payloads as onion_payloads
from lightning_proxy.bolt.onion.failures import (
    FinalIncorrectCltvExpiry,
    FinalIncorrectHtlcAmount,
    IncorrectOrUnknownPaymentDetails,
    InvalidOnionPayload,
    TemporaryChannelFailure,
    TemporaryNodeFailure,
    UnknownNextPeer,
)

#: Blocks before an HTLC's `cltv_expiry` at which its preimage has to go to the chain, where the
#: peer does not remove it (BOLT #2, "cltv_expiry_delta Selection").
CLAIM_BLOCKS: Final = 18
#: BOLT #4: a payer may give more than was asked for, up to twice as much.
_MOST: Final = 2


@dataclass(frozen=True, slots=True)
class Claim:
    """An invoice of ours, as far as a payment is measured by it."""

    payment_secret: bytes = field(repr=False)
    preimage: bytes = field(repr=False)
    #: None where the payer may choose.
    amount_msat: int | None
    #: Unix seconds.
    expires_at: float
    #: A payment of it was taken already.
    is_taken: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the wallet goes by; `height` is that of its own tip, None where it has no answer."""

    ecdh: Ecdh
    claim_of: Callable[[bytes], Claim | None]
    height: int | None
    #: Whether there is a source of the wallet's own that will know the height.
    has_chain: bool
    #: Whether what this channel says can be enforced on its chain.
    is_enforceable: bool
    #: Blocks that must be left above `CLAIM_BLOCKS` when a preimage is given away.
    margin: int
    #: Without a chain source of the wallet's own, the most that an HTLC may be.
    max_unwatched_msat: int
    now: float = field(default_factory=time.time)


class Later(Exception):
    """Nothing can be said of it yet."""


class _Told(Exception):
    """The payer is told this."""

    def __init__(self, failure: Failure) -> None:
        super().__init__()
        self.failure = failure


def judge(add: UpdateAddHtlc, conditions: Conditions, *, has_too_much_dust: bool) -> Removal:
    """The removal of an irrevocable HTLC; raises `Later` while the wallet's own tip is unknown."""
    if add.blinded_path is not None:
        # This wallet is in no blinded path; BOLT #4: nobody is told more of one.
        return _malformed(add, FailureCode.INVALID_ONION_BLINDING)
    try:
        peeled = peel(add.onion_routing_packet, conditions.ecdh, add.payment_hash)
    except OnionError as error:
        return _malformed(add, error.failure_code)
    except PayloadError as error:
        return _fail(add, error.shared_secret or b"", _invalid_payload(error))
    try:
        if has_too_much_dust:
            # BOLT #2: no preimage for it.
            raise _Told(TemporaryChannelFailure(channel_update=b""))
        preimage = _preimage(add, peeled, conditions)
    except PayloadError as error:
        return _fail(add, peeled.shared_secret, _invalid_payload(error))
    except _Told as told:
        return _fail(add, peeled.shared_secret, told.failure)
    return UpdateFulfillHtlc(channel_id=add.channel_id, id=add.id, payment_preimage=preimage)


def _preimage(add: UpdateAddHtlc, peeled: Peeled, conditions: Conditions) -> bytes:
    """For the payment that was asked for (BOLT #4, "Requirements" of the final node)."""
    is_final = peeled.next_packet is None
    payload = onion_payloads.decode(peeled.payload, final=is_final)
    if not is_final:
        # This wallet forwards nothing.
        raise _Told(UnknownNextPeer())
    if not conditions.is_enforceable:
        raise _Told(TemporaryNodeFailure())
    amount, cltv_expiry = payload.amt_to_forward, payload.outgoing_cltv_value
    if amount is not None and add.amount_msat < amount:
        raise _Told(FinalIncorrectHtlcAmount(incoming_htlc_amt=add.amount_msat))
    if cltv_expiry is not None and add.cltv_expiry < cltv_expiry:
        raise _Told(FinalIncorrectCltvExpiry(cltv_expiry=add.cltv_expiry))
    claim = conditions.claim_of(add.payment_hash)
    # BOLT #4: who asks may not learn which of these it is.
    if claim is None or not _is_wanted(add, payload, claim, conditions.now):
        raise _Told(_unknown(add, conditions))
    if conditions.has_chain:
        if conditions.height is None:
            raise Later
        if add.cltv_expiry < conditions.height + CLAIM_BLOCKS + conditions.margin:
            raise _Told(_unknown(add, conditions))
    elif add.amount_msat > conditions.max_unwatched_msat:
        raise _Told(TemporaryNodeFailure())
    return claim.preimage


def _is_wanted(add: UpdateAddHtlc, payload: Payload, claim: Claim, now: float) -> bool:
    data = payload.payment_data
    if claim.is_taken or now > claim.expires_at or data is None:
        return False
    if not compare_digest(data.payment_secret, claim.payment_secret):
        return False
    # In one part: it has to bring the whole.
    if data.total_msat > (payload.amt_to_forward or 0):
        return False
    wanted = claim.amount_msat
    most = max(data.total_msat, add.amount_msat)
    return wanted is None or (wanted <= data.total_msat and most <= _MOST * wanted)


def _unknown(add: UpdateAddHtlc, conditions: Conditions) -> Failure:
    return IncorrectOrUnknownPaymentDetails(
        htlc_msat=add.amount_msat, height=conditions.height or 0
    )


def _fail(add: UpdateAddHtlc, shared_secret: bytes, failure: Failure) -> UpdateFailHtlc:
    reason = wrap_failure(shared_secret, failure)
    return UpdateFailHtlc(channel_id=add.channel_id, id=add.id, reason=reason)


def _malformed(add: UpdateAddHtlc, failure_code: int) -> UpdateFailMalformedHtlc:
    return UpdateFailMalformedHtlc(
        channel_id=add.channel_id,
        id=add.id,
        sha256_of_onion=sha256(add.onion_routing_packet).digest(),
        failure_code=failure_code,
    )


def _invalid_payload(error: PayloadError) -> Failure:
    return InvalidOnionPayload(type=error.type, offset=min(error.offset, 0xFFFF))
