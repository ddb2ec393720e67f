"""Payments in and out of a wallet's channel, with all that may come in between."""

import asyncio
import shutil
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from coincurve import PrivateKey

from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.channel.reestablish import reestablish_of
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.invoice import Invoice, parse, sign
from lightning_proxy.bolt.messages import (
    ChannelUpdate,
    CommitmentSigned,
    RevokeAndAck,
    UpdateAddHtlc,
    UpdateFailHtlc,
    UpdateFailMalformedHtlc,
    UpdateFee,
    UpdateFulfillHtlc,
    decode,
)
from lightning_proxy.bolt.onion import (
    FailureCode,
    Hop,
    Payload,
    Returned,
    ecdh_with,
    peel,
    read_failure,
    shared_secrets,
    wrap_failure,
)
from lightning_proxy.bolt.onion.failures import IncorrectOrUnknownPaymentDetails
from lightning_proxy.chain import ChainUnavailable
from lightning_proxy.wallet.errors import PaymentError, RecordError
from lightning_proxy.wallet.events import (
    ChannelProblem,
    PaymentReceived,
    PaymentSent,
)
from lightning_proxy.wallet.keys import WalletKeys
from lightning_proxy.wallet.moving.invoices import make_invoice
from lightning_proxy.wallet.moving.tables import Book, InvoiceStatus, PaymentStatus
from lightning_proxy.wallet.record import Ledger
from lightning_proxy.wallet.request import Refusal
from tests.unit.wallet.moving import SESSION_KEY, Moved, close_all, moved, opened_by_peer
from tests.unit.wallet.openings import KEYS, POLICY
from tests.unit.wallet.samples import PEER, PEER_SECRET, SEED

AMOUNT = 20_000_000
PREIMAGE = b"\x11" * 32
ROLES = pytest.mark.parametrize("role", list(Role), ids=["the wallet opened", "the peer opened"])


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "wallet.record"
    close_all()


def invoice_of_peer(amount_msat: int | None = AMOUNT, **changes: Any) -> str:
    fields: dict[str, Any] = {
        "prefix": "bcrt",
        "amount_msat": amount_msat,
        "timestamp": 2_000_000_000,
        "payment_hash": sha256(PREIMAGE).digest(),
        "payment_secret": b"\x22" * 32,
        "description": "coffee",
    }
    invoice = Invoice(**{**fields, **changes})
    return sign(invoice, PrivateKey(PEER_SECRET).sign_recoverable).text


def check_settled(channel: Moved) -> None:
    assert channel.peer.snapshot.is_quiet
    assert channel.base.is_quiet
    for role in Role:
        assert (
            channel.base.side(role).commitment.state
            == channel.peer.snapshot.side(role).commitment.state
        )


def names(channel: Moved) -> list[str]:
    return [message.NAME for message in channel.left]


# ---- receiving ----


@ROLES
async def test_a_payment_is_received(path: Path, role: Role) -> None:
    channel = await moved(path, role)
    invoice = await channel.purse.create_invoice(AMOUNT, "a book")
    before = (await channel.purse.balances())[channel.channel_id]
    channel.peer_says(channel.add_for(invoice.text))
    told: list[int] = []
    while await channel.step():
        received = [each for each in channel.events if isinstance(each, PaymentReceived)]
        if received:
            told.append(len(channel.left))
    assert names(channel) == [
        "revoke_and_ack",
        "commitment_signed",
        "update_fulfill_htlc",
        "commitment_signed",
        "revoke_and_ack",
    ]
    # Not before our last `revoke_and_ack`: until then the removal was not irrevocable.
    assert told[0] == 5
    assert channel.events == [PaymentReceived(invoice.payment_hash, AMOUNT, "a book")]
    check_settled(channel)
    after = (await channel.purse.balances())[channel.channel_id]
    assert after.ours_msat == before.ours_msat + AMOUNT
    (payment,) = await channel.purse.payments()
    assert (payment.status, payment.amount_msat) == (InvoiceStatus.PAID, AMOUNT)


async def test_many_at_once_above_and_below_dust(path: Path) -> None:
    channel = await moved(path)
    amounts = [1, 999, 1_000, 300_000, 353_999, 354_000, 400_000, 900_000, 5_000_000, 20_000_000]
    invoices = [await channel.purse.create_invoice(amount, "") for amount in amounts]
    for invoice in invoices:
        channel.peer_says(channel.add_for(invoice.text))
    await channel.settle()
    assert [e.amount_msat for e in channel.events if isinstance(e, PaymentReceived)] == amounts
    # All of them in one round, however many.
    assert names(channel).count("commitment_signed") == 2
    check_settled(channel)


async def test_what_is_asked_again_is_answered_with_the_same_bytes(path: Path) -> None:
    channel = await moved(path)
    invoice = await channel.purse.create_invoice(AMOUNT, "")
    channel.peer_says(channel.add_for(invoice.text))
    while channel.peer_moves() or channel.deliver():
        pass
    first = await channel.ask()
    assert first == await channel.ask()
    channel.restart()
    assert first == await channel.ask()


