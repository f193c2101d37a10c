"""What searches go along is written after the events: tables in place of the events' own indexes.

People and data sets have tables already, which are written up to the end of the log.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TABLES = {"contests": ["contest"], "teams": ["team"], "verbs": ["verb", "outcome"]}


def upgrade() -> None:
    """Make them, fill them along the old indexes, which go."""
    for name, columns in _TABLES.items():
        op.create_table(
            f"audit_{name}",
            *(sa.Column(column, sa.String(), primary_key=True) for column in columns),
            sa.Column("sequence", _SEQUENCE, primary_key=True, autoincrement=False),
            sqlite_with_rowid=False,
        )
        kept = ", ".join([*columns, "sequence"])
        op.execute(
            f"INSERT INTO audit_{name} ({kept}) SELECT {kept} FROM audit_events"  # noqa: S608
            f" WHERE {columns[0]} IS NOT NULL ORDER BY {kept}"
        )
        op.drop_index(f"audit_events_{columns[0]}", "audit_events", if_exists=True)
    # The first version stops at this, and does not write on without the tables above.
    op.execute("ALTER TABLE audit_emitters RENAME COLUMN last_sequence TO last_number")
    op.create_table(
        "audit_indexed",
        sa.Column("upto", _SEQUENCE, primary_key=True, autoincrement=False),
    )
    op.execute(
        "INSERT INTO audit_indexed (upto) SELECT COALESCE(MAX(sequence), 0) FROM audit_events"
    )
