"""Invoices as text: read with their signature checked, and signed (BOLT 11).

bech32 is btclib's, which leaves out BIP 173's limit of 90 characters as BOLT #11 wants it; curve
work is coincurve's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, TypeAlias

from btclib import bech32
from coincurve import PublicKey
from coincurve.ecdsa import cdata_to_der, deserialize_compact

from lightning_proxy.bolt.errors import InvoiceError
from lightning_proxy.bolt.invoice import fields, prefix
from lightning_proxy.bolt.invoice.parts import Invoice

#: Takes what an invoice says, as bytes, and gives the recoverable signature of its SHA-256: r, s,
#: and the recovery id (65 bytes). `coincurve.PrivateKey(secret).sign_recoverable` is one.
Signer: TypeAlias = Callable[[bytes], bytes]

#: As many characters as fit into the largest QR code, as a number of digits; lnd's and LDK's limit.
MAXIMUM_LENGTH: Final = 7089

_SIGNATURE_BYTES: Final = 65
_SIGNATURE_SIZE: Final = 104
_MAXIMUM_RECOVERY_ID: Final = 3
# bech32's separator, the signature, bech32's checksum.
_OVERHEAD: Final = 1 + _SIGNATURE_SIZE + 6


@dataclass(frozen=True, slots=True)
class SignedInvoice:
    """An invoice, the node that signed it (33 bytes), and the text of both in lower case."""

    invoice: Invoice
    payee: bytes
    text: str = field(repr=False)


def parse(text: str) -> SignedInvoice:
    """The invoice in a text, all upper or all lower case, without a URI's scheme.

    Whether it has expired, and is for the right chain, is for the caller to say. Raises
    `InvoiceError` for what is no invoice, and for one that no payer should pay.
    """
    _check_length(len(text))
    try:
        readable, data = bech32.decode(text, bech32.BECH32_1_CONST)
    except ValueError as error:
        raise InvoiceError("text", f"no bech32: {error}") from None
    currency, amount_msat = prefix.read(readable)
    if len(data) < _SIGNATURE_SIZE:
        raise InvoiceError("signature", "it is cut off")
    signed, signature = data[:-_SIGNATURE_SIZE], data[-_SIGNATURE_SIZE:]
    invoice, node_id = Invoice.from_groups(currency, amount_msat, signed)
    payee = _payee(fields.to_bytes("signature", signature), _message(readable, signed), node_id)
    return SignedInvoice(invoice, payee, text.lower())


def sign(invoice: Invoice, signer: Signer, *, node_id: bytes | None = None) -> SignedInvoice:
    """The invoice as text, signed; with the payee's node id (33 bytes) in it if that is given.

    What `parse` would refuse, or read as another invoice, is not shown to the signer. Raises
    `InvoiceError`, also for a signature that isn't one or isn't by the node of that id.
    """
    readable = prefix.write(invoice.prefix, invoice.amount_msat)
    signed = invoice.to_groups(node_id)
    if Invoice.from_groups(invoice.prefix, invoice.amount_msat, signed)[0] != invoice:
        raise InvoiceError("text", "it reads back as another invoice")
    _check_length(len(readable) + len(signed) + _OVERHEAD)
    signature = signer(_message(readable, signed))
    if len(signature) != _SIGNATURE_BYTES:
        raise InvoiceError("signature", f"{_SIGNATURE_BYTES} bytes wanted, {len(signature)} given")
    data = [*signed, *fields.from_bytes(signature)]
    return parse(bech32.encode(readable, data, bech32.BECH32_1_CONST).decode())


def _check_length(length: int) -> None:
    if length > MAXIMUM_LENGTH:
        raise InvoiceError("text", f"{length} characters, at most {MAXIMUM_LENGTH} wanted")


def _message(readable: str, signed: fields.Groups) -> bytes:
    """What the signature signs the SHA-256 of."""
    return readable.encode() + fields.to_padded_bytes(signed)


def _payee(signature: bytes, message: bytes, node_id: bytes | None) -> bytes:
    """The node that made this signature; raises `InvoiceError` where none did."""
    if signature[-1] > _MAXIMUM_RECOVERY_ID:
        raise InvoiceError("signature", f"the recovery id is {signature[-1]}, not 0 to 3")
    digest = sha256(message).digest()
    if node_id is None:
        # BOLT #11: here a high S is as good as a low one.
        try:
            return PublicKey.from_signature_and_message(signature, digest, hasher=None).format()
        except ValueError:
            raise InvoiceError("signature", "no key can have made it") from None
    try:
        key = PublicKey(node_id)
        der = cdata_to_der(deserialize_compact(signature[:-1]))
    except ValueError:
        raise InvoiceError("signature", "no signature, or its node's id is no point") from None
    # libsecp256k1 refuses a high S, as BOLT #11 does where the node id is given.
    if not key.verify(der, digest, hasher=None):
        raise InvoiceError("signature", "not by the node that the invoice names")
    return node_id