@pytest.mark.parametrize("stop", range(16))
@pytest.mark.parametrize("outgoing", [False, True], ids=["received", "sent"])
@pytest.mark.parametrize("how", ["connection", "process", "both", "an answer that is lost"])
async def test_a_payment_goes_on_after_whatever_breaks(
    path: Path, stop: int, outgoing: bool, how: str
) -> None:
    channel = await moved(path, Role.OPENER if outgoing else Role.ACCEPTER)
    waiting: asyncio.Task[Any] | None = None
    add: UpdateAddHtlc | None = None
    if outgoing:
        channel.fulfil_with(PREIMAGE)
        waiting = asyncio.create_task(channel.purse.pay(invoice_of_peer()))
        while not channel.to_peer:
            await asyncio.sleep(0)
    else:
        add = channel.add_for((await channel.purse.create_invoice(AMOUNT, "")).text)
        channel.wishes.append(lambda _: add)
    for _ in range(stop):
        await channel.step()
    if how == "an answer that is lost" and channel.is_wallets_turn:
        await channel.ask()
    if how in ("process", "both"):
        if waiting is not None:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            waiting = None
        channel.restart()
    if how != "process":
        channel.disconnect()
        await channel.reconnect()
    if add is not None and channel.peer.snapshot.ours.next_htlc_id == 0 and not channel.wishes:
        channel.wishes.append(lambda _: add)
    await channel.settle()
    check_settled(channel)
    kind = PaymentSent if outgoing else PaymentReceived
    assert len([event for event in channel.events if isinstance(event, kind)]) == 1
    (payment,) = await channel.purse.payments()
    assert payment.status == (PaymentStatus.SENT if outgoing else InvoiceStatus.PAID)
    if waiting is not None:
        assert (await waiting).status == PaymentStatus.SENT


SECRET = b"\x01" * 32


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"payment_hash": SECRET}, FailureCode.INVALID_ONION_HMAC),
        ({"onion": b"\x01" + bytes(1365)}, FailureCode.INVALID_ONION_VERSION),
        ({"onion": bytes(1366)}, FailureCode.INVALID_ONION_KEY),
        ({"payment_secret": SECRET}, FailureCode.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS),
        ({"total_msat": AMOUNT + 1}, FailureCode.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS),
        ({"amount_msat": AMOUNT - 1}, FailureCode.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS),
        ({"amount_msat": 2 * AMOUNT + 1}, FailureCode.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS),
        ({"cltv_expiry": 100 + 35}, FailureCode.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS),
        ({"amt_to_forward": AMOUNT + 1}, FailureCode.FINAL_INCORRECT_HTLC_AMOUNT),
        ({"outgoing_cltv_value": 1000}, FailureCode.FINAL_INCORRECT_CLTV_EXPIRY),
        ({"payload": Payload(outgoing_cltv_value=5)}, FailureCode.INVALID_ONION_PAYLOAD),
        (
            {"payload": Payload(amt_to_forward=AMOUNT, outgoing_cltv_value=244)},
            FailureCode.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS,
        ),
        (
            {
                "hops": [
                    Hop(
                        KEYS.node_id,
                        Payload(
                            amt_to_forward=AMOUNT, outgoing_cltv_value=200, short_channel_id=7
                        ).encode(),
                    ),
                    Hop(PEER, Payload(amt_to_forward=AMOUNT, outgoing_cltv_value=200).encode()),
                ]
            },
            FailureCode.UNKNOWN_NEXT_PEER,
        ),
    ],
)
async def test_what_is_not_as_it_was_asked_for_is_failed(
    path: Path, changes: dict[str, Any], code: FailureCode
) -> None:
    channel = await moved(path)
    invoice = await channel.purse.create_invoice(AMOUNT, "")
    channel.peer_says(channel.add_for(invoice.text, **changes))
    await channel.settle()
    (removal,) = [
        m for m in channel.left if isinstance(m, UpdateFailHtlc | UpdateFailMalformedHtlc)
    ]
    if isinstance(removal, UpdateFailMalformedHtlc):
        assert removal.failure_code == code
    else:
        # The sender can read it.
        returned = read_failure(shared_secrets(SESSION_KEY, [KEYS.node_id]), removal.reason)
        assert isinstance(returned, Returned)
        assert returned.failure.code == code
    check_settled(channel)
    assert channel.events == []


@pytest.mark.parametrize("amount_msat", [AMOUNT, AMOUNT + 1, 2 * AMOUNT])
async def test_up_to_twice_as_much_is_taken(path: Path, amount_msat: int) -> None:
    channel = await moved(path)
    invoice = await channel.purse.create_invoice(AMOUNT, "")
    channel.peer_says(channel.add_for(invoice.text, amount_msat=amount_msat))
    await channel.settle()
    assert channel.events == [PaymentReceived(invoice.payment_hash, amount_msat, "")]


