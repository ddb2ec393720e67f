"""`wallet invoice`, `pay`, `payments`, and what `channels` says of them, as programs."""

import json
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from coincurve import PrivateKey

from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.invoice import Invoice, parse, sign
from lightning_proxy.wallet import files
from tests.unit.wallet.moving import close_all, moved
from tests.unit.wallet.openings import POLICY
from tests.unit.wallet.program import run
from tests.unit.wallet.samples import PEER, PEER_SECRET

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    close_all()


def record_of(wallet: dict[str, str]) -> Path:
    return files.record_path(Path(wallet["LIGHTNING_PROXY_WALLET_FILE"]))


def invoice_of_peer(**changes: Any) -> str:
    fields: dict[str, Any] = {
        "prefix": "bcrt",
        "amount_msat": 20_000_000,
        "timestamp": int(time.time()),
        "payment_hash": sha256(bytes(32)).digest(),
        "payment_secret": b"\x22" * 32,
        "description": "tea\x1b[2J",
    }
    invoice = Invoice(**{**fields, **changes})
    return sign(invoice, PrivateKey(PEER_SECRET).sign_recoverable).text


async def test_an_invoice_is_paid_and_listed(wallet: dict[str, str], policy: str) -> None:
    channel = await moved(record_of(wallet), has_chain=False)
    arguments = ("invoice", "1000", "--memo", "a book", "--expiry", "60", "--policy", policy)
    code, out, err = await run(*arguments, **wallet)
    assert (code, err) == (0, "")
    text = out.strip()
    asked = parse(text).invoice
    assert (asked.amount_msat, asked.description, asked.expiry) == (1_000_000, "a book", 60)

    code, out, _ = await run("payments", "--json", **wallet)
    assert [each["status"] for each in map(json.loads, out.splitlines())] == ["open"]
    channel.peer_says(channel.add_for(text))
    channel.peer_says(channel.peer.commitment_signed())
    channel.deliver()
    await channel.round()
    # One is under way, and in no balance.
    code, out, _ = await run("channels", "--json", **wallet)
    (htlc,) = json.loads(out)["htlcs"]
    assert htlc["payment_hash"] == asked.payment_hash.hex()
    assert (htlc["is_incoming"], htlc["amount_msat"]) == (True, 1_000_000)
    code, out, _ = await run("channels", **wallet, COLUMNS="80")
    assert f"1,000.000 sat in, until block {htlc['cltv_expiry']}" in out
    assert all(len(line) <= 80 for line in out.splitlines())
    await channel.settle()

    code, out, _ = await run("channels", "--json", **wallet)
    shown = json.loads(out)
    assert (shown["unproved_msat"], shown["htlcs"]) == (501_000_000, [])
    assert shown["peer_balance_msat"] == 499_000_000
    assert 0 < shown["sendable_msat"] < 501_000_000
    assert 0 < shown["receivable_msat"] < 499_000_000
    del wallet["LIGHTNING_PROXY_WALLET_PASSPHRASE"]
    code, out, _ = await run("payments", "--json", **wallet)
    paid = json.loads(out)
    assert (paid["direction"], paid["status"], paid["amount_msat"]) == ("in", "paid", 1_000_000)
    assert (paid["invoice"], paid["description"]) == (text, "a book")
    code, out, _ = await run("payments", **wallet, COLUMNS="80")
    assert "1,000.000" in out
    assert "a book" in out
    assert all(len(line) <= 80 for line in out.splitlines())


async def test_an_invoice_as_json_for_what_the_payer_likes(
    wallet: dict[str, str], policy: str
) -> None:
    await moved(record_of(wallet), has_chain=False)
    code, out, _ = await run("invoice", "0", "--json", "--policy", policy, **wallet)
    shown = json.loads(out)
    asked = parse(shown["invoice"]).invoice
    assert (code, shown["amount_msat"], asked.amount_msat) == (0, None, None)
    assert shown["payment_hash"] == asked.payment_hash.hex()
    assert shown["expires_at"] == asked.expires_at


async def test_there_may_be_no_payments(wallet: dict[str, str]) -> None:
    assert await run("payments", **wallet) == (0, "No payments.\n", "")
    assert await run("payments", "--json", **wallet) == (0, "", "")


async def test_without_a_channel_nothing_can_be_asked_for(
    wallet: dict[str, str], policy: str
) -> None:
    code, out, err = await run("invoice", "1", "--policy", policy, **wallet)
    assert (code, out) == (1, "")
    assert "no open channel to be paid through" in err


async def test_on_mainnet_nothing_is_asked_for(wallet: dict[str, str]) -> None:
    rules = msgspec.structs.replace(POLICY, chains=("bitcoin",))
    await moved(
        record_of(wallet), policy=rules, has_chain=False, chain_hash=CHAIN_HASHES["bitcoin"]
    )
    code, out, err = await run("invoice", "1", **wallet)
    assert (code, out) == (1, "")
    assert "Payments on Bitcoin's main chain are refused for now" in err


async def test_what_is_to_be_paid_is_shown_and_asked_about(wallet: dict[str, str]) -> None:
    code, out, err = await run("pay", invoice_of_peer(), "--relay", NOWHERE, **wallet)
    assert code == 1
    assert f"20,000.000 sat to {PEER.hex()}" in out
    # The payee's words are a stranger's.
    assert 'for "tea?[2J"' in out
    assert "Pay that?" in err
    assert "can't be reached" not in err
    code, _, err = await run("pay", invoice_of_peer(), "--yes", "--relay", NOWHERE, **wallet)
    assert code == 1
    assert "can't be reached" in err


@pytest.mark.parametrize(
    ("text", "arguments", "hint"),
    [
        ("nonsense", (), "Error: "),
        (invoice_of_peer(amount_msat=None), (), "names no amount"),
        (invoice_of_peer(), ("--amount", "7"), "asks for 20000000 msat"),
    ],
    ids=["nonsense", "no amount", "another amount"],
)
async def test_what_can_not_be_paid_is_said_at_once(
    wallet: dict[str, str], text: str, arguments: tuple[str, ...], hint: str
) -> None:
    code, out, err = await run("pay", text, *arguments, "--relay", NOWHERE, **wallet)
    assert (code, out) == (1, "")
    assert hint in err
