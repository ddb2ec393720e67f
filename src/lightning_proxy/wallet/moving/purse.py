"""What an owner does with the money in channels: asks for some, pays, sees what there is."""

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from lightning_proxy.bolt.channel import Channel
from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.bolt.commitment import Htlc, Role
from lightning_proxy.bolt.invoice import PREFIXES, RouteHint, SignedInvoice, parse
from lightning_proxy.bolt.messages import ChannelUpdate, decode
from lightning_proxy.chain import ChainError
from lightning_proxy.wallet.confirmations import OwnChain
from lightning_proxy.wallet.errors import PaymentError
from lightning_proxy.wallet.events import Event, PaymentFailed, PaymentSent
from lightning_proxy.wallet.moving import rounds
from lightning_proxy.wallet.moving.balances import Balances, balances, sendable_msat
from lightning_proxy.wallet.moving.history import Payment, payments_in, sent
from lightning_proxy.wallet.moving.invoices import make_invoice
from lightning_proxy.wallet.moving.limits import REFUSED, UNENFORCED, Limits
from lightning_proxy.wallet.moving.moves import Moves
from lightning_proxy.wallet.moving.paying import attempt
from lightning_proxy.wallet.moving.ready import Ready, ready_in
from lightning_proxy.wallet.moving.tables import (
    Book,
    PaymentStatus,
    StoredInvoice,
)
from lightning_proxy.wallet.record import Ledger
from lightning_proxy.wallet.words import short

DEFAULT_EXPIRY: Final = 3600
#: What most nodes take for forwarding, as `channel_update` has it: until the peer says its own.
_FEE_BASE_MSAT: Final = 1_000
_FEE_PROPORTIONAL_MILLIONTHS: Final = 200
_CLTV_EXPIRY_DELTA: Final = 144
#: Seconds between two looks at the record for what another process has heard.
_LOOK_AGAIN: Final = 1.0


