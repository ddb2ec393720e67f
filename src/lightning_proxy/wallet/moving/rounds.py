"""A channel taken further within one transaction of the record: heard, judged, said, settled.

Everything here runs in the record's thread. What it returns may leave once the transaction is on
the disk, and not before.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from hmac import compare_digest
from typing import Final

from lightning_proxy import rpc
from lightning_proxy.bolt.channel import ChannelState
from lightning_proxy.bolt.channel.begin import snapshot_of
from lightning_proxy.bolt.channel.reestablish import (
    Behind,
    disconnected,
    reestablish_of,
)
from lightning_proxy.bolt.channel.reestablish import reestablish as resume
from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.bolt.channel.terms import terms_of
from lightning_proxy.bolt.channel.updates import Removal, Update, find_htlc
from lightning_proxy.bolt.derivation import FIRST_COMMITMENT_INDEX, per_commitment_secret
from lightning_proxy.bolt.invoice import parse
from lightning_proxy.bolt.messages import UpdateAddHtlc, UpdateFee, UpdateFulfillHtlc
from lightning_proxy.wallet.events import Event, PaymentFailed, PaymentReceived, PaymentSent
from lightning_proxy.wallet.keys import ChannelSecrets, WalletKeys
from lightning_proxy.wallet.moving.balances import is_gone
from lightning_proxy.wallet.moving.limits import UNENFORCED, Limits
from lightning_proxy.wallet.moving.paying import add_of, why_failed
from lightning_proxy.wallet.moving.received import Claim, Conditions, Later, judge
from lightning_proxy.wallet.moving.step import hear, may_speak, speak
from lightning_proxy.wallet.moving.tables import (
    Book,
    InvoiceStatus,
    Live,
    PaymentStatus,
    StoredPayment,
)
from lightning_proxy.wallet.policy import Policy
from lightning_proxy.wallet.record import StoredChannel
from lightning_proxy.wallet.request import Refusal, chain_of

#: So that what is said at once fits into a frame, with its onions.
_ADDS_AT_ONCE: Final = 100


class StateLost(Exception):
    """The record is older than the channel: nothing may be signed from it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Proved(StateLost):
    """And that will never change."""


class NotReady(Exception):
    """By the record the channel is not ready: a `channel_ready` is still on its way."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a wallet goes by. `height` is its own tip's; None where it has no answer now."""

    keys: WalletKeys
    policy: Policy
    height: int | None = None
    has_chain: bool = False
    now: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class Round:
    """A channel after it was taken further; `waits`: an HTLC is not judged, for want of a tip."""

    live: Live
    events: tuple[Event, ...]
    waits: bool = False


# ---- a connection ----


def begin(book: Book, stored: StoredChannel, session_id: str) -> Live:
    """The channel as it moves; from its opening, where it never moved.

    Raises `NotReady`.
    """
    live = book.live(stored.index)
    if live is not None:
        return live
    channel = stored.channel()
    if channel.state is not ChannelState.READY:
        raise NotReady
    live = Live(stored.index, snapshot_of(channel), session_id)
    book.begin(live)
    return live


def reestablish(book: Book, stored: StoredChannel, session_id: str) -> rpc.Reestablish:
    """Where the channel stands on a new connection; raises `NotReady`."""
    return _again(book, begin(book, stored, session_id), session_id)


def _again(book: Book, live: Live, session_id: str) -> rpc.Reestablish:
    snapshot = disconnected(live.snapshot)
    numbers = reestablish_of(snapshot, snapshot.role)
    resumed = resume(snapshot, snapshot.role, numbers).snapshot
    book.update(replace(live, snapshot=resumed, session_id=session_id, heard=0, said=0, unsure=()))
    book.drop_incoming_from(live.index, snapshot.theirs.next_htlc_id)
    return rpc.Reestablish(
        next_commitment_number=numbers.next_commitment_number,
        next_revocation_number=numbers.next_revocation_number,
        your_last_per_commitment_secret=numbers.your_last_per_commitment_secret.hex(),
        my_current_per_commitment_point=numbers.my_current_per_commitment_point.hex(),
        snapshot=snapshot.encode().hex(),
    )


def standing(book: Book, stored: StoredChannel, session_id: str) -> rpc.ChannelStanding:
    """The same, said before anybody asks; raises `NotReady`."""
    live = begin(book, stored, session_id)
    channel_id = terms_of(live.snapshot).channel_id
    return rpc.ChannelStanding(channel_id.hex(), _again(book, live, session_id))


# ---- the relay asks ----


