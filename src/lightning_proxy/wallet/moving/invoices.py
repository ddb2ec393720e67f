"""Invoices of this wallet's: their secrets, which come of the seed, and their text."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from lightning_proxy.bolt.features import Feature, Features
from lightning_proxy.bolt.invoice import PREFIXES, Invoice, RouteHint, sign
from lightning_proxy.wallet.keys import WalletKeys

#: Blocks: the payment may have to wait for the wallet to wake, and then still be enforceable.
MIN_FINAL_CLTV_EXPIRY_DELTA: Final = 144

_FEATURES: Final = Features.from_bits((Feature.VAR_ONION_OPTIN, Feature.PAYMENT_SECRET))


@dataclass(frozen=True, slots=True)
class FreshInvoice:
    """An invoice and what it was derived by; to be stored before it is shown."""

    salt: bytes
    payment_hash: bytes
    preimage: bytes = field(repr=False)
    payment_secret: bytes = field(repr=False)
    text: str = field(repr=False)
    expires_at: int


def make_invoice(
    keys: WalletKeys,
    salt: bytes,
    *,
    chain: str,
    amount_msat: int | None,
    description: str,
    expiry: int,
    hints: Iterable[RouteHint],
    now: float | None = None,
) -> FreshInvoice:
    """`hints`: how each peer forwards to us. Raises `InvoiceError`."""
    preimage, payment_secret = keys.payment(salt)
    payment_hash = sha256(preimage).digest()
    invoice = Invoice(
        prefix=PREFIXES[chain],
        amount_msat=amount_msat,
        timestamp=int(time.time() if now is None else now),
        payment_hash=payment_hash,
        payment_secret=payment_secret,
        description=description,
        expiry=expiry,
        min_final_cltv_expiry_delta=MIN_FINAL_CLTV_EXPIRY_DELTA,
        routes=tuple((hint,) for hint in hints),
        features=_FEATURES,
    )
    text = sign(invoice, keys.sign_recoverable).text
    return FreshInvoice(salt, payment_hash, preimage, payment_secret, text, invoice.expires_at)
