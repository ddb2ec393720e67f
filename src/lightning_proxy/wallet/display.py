"""What `lightning-proxy wallet` says of channels, of its relay, and of what happens."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import msgspec
from rich.text import Text

from lightning_proxy.bolt.features import Features
from lightning_proxy.rpc import DeviceInfo, SessionInfo, SlotInfo, WakeTarget
from lightning_proxy.terminal import plain, quoted
from lightning_proxy.wallet.describe import describe
from lightning_proxy.wallet.printer import Printer
from lightning_proxy.wallet.words import sat, short, time_of

if TYPE_CHECKING:
    # Their names are all that is wanted of them, and they take long to import.
    from lightning_proxy.bolt.invoice import SignedInvoice
    from lightning_proxy.wallet.events import Event
    from lightning_proxy.wallet.funding import FundingWanted
    from lightning_proxy.wallet.moving.history import Payment
    from lightning_proxy.wallet.moving.tables import StoredInvoice
    from lightning_proxy.wallet.overview import ChannelView
    from lightning_proxy.wallet.request import ChannelKeysRequest
    from lightning_proxy.wallet.session import Session

#: `Role.OPENER`'s value.
_OPENER: Final = "opener"

T = TypeVar("T")
Row: TypeAlias = Sequence[str | Text]


class Output(Printer):
    """All that there is to say of channels, sessions, and what happens to them."""

    def sessions(self, sessions: list[SessionInfo]) -> None:
        """The wallet's sessions at a relay."""
        columns = ("session", "peer", "at", "state", "since", "messages", "questions")
        self._list(sessions, columns, _session, "No sessions.")

    def channels(self, channels: "list[ChannelView]") -> None:
        """The wallet's channels."""
        columns = (
            *("channel", "peer", "state", "capacity", "ours", "the peer's", "can send"),
            *("can receive", "under way", "confirmations", "type", "opened by"),
        )
        self._list(channels, columns, _channel, "No channels.")

    def slots(self, slots: list[SlotInfo]) -> None:
        """Key slots at a relay."""
        columns = ("slot", "funding key", "for channels of", "peers", "types", "left", "used")
        self._list(slots, columns, _slot, "No key slots.")

    def wake_targets(self, targets: list[WakeTarget]) -> None:
        """Where the wallet is woken."""
        columns = ("target", "by", "host", "since", "last success", "failure")
        self._list(targets, columns, _target, "Nowhere: this wallet is not woken.")

    def devices(self, devices: list[DeviceInfo]) -> None:
        """The wallet's devices."""
        columns = ("key", "name", "may", "sockets", "since", "revoked")
        self._list(devices, columns, _device, "No devices but the node key's.")

    def payments(self, payments: "list[Payment]") -> None:
        """What was asked for and what was paid."""
        if self.json:
            for payment in payments:
                self.write(_payment_as_json(payment))
        elif payments:
            columns = ("when (UTC)", "way", "sat", "state", "for")
            self.table(columns, [_payment(payment) for payment in payments])
        else:
            self.say("No payments.")

    def invoice(self, invoice: "StoredInvoice") -> None:
        """An invoice of this wallet's; for people its text alone, to be copied."""
        self.result(
            {
                "invoice": invoice.text,
                "payment_hash": invoice.payment_hash.hex(),
                "amount_msat": invoice.amount_msat,
                "description": invoice.description,
                "expires_at": invoice.expires_at,
            },
            invoice.text,
        )

    def to_pay(self, signed: "SignedInvoice", amount_msat: int) -> None:
        """What is about to be paid, and to whom."""
        invoice = signed.invoice
        said = invoice.description
        self.result(
            {
                "event": "to_pay",
                "payment_hash": invoice.payment_hash.hex(),
                "amount_msat": amount_msat,
                "payee": signed.payee.hex(),
                "description": said,
                "expires_at": invoice.expires_at,
            },
            f"{sat(amount_msat)} sat to {signed.payee.hex()}",
            *(() if not said else (f"for {quoted(said.encode())}",)),
            f"until {time_of(invoice.expires_at)}",
        )

    def payment_offered(self, payment_hash: bytes) -> None:
        """The payee has a payment before it."""
        self.result(
            {"event": "payment_offered", "payment_hash": payment_hash.hex()},
            "Offered to the payee: waiting for its answer. Ctrl-C does not stop the payment.",
        )

    def paid(self, payment: "Payment") -> None:
        """The payee took it; the preimage is the proof."""
        preimage = (payment.preimage or b"").hex()
        self.result(
            {
                "event": "payment_sent",
                "payment_hash": payment.payment_hash.hex(),
                "amount_msat": payment.amount_msat,
                "preimage": preimage,
            },
            f"Paid {sat(payment.amount_msat or 0)} sat. The proof, its preimage:",
            preimage,
        )

    def _list(
        self, things: list[T], columns: Sequence[str], row: Callable[[T], Row], none: str
    ) -> None:
        """Each as JSON, or all in a table; `none` is said where there are none."""
        if self.json:
            for thing in things:
                self.write(msgspec.to_builtins(thing))
        elif things:
            self.table(columns, [row(thing) for thing in things])
        else:
            self.say(none)

    def offered(self, temporary_id: bytes, session: "Session") -> None:
        """A channel was offered to a peer."""
        self.result(
            {
                "event": "offered",
                "temporary_channel_id": temporary_id.hex(),
                "session_id": session.id,
                "peer": session.peer.node_id.hex(),
            },
            f"Offered {session.peer} a channel.",
        )

    def funding_wanted(self, wanted: "FundingWanted", file: Path | None) -> None:
        """The owner has to pay."""
        where = "as one line" if file is None else f"into {file}"
        self.result(
            {
                "event": "funding_wanted",
                "address": wanted.address,
                "scriptpubkey": wanted.scriptpubkey.hex(),
                "amount_sat": wanted.amount_sat,
                "chain": wanted.chain,
                "peer": wanted.peer.hex(),
                "temporary_channel_id": wanted.temporary_channel_id.hex(),
            },
            f"Fund the channel with {short(wanted.peer)} with exactly {wanted.amount_sat} sat to "
            f"{wanted.address}:",
            "have your on-chain wallet make and sign a PSBT, DO NOT broadcast it, and put it here "
            f"in base64, {where}.",
        )

    def released(self) -> None:
        """The funding transaction is on its way to the chain."""
        self.result(
            {"event": "released"},
            "Both sides have signed: the funding transaction is on its way.",
        )

    def connected(self, session: "Session") -> None:
        """A session that is ready."""
        features = b"" if session.peer_init is None else session.peer_init.features
        self.result(
            {
                "event": "connected",
                "session_id": session.id,
                "peer": str(session.peer),
                "features": features.hex(),
            },
            f"Connected to {session.peer} as session {session.id}.",
            f"The peer's features: {Features.from_bytes(features)}.",
        )

    def watching(self, node_id: bytes, relay: str) -> None:
        """The wallet is at its relay."""
        self.result(
            {"event": "watching", "node_id": node_id.hex(), "relay": relay},
            f"Node {node_id.hex()} is at {relay}. Ctrl-C ends this; sessions stay at the relay.",
        )

    def question(self, number: int, request: "ChannelKeysRequest") -> None:
        """The owner is asked; of two questions at once, each says which it is."""
        amount_sat = request.open_channel.funding_satoshis
        self.result(
            {
                "event": "question",
                "number": number,
                "delegation_id": request.delegation_id,
                "peer": request.peer.hex(),
                "amount_sat": amount_sat,
            },
            f"[{number}] Accept the channel of {amount_sat:,} sat from {request.peer.hex()}?",
            f'[{number}] Write "y {number}" or "n {number}".',
        )

    def event(self, event: "Event") -> None:
        """Something that happened to the wallet."""
        value, lines = describe(event)
        self.result(value, *lines)


