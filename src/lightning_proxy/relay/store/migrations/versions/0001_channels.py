"""Channels: what both nodes said about each."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "channels",
        sa.Column("wallet", sa.LargeBinary, primary_key=True),
        sa.Column("channel_id", sa.LargeBinary, primary_key=True),
        sa.Column("peer", sa.LargeBinary, nullable=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("features", sa.LargeBinary, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
    )
    op.create_table(
        "channel_messages",
        sa.Column("wallet", sa.LargeBinary, primary_key=True),
        sa.Column("channel_id", sa.LargeBinary, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("sender", sa.String, nullable=False),
        sa.Column("raw", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(
            ("wallet", "channel_id"),
            ("channels.wallet", "channels.channel_id"),
            ondelete="CASCADE",
        ),
    )
