"""Which refusals of a transaction pass, in the words of each kind of node."""

import pytest

from lightning_proxy.chain import BroadcastRejected
from lightning_proxy.chain.rejections import is_there

FOR_NOW = [
    # Bitcoin Core
    "non-final",
    "non-BIP68-final",
    "mempool min fee not met, 110 < 500",
    "min relay fee not met, 0 < 110",
    "bad-txns-inputs-missingorspent",
    "bad-txns-premature-spend-of-coinbase, tried to spend coinbase at depth 1",
    "too-long-mempool-chain, too many unconfirmed ancestors [limit: 25]",
    "txn-mempool-conflict",
    "insufficient fee, rejecting replacement",
    "mempool full",
    # btcd
    "TX rejected: transaction 00 is not standard: transaction is not finalized",
    "TX rejected: orphan transaction 00 references outputs of unknown or fully-spent transaction",
    "TX rejected: transaction's sequence locks on inputs not met",
    "TX rejected: output 00:0 already spent by transaction 11 in the memory pool",
    "TX rejected: transaction 00 has 100 fees which is under the required amount of 110",
    # Esplora
    'sendrawtransaction RPC error: {"code":-26,"message":"non-final"}',
    # Nobody's
    "who knows",
]
FOR_EVER = [
    "mandatory-script-verify-flag-failed (Script failed an OP_EQUALVERIFY operation)",
    "bad-txns-in-belowout, value in (0.01) < value out (0.02)",
    "TX decode failed. Make sure the tx has at least one input.",
    "dust",
    "scriptpubkey",
    "tx-size",
    "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)",
    "TX rejected: transaction 00 is not standard: transaction output 0: payment of 1 is dust",
    "TX rejected: failed to validate input 00:0 which references output 11:0",
    "TX rejected: transaction output value of 3 is higher than the total of its inputs",
]
#: No refusals: the node has it.
THERE = [
    "Transaction already in block chain",
    "Transaction outputs already in utxo set",
    "txn-already-in-mempool",
    "txn-already-known",
    "txn-same-nonwitness-data-in-mempool",
    "TX rejected: already have transaction 00",
    "TX rejected: transaction already exists",
    'sendrawtransaction RPC error: {"code":-27,"message":"Transaction already in block chain"}',
    "sendrawtransaction RPC error -27: Transaction outputs already in utxo set",
]
#: Each twice, some blocks apart.
SAME_KIND = [
    ("mempool min fee not met, 110 < 500", "mempool min fee not met, 110 < 1.2e-05"),
    (
        "TX rejected: transaction 00 has 100 fees which is under the required amount of 110",
        "TX rejected: transaction 00 has 100 fees which is under the required amount of 9000",
    ),
    (
        f"TX rejected: output {'0a' * 32}:0 already spent by transaction {'1b' * 32}",
        f"TX rejected: output {'0a' * 32}:0 already spent by transaction {'2c' * 32}",
    ),
    ("who knows 0.5 of 7", "who knows 0.00006 of 1e-7"),
]


@pytest.mark.parametrize("reason", THERE)
def test_it_is_there(reason: str) -> None:
    assert is_there(reason)
    assert is_there(reason.upper())


@pytest.mark.parametrize("reason", [*FOR_NOW, *FOR_EVER])
def test_it_is_not_there(reason: str) -> None:
    assert not is_there(reason)


@pytest.mark.parametrize(("once", "again"), SAME_KIND)
def test_numbers_make_no_other_kind(once: str, again: str) -> None:
    assert BroadcastRejected(once).kind == BroadcastRejected(again).kind


def test_what_nodes_say_for_different_reasons_is_of_different_kinds() -> None:
    reasons = [once for once, _ in SAME_KIND] + FOR_EVER
    assert len({BroadcastRejected(reason).kind for reason in reasons}) == len(reasons)


@pytest.mark.parametrize("reason", FOR_NOW)
def test_it_passes(reason: str) -> None:
    assert not BroadcastRejected(reason).is_final


@pytest.mark.parametrize("reason", FOR_EVER)
def test_it_never_passes(reason: str) -> None:
    assert BroadcastRejected(reason).is_final
