"""What a node's words say when it refuses a transaction: not now, or never."""

import re
from typing import Final

#: A refusal that has one of these passes: with blocks (locks, coinbases), with other transactions
#: (fees, conflicts, chains of unconfirmed ones), or once the node has caught up (inputs).
_FOR_NOW: Final = (
    # Bitcoin Core's `reject-reason`s, which an Esplora hands on.
    "non-final",
    "non-bip68-final",
    "missing inputs",
    "missingorspent",
    "premature-spend-of-coinbase",
    "mempool min fee not met",
    "min relay fee not met",
    "mempool full",
    "insufficient fee",
    "txn-mempool-conflict",
    "too-long-mempool-chain",
    "too many potential replacements",
    "replacement-adds-unconfirmed",
    "package",
    # btcd's, in whole sentences.
    "not finalized",
    "sequence locks",
    "orphan",
    "already spent",
    "coinbase",
    "under the required amount",
    "insufficient priority",
    "rate limiter",
)
#: One of these, and none of those above, never passes.
_FOR_EVER: Final = (
    "script-verify",
    "bad-txns",
    "bad-witness",
    "tx decode failed",
    "deserialization",
    "dust",
    "tx-size",
    "version",
    "scriptpubkey",
    "scriptsig",
    "bare-multisig",
    "multi-op-return",
    "datacarrier",
    "max-fee-exceeded",
    "absurdly-high-fee",
    "fee exceeds maximum",
    "not standard",
    "failed to validate input",
    "signature",
    "is higher than the value",
    "higher than the total",
)
#: No refusal at all, though it comes as one: the transaction is in the chain or in the mempool. (A
#: `txn-same-nonwitness-data-in-mempool` has the same txid.)
_THERE: Final = (
    # Bitcoin Core's -27 by its two names, and its -25 and -26.
    "transaction already in block chain",
    "outputs already in utxo set",
    "txn-already-in-mempool",
    "txn-already-known",
    "txn-same-nonwitness-data-in-mempool",
    # btcd's.
    "already have transaction",
    "transaction already exists",
)
#: Txids, wherever they stand, and numbers: fees, sizes, heights.
_CHANGING: Final = re.compile(r"[0-9a-f]{64}|[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?")


def is_there(reason: str) -> bool:
    """Whether the source has the transaction, and refuses it for nothing else."""
    words = reason.lower()
    return any(phrase in words for phrase in _THERE)


def kind_of(reason: str) -> str:
    """The reason without what changes from block to block."""
    words = reason.lower()
    known = next((phrase for phrase in _FOR_NOW if phrase in words), None)
    return known or _CHANGING.sub("#", words)


def is_final(reason: str) -> bool:
    """Whether waiting never makes this refusal good; words that nobody here knows may pass."""
    words = reason.lower()
    if any(phrase in words for phrase in _FOR_NOW):
        return False
    return any(phrase in words for phrase in _FOR_EVER)
