"""What was asked for and what was paid, as an owner sees it. Needs nothing but the record."""

import time
from dataclasses import dataclass, field

from lightning_proxy.bolt.invoice import parse
from lightning_proxy.wallet.moving.tables import (
    Book,
    InvoiceStatus,
    StoredInvoice,
    StoredPayment,
)
from lightning_proxy.wallet.record import Ledger


@dataclass(frozen=True, slots=True)
class Payment:
    """One payment, either way; `status` is one of `PaymentStatus` or `InvoiceStatus`, or "expired".

    `reason` says why it failed; `preimage` is the proof of one that was sent.
    """

    is_incoming: bool
    payment_hash: bytes
    amount_msat: int | None
    status: str
    description: str
    invoice: str = field(repr=False)
    created: float
    settled: float | None
    peer: bytes | None = None
    preimage: bytes | None = field(default=None, repr=False)
    reason: str | None = None


def payments_in(ledger: Ledger) -> list[Payment]:
    """All of them, the oldest first."""
    book, now = Book(ledger), time.time()
    found = [_received(invoice, now) for invoice in book.invoices()]
    found += [sent(payment) for payment in book.payments()]
    return sorted(found, key=lambda payment: payment.created)


def _received(invoice: StoredInvoice, now: float) -> Payment:
    is_over = invoice.status is InvoiceStatus.OPEN and now > invoice.expires_at
    received = invoice.received_msat
    return Payment(
        is_incoming=True,
        payment_hash=invoice.payment_hash,
        amount_msat=invoice.amount_msat if received is None else received,
        status="expired" if is_over else invoice.status.value,
        description=invoice.description,
        invoice=invoice.text,
        created=invoice.created,
        settled=invoice.settled,
    )


def sent(payment: StoredPayment) -> Payment:
    """One that this wallet makes."""
    return Payment(
        is_incoming=False,
        payment_hash=payment.payment_hash,
        amount_msat=payment.amount_msat,
        status=payment.status.value,
        description=parse(payment.invoice).invoice.description or "",
        invoice=payment.invoice,
        created=payment.created,
        settled=payment.settled,
        peer=payment.payee,
        preimage=payment.preimage,
        reason=payment.reason,
    )
