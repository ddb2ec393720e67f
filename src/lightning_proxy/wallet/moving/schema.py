"""The tables of a wallet's record for what moves (SQLite)."""

from typing import Final

SCHEMA: Final = (
    # A channel that is ready. `heard` and `said` count on the connection of `session_id`; `unsure`
    # are the last of those said, of which it is not known that the relay has them. `signed` and
    # `released` are the last number of the peer's commitment that was signed, and how many of our
    # secrets have left. `feerate` is what the opener wants next, `lost` says why this state is not
    # to be gone on with, `peer_update` is the peer's last `channel_update` for it.
    """
CREATE TABLE moving (
    channel_index INTEGER PRIMARY KEY REFERENCES channels ON DELETE CASCADE,
    snapshot BLOB NOT NULL,
    session_id TEXT NOT NULL,
    heard INTEGER NOT NULL,
    said INTEGER NOT NULL,
    unsure BLOB NOT NULL,
    signed INTEGER NOT NULL,
    released INTEGER NOT NULL,
    feerate INTEGER,
    lost TEXT,
    peer_update BLOB
) STRICT""",
    # The peer's `update_add_htlc`s, until they are over; `removal` is what was said of them.
    """
CREATE TABLE incoming (
    channel_index INTEGER NOT NULL REFERENCES moving ON DELETE CASCADE,
    htlc_id INTEGER NOT NULL,
    raw BLOB NOT NULL,
    removal BLOB,
    PRIMARY KEY (channel_index, htlc_id)
) STRICT, WITHOUT ROWID""",
    # Preimage and payment secret come of the seed and the salt.
    """
CREATE TABLE invoices (
    payment_hash BLOB PRIMARY KEY,
    salt BLOB NOT NULL,
    text TEXT NOT NULL,
    amount_msat INTEGER,
    description TEXT NOT NULL,
    created REAL NOT NULL,
    expires_at INTEGER NOT NULL,
    status TEXT NOT NULL,
    channel_index INTEGER,
    htlc_id INTEGER,
    received_msat INTEGER,
    settled REAL
) STRICT""",
    """
CREATE TABLE payments (
    payment_id INTEGER PRIMARY KEY,
    payment_hash BLOB NOT NULL,
    invoice TEXT NOT NULL,
    payee BLOB NOT NULL,
    amount_msat INTEGER NOT NULL,
    channel_index INTEGER NOT NULL,
    session_key BLOB NOT NULL,
    onion BLOB NOT NULL,
    cltv_expiry INTEGER NOT NULL,
    htlc_id INTEGER,
    status TEXT NOT NULL,
    preimage BLOB,
    removal BLOB,
    reason TEXT,
    created REAL NOT NULL,
    settled REAL
) STRICT""",
    # Of one payment there is never a second attempt while the first may still arrive.
    "CREATE UNIQUE INDEX payments_once ON payments (payment_hash) WHERE status != 'failed'",
    "CREATE INDEX payments_of_channels ON payments (channel_index, status)",
)
