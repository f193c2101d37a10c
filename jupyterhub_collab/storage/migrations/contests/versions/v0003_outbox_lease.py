"""Transitions that the audit log was not told of yet, and which process does the work.

What is there already was told when it happened.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "contest_outbox",
        sa.Column("transition", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("transition"),
    )
    op.create_table(
        "contest_leases",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("holder", _TEXT, nullable=False),
        sa.Column("term", sa.BigInteger(), nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