def answer(
    book: Book,
    stored: StoredChannel,
    means: Means,
    session_id: str,
    fence: rpc.Fence,
    raw_messages: Sequence[bytes],
) -> tuple[rpc.Commitment, Round]:
    """What the wallet says to a `commitment` question.

    Raises `BoltError`, `Refusal`, `StateLost`, `NotReady`.
    """
    live = begin(book, stored, session_id)
    if live.session_id != session_id:
        # A question that another connection overtook; where the record is old, the next one shows.
        raise Refusal("this wallet's record has not gone on with the channel on that connection")
    if fence.heard > live.heard or fence.said > live.said:
        raise StateLost("more was said in the channel than this wallet's record has")
    if fence.said < live.unsure_from:
        raise Refusal("the relay has lost what this wallet said in the channel")
    live = replace(live, unsure=live.unsure[fence.said - live.unsure_from :])
    done = turn(book, stored, live, means, raw_messages[live.heard - fence.heard :])
    return _commitment(done.live), done


def _commitment(live: Live) -> rpc.Commitment:
    return rpc.Commitment(live.heard, [raw.hex() for raw in live.unsure])


def update_of(live: Live) -> rpc.UpdateChannel | None:
    """What the wallet says of its own accord: all that no question has shown the relay to have.

    A question that is open keeps its fence, so even what the relay has taken may be wanted again.
    None: there is nothing.
    """
    if not live.unsure:
        return None
    return rpc.UpdateChannel(
        session_id=live.session_id,
        channel_id=terms_of(live.snapshot).channel_id.hex(),
        heard=live.heard,
        said=live.unsure_from,
        messages=[raw.hex() for raw in live.unsure],
    )


# ---- one step ----


def turn(
    book: Book,
    stored: StoredChannel,
    live: Live,
    means: Means,
    raw_messages: Sequence[bytes] = (),
) -> Round:
    """Take what the peer said, say what there is to say, and settle what is over.

    Raises `BoltError` for what the peer may not say, `Refusal`, and `StateLost`.
    """
    if live.lost is not None:
        raise StateLost(live.lost)
    secrets = means.keys.channel(stored.index, stored.salt)
    limits = Limits.of(means.policy)
    try:
        heard = hear(live.snapshot, secrets, raw_messages, limits)
    except Behind as error:
        raise _judged(error, live, secrets) from None
    events: list[Event] = []
    for add in heard.adds:
        book.add_incoming(live.index, add)
    if heard.removals:
        events += _note_removals(book, live.index, heard.removals)
    events += _give_up_waiting(book, live.index, means)
    wishes, waits = _Wishes(book, live, heard.snapshot, means, limits).gather()
    spoken = speak(heard.snapshot, secrets, wishes)
    live = replace(live, heard=live.heard + len(raw_messages))
    live = _note_said(book, live, spoken.said)
    for update, reason in spoken.refused:
        live, failed = _note_refused(book, live, update, reason)
        events += failed
    live = book.save(live, spoken.snapshot, (*heard.messages, *spoken.messages))
    events += _settle(book, live)
    return Round(live, tuple(events), waits)


@dataclass(slots=True)
class _Wishes:
    """What there is to say in a channel at this moment."""

    book: Book
    live: Live
    snapshot: Snapshot
    means: Means
    limits: Limits
    taken: set[bytes] = field(default_factory=set)

    def gather(self) -> tuple[list[Update], bool]:
        """The updates, and whether an HTLC can't be judged yet."""
        if not may_speak(self.snapshot):
            return [], False
        removals, waits = self._removals()
        wishes: list[Update] = [*removals, *self._adds()]
        if self.live.feerate is not None:
            channel_id = terms_of(self.snapshot).channel_id
            wishes.insert(0, UpdateFee(channel_id=channel_id, feerate_per_kw=self.live.feerate))
        return wishes, waits

    def _removals(self) -> tuple[list[Removal], bool]:
        waits = False
        removals = []
        for incoming in self.book.incoming(self.live.index):
            add = incoming.add
            htlc = find_htlc(self.snapshot, self.snapshot.role.other, add.id)
            if incoming.removal is not None or htlc is None:
                continue
            dust = self.limits.is_too_much_dust(self.snapshot, htlc)
            try:
                removal = judge(add, self._conditions(), has_too_much_dust=dust)
            except Later:
                waits = True
                continue
            if isinstance(removal, UpdateFulfillHtlc):
                self.taken.add(add.payment_hash)
            removals.append(removal)
        return removals, waits

    def _conditions(self) -> Conditions:
        means = self.means
        return Conditions(
            ecdh=means.keys.ecdh,
            claim_of=self._claim_of,
            height=means.height,
            has_chain=means.has_chain,
            is_enforceable=chain_of(terms_of(self.snapshot).opener) not in UNENFORCED,
            margin=means.policy.claim_margin,
            max_unwatched_msat=means.policy.max_unwatched_payment_msat,
            now=means.now,
        )

    def _claim_of(self, payment_hash: bytes) -> Claim | None:
        invoice = self.book.invoice(payment_hash)
        if invoice is None:
            return None
        preimage, payment_secret = self.means.keys.payment(invoice.salt)
        return Claim(
            payment_secret,
            preimage,
            invoice.amount_msat,
            invoice.expires_at,
            invoice.status is not InvoiceStatus.OPEN or payment_hash in self.taken,
        )

    def _adds(self) -> Iterable[UpdateAddHtlc]:
        channel_id = terms_of(self.snapshot).channel_id
        waiting = self.book.payments_in(self.live.index, PaymentStatus.WAITING)
        for payment in waiting[:_ADDS_AT_ONCE]:
            yield add_of(channel_id, payment.payment_hash, payment.amount_msat, payment.tried)


