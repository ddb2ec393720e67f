"""Channels that move: how each stands, in place of all that was said on it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("channels", sa.Column("snapshot", sa.LargeBinary))
