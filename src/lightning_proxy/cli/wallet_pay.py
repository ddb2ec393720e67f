"""`lightning-proxy wallet pay`: paying an invoice, and how that came out."""

import asyncio
from contextlib import aclosing
from typing import Annotated

import typer
from msgspec import structs

from lightning_proxy.bolt.errors import InvoiceError
from lightning_proxy.bolt.invoice import SignedInvoice
from lightning_proxy.cli.wallet_options import (
    DEFAULT_FILE,
    Json,
    PassphraseFile,
    WalletFile,
    fail,
)
from lightning_proxy.cli.wallet_relay_options import ChainUrl, PolicyFile, RelayUrl, Token
from lightning_proxy.cli.wallet_run import run_online
from lightning_proxy.cli.wallet_secrets import load_keys, load_policy
from lightning_proxy.wallet import (
    ChannelProblem,
    Disconnected,
    Payment,
    PaymentError,
    PeerUnreachable,
    Reconnected,
    ReferenceWallet,
    SessionClosed,
)
from lightning_proxy.wallet.approval import leave_open
from lightning_proxy.wallet.display import Output
from lightning_proxy.wallet.moving.purse import amount_of, read_invoice
from lightning_proxy.wallet.moving.tables import PaymentStatus
from lightning_proxy.wallet.words import sat

#: What somebody who waits for an outcome wants to know besides.
_TOLD = (ChannelProblem, Disconnected, Reconnected, SessionClosed, PeerUnreachable)
_UNDER_WAY = (PaymentStatus.WAITING, PaymentStatus.PENDING)


def pay(
    invoice: Annotated[str, typer.Argument(metavar="INVOICE", help="BOLT 11, as lnbc…")],
    relay: RelayUrl,
    file: WalletFile = DEFAULT_FILE,
    amount: Annotated[
        int | None,
        typer.Option(
            "--amount", min=1, metavar="SAT", help="How much, in sat, where the invoice is open."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Pay without asking.")] = False,
    token: Token = None,
    passphrase_file: PassphraseFile = None,
    policy: PolicyFile = None,
    chain: ChainUrl = None,
    json: Json = False,
) -> None:
    """Pay an invoice of a peer's, through the channel with it, and wait for the outcome.

    Ctrl-C stops the waiting alone. Once more with the same invoice, this goes
    on waiting: no invoice is ever paid twice. Exits with 0 only when it was
    paid, with 1 when it was not, and with 130 when that is not known yet.
    """
    output = Output(json)
    try:
        signed = read_invoice(invoice)
        wanted = amount_of(signed.invoice.amount_msat, None if amount is None else 1000 * amount)
    except (InvoiceError, PaymentError) as error:
        fail(output, error)
    rules = load_policy(output, policy)
    keys = load_keys(output, file, passphrase_file)
    output.to_pay(signed, wanted)
    if not yes:
        typer.confirm("Pay that?", abort=True, err=True)

    async def work() -> None:
        async with ReferenceWallet(
            file,
            keys,
            relay,
            # Channels are for `watch`.
            policy=structs.replace(rules, approve_by_hand=True),
            approve=leave_open,
            token=token,
            chain=chain,
        ) as wallet:
            await _pay(output, wallet, signed, wanted)

    run_online(output, work())


async def _pay(
    output: Output, wallet: ReferenceWallet, signed: SignedInvoice, amount_msat: int
) -> None:
    """Raises `PaymentError` where it comes to nothing."""
    purse, payment_hash = wallet.purse, signed.invoice.payment_hash
    known = await purse.payment(payment_hash)
    try:
        if known is not None and known.status in _UNDER_WAY:
            output.hint("That payment is under way already: waiting for what becomes of it.")
        else:
            await _connect(output, wallet, signed.payee)
            own_amount = None if signed.invoice.amount_msat is not None else amount_msat
            await purse.begin_payment(signed.text, own_amount)
        payment = await _outcome(output, wallet, payment_hash)
    except BaseException:
        known = await purse.payment(payment_hash)
        if known is not None and known.status in _UNDER_WAY:
            output.hint(
                "The payment goes on, and may still arrive: lightning-proxy wallet pay with the "
                "same invoice, wallet watch or wallet payments show what becomes of it."
            )
        raise
    if payment.status != PaymentStatus.SENT:
        raise PaymentError(
            f"The payment of {sat(payment.amount_msat or 0)} sat failed: {payment.reason}. "
            "The money is back."
        )
    output.paid(payment)


async def _connect(output: Output, wallet: ReferenceWallet, payee: bytes) -> None:
    """To a peer with whom there is a channel, where nobody has done so."""
    address = (await wallet.record.peer_addresses()).get(payee)
    if address is not None and wallet.client.session_with(payee) is None:
        output.connected(await wallet.connect(address))


async def _outcome(output: Output, wallet: ReferenceWallet, payment_hash: bytes) -> Payment:
    """Do what events call for until it is known; raises the `WalletError` that ends the wallet."""

    async def watch() -> None:
        async with aclosing(wallet.watch()) as events:
            async for event in events:
                if isinstance(event, _TOLD):
                    output.event(event)

    watching = asyncio.create_task(watch())
    waiting = asyncio.create_task(
        wallet.purse.outcome(payment_hash, lambda: output.payment_offered(payment_hash))
    )
    try:
        await asyncio.wait((watching, waiting), return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            await watching
        return await waiting
    finally:
        watching.cancel()
        waiting.cancel()
        await asyncio.gather(watching, waiting, return_exceptions=True)
