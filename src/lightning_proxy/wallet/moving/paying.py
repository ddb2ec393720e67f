"""A payment to a peer, in a single part: its onion, and how it came out. Pure."""

from dataclasses import dataclass, field
from typing import Final

from lightning_proxy.bolt.channel.updates import Removal
from lightning_proxy.bolt.invoice import SignedInvoice
from lightning_proxy.bolt.messages import UpdateAddHtlc, UpdateFailHtlc, UpdateFailMalformedHtlc
from lightning_proxy.bolt.onion import (
    Hop,
    Payload,
    PaymentData,
    Returned,
    construct,
    read_failure,
    read_malformed,
    shared_secrets,
)
from lightning_proxy.bolt.onion.codes import FailureCode

#: Blocks that may be found before the payee looks at its payment.
_SLACK: Final = 6

_WORDS: Final = {
    FailureCode.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS: "the payee knows no such invoice, or has "
    "been paid, or wants another amount or more time",
    FailureCode.FINAL_INCORRECT_CLTV_EXPIRY: "the payee was offered less time than was agreed",
    FailureCode.FINAL_INCORRECT_HTLC_AMOUNT: "the payee was offered another amount than was agreed",
    FailureCode.TEMPORARY_NODE_FAILURE: "the payee can't take it for now",
    FailureCode.PERMANENT_NODE_FAILURE: "the payee can't take payments",
    FailureCode.TEMPORARY_CHANNEL_FAILURE: "the channel can't take it for now",
    FailureCode.EXPIRY_TOO_SOON: "the payee wants more time",
    FailureCode.EXPIRY_TOO_FAR: "the payee wants less time",
    FailureCode.MPP_TIMEOUT: "the payee waited for more parts of it",
    FailureCode.INVALID_ONION_PAYLOAD: "the payee does not understand what it was told",
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """What has to be stored before the HTLC is offered."""

    session_key: bytes = field(repr=False)
    onion: bytes = field(repr=False)
    cltv_expiry: int


def attempt(signed: SignedInvoice, amount_msat: int, session_key: bytes, height: int) -> Attempt:
    """The onion for the payee, who is the first and the last hop.

    Raises `BoltError` where it can't be made.
    """
    invoice = signed.invoice
    cltv_expiry = height + invoice.min_final_cltv_expiry_delta + _SLACK
    payload = Payload(
        amt_to_forward=amount_msat,
        outgoing_cltv_value=cltv_expiry,
        payment_data=PaymentData(payment_secret=invoice.payment_secret, total_msat=amount_msat),
        payment_metadata=invoice.payment_metadata,
    )
    hop = Hop(signed.payee, payload.encode())
    onion = construct([hop], session_key, invoice.payment_hash)
    return Attempt(session_key, onion.packet, cltv_expiry)


def add_of(
    channel_id: bytes, payment_hash: bytes, amount_msat: int, tried: Attempt
) -> UpdateAddHtlc:
    """The HTLC of an attempt; its id is the moment's."""
    return UpdateAddHtlc(
        channel_id=channel_id,
        id=0,
        amount_msat=amount_msat,
        payment_hash=payment_hash,
        cltv_expiry=tried.cltv_expiry,
        onion_routing_packet=tried.onion,
    )


def why_failed(removal: Removal, payee: bytes, tried: Attempt) -> str:
    """What a failure says, in words."""
    match removal:
        case UpdateFailHtlc(reason=reason):
            returned = read_failure(shared_secrets(tried.session_key, [payee]), reason)
        case UpdateFailMalformedHtlc():
            returned = read_malformed(removal, tried.onion)
        case _:
            return "it was not taken"
    if not isinstance(returned, Returned):
        return f"it failed, and nobody can tell why: {returned.reason}"
    code = returned.failure.code
    if code in _WORDS:
        return _WORDS[FailureCode(code)]
    try:
        return f"the payee answered {FailureCode(code).name.lower()}"
    except ValueError:
        return f"the payee answered with the code {code:#06x}"
