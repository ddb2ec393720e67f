"""What the record holds of channels that move, invoices and payments, within one transaction."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

import msgspec

from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.bolt.channel.updates import Removal
from lightning_proxy.bolt.messages import CommitmentSigned, RevokeAndAck, UpdateAddHtlc, decode
from lightning_proxy.wallet.errors import RecordError
from lightning_proxy.wallet.moving.invoices import FreshInvoice
from lightning_proxy.wallet.moving.paying import Attempt
from lightning_proxy.wallet.record import Ledger

_Messages = tuple[bytes, ...]
_LIVE: Final = (
    "SELECT channel_index, snapshot, session_id, heard, said, unsure, signed, released, feerate, "
    "lost, peer_update FROM moving"
)
_INVOICE: Final = (
    "SELECT payment_hash, salt, text, amount_msat, description, created, expires_at, status, "
    "received_msat, settled FROM invoices"
)
_PAYMENT: Final = (
    "SELECT payment_id, payment_hash, invoice, payee, amount_msat, channel_index, session_key, "
    "onion, cltv_expiry, htlc_id, status, preimage, removal, reason, created, settled FROM payments"
)


class InvoiceStatus(StrEnum):
    OPEN = "open"
    #: The preimage was given away: no other payment of it is taken.
    TAKEN = "taken"
    PAID = "paid"


class PaymentStatus(StrEnum):
    #: Its HTLC is not yet offered.
    WAITING = "waiting"
    #: It may arrive.
    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Live:
    """A channel that is ready; see `schema` for what each field is."""

    index: int
    snapshot: Snapshot
    session_id: str
    heard: int = 0
    said: int = 0
    unsure: _Messages = ()
    signed: int = 0
    released: int = 0
    feerate: int | None = None
    lost: str | None = None
    peer_update: bytes | None = None

    @property
    def unsure_from(self) -> int:
        """The number of the first of `unsure`."""
        return self.said - len(self.unsure)


@dataclass(frozen=True, slots=True)
class Incoming:
    """An HTLC of the peer's that is not over, and what this wallet has said of it."""

    add: UpdateAddHtlc
    removal: Removal | None


@dataclass(frozen=True, slots=True)
class StoredInvoice:
    payment_hash: bytes
    salt: bytes = field(repr=False)
    text: str = field(repr=False)
    amount_msat: int | None
    description: str
    created: float
    expires_at: int
    status: InvoiceStatus
    received_msat: int | None
    settled: float | None


@dataclass(frozen=True, slots=True)
class StoredPayment:
    id: int
    payment_hash: bytes
    invoice: str = field(repr=False)
    payee: bytes
    amount_msat: int
    channel_index: int
    tried: Attempt = field(repr=False)
    htlc_id: int | None
    status: PaymentStatus
    preimage: bytes | None = field(repr=False)
    removal: Removal | None = field(repr=False)
    reason: str | None
    created: float
    settled: float | None


