"""Channels that move, by the SDK and over a relay's socket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import CommitmentSigned, UpdateFee, decode
from lightning_proxy.wallet import (
    ChannelProblem,
    PaymentReceived,
    SessionClosed,
    Wallet,
    WalletKeys,
    files,
)
from lightning_proxy.wallet.moving.tables import Book
from lightning_proxy.wallet.record import Ledger
from tests.unit.wallet.moving import close_all, moved
from tests.unit.wallet.play import Play
from tests.unit.wallet.samples import PEER_ADDRESS, SEED, SESSION_ID, session_info
from tests.unit.wallet.scripted_relay import ScriptedRelay
from tests.unit.wallet.test_reference import at_relay

NUMBER = int(SESSION_ID, 16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "wallet.json"
    files.create(path, "a passphrase", keys=WalletKeys(SEED), cost=10)
    return path


async def test_a_payment_comes_over_the_socket(path: Path, relay: ScriptedRelay) -> None:
    channel = await moved(files.record_path(path), has_chain=False)
    close_all()
    async with at_relay(path, relay, sessions=[session_info()]) as at:
        channel.wallet.put = at.play.ask  # type: ignore[method-assign]
        invoice = await at.wallet.create_invoice(1_000_000, "a book")
        (balances,) = (await at.wallet.balances()).values()
        assert balances.receivable_msat > 400_000_000
        channel.peer_says(channel.add_for(invoice.text))
        await channel.settle()
        received = await at.until(PaymentReceived)
        assert received == PaymentReceived(invoice.payment_hash, 1_000_000, "a book")
        (payment,) = await at.wallet.payments()
        assert (payment.status, payment.is_incoming) == ("paid", True)


async def test_what_waits_goes_on_with_the_peers_channel_reestablish(
    path: Path, relay: ScriptedRelay
) -> None:
    channel = await moved(files.record_path(path), Role.OPENER, has_chain=False)
    channel.disconnect()
    await channel.reconnect(NUMBER)

    def wish(ledger: Ledger) -> None:
        (live,) = Book(ledger).lives()
        Book(ledger).update(replace(live, feerate=3_000))

    await channel.wallet.record.change(wish)
    close_all()
    async with at_relay(path, relay, sessions=[session_info()]) as at:
        await at.play.tell(channel.pending[0])
        asked = asyncio.create_task(at.until(SessionClosed))
        update = await asyncio.wait_for(at.play.updates.get(), 10)
        messages = [decode(bytes.fromhex(raw)) for raw in update.messages]
        assert [type(message) for message in messages] == [UpdateFee, CommitmentSigned]
        assert (update.session_id, update.heard, update.said) == (SESSION_ID, 1, 0)
        await channel.update(update)
        await at.play.close()
        await asked
        # The record is no old one, and nobody is told that it were.
        assert not any(isinstance(event, ChannelProblem) for event in at.seen)


async def test_only_who_can_answer_says_so(path: Path, relay: ScriptedRelay) -> None:
    keys = WalletKeys(SEED)
    for signer in (None, OldSigner()):
        async with wallet_at(relay, Wallet(relay.url, keys, signer=signer)) as (wallet, play):  # type: ignore[arg-type]
            await wallet.connect(PEER_ADDRESS)
            assert play.handshakes[-1].get("commitments", False) is False
    async with at_relay(path, relay) as at:
        await at.wallet.client.connect(PEER_ADDRESS)
        assert at.play.handshakes[-1]["commitments"] is True


class OldSigner:
    """As it was written before channels moved."""


@contextlib.asynccontextmanager
async def wallet_at(relay: ScriptedRelay, wallet: Wallet) -> AsyncIterator[tuple[Wallet, Play]]:
    entering = asyncio.create_task(wallet.__aenter__())
    socket = await relay.let_in()
    await entering
    play = Play(socket, [])
    running = asyncio.create_task(play.run())
    yield wallet, play
    running.cancel()
    await wallet.__aexit__()
    socket.over.set()
