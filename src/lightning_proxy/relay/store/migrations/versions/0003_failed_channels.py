"""Channels that a side has failed: they stay, and are not gone on with."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("channels", sa.Column("failure", sa.String))
