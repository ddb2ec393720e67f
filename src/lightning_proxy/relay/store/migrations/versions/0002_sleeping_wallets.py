"""What a wallet that sleeps needs kept: its inbox, how to wake it, key slots, devices, leases."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("started", sa.Float, nullable=False),
        sa.Column("identity", sa.String, nullable=False),
    )
    op.create_table(
        "sessions",
        sa.Column("session_id", sa.String, primary_key=True),
        sa.Column("wallet", sa.LargeBinary, nullable=False),
        sa.Column("peer", sa.String, nullable=False),
    )
    op.create_table(
        "delegations",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("wallet", sa.LargeBinary, nullable=False),
        sa.Column("envelope", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "notifications",
        sa.Column("wallet", sa.LargeBinary, primary_key=True),
        sa.Column("position", sa.BigInteger, primary_key=True),
        sa.Column("method", sa.String, nullable=False),
        sa.Column("params", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "wake_targets",
        sa.Column("target_id", sa.String, primary_key=True),
        sa.Column("wallet", sa.LargeBinary, nullable=False, index=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("target", sa.LargeBinary, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
    )
    op.create_table(
        "key_slots",
        sa.Column("wallet", sa.LargeBinary, primary_key=True),
        sa.Column("slot_id", sa.String, primary_key=True),
        sa.Column("funding_pubkey", sa.LargeBinary, nullable=False),
        sa.Column("first_per_commitment_point", sa.LargeBinary, nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.Column("policy", sa.LargeBinary, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("used", sa.Float),
        sa.Column("notice", sa.LargeBinary),
        sa.Column("reported", sa.Boolean, nullable=False),
        sa.UniqueConstraint("wallet", "funding_pubkey"),
        sa.UniqueConstraint("wallet", "first_per_commitment_point"),
    )
    op.create_table(
        "devices",
        sa.Column("wallet", sa.LargeBinary, primary_key=True),
        sa.Column("device_key", sa.LargeBinary, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("rights", sa.String, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("revoked", sa.Float),
    )
    op.create_table(
        "leases",
        sa.Column("wallet", sa.LargeBinary, primary_key=True),
        sa.Column("peer", sa.LargeBinary, primary_key=True),
        sa.Column("temporary_channel_id", sa.LargeBinary, primary_key=True),
        sa.Column("device_key", sa.LargeBinary, nullable=False),
        sa.Column("fencing", sa.BigInteger, nullable=False),
    )
