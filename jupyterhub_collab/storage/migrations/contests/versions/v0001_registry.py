"""The registry's first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.String(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make them."""
    _make_teams()
    _make_actions()
    _make_words()


def _make_teams() -> None:
    op.create_table(
        "contest_contests",
        sa.Column("id", _TEXT, nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("is_frozen", sa.Boolean(), nullable=False),
        sa.Column("ranking", sa.Text(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("projected", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "contest_teams",
        sa.Column("id", _TEXT, nullable=False),
        sa.Column("contest", _TEXT, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("state_before", sa.String(length=16), nullable=True),
        sa.Column("title", _TEXT, nullable=True),
        sa.Column("tier", _TEXT, nullable=False),
        sa.Column("overrides", sa.Text(), nullable=False),
        sa.Column("datasets", sa.Text(), nullable=False),
        sa.Column("gate", sa.String(length=16), nullable=False),
        sa.Column("retention", sa.String(length=16), nullable=False),
        sa.Column("captain", _TEXT, nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("projected", sa.BigInteger(), nullable=False),
        sa.Column("register_key", _TEXT, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("contest", "register_key", name="uq_contest_teams_register_key"),
    )
    op.create_index("ix_contest_teams_contest", "contest_teams", ["contest", "id"])
    op.create_index("ix_contest_teams_state", "contest_teams", ["contest", "state"])
    op.create_index(
        "ix_contest_teams_unprojected",
        "contest_teams",
        ["id"],
        sqlite_where=sa.text("generation != projected"),
        postgresql_where=sa.text("generation != projected"),
    )
    op.create_table(
        "contest_members",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("team", _TEXT, nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.Column("entry_key", sa.String(length=64), nullable=False),
        sa.Column("only_in", _TEXT, nullable=True),
        sa.Column("joined_us", sa.BigInteger(), nullable=False),
        sa.Column("is_captain", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("team", "entry_key", name="uq_contest_members_team"),
        sa.UniqueConstraint("only_in", "entry_key", name="uq_contest_members_only_in"),
    )
    op.create_index("ix_contest_members_entry", "contest_members", ["entry_key"])
    op.create_table(
        "contest_invitations",
        sa.Column("id", _TEXT, nullable=False),
        sa.Column("team", _TEXT, nullable=False),
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("made_by", _TEXT, nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.Column("used_by", _TEXT, nullable=False),
        sa.Column("used_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("token_sha256", name="uq_contest_invitations_token"),
    )
    op.create_index("ix_contest_invitations_team", "contest_invitations", ["team"])
    op.create_table(
        "contest_acceptances",
        sa.Column("contest", _TEXT, nullable=False),
        sa.Column("version", _TEXT, nullable=False),
        sa.Column("user", _TEXT, nullable=False),
        sa.Column("accepted_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("contest", "version", "user"),
    )


def _make_actions() -> None:
    op.create_table(
        "contest_operations",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("contest", _TEXT, nullable=False),
        sa.Column("key", _TEXT, nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("asked_by", _TEXT, nullable=False),
        sa.Column("asked_us", sa.BigInteger(), nullable=False),
        sa.Column("plan_hash", sa.String(length=64), nullable=False),
        sa.Column("approved_by", _TEXT, nullable=False),
        sa.Column("ended_us", sa.BigInteger(), nullable=True),
        sa.Column("report", sa.Text(), nullable=False),
        sa.Column("courses_left", sa.Integer(), nullable=False),
        sa.Column("courses_done", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("contest", "key", name="uq_contest_operations_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_contest_operations_contest", "contest_operations", ["contest", "number"])
    op.create_table(
        "contest_transitions",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("contest", _TEXT, nullable=False),
        sa.Column("team", _TEXT, nullable=False),
        sa.Column("before", sa.String(length=16), nullable=False),
        sa.Column("after", sa.String(length=16), nullable=False),
        sa.Column("reason", _TEXT, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("by", _TEXT, nullable=False),
        sa.Column("operation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_contest_transitions_contest", "contest_transitions", ["contest", "number"])
    op.create_table(
        "contest_courses",
        sa.Column("contest", _TEXT, nullable=False),
        sa.Column("team", _TEXT, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("due_us", sa.BigInteger(), nullable=False),
        sa.Column("operation", sa.BigInteger(), nullable=False),
        sa.Column("times", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", _TEXT, nullable=False),
        sa.PrimaryKeyConstraint("contest", "team"),
    )
    op.create_index(
        "ix_contest_courses_contest_due", "contest_courses", ["contest", "due_us", "team"]
    )
    op.create_index("ix_contest_courses_due", "contest_courses", ["due_us"])


def _make_words() -> None:
    op.create_table(
        "contest_notices",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("contest", _TEXT, nullable=False),
        sa.Column("team", _TEXT, nullable=False),
        sa.Column("text", _TEXT, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=True),
        sa.Column("key", _TEXT, nullable=True),
        sa.Column("is_delivered", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("contest", "team", "key", name="uq_contest_notices_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_contest_notices_team", "contest_notices", ["team"])
    op.create_index(
        "ix_contest_notices_undelivered",
        "contest_notices",
        ["number"],
        sqlite_where=sa.text("is_delivered = 0"),
        postgresql_where=sa.text("NOT is_delivered"),
    )
    op.create_table(
        "contest_archives",
        sa.Column("contest", _TEXT, nullable=False),
        sa.Column("team", _TEXT, nullable=False),
        sa.Column("volume", _TEXT, nullable=False),
        sa.Column("place", _TEXT, nullable=False),
        sa.Column("key", _TEXT, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("keep_until_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("contest", "team", "volume"),
    )
    op.create_table(
        "contest_certificates",
        sa.Column("contest", _TEXT, nullable=False),
        sa.Column("text", _TEXT, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("contest"),
    )