# ---- what came of it ----


def _note_removals(book: Book, index: int, removals: Iterable[Removal]) -> Iterable[Event]:
    """The peer's word on our HTLCs: a preimage is proof at once, a failure is none yet."""
    pending = {each.htlc_id: each for each in book.payments_in(index, PaymentStatus.PENDING)}
    for removal in removals:
        payment = pending.get(removal.id)
        if payment is None:
            continue
        if isinstance(removal, UpdateFulfillHtlc):
            book.payment_sent(payment.id, removal.payment_preimage)
            yield PaymentSent(payment.payment_hash, payment.amount_msat, removal.payment_preimage)
        else:
            book.payment_removed(payment.id, removal)


def _give_up_waiting(book: Book, index: int, means: Means) -> Iterable[Event]:
    """Payments that were not offered in time: the payee would have none of them."""
    for payment in book.payments_in(index, PaymentStatus.WAITING):
        invoice = parse(payment.invoice).invoice
        least = (means.height or 0) + invoice.min_final_cltv_expiry_delta
        if means.now > invoice.expires_at or payment.tried.cltv_expiry < least:
            yield fail_payment(book, payment, "it could not be offered in time")


def _note_said(book: Book, live: Live, said: Iterable[Update]) -> Live:
    incoming = {each.add.id: each.add for each in book.incoming(live.index)}
    for update in said:
        match update:
            case UpdateAddHtlc(payment_hash=payment_hash, id=htlc_id):
                payment = book.payment_of(payment_hash)
                assert payment is not None  # noqa: S101 - it was wished for
                book.payment_offered(payment.id, htlc_id)
            case UpdateFee():
                live = replace(live, feerate=None)
            case _:
                book.removal_said(live.index, update)
                if isinstance(update, UpdateFulfillHtlc):
                    add = incoming[update.id]
                    book.take_invoice(add.payment_hash, live.index, add.id, add.amount_msat)
    return live


def _note_refused(
    book: Book, live: Live, update: Update, reason: str
) -> tuple[Live, tuple[Event, ...]]:
    """An update that the channel does not allow now: nothing of it has left."""
    match update:
        case UpdateAddHtlc(payment_hash=payment_hash):
            payment = book.payment_of(payment_hash)
            assert payment is not None  # noqa: S101 - it was wished for
            return live, (fail_payment(book, payment, reason),)
        case UpdateFee():
            return replace(live, feerate=None), ()
    return live, ()


def fail_payment(book: Book, payment: StoredPayment, reason: str) -> Event:
    """It never left, or its HTLC is gone for good."""
    book.payment_failed(payment.id, reason)
    return PaymentFailed(payment.payment_hash, payment.amount_msat, reason)


def _settle(book: Book, live: Live) -> Iterable[Event]:
    """What no commitment has any more that is not revoked."""
    snapshot = live.snapshot
    for incoming in book.incoming(live.index):
        add = incoming.add
        if incoming.removal is None or not is_gone(snapshot, snapshot.role.other, add.id):
            continue
        book.drop_incoming(live.index, add.id)
        if isinstance(incoming.removal, UpdateFulfillHtlc):
            invoice = book.invoice(add.payment_hash)
            book.settle_invoice(add.payment_hash)
            description = "" if invoice is None else invoice.description
            yield PaymentReceived(add.payment_hash, add.amount_msat, description)
    for payment in book.payments_in(live.index, PaymentStatus.PENDING):
        if payment.removal is None or payment.htlc_id is None:
            continue
        if is_gone(snapshot, snapshot.role, payment.htlc_id):
            reason = why_failed(payment.removal, payment.payee, payment.tried)
            yield fail_payment(book, payment, reason)


def _judged(error: Behind, live: Live, secrets: ChannelSecrets) -> StateLost | Refusal:
    """Only our own secret, not yet given away, proves that the peer knows more than we do."""
    if error.who is not live.snapshot.role:
        return Refusal("the peer has an old state of this channel")
    if live.released <= error.number <= FIRST_COMMITMENT_INDEX:
        ours = per_commitment_secret(
            secrets.per_commitment_seed, FIRST_COMMITMENT_INDEX - error.number
        )
        if compare_digest(ours, error.secret):
            return Proved("the peer has proved that this wallet's record of the channel is old")
    # To be told, and nothing more: any peer can say so.
    return StateLost("the peer says, without a proof, that this wallet's record is old")


def lose(book: Book, index: int, reason: str) -> None:
    """This state is never gone on with."""
    live = book.live(index)
    if live is not None:
        book.update(replace(live, lost=reason))