def _session(session: SessionInfo) -> Row:
    return (
        session.session_id,
        # Apart each fits a line of 80 columns.
        *session.peer.partition("@")[::2],
        session.state.value,
        time_of(session.created),
        f"{session.messages_received} in, {session.messages_sent} out",
        str(session.open_delegations),
    )


def _channel(channel: "ChannelView") -> Row:
    return (
        channel.channel_id,
        short(bytes.fromhex(channel.peer)),
        channel.description,
        f"{channel.capacity_sat:,} sat",
        _ours(channel),
        f"{sat(channel.peer_balance_msat)} sat",
        _one_payment(channel.sendable_msat),
        _one_payment(channel.receivable_msat),
        _under_way(channel),
        _confirmations(channel),
        channel.channel_type,
        "us" if channel.role == _OPENER else "the peer",
    )


def _slot(slot: SlotInfo) -> Row:
    policy = slot.policy
    return (
        slot.slot_id,
        plain(short(bytes.fromhex(slot.funding_pubkey))),
        f"{policy.min_funding_sat:,} to {policy.max_funding_sat:,} sat",
        _listed(policy.peers, lambda each: short(bytes.fromhex(each))),
        _listed(policy.channel_types, lambda each: str(Features.from_bytes(bytes.fromhex(each)))),
        time_of(slot.created),
        "" if slot.used is None else time_of(slot.used),
    )


