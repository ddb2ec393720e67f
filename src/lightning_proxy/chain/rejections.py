"""What a node's words say when it refuses a transaction: not now, or never."""

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
    "already exists",
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


def is_final(reason: str) -> bool:
    """Whether waiting never makes this refusal good; words that nobody here knows may pass."""
    words = reason.lower()
    if any(phrase in words for phrase in _FOR_NOW):
        return False
    return any(phrase in words for phrase in _FOR_EVER)
