"""When each wallet came last: what those left that never had a channel is not kept for ever."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

#: Where wallets leave something, as these tables were then.
_LEFT_IN = ("notifications", "wake_targets", "key_slots", "devices")


def upgrade() -> None:
    wallets = op.create_table(
        "wallets",
        sa.Column("wallet", sa.LargeBinary, primary_key=True),
        sa.Column("seen", sa.Float, nullable=False, index=True),
    )
    # Nobody knows when they came: as if it were now.
    some = [
        sa.select(sa.column("wallet", sa.LargeBinary)).select_from(sa.table(name))
        for name in _LEFT_IN
    ]
    left = sa.union(*some).subquery()
    rows = sa.select(left.c.wallet, sa.literal(time.time(), sa.Float))
    op.execute(wallets.insert().from_select(["wallet", "seen"], rows))