@pytest.mark.parametrize("together", [False, True])
async def test_an_invoice_is_paid_once(path: Path, together: bool) -> None:
    channel = await moved(path)
    invoice = await channel.purse.create_invoice(AMOUNT, "")
    channel.peer_says(channel.add_for(invoice.text))
    if not together:
        await channel.settle()
    channel.peer_says(channel.add_for(invoice.text))
    await channel.settle()
    assert len([m for m in channel.left if isinstance(m, UpdateFulfillHtlc)]) == 1
    assert len([m for m in channel.left if isinstance(m, UpdateFailHtlc)]) == 1
    assert channel.events == [PaymentReceived(invoice.payment_hash, AMOUNT, "")]


async def test_an_expired_invoice_is_not_paid(path: Path) -> None:
    channel = await moved(path)
    invoice = await channel.purse.create_invoice(AMOUNT, "", expiry=0)
    channel.peer_says(channel.add_for(invoice.text))
    await channel.settle()
    assert "update_fail_htlc" in names(channel)
    (payment,) = await channel.purse.payments()
    assert payment.status == "expired"


async def test_without_a_tip_nothing_is_given_away(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wallet that can't tell how long is left decides later, of its own accord."""
    monkeypatch.setattr("lightning_proxy.wallet.moving.moves._JUDGE_AGAIN", 0.01)
    channel = await moved(path)
    invoice = await channel.purse.create_invoice(AMOUNT, "")
    channel.peer_says(channel.add_for(invoice.text))
    channel.chain.fault = ChainUnavailable("it is not there")
    await channel.settle()
    assert "update_fulfill_htlc" not in names(channel)
    channel.chain.fault = None
    while not channel.to_peer:
        await asyncio.sleep(0.01)
    await channel.settle()
    assert channel.events == [PaymentReceived(invoice.payment_hash, AMOUNT, "")]
    check_settled(channel)


async def test_without_a_chain_payments_are_capped(path: Path) -> None:
    channel = await moved(path, has_chain=False)
    most = POLICY.max_unwatched_payment_msat
    with pytest.raises(PaymentError, match="10000000 msat at most"):
        await channel.purse.create_invoice(most + 1, "")
    invoice = await channel.purse.create_invoice(None, "")
    channel.peer_says(channel.add_for(invoice.text, amount_msat=most + 1))
    await channel.settle()
    assert "update_fail_htlc" in names(channel)
    channel.peer_says(channel.add_for(invoice.text, amount_msat=most))
    await channel.settle()
    assert channel.events == [PaymentReceived(invoice.payment_hash, most, "")]


async def test_dust_is_capped(path: Path) -> None:
    """What has no output a relay could forge (design §6)."""
    policy = msgspec.structs.replace(POLICY, max_dust_msat=500_000)
    channel = await moved(path, policy=policy)
    for _ in range(3):
        invoice = await channel.purse.create_invoice(200_000, "")
        channel.peer_says(channel.add_for(invoice.text))
    await channel.settle()
    assert names(channel).count("update_fail_htlc") > 0
    check_settled(channel)


# ---- paying ----


@ROLES
async def test_a_payment_is_sent(path: Path, role: Role) -> None:
    channel = await moved(path, role)
    channel.fulfil_with(PREIMAGE)
    paying = asyncio.create_task(channel.purse.pay(invoice_of_peer()))
    while not channel.to_peer:
        await asyncio.sleep(0)
    (add,) = [m for m in channel.left if isinstance(m, UpdateAddHtlc)]
    payload = opened_by_peer(add)
    assert (payload.amt_to_forward, payload.total_msat) == (AMOUNT, AMOUNT)
    assert payload.outgoing_cltv_value == add.cltv_expiry == 100 + 1 + 18 + 6 - 1
    await channel.settle()
    payment = await paying
    assert (payment.status, payment.preimage) == (PaymentStatus.SENT, PREIMAGE)
    assert payment.description == "coffee"
    check_settled(channel)
    with pytest.raises(PaymentError, match="paid already"):
        await channel.purse.pay(invoice_of_peer())


@pytest.mark.parametrize("malformed", [False, True])
async def test_a_payment_fails_once_it_is_sure(path: Path, malformed: bool) -> None:
    channel = await moved(path, Role.OPENER)

    def fail(add: UpdateAddHtlc) -> UpdateFailHtlc | UpdateFailMalformedHtlc:
        if malformed:
            return UpdateFailMalformedHtlc(
                channel_id=add.channel_id,
                id=add.id,
                sha256_of_onion=bytes(32),
                failure_code=FailureCode.INVALID_ONION_VERSION,
            )
        secret = peel(
            add.onion_routing_packet, ecdh_with(PEER_SECRET), add.payment_hash
        ).shared_secret
        failure = IncorrectOrUnknownPaymentDetails(htlc_msat=add.amount_msat, height=100)
        return UpdateFailHtlc(
            channel_id=add.channel_id, id=add.id, reason=wrap_failure(secret, failure)
        )

    channel.decide = fail
    paying = asyncio.create_task(channel.purse.pay(invoice_of_peer()))
    while not channel.to_peer:
        await asyncio.sleep(0)
    while await channel.step():
        if channel.events:
            assert channel.base.is_quiet
        elif not channel.base.is_quiet:
            with pytest.raises(PaymentError, match="not known yet"):
                await channel.purse.pay(invoice_of_peer())
    payment = await paying
    assert payment.status == PaymentStatus.FAILED
    words = "invalid_onion_version" if malformed else "knows no such invoice"
    assert words in (payment.reason or "")
    check_settled(channel)
    # Now it may be tried again.
    channel.fulfil_with(PREIMAGE)
    again = asyncio.create_task(channel.purse.pay(invoice_of_peer()))
    while not channel.to_peer:
        await asyncio.sleep(0)
    await channel.settle()
    assert (await again).status == PaymentStatus.SENT


async def test_who_stops_waiting_does_not_stop_the_payment(path: Path) -> None:
    channel = await moved(path, Role.OPENER)
    channel.fulfil_with(PREIMAGE)
    paying = asyncio.create_task(channel.purse.pay(invoice_of_peer()))
    while not channel.to_peer:
        await asyncio.sleep(0)
    paying.cancel()
    await asyncio.gather(paying, return_exceptions=True)
    await channel.settle()
    (payment,) = await channel.purse.payments()
    assert payment.status == PaymentStatus.SENT


@pytest.mark.parametrize(
    ("invoice", "words"),
    [
        ({"timestamp": 1}, "has expired"),
        ({"prefix": "bc"}, "refused for now"),
        ({"prefix": "tb"}, "no open channel"),
        ({"amount_msat": None}, "names no amount"),
        ({"amount_msat": 499_000_000}, "can send"),
    ],
)
async def test_what_can_not_be_paid(path: Path, invoice: dict[str, Any], words: str) -> None:
    channel = await moved(path, Role.OPENER)
    with pytest.raises(PaymentError, match=words):
        await channel.purse.pay(invoice_of_peer(**invoice))
    assert channel.left == []
    assert await channel.purse.payments() == []


async def test_the_wallets_own_invoice_is_not_paid(path: Path) -> None:
    channel = await moved(path)
    invoice = await channel.purse.create_invoice(AMOUNT, "")
    with pytest.raises(PaymentError, match="own"):
        await channel.purse.pay(invoice.text)


async def test_without_a_chain_nothing_is_paid(path: Path) -> None:
    channel = await moved(path, Role.OPENER, has_chain=False)
    with pytest.raises(PaymentError, match="chain source of its own"):
        await channel.purse.pay(invoice_of_peer())


async def test_both_ways_at_once(path: Path) -> None:
    channel = await moved(path, Role.OPENER)
    channel.fulfil_with(PREIMAGE)
    invoices = [await channel.purse.create_invoice(AMOUNT, "") for _ in range(5)]
    for invoice in invoices:
        channel.wishes.append(lambda _, text=invoice.text: channel.add_for(text))  # type: ignore[misc]
    paying = asyncio.create_task(channel.purse.pay(invoice_of_peer()))
    while not channel.to_peer:
        await asyncio.sleep(0)
    await channel.settle()
    assert (await paying).status == PaymentStatus.SENT
    assert len([e for e in channel.events if isinstance(e, PaymentReceived)]) == 5
    check_settled(channel)


@ROLES
@pytest.mark.parametrize("part", ["sendable", "receivable"])
async def test_as_much_as_is_said_can_be_moved_and_no_more(
    path: Path, role: Role, part: str
) -> None:
    channel = await moved(path, role)
    balances = (await channel.purse.balances())[channel.channel_id]
    if part == "sendable":
        most = balances.sendable_msat
        channel.fulfil_with(PREIMAGE)
        with pytest.raises(PaymentError, match=str(most)):
            await channel.purse.pay(invoice_of_peer(most + 1))
        paying = asyncio.create_task(channel.purse.pay(invoice_of_peer(most)))
        while not channel.to_peer:
            await asyncio.sleep(0)
        await channel.settle()
        assert (await paying).status == PaymentStatus.SENT
    else:
        most = balances.receivable_msat
        with pytest.raises(PaymentError, match=str(most)):
            await channel.purse.create_invoice(most + 1, "")
        invoice = await channel.purse.create_invoice(most, "")
        channel.peer_says(channel.add_for(invoice.text))
        await channel.settle()
        assert channel.events == [PaymentReceived(invoice.payment_hash, most, "")]
    check_settled(channel)


# ---- fees ----


async def test_the_peers_fee_is_taken(path: Path) -> None:
    channel = await moved(path)
    channel.peer_says(UpdateFee(channel_id=channel.channel_id, feerate_per_kw=1_234))
    await channel.settle()
    check_settled(channel)
    assert channel.base.opener.commitment.state.feerate_per_kw == 1_234


@pytest.mark.parametrize("feerate", [252, POLICY.max_feerate_per_kw + 1])
async def test_a_feerate_out_of_bounds_is_refused(path: Path, feerate: int) -> None:
    channel = await moved(path)
    channel.peer_says(UpdateFee(channel_id=channel.channel_id, feerate_per_kw=feerate))
    while channel.peer_moves() or channel.deliver():
        pass
    with pytest.raises(Refusal, match="feerate_per_kw"):
        await channel.ask()


async def test_the_opener_follows_its_own_estimate(path: Path) -> None:
    channel = await moved(path, Role.OPENER)
    channel.chain.feerate = channel.base.opener.commitment.state.feerate_per_kw
    await channel.purse.look_at_fees()
    assert channel.left == []  # it is what the chain asks for
    channel.chain.feerate = 5_000
    await channel.purse.look_at_fees()
    await channel.settle()
    check_settled(channel)
    assert channel.base.opener.commitment.state.feerate_per_kw == 5_000
    channel.chain.feerate = 1_000_000
    await channel.purse.look_at_fees()
    await channel.settle()
    assert channel.base.opener.commitment.state.feerate_per_kw == POLICY.max_feerate_per_kw


# ---- an old record ----


async def test_a_record_that_is_brought_back_signs_nothing(path: Path) -> None:
    channel = await moved(path)
    first = await channel.purse.create_invoice(AMOUNT, "")
    second = await channel.purse.create_invoice(AMOUNT, "")
    channel.peer_says(channel.add_for(first.text))
    await channel.settle()
    copy = path.with_suffix(".copy")
    channel.restart(lambda: shutil.copy(path, copy))
    channel.peer_says(channel.add_for(second.text))
    await channel.settle()
    left = len(channel.left)
    channel.restart(lambda: shutil.copy(copy, path))
    channel.events.clear()
    channel.peer_says(UpdateFee(channel_id=channel.channel_id, feerate_per_kw=1_234))
    while channel.peer_moves() or channel.deliver():
        pass
    with pytest.raises(Refusal, match="more was said"):
        await channel.ask()
    assert len(channel.left) == left
    (problem,) = channel.events
    assert isinstance(problem, ChannelProblem)
    assert problem.state_lost


async def test_a_peer_that_proves_the_loss_stops_the_channel_for_good(path: Path) -> None:
    channel = await moved(path)
    first = await channel.purse.create_invoice(AMOUNT, "")
    copy = path.with_suffix(".copy")
    channel.restart(lambda: shutil.copy(path, copy))
    channel.peer_says(channel.add_for(first.text))
    await channel.settle()
    channel.restart(lambda: shutil.copy(copy, path))
    theirs = channel.peer
    theirs.disconnect()
    await channel.ask_reestablish()
    message = reestablish_of(theirs.snapshot, theirs.role)
    channel.events.clear()
    moves = channel.wallet.signer.moves
    # Numbers alone, without our secret, prove nothing.
    unproved = msgspec.structs.replace(message, your_last_per_commitment_secret=bytes(31) + b"\1")
    assert await moves.reestablished(channel.session_id, PEER, unproved.encode(), unproved)
    (problem,) = channel.events
    assert isinstance(problem, ChannelProblem)
    assert "without a proof" in problem.reason
    lives = await channel.wallet.record.change(lambda ledger: Book(ledger).lives())
    assert lives[0].lost is None
    assert await moves.reestablished(channel.session_id, PEER, message.encode(), message)
    problem = channel.events[-1]
    assert isinstance(problem, ChannelProblem)
    assert problem.state_lost
    assert "proved" in problem.reason
    channel.pending = [message.encode()]
    channel.heard = channel.said = 0
    with pytest.raises(Refusal, match="proved"):
        await channel.ask()


# ---- a lying relay (design §6's table) ----


async def asked_with(channel: Moved, pending: list[bytes]) -> Any:
    channel.pending = pending
    return await channel.ask()


def in_flight(channel: Moved) -> list[bytes]:
    while channel.peer_moves() or channel.deliver():
        pass
    return list(channel.pending)


@pytest.mark.parametrize("lie", ["forge", "hide", "reorder", "change", "repeat"])
async def test_adds_that_the_peer_did_not_say_so(path: Path, lie: str) -> None:
    channel = await moved(path)
    invoices = [await channel.purse.create_invoice(AMOUNT + n, "") for n in range(3)]
    for invoice in invoices:
        channel.peer_says(channel.add_for(invoice.text))
    adds = in_flight(channel)
    *adds, commit = adds
    messages = [decode(raw) for raw in adds]
    assert all(isinstance(message, UpdateAddHtlc) for message in messages)
    forged = msgspec.structs.replace(messages[2], id=3, amount_msat=5_000_000)
    changed = msgspec.structs.replace(messages[1], amount_msat=AMOUNT + 7_000)
    lies = {
        "forge": [*adds, forged.encode(), commit],
        "hide": [*adds[:2], commit],
        "reorder": [adds[1], adds[0], adds[2], commit],
        "change": [adds[0], changed.encode(), adds[2], commit],
        "repeat": [*adds, commit, commit],
    }
    with pytest.raises(Refusal):
        await asked_with(channel, lies[lie])
    # And nothing of it stays: the truth goes on.
    channel.pending = [*adds, commit]
    await channel.settle()
    assert len([e for e in channel.events if isinstance(e, PaymentReceived)]) == 3


async def test_a_fee_that_the_peer_did_not_say(path: Path) -> None:
    channel = await moved(path)
    invoice = await channel.purse.create_invoice(AMOUNT, "")
    channel.peer_says(channel.add_for(invoice.text))
    *adds, commit = in_flight(channel)
    fee = UpdateFee(channel_id=channel.channel_id, feerate_per_kw=2_000).encode()
    with pytest.raises(Refusal, match="signature"):
        await asked_with(channel, [*adds, fee, commit])


async def test_the_preimage_stays_until_the_add_is_irrevocable(path: Path) -> None:
    """With the peer's signature for us, but before it has given its old state up."""
    channel = await moved(path)
    invoice = await channel.purse.create_invoice(AMOUNT, "")
    channel.peer_says(channel.add_for(invoice.text))
    in_flight(channel)
    answer = await channel.ask()
    kinds = [type(decode(bytes.fromhex(message))) for message in answer.messages]
    assert kinds == [RevokeAndAck, CommitmentSigned]
    # A `revoke_and_ack` that is none does not help.
    forged = RevokeAndAck(
        channel_id=channel.channel_id,
        per_commitment_secret=b"\x03" * 32,
        next_per_commitment_point=PEER,
    )
    with pytest.raises(Refusal, match="per_commitment_secret"):
        await asked_with(channel, [*channel.pending, forged.encode()])


async def test_an_altered_onion_only_fails(path: Path) -> None:
    channel = await moved(path)
    invoice = await channel.purse.create_invoice(AMOUNT, "")
    channel.peer_says(channel.add_for(invoice.text))
    pending = in_flight(channel)
    message = decode(pending[0])
    assert isinstance(message, UpdateAddHtlc)
    onion = bytearray(message.onion_routing_packet)
    onion[100] ^= 1
    altered = msgspec.structs.replace(message, onion_routing_packet=bytes(onion))
    channel.pending[0] = altered.encode()
    await channel.settle()
    assert "update_fail_malformed_htlc" in names(channel)
    assert "update_fulfill_htlc" not in names(channel)


@pytest.mark.parametrize("lie", ["fulfil", "fail"])
async def test_a_forged_end_of_a_payment(path: Path, lie: str) -> None:
    channel = await moved(path, Role.OPENER)
    paying = asyncio.create_task(channel.purse.pay(invoice_of_peer()))
    while not channel.to_peer:
        await asyncio.sleep(0)
    await channel.settle()
    forged = {
        "fulfil": UpdateFulfillHtlc(
            channel_id=channel.channel_id, id=0, payment_preimage=b"\x09" * 32
        ),
        "fail": UpdateFailHtlc(channel_id=channel.channel_id, id=0, reason=b"no"),
    }[lie]
    if lie == "fulfil":
        with pytest.raises(Refusal, match="payment_preimage"):
            await asked_with(channel, [forged.encode()])
        channel.pending.clear()
    else:
        channel.pending = [forged.encode()]
        await channel.round()
        assert channel.events == []
        with pytest.raises(PaymentError, match="not known yet"):
            await channel.purse.pay(invoice_of_peer())
        # A real peer never said so: with the connection the lie is gone.
        channel.disconnect()
        await channel.reconnect()
    channel.fulfil_with(PREIMAGE)
    await channel.settle()
    assert (await paying).status == PaymentStatus.SENT


async def test_a_commitment_is_signed_once_and_a_secret_released_once(path: Path) -> None:
    """Whatever is hidden, repeated or said to be a new connection."""
    channel = await moved(path)
    invoice = await channel.purse.create_invoice(AMOUNT, "")
    channel.peer_says(channel.add_for(invoice.text))
    in_flight(channel)
    first = await channel.ask()
    assert (await channel.ask()).messages == first.messages
    # As if the wallet had not been asked: another connection, on which the same is told again.
    pending = list(channel.pending)
    await channel.ask_reestablish(2)
    with pytest.raises(Refusal):
        await asked_with(channel, pending)


async def test_a_question_about_another_connection(path: Path) -> None:
    channel = await moved(path)
    channel.peer_says(UpdateFee(channel_id=channel.channel_id, feerate_per_kw=1_234))
    await channel.settle()
    with pytest.raises(Refusal, match="that connection"):
        await channel.ask(session_id="03" * 16)


async def test_what_the_record_keeps_does_not_grow(path: Path) -> None:
    channel = await moved(path)

    async def kept() -> tuple[int, int]:
        def sizes(ledger: Ledger) -> tuple[int, int]:
            ((size, said),) = ledger.query("SELECT length(snapshot), length(unsure) FROM moving")
            ((htlcs,),) = ledger.query("SELECT count(*) FROM incoming")
            assert htlcs == 0
            return size, said

        return await channel.wallet.record.change(sizes)

    sizes = []
    for _ in range(12):
        invoice = await channel.purse.create_invoice(1_000_000, "")
        channel.peer_says(channel.add_for(invoice.text))
        await channel.settle()
        sizes.append(await kept())
    # The secrets of what is revoked are kept in 49 places (BOLT #3).
    assert sizes[-1][0] - sizes[0][0] < 49 * 38
    assert max(said for _, said in sizes) < 1_000


async def test_a_payment_waits_for_its_turn_and_not_for_ever(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a signature of ours is not acknowledged, nothing more is said."""
    monkeypatch.setattr("lightning_proxy.wallet.moving.moves._TIP_KEPT", -1.0)
    channel = await moved(path, Role.OPENER)
    channel.fulfil_with(PREIMAGE)
    channel.chain.feerate = 3_000
    await channel.purse.look_at_fees()
    paying = asyncio.create_task(channel.purse.pay(invoice_of_peer()))
    late = asyncio.create_task(
        channel.purse.pay(invoice_of_peer(payment_hash=b"\x05" * 32, amount_msat=1_000_000))
    )
    while len(await channel.purse.payments()) < 2:
        await asyncio.sleep(0)
    assert names(channel) == ["update_fee", "commitment_signed"]
    channel.chain.height += 1_000
    await channel.settle()
    for payment in (await paying, await late):
        assert payment.status == PaymentStatus.FAILED
        assert payment.reason == "it could not be offered in time"
    assert "update_add_htlc" not in names(channel)
    check_settled(channel)


async def test_an_update_that_the_relay_did_not_take_goes_with_the_next_answer(path: Path) -> None:
    channel = await moved(path, Role.OPENER)
    channel.fulfil_with(PREIMAGE)
    invoice = await channel.purse.create_invoice(AMOUNT, "")
    channel.peer_says(channel.add_for(invoice.text))
    channel.is_reachable = False
    paying = asyncio.create_task(channel.purse.pay(invoice_of_peer()))
    while not await channel.purse.payments() or channel.left:
        await asyncio.sleep(0)
    await channel.settle()
    assert (await paying).status == PaymentStatus.SENT
    check_settled(channel)


async def test_what_the_relay_may_lack_is_said_again(path: Path) -> None:
    """The wallet's socket broke, and was made again: with the peer nothing has happened."""
    channel = await moved(path, Role.OPENER)
    channel.fulfil_with(PREIMAGE)
    channel.is_reachable = False
    paying = asyncio.create_task(channel.purse.pay(invoice_of_peer()))
    moves = channel.wallet.signer.moves
    while not (await channel.purse.payments() and await unsure(channel)):
        await asyncio.sleep(0)
    channel.is_reachable = True
    await moves.go_on()
    assert names(channel) == ["update_add_htlc", "commitment_signed"]
    await moves.go_on()
    assert names(channel) == ["update_add_htlc", "commitment_signed"]
    await channel.settle()
    assert (await paying).status == PaymentStatus.SENT


async def unsure(channel: Moved) -> tuple[bytes, ...]:
    lives = await channel.wallet.record.change(lambda ledger: Book(ledger).lives())
    return lives[0].unsure if lives else ()


async def test_intents_go_on_with_the_peers_channel_reestablish(path: Path) -> None:
    """Without a question: none would come, since the peer has nothing to say."""
    channel = await moved(path, Role.OPENER)
    channel.fulfil_with(PREIMAGE)
    channel.chain.feerate = 3_000
    await channel.purse.look_at_fees()
    paying = asyncio.create_task(channel.purse.pay(invoice_of_peer()))
    while not await channel.purse.payments():
        await asyncio.sleep(0)
    channel.disconnect()
    # The fee comes through with the reconnection, and then it is the payment's turn.
    await channel.reconnect()
    await channel.tell_reestablished()
    await channel.settle()
    assert (await paying).status == PaymentStatus.SENT
    check_settled(channel)


@ROLES
async def test_invoices_name_the_peer_and_how_it_forwards(path: Path, role: Role) -> None:
    channel = await moved(path, role)
    text = (await channel.purse.create_invoice(AMOUNT, "a book")).text
    invoice = parse(text).invoice
    assert parse(text).payee == KEYS.node_id
    assert (invoice.amount_msat, invoice.description) == (AMOUNT, "a book")
    assert invoice.min_final_cltv_expiry_delta == 144
    assert invoice.routes == ()  # neither an alias nor a place on the chain is known
    created = (await channel.wallet.stored()).channel()
    channel.chain.show(created)
    invoice = parse((await channel.purse.create_invoice(AMOUNT, "")).text).invoice
    place = 95 << 40 | 1 << 16 | created.funding_created.funding_output_index
    assert [
        [(hint.pubkey, hint.short_channel_id) for hint in route] for route in invoice.routes
    ] == [[(PEER, place)]]
    update = ChannelUpdate(
        signature=bytes(64),
        chain_hash=CHAIN_HASHES["regtest"],
        short_channel_id=place,
        timestamp=1,
        message_flags=1,
        channel_flags=0,
        cltv_expiry_delta=40,
        htlc_minimum_msat=1,
        fee_base_msat=7,
        fee_proportional_millionths=8,
        htlc_maximum_msat=10**9,
    )
    await channel.settle()
    await channel.purse.look_at_fees()
    channel.peer_says(channel.add_for((await channel.purse.create_invoice(1_000_000, "")).text))
    await channel.settle()
    await channel.purse.hear_update(PEER, update.encode(), update)
    ((hint,),) = parse((await channel.purse.create_invoice(AMOUNT, "")).text).invoice.routes
    assert (hint.fee_base_msat, hint.fee_proportional_millionths) == (7, 8)
    assert hint.cltv_expiry_delta == 40


async def test_on_mainnet_no_invoice_is_made(path: Path) -> None:
    """Until what a channel says can be enforced on the chain (design §6)."""
    policy = msgspec.structs.replace(POLICY, chains=("bitcoin",))
    channel = await moved(path, policy=policy, has_chain=False, chain_hash=CHAIN_HASHES["bitcoin"])
    with pytest.raises(PaymentError, match="main chain are refused"):
        await channel.purse.create_invoice(AMOUNT, "")
    # Fees move all the same: without them the channel would die.
    channel.peer_says(UpdateFee(channel_id=channel.channel_id, feerate_per_kw=1_234))
    await channel.settle()
    check_settled(channel)


async def test_on_mainnet_nothing_is_taken(path: Path) -> None:
    """Not even for an invoice that asks for it on another chain."""
    policy = msgspec.structs.replace(POLICY, chains=("bitcoin",))
    channel = await moved(path, policy=policy, has_chain=False, chain_hash=CHAIN_HASHES["bitcoin"])
    fresh = make_invoice(
        channel.wallet.signer.moves.keys, b"salt", chain="regtest", amount_msat=1_000_000,
        description="", expiry=3600, hints=(),
    )  # fmt: skip

    def work(ledger: Ledger) -> None:
        Book(ledger).add_invoice(fresh, 1_000_000, "", time.time())

    await channel.wallet.record.change(work)
    channel.peer_says(channel.add_for(fresh.text))
    await channel.settle()
    said = [type(message) for message in channel.left]
    assert UpdateFailHtlc in said
    assert UpdateFulfillHtlc not in said
    assert not any(isinstance(event, PaymentReceived) for event in channel.events)


async def test_on_mainnet_nothing_is_paid(path: Path) -> None:
    policy = msgspec.structs.replace(POLICY, chains=("bitcoin",))
    channel = await moved(path, policy=policy, chain_hash=CHAIN_HASHES["bitcoin"])
    invoice = Invoice(
        prefix="bc",
        amount_msat=1_000_000,
        timestamp=int(time.time()),
        payment_hash=b"\x03" * 32,
        payment_secret=b"\x02" * 32,
        description="",
    )
    text = sign(invoice, PrivateKey(PEER_SECRET).sign_recoverable).text
    with pytest.raises(PaymentError, match="main chain are refused"):
        await channel.purse.pay(text)
    assert await channel.purse.payments() == []
    assert channel.left == []


def test_preimages_come_of_the_seed() -> None:
    again = WalletKeys(SEED)
    assert KEYS.payment(b"salt") == again.payment(b"salt") != KEYS.payment(b"other")
    assert len({*KEYS.payment(b"salt")}) == 2


@pytest.mark.parametrize("released", [False, True])
async def test_the_record_takes_no_number_twice(path: Path, released: bool) -> None:
    """Whatever a step makes of a channel: what signs or revokes more than once is not stored."""
    channel = await moved(path)
    invoice = await channel.purse.create_invoice(AMOUNT, "")
    channel.peer_says(channel.add_for(invoice.text))
    await channel.settle()
    (kind,) = {RevokeAndAck} if released else {CommitmentSigned}
    again = next(message.encode() for message in channel.left if isinstance(message, kind))

    def work(ledger: Ledger) -> None:
        (live,) = Book(ledger).lives()
        Book(ledger).save(live, live.snapshot, (again,))

    with pytest.raises(RecordError, match="twice"):
        await channel.wallet.record.change(work)


async def test_what_was_not_signed_for_is_forgotten_with_its_connection(path: Path) -> None:
    channel = await moved(path)
    invoice = await channel.purse.create_invoice(AMOUNT, "")
    channel.peer_says(channel.add_for(invoice.text))
    channel.deliver()
    await channel.round()
    channel.disconnect()
    await channel.reconnect()
    rows = await channel.wallet.record.change(lambda ledger: ledger.query("SELECT * FROM incoming"))
    assert rows == []
    await channel.settle()
    check_settled(channel)


async def test_a_question_keeps_its_fence_while_the_wallet_goes_on(path: Path) -> None:
    """What the relay took meanwhile by `update_channel` it passes over in the answer."""
    channel = await moved(path, Role.OPENER)
    channel.fulfil_with(PREIMAGE)
    invoice = await channel.purse.create_invoice(AMOUNT, "")
    channel.peer_says(channel.add_for(invoice.text))
    in_flight(channel)
    fence = channel.fence
    asked = list(channel.pending)
    paying = asyncio.create_task(channel.purse.pay(invoice_of_peer()))
    while not channel.left:
        await asyncio.sleep(0)
    channel.pending, pending = asked, channel.pending
    answer = await channel.ask(fence=fence)
    channel.pending = pending
    assert channel.said
    channel.take(answer.heard, fence.said, [bytes.fromhex(message) for message in answer.messages])
    await channel.settle()
    assert (await paying).status == PaymentStatus.SENT
    assert channel.events.count(PaymentReceived(invoice.payment_hash, AMOUNT, "")) == 1
    check_settled(channel)