def _target(target: WakeTarget) -> Row:
    return (
        target.target_id,
        target.kind.value,
        target.host,
        time_of(target.created),
        "" if target.last_success is None else time_of(target.last_success),
        target.failure or "",
    )


def _device(device: DeviceInfo) -> Row:
    return (
        device.device_key,
        device.name,
        ", ".join(device.rights),
        str(device.sockets),
        time_of(device.created),
        "" if device.revoked is None else time_of(device.revoked),
    )


def _listed(values: list[str] | None, show: Callable[[str], str]) -> Text:
    return plain("any") if values is None else plain(*map(show, values))


def _ours(channel: "ChannelView") -> str:
    ours = f"{sat(channel.our_balance_msat)} sat"
    if channel.unproved_msat:
        ours += f" (and {sat(channel.unproved_msat)} sat unproved)"
    return ours


def _one_payment(msat: int | None) -> str:
    return "" if msat is None else f"{sat(msat)} sat"


def _under_way(channel: "ChannelView") -> Text:
    return plain(
        *(
            f"{sat(htlc.amount_msat)} sat {'in' if htlc.is_incoming else 'out'}, "
            f"until block {htlc.cltv_expiry}"
            for htlc in channel.htlcs
        )
    )


def _payment(payment: "Payment") -> Row:
    state = payment.status if payment.reason is None else f"{payment.status}: {payment.reason}"
    # The payee's words are a stranger's, our own are not.
    said = payment.description
    return (
        time_of(payment.created).removesuffix(" UTC"),
        "in" if payment.is_incoming else "out",
        "any" if payment.amount_msat is None else sat(payment.amount_msat),
        state,
        said if payment.is_incoming or not said else quoted(said.encode()),
    )


def _payment_as_json(payment: "Payment") -> dict[str, Any]:
    return {
        "payment_hash": payment.payment_hash.hex(),
        "direction": "in" if payment.is_incoming else "out",
        "amount_msat": payment.amount_msat,
        "status": payment.status,
        "description": payment.description,
        "invoice": payment.invoice,
        "created": payment.created,
        "settled": payment.settled,
        "peer": None if payment.peer is None else payment.peer.hex(),
        "preimage": None if payment.preimage is None else payment.preimage.hex(),
        "reason": payment.reason,
    }


def _confirmations(channel: "ChannelView") -> str:
    needed = "?" if channel.confirmations_needed is None else channel.confirmations_needed
    funding = channel.funding
    if funding is None:
        return f"unknown of {needed}"
    seen = "not seen" if funding.confirmations is None else funding.confirmations
    return f"{seen} of {needed} (by the {funding.source})"
