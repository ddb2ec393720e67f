"""Funding transactions that are being published: whose end their wallets are yet to be told."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("channels", sa.Column("broadcast", sa.Float))
