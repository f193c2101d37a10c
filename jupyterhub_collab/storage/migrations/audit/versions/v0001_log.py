"""The log as it was made before versions were written down."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make it."""
    op.create_table(
        "audit_events",
        sa.Column("sequence", _SEQUENCE, primary_key=True, autoincrement=False),
        sa.Column("stored_us", sa.BigInteger(), nullable=False),
        sa.Column("contest", sa.String()),
        sa.Column("team", sa.String()),
        sa.Column("verb", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("people", sa.Text(), nullable=False),
    )
    for name in ("contest", "team"):
        there = sa.text(f"{name} IS NOT NULL")
        op.create_index(
            f"audit_events_{name}",
            "audit_events",
            [name, "sequence"],
            sqlite_where=there,
            postgresql_where=there,
        )
    op.create_index("audit_events_verb", "audit_events", ["verb", "outcome", "sequence"])
    op.create_table(
        "audit_people",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("sequence", _SEQUENCE, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "audit_datasets",
        sa.Column("contest", sa.String(), primary_key=True),
        sa.Column("dataset", sa.String(), primary_key=True),
        sa.Column("sequence", _SEQUENCE, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "audit_tiles",
        sa.Column("level", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("number", _SEQUENCE, primary_key=True, autoincrement=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "audit_checkpoints",
        sa.Column("size", _SEQUENCE, primary_key=True, autoincrement=False),
        sa.Column("note", sa.Text(), nullable=False),
    )
    op.create_table(
        "audit_emitters",
        sa.Column("emitter", sa.String(), primary_key=True),
        sa.Column("incarnation", sa.String(length=32), primary_key=True),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )
