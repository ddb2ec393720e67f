"""The relay's tables: what it has to know after a restart, and no transport key."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

metadata: Final = MetaData()

#: One row for each start of a relay: what it numbers is larger than all that came before.
runs: Final = Table(
    "runs",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("started", Float, nullable=False),
    #: Of the database, random, the same in all rows.
    Column("identity", String, nullable=False),
)
channels: Final = Table(
    "channels",
    metadata,
    Column("wallet", LargeBinary, primary_key=True),
    # Two wallets of one relay may have a channel with each other: the id alone says too little.
    Column("channel_id", LargeBinary, primary_key=True),
    Column("peer", LargeBinary, nullable=False),
    Column("role", String, nullable=False),
    Column("features", LargeBinary, nullable=False),
    Column("created", Float, nullable=False),
    #: Why it failed; null while it lives. It is not gone on with, and not forgotten.
    Column("failure", String),
    #: Since when its funding transaction is being published (Unix seconds); null once it was seen
    #: there, or its wallet told that it is given up.
    Column("broadcast", Float),
)
channel_messages: Final = Table(
    "channel_messages",
    metadata,
    Column("wallet", LargeBinary, primary_key=True),
    Column("channel_id", LargeBinary, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("sender", String, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    ForeignKeyConstraint(
        ("wallet", "channel_id"),
        ("channels.wallet", "channels.channel_id"),
        ondelete="CASCADE",
    ),
)
#: When a wallet came last, in Unix seconds.
wallets: Final = Table(
    "wallets",
    metadata,
    Column("wallet", LargeBinary, primary_key=True),
    Column("seen", Float, nullable=False, index=True),
)
#: The connections that the relay holds for wallets; those of a former run are lost.
sessions: Final = Table(
    "sessions",
    metadata,
    Column("session_id", String, primary_key=True),
    Column("wallet", LargeBinary, nullable=False),
    Column("peer", String, nullable=False),
)
#: Open delegations; those of a former run are void, because their sessions are lost.
delegations: Final = Table(
    "delegations",
    metadata,
    Column("id", String, primary_key=True),
    Column("wallet", LargeBinary, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
)
#: What waits for a wallet until it acknowledges it, by position.
notifications: Final = Table(
    "notifications",
    metadata,
    Column("wallet", LargeBinary, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("method", String, nullable=False),
    Column("params", LargeBinary, nullable=False),
)
#: Where a wallet is woken; `target` is the adapter's own JSON.
wake_targets: Final = Table(
    "wake_targets",
    metadata,
    Column("target_id", String, primary_key=True),
    Column("wallet", LargeBinary, nullable=False, index=True),
    Column("kind", String, nullable=False),
    Column("target", LargeBinary, nullable=False),
    Column("created", Float, nullable=False),
)
#: Single-use answers to `channel_keys`. A used one stays: its keys must never be used again.
key_slots: Final = Table(
    "key_slots",
    metadata,
    Column("wallet", LargeBinary, primary_key=True),
    Column("slot_id", String, primary_key=True),
    Column("funding_pubkey", LargeBinary, nullable=False),
    Column("first_per_commitment_point", LargeBinary, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("policy", LargeBinary, nullable=False),
    Column("created", Float, nullable=False),
    #: Unix seconds; null while it is free.
    Column("used", Float),
    #: The parameters of `slot_used`, from when it was used; and whether they are in the inbox.
    Column("notice", LargeBinary),
    Column("reported", Boolean, nullable=False),
    UniqueConstraint("wallet", "funding_pubkey"),
    UniqueConstraint("wallet", "first_per_commitment_point"),
)
#: The devices that a wallet's node key authorised. A revoked one stays, so that it stays out.
devices: Final = Table(
    "devices",
    metadata,
    Column("wallet", LargeBinary, primary_key=True),
    Column("device_key", LargeBinary, primary_key=True),
    Column("name", String, nullable=False),
    Column("rights", String, nullable=False),
    Column("created", Float, nullable=False),
    Column("revoked", Float),
)
#: Who may settle for a channel: the one with the highest fencing number.
leases: Final = Table(
    "leases",
    metadata,
    Column("wallet", LargeBinary, primary_key=True),
    Column("peer", LargeBinary, primary_key=True),
    #: BOLT #2's `temporary_channel_id`: the one that a channel has from its first message on.
    Column("temporary_channel_id", LargeBinary, primary_key=True),
    Column("device_key", LargeBinary, nullable=False),
    Column("fencing", BigInteger, nullable=False),
)