class Book:
    """The part of a `Ledger` that is about what moves."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    # ---- channels ----

    def live(self, index: int) -> Live | None:
        rows = self.ledger.query(f"{_LIVE} WHERE channel_index = ?", (index,))
        return _live(rows[0]) if rows else None

    def lives(self) -> list[Live]:
        """All of them, the oldest first."""
        return [_live(row) for row in self.ledger.query(f"{_LIVE} ORDER BY channel_index")]

    def begin(self, live: Live) -> None:
        """Store a channel that moves from now on."""
        self.ledger.execute(
            "INSERT INTO moving VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _values(live)
        )

    def save(self, before: Live, snapshot: Snapshot, messages: Iterable[bytes]) -> Live:
        """Store a step, and what is said in it; returns the channel after it.

        Raises `RecordError` where a commitment would be signed, or a secret leave, twice: then
        nothing of the step may leave.
        """
        messages = tuple(messages)
        spoken = [decode(raw) for raw in messages]
        after = replace(
            before,
            snapshot=snapshot,
            said=before.said + len(messages),
            unsure=before.unsure + messages,
            signed=snapshot.theirs.latest.state.commitment_number,
            released=snapshot.ours.commitment.state.commitment_number,
        )
        if after.signed - before.signed != _count(
            spoken, CommitmentSigned
        ) or after.released - before.released != _count(spoken, RevokeAndAck):
            raise RecordError("A commitment of a channel would be signed, or revoked, twice.")
        self.update(after)
        return after

    def update(self, live: Live) -> None:
        """Store what is not a step."""
        index, *values = _values(live)
        self.ledger.execute(
            "UPDATE moving SET snapshot = ?, session_id = ?, heard = ?, said = ?, unsure = ?, "
            "signed = ?, released = ?, feerate = ?, lost = ?, peer_update = ? "
            "WHERE channel_index = ?",
            (*values, index),
        )

    # ---- HTLCs of the peer's ----

    def incoming(self, index: int) -> list[Incoming]:
        """Those that are not over, in their order."""
        rows = self.ledger.query(
            "SELECT raw, removal FROM incoming WHERE channel_index = ? ORDER BY htlc_id",
            (index,),
        )
        return [Incoming(_add(raw), _removal(removal)) for raw, removal in rows]

    def add_incoming(self, index: int, add: UpdateAddHtlc) -> None:
        # What was offered under this number before was dropped with its connection (BOLT #2).
        self.ledger.execute(
            "INSERT OR REPLACE INTO incoming (channel_index, htlc_id, raw) VALUES (?, ?, ?)",
            (index, add.id, add.encode()),
        )

    def removal_said(self, index: int, removal: Removal) -> None:
        self.ledger.execute(
            "UPDATE incoming SET removal = ? WHERE channel_index = ? AND htlc_id = ?",
            (removal.encode(), index, removal.id),
        )

    def drop_incoming_from(self, index: int, htlc_id: int) -> None:
        """Those with this id and later ones never were: their connection is gone."""
        self.ledger.execute(
            "DELETE FROM incoming WHERE channel_index = ? AND htlc_id >= ?", (index, htlc_id)
        )

    def drop_incoming(self, index: int, htlc_id: int) -> None:
        self.ledger.execute(
            "DELETE FROM incoming WHERE channel_index = ? AND htlc_id = ?", (index, htlc_id)
        )

    # ---- invoices ----

    def add_invoice(
        self, fresh: FreshInvoice, amount_msat: int | None, description: str, created: float
    ) -> StoredInvoice:
        self.ledger.execute(
            "INSERT INTO invoices (payment_hash, salt, text, amount_msat, description, created, "
            "expires_at, status) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                fresh.payment_hash,
                fresh.salt,
                fresh.text,
                amount_msat,
                description,
                created,
                fresh.expires_at,
                InvoiceStatus.OPEN.value,
            ),
        )
        found = self.invoice(fresh.payment_hash)
        assert found is not None  # noqa: S101 - for the type checker
        return found

    def invoice(self, payment_hash: bytes) -> StoredInvoice | None:
        rows = self.ledger.query(f"{_INVOICE} WHERE payment_hash = ?", (payment_hash,))
        return _invoice(rows[0]) if rows else None

    def invoices(self) -> list[StoredInvoice]:
        """All of them, the oldest first."""
        return [_invoice(row) for row in self.ledger.query(f"{_INVOICE} ORDER BY created, rowid")]

    def take_invoice(self, payment_hash: bytes, index: int, htlc_id: int, amount_msat: int) -> None:
        """Its preimage is about to be given away, for this HTLC."""
        self.ledger.execute(
            "UPDATE invoices SET status = ?, channel_index = ?, htlc_id = ?, received_msat = ? "
            "WHERE payment_hash = ?",
            (InvoiceStatus.TAKEN.value, index, htlc_id, amount_msat, payment_hash),
        )

    def settle_invoice(self, payment_hash: bytes) -> None:
        self.ledger.execute(
            "UPDATE invoices SET status = ?, settled = ? WHERE payment_hash = ?",
            (InvoiceStatus.PAID.value, time.time(), payment_hash),
        )

    # ---- payments ----

    def add_payment(
        self,
        payment_hash: bytes,
        invoice: str,
        payee: bytes,
        amount_msat: int,
        index: int,
        tried: Attempt,
    ) -> int:
        """Store an attempt before anything of it leaves; returns its id."""
        self.ledger.execute(
            "INSERT INTO payments (payment_hash, invoice, payee, amount_msat, channel_index, "
            "session_key, onion, cltv_expiry, status, created) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                payment_hash,
                invoice,
                payee,
                amount_msat,
                index,
                tried.session_key,
                tried.onion,
                tried.cltv_expiry,
                PaymentStatus.WAITING.value,
                time.time(),
            ),
        )
        ((id_,),) = self.ledger.query("SELECT last_insert_rowid()")
        return int(id_)

    def payment(self, id_: int) -> StoredPayment | None:
        rows = self.ledger.query(f"{_PAYMENT} WHERE payment_id = ?", (id_,))
        return _payment(rows[0]) if rows else None

    def payment_of(self, payment_hash: bytes) -> StoredPayment | None:
        """The one that has not failed."""
        rows = self.ledger.query(
            f"{_PAYMENT} WHERE payment_hash = ? AND status != ?",
            (payment_hash, PaymentStatus.FAILED.value),
        )
        return _payment(rows[0]) if rows else None

    def latest_of(self, payment_hash: bytes) -> StoredPayment | None:
        """The last attempt."""
        rows = self.ledger.query(
            f"{_PAYMENT} WHERE payment_hash = ? ORDER BY payment_id DESC LIMIT 1", (payment_hash,)
        )
        return _payment(rows[0]) if rows else None

    def payments(self) -> list[StoredPayment]:
        """All of them, the oldest first."""
        return [_payment(row) for row in self.ledger.query(f"{_PAYMENT} ORDER BY payment_id")]

    def payments_in(self, index: int, status: PaymentStatus) -> list[StoredPayment]:
        """Those through this channel, the oldest first."""
        rows = self.ledger.query(
            f"{_PAYMENT} WHERE channel_index = ? AND status = ? ORDER BY payment_id",
            (index, status.value),
        )
        return [_payment(row) for row in rows]

    def payment_offered(self, id_: int, htlc_id: int) -> None:
        self.ledger.execute(
            "UPDATE payments SET status = ?, htlc_id = ? WHERE payment_id = ?",
            (PaymentStatus.PENDING.value, htlc_id, id_),
        )

    def payment_removed(self, id_: int, removal: Removal) -> None:
        """What the peer says of it, which it may still take back with its connection."""
        self.ledger.execute(
            "UPDATE payments SET removal = ? WHERE payment_id = ?", (removal.encode(), id_)
        )

    def payment_sent(self, id_: int, preimage: bytes) -> None:
        self.ledger.execute(
            "UPDATE payments SET status = ?, preimage = ?, settled = ? WHERE payment_id = ?",
            (PaymentStatus.SENT.value, preimage, time.time(), id_),
        )

    def payment_failed(self, id_: int, reason: str) -> None:
        self.ledger.execute(
            "UPDATE payments SET status = ?, reason = ?, settled = ? WHERE payment_id = ?",
            (PaymentStatus.FAILED.value, reason, time.time(), id_),
        )


def _live(row: tuple[Any, ...]) -> Live:
    index, snapshot, session_id, heard, said, unsure, *rest = row
    return Live(
        index,
        Snapshot.decode(snapshot),
        session_id,
        heard,
        said,
        msgspec.msgpack.decode(unsure, type=_Messages),
        *rest,
    )


def _values(live: Live) -> tuple[Any, ...]:
    return (
        live.index,
        live.snapshot.encode(),
        live.session_id,
        live.heard,
        live.said,
        msgspec.msgpack.encode(live.unsure),
        live.signed,
        live.released,
        live.feerate,
        live.lost,
        live.peer_update,
    )


def _invoice(row: tuple[Any, ...]) -> StoredInvoice:
    invoice = StoredInvoice(*row)
    return replace(invoice, status=InvoiceStatus(invoice.status))


def _payment(row: tuple[Any, ...]) -> StoredPayment:
    tried = Attempt(*row[6:9])
    fields = [*row[:6], tried, *row[9:]]
    payment = StoredPayment(*fields)
    return replace(payment, status=PaymentStatus(payment.status), removal=_removal(row[12]))


def _add(raw: bytes) -> UpdateAddHtlc:
    message = decode(raw)
    assert isinstance(message, UpdateAddHtlc)  # noqa: S101 - stored so
    return message


def _removal(raw: bytes | None) -> Removal | None:
    if raw is None:
        return None
    message = decode(raw)
    assert isinstance(message, Removal)  # noqa: S101 - stored so
    return message


def _count(messages: Iterable[object], kind: type) -> int:
    return sum(isinstance(message, kind) for message in messages)
