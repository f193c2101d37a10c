"""How far each notice has come to each of those to whom it did not come at once.

What was on its way is brought anew: to whom it came is not told by the rows of before.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table anew, with what was brought everywhere."""
    before = sa.table("contest_deliveries", *map(sa.column, ("notice", "channel", "is_done")))
    wanted = sa.select(before.c.notice, before.c.channel).where(before.c.is_done)
    done = op.get_bind().execute(wanted).all()
    # Dropped first: PostgreSQL keeps the names of a renamed table's constraints.
    op.drop_table("contest_deliveries")
    made = op.create_table(
        "contest_deliveries",
        sa.Column("notice", sa.BigInteger(), nullable=False),
        sa.Column("channel", sa.String(length=40), nullable=False),
        sa.Column("recipient", sa.String(length=60), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_us", sa.BigInteger(), nullable=False),
        sa.Column("why", _TEXT, nullable=False),
        sa.PrimaryKeyConstraint("notice", "channel", "recipient"),
    )
    op.create_index("ix_contest_deliveries_due", "contest_deliveries", ["state", "due_us"])
    rest = {"recipient": "*", "state": "done", "attempts": 1, "due_us": 0, "why": ""}
    op.bulk_insert(made, [{"notice": n, "channel": channel, **rest} for n, channel in done])