class Purse:
    """`connected` tells the session that there is with a node, by its id; None: there is none.

    All methods raise `RecordError`.
    """

    def __init__(
        self,
        moves: Moves,
        chain: OwnChain | None,
        connected: Callable[[bytes], str | None],
    ) -> None:
        self._moves = moves
        self._record = moves.record
        self._chain = chain
        self._connected = connected
        #: Of payments whose outcome somebody waits for.
        self._over: dict[bytes, asyncio.Event] = {}

    # ---- receiving ----

    async def create_invoice(
        self, amount_msat: int | None, description: str = "", *, expiry: int = DEFAULT_EXPIRY
    ) -> StoredInvoice:
        """Ask for money: `amount_msat` None lets the payer choose, `expiry` is in seconds.

        Raises `PaymentError` where no channel could take it, and `InvoiceError`.
        """
        ready = await self._ready()
        chains = {each.chain for each in ready}
        if not ready:
            raise PaymentError("There is no open channel to be paid through.")
        if chains <= UNENFORCED:
            raise PaymentError(REFUSED)
        chain = min(chains - UNENFORCED)
        usable = [each for each in ready if each.chain == chain]
        self._check_receivable(amount_msat, [each.snapshot for each in usable])
        hints = [hint for each in usable if (hint := await self._hint(each)) is not None]
        salt, now = self._moves.keys.fresh_salt(), time.time()
        fresh = make_invoice(
            self._moves.keys,
            salt,
            chain=chain,
            amount_msat=amount_msat,
            description=description,
            expiry=expiry,
            hints=hints,
            now=now,
        )
        return await self._record.change(
            lambda ledger: Book(ledger).add_invoice(fresh, amount_msat, description, now)
        )

    def _check_receivable(self, amount_msat: int | None, snapshots: list[Snapshot]) -> None:
        most = max(balances(snapshot).receivable_msat for snapshot in snapshots)
        if self._chain is None:
            policy = self._moves.policy
            if (amount_msat or 0) > policy.max_unwatched_payment_msat:
                raise PaymentError(
                    f"Without a chain source of its own, this wallet takes "
                    f"{policy.max_unwatched_payment_msat} msat at most in one payment: name a "
                    "source, or raise the policy's max_unwatched_payment_msat."
                )
        if amount_msat is not None and amount_msat > most:
            raise PaymentError(f"No channel can take more than {most} msat in one payment now.")

    async def _hint(self, ready: Ready) -> RouteHint | None:
        """How the peer forwards to us; None where the channel has no name that it would know."""
        channel_ready = ready.channel.channel_ready(ready.channel.role.other)
        name = None if channel_ready is None else channel_ready.short_channel_id
        if name is None:
            name = await self._place(ready.channel)
        if name is None:
            return None
        stored = ready.stored
        live = await self._record.change(lambda ledger: Book(ledger).live(stored.index))
        update = None if live is None or live.peer_update is None else decode(live.peer_update)
        known = update if isinstance(update, ChannelUpdate) else None
        return RouteHint(
            pubkey=stored.peer,
            short_channel_id=name,
            fee_base_msat=known.fee_base_msat if known else _FEE_BASE_MSAT,
            fee_proportional_millionths=(
                known.fee_proportional_millionths if known else _FEE_PROPORTIONAL_MILLIONTHS
            ),
            cltv_expiry_delta=known.cltv_expiry_delta if known else _CLTV_EXPIRY_DELTA,
        )

    async def _place(self, channel: Channel) -> int | None:
        """BOLT #7's `short_channel_id`: block, transaction, output."""
        if self._chain is None:
            return None
        created = channel.funding_created
        try:
            output = await self._chain.source.output(
                created.funding_txid, created.funding_output_index
            )
        except ChainError:
            return None
        if output is None or output.block_height is None or output.transaction_index is None:
            return None
        return (
            output.block_height << 40
            | output.transaction_index << 16
            | created.funding_output_index
        )

    async def hear_update(self, peer: bytes, raw: bytes, update: ChannelUpdate) -> None:
        """The peer's `channel_update` for a channel with us."""
        places = {}
        for stored, channel, _ in await self._ready():
            if stored.peer == peer:
                readies = (
                    channel.channel_ready(role) for role in (channel.role, channel.role.other)
                )
                names = {each.short_channel_id for each in readies if each is not None}
                places[stored.index] = names | {await self._place(channel)}

        def work(ledger: Ledger) -> None:
            book = Book(ledger)
            for index, names in places.items():
                live = book.live(index)
                if live is not None and update.short_channel_id in names:
                    book.update(replace(live, peer_update=raw))

        await self._record.change(work)

    # ---- paying ----

    async def pay(self, text: str, amount_msat: int | None = None) -> Payment:
        """Pay an invoice, and wait for the outcome: `status` "sent" or "failed".

        Who stops waiting does not stop the payment. `amount_msat` is for an invoice that names
        none. Raises `PaymentError` and `InvoiceError` where nothing was offered to anybody.
        """
        return await self.outcome(await self.begin_payment(text, amount_msat))

    async def begin_payment(self, text: str, amount_msat: int | None = None) -> bytes:
        """As `pay`, which raises the same, without waiting; returns the `payment_hash`."""
        signed = read_invoice(text)
        await self._start(signed, amount_msat)
        return signed.invoice.payment_hash

    async def payment(self, payment_hash: bytes) -> Payment | None:
        """The last attempt to pay an invoice; None: there was none."""
        found = await self._record.change(lambda ledger: Book(ledger).latest_of(payment_hash))
        return None if found is None else sent(found)

    async def outcome(
        self, payment_hash: bytes, on_offered: Callable[[], None] = lambda: None
    ) -> Payment:
        """Wait for a payment that is under way; raises `KeyError` for none of this wallet's.

        Another process of the wallet's may be the one that hears of it. `on_offered` is called
        once the payee has been offered it.
        """
        was_offered = False
        while True:
            over = self._over.setdefault(payment_hash, asyncio.Event())
            found = await self.payment(payment_hash)
            if found is None:
                raise KeyError(payment_hash)
            if found.status in (PaymentStatus.SENT, PaymentStatus.FAILED):
                self._over.pop(payment_hash, None)
                return found
            if found.status == PaymentStatus.PENDING and not was_offered:
                was_offered = True
                on_offered()
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), _LOOK_AGAIN)

    def note(self, event: Event) -> None:
        """An event of this wallet's: a payment may be over."""
        if isinstance(event, PaymentSent | PaymentFailed):
            over = self._over.pop(event.payment_hash, None)
            if over is not None:
                over.set()

    async def _start(self, signed: SignedInvoice, amount_msat: int | None) -> None:
        invoice = signed.invoice
        wanted = amount_of(invoice.amount_msat, amount_msat)
        if time.time() > invoice.expires_at:
            raise PaymentError("The invoice has expired: ask the payee for another.")
        if invoice.prefix in {PREFIXES[chain] for chain in UNENFORCED}:
            raise PaymentError(REFUSED)
        if signed.payee == self._moves.keys.node_id:
            raise PaymentError("That is an invoice of this wallet's own.")
        session_id = self._connected(signed.payee)
        ready = [
            each
            for each in await self._ready()
            if each.stored.peer == signed.payee and PREFIXES.get(each.chain) == invoice.prefix
        ]
        if not ready:
            raise PaymentError(
                f"There is no open channel with {short(signed.payee)}, and so far only peers of "
                "one's own can be paid."
            )
        if session_id is None:
            raise PaymentError(f"{short(signed.payee)} is not connected now.")
        means = await self._moves.means()
        if means.height is None:
            raise PaymentError(
                "Only with a chain source of its own can this wallet tell how long a payment may "
                "take, and it has none that answers: name one with --chain."
            )
        stored, _, snapshot = max(ready, key=lambda each: sendable_msat(each.snapshot))
        self._check_sendable(snapshot, wanted, invoice.payment_hash)
        tried = attempt(signed, wanted, secrets.token_bytes(32), means.height)

        def work(ledger: Ledger) -> None:
            book = Book(ledger)
            known = book.payment_of(invoice.payment_hash)
            if known is not None:
                raise PaymentError(
                    "That invoice was paid already."
                    if known.status is PaymentStatus.SENT
                    else "That invoice is being paid: whether it arrives is not known yet."
                )
            rounds.begin(book, stored, session_id)
            book.add_payment(
                invoice.payment_hash, signed.text, signed.payee, wanted, stored.index, tried
            )

        await self._record.change(work)
        await self._moves.go_on((stored.index,))

    def _check_sendable(self, snapshot: Snapshot, amount_msat: int, payment_hash: bytes) -> None:
        most = sendable_msat(snapshot)
        if amount_msat > most:
            raise PaymentError(f"The channel can send {most} msat at most in one payment now.")
        htlc = Htlc(snapshot.role, snapshot.ours.next_htlc_id, amount_msat, payment_hash, 0)
        if Limits.of(self._moves.policy).is_too_much_dust(snapshot, htlc):
            raise PaymentError(
                "Too much is under way in amounts that are too small for the chain: wait, or raise "
                "the policy's max_dust_msat."
            )

    # ---- looking ----

    async def payments(self) -> list[Payment]:
        """What was asked for and what was paid, the oldest first."""
        return await self._record.change(payments_in)

    async def balances(self) -> dict[bytes, Balances]:
        """Of each channel that is ready, by its id."""
        return {
            channel.channel_id: balances(snapshot) for _, channel, snapshot in await self._ready()
        }

    async def _ready(self) -> list[Ready]:
        return await self._record.change(ready_in)

    # ---- fees ----

    async def look_at_fees(self, target_blocks: int = 6) -> None:
        """Where this wallet opened a channel, have its commitments pay what the chain asks for."""
        if self._chain is None:
            return
        try:
            estimate = await self._chain.source.fee_estimate(target_blocks)
        except ChainError:
            return
        limits = Limits.of(self._moves.policy)
        opened = [
            (stored, session_id)
            for stored, _, snapshot in await self._ready()
            if snapshot.role is Role.OPENER
            and (session_id := self._connected(stored.peer)) is not None
        ]

        def work(ledger: Ledger) -> list[int]:
            book, changed = Book(ledger), []
            for stored, session_id in opened:
                live = rounds.begin(book, stored, session_id)
                current = live.snapshot.theirs.latest.state.feerate_per_kw
                feerate = limits.new_feerate(current, estimate)
                if feerate is not None and live.lost is None:
                    book.update(replace(live, feerate=feerate))
                    changed.append(live.index)
            return changed

        await self._moves.go_on(await self._record.change(work))


def read_invoice(text: str) -> SignedInvoice:
    """An invoice as people copy it; raises `InvoiceError`."""
    return parse(text.strip().removeprefix("lightning:"))


def amount_of(asked: int | None, given: int | None) -> int:
    """What is to be paid, in msat: what the invoice asks for, or what its payer says.

    Raises `PaymentError`.
    """
    if asked is None and given is None:
        raise PaymentError("The invoice names no amount: say how much to pay.")
    if asked is not None and given is not None and asked != given:
        raise PaymentError(f"The invoice asks for {asked} msat, and not for {given}.")
    amount = given if asked is None else asked
    if not amount or amount < 0:
        raise PaymentError("There is nothing to pay.")
    return amount
