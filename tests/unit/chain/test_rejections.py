"""Which refusals of a transaction pass, in the words of each kind of node."""

import pytest

from lightning_proxy.chain import BroadcastRejected

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


@pytest.mark.parametrize("reason", FOR_NOW)
def test_it_passes(reason: str) -> None:
    assert not BroadcastRejected(reason).is_final


@pytest.mark.parametrize("reason", FOR_EVER)
def test_it_never_passes(reason: str) -> None:
    assert BroadcastRejected(reason).is_final
