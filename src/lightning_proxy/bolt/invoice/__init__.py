"""BOLT 11 invoices: `parse` a text to one, `sign` one to a text."""

from lightning_proxy.bolt.invoice.parts import Fallback, Invoice, RouteHint
from lightning_proxy.bolt.invoice.prefix import PREFIXES
from lightning_proxy.bolt.invoice.signed import (
    MAXIMUM_LENGTH,
    SignedInvoice,
    Signer,
    parse,
    sign,
)

__all__ = [
    "MAXIMUM_LENGTH",
    "PREFIXES",
    "Fallback",
    "Invoice",
    "RouteHint",
    "SignedInvoice",
    "Signer",
    "parse",
    "sign",
]
