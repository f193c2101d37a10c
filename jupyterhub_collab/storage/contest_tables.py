"""The team registry's tables. What makes them is in `migrations/contests`; a test compares the two.

Moments are microseconds since 1970 (`_us`). Documents are JSON in ASCII, so any text that a
document may hold can be kept; texts that somebody chose are `AnyText` for the same reason. There
are no foreign keys: SQLite would not hold them, so nothing may count on them. No contest and no
team is ever deleted, so nothing can lose what it hangs on.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

_NOT_PLAIN: Final = re.compile("[\x00\ud800-\udfff]|^\x01")
_ESCAPE: Final = "\x01"


class AnyText(TypeDecorator[str]):
    """Any text, in the order of its bytes on every database, as SQLite has it.

    PostgreSQL takes no NUL, and nothing takes half a surrogate pair: those go escaped.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        is_postgresql = dialect.name == "postgresql"
        return dialect.type_descriptor(String(collation="C") if is_postgresql else Text())

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or not _NOT_PLAIN.search(value):
            return value
        return _ESCAPE + json.dumps(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        if value is None or not value.startswith(_ESCAPE):
            return None if value is None else str(value)
        return str(json.loads(value[1:]))


# SQLite counts up by itself in this type only.
Number: Final = BigInteger().with_variant(Integer(), "sqlite")

tables: Final = MetaData()

contests: Final = Table(
    "contest_contests",
    tables,
    Column("id", AnyText, primary_key=True),
    Column("manifest", Text, nullable=False),  # JSON, without teams
    Column("state", String(16), nullable=False),
    Column("round", Integer, nullable=False),
    Column("is_frozen", Boolean, nullable=False),
    Column("ranking", Text, nullable=False),  # JSON
    Column("generation", BigInteger, nullable=False),
    Column("projected", BigInteger, nullable=False),
)

teams: Final = Table(
    "contest_teams",
    tables,
    Column("id", AnyText, primary_key=True),  # over all contests, and for good
    Column("contest", AnyText, nullable=False),
    Column("state", String(16), nullable=False),
    Column("state_before", String(16)),
    Column("title", AnyText),
    Column("tier", AnyText, nullable=False),
    Column("overrides", Text, nullable=False),  # JSON
    Column("datasets", Text, nullable=False),  # JSON
    Column("gate", String(16), nullable=False),
    Column("retention", String(16), nullable=False),
    Column("captain", AnyText, nullable=False),
    Column("round", Integer, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("projected", BigInteger, nullable=False),
    Column("register_key", AnyText),  # of who registered it; NULL: nobody named one
    UniqueConstraint("contest", "register_key", name="uq_contest_teams_register_key"),
    Index("ix_contest_teams_contest", "contest", "id"),
    Index("ix_contest_teams_state", "contest", "state"),
)
# Of 100,000 teams those few that the hub's groups are behind.
Index(
    "ix_contest_teams_unprojected",
    teams.c.id,
    sqlite_where=teams.c.generation != teams.c.projected,
    postgresql_where=teams.c.generation != teams.c.projected,
)

members: Final = Table(
    "contest_members",
    tables,
    Column("number", Number, primary_key=True),
    Column("team", AnyText, nullable=False),
    Column("entry", Text, nullable=False),  # JSON, canonical
    Column("entry_key", String(64), nullable=False),  # SHA-256 of whom it names
    # The contest in which this person can be in no other team; NULL where teams do not register
    # themselves, and once the team is destroyed.
    Column("only_in", AnyText),
    Column("joined_us", BigInteger, nullable=False),
    Column("is_captain", Boolean, nullable=False),
    UniqueConstraint("team", "entry_key", name="uq_contest_members_team"),
    UniqueConstraint("only_in", "entry_key", name="uq_contest_members_only_in"),
    Index("ix_contest_members_entry", "entry_key"),
)

invitations: Final = Table(
    "contest_invitations",
    tables,
    Column("id", AnyText, primary_key=True),
    Column("team", AnyText, nullable=False),
    Column("token_sha256", String(64), nullable=False),
    Column("made_by", AnyText, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("used_by", AnyText, nullable=False),
    Column("used_us", BigInteger),
    UniqueConstraint("token_sha256", name="uq_contest_invitations_token"),
    Index("ix_contest_invitations_team", "team"),
)

acceptances: Final = Table(
    "contest_acceptances",
    tables,
    Column("contest", AnyText, primary_key=True),
    Column("version", AnyText, primary_key=True),
    Column("user", AnyText, primary_key=True),
    Column("accepted_us", BigInteger, nullable=False),
)

operations: Final = Table(
    "contest_operations",
    tables,
    Column("number", Number, primary_key=True),
    Column("contest", AnyText, nullable=False),
    Column("key", AnyText, nullable=False),
    Column("request", Text, nullable=False),  # JSON
    Column("state", String(16), nullable=False),
    Column("asked_by", AnyText, nullable=False),
    Column("asked_us", BigInteger, nullable=False),
    Column("plan_hash", String(64), nullable=False),
    Column("approved_by", AnyText, nullable=False),
    Column("ended_us", BigInteger),
    Column("report", Text, nullable=False),  # JSON
    Column("courses_left", Integer, nullable=False),
    Column("courses_done", Integer, nullable=False),
    UniqueConstraint("contest", "key", name="uq_contest_operations_key"),
    Index("ix_contest_operations_contest", "contest", "number"),
    sqlite_autoincrement=True,
)

transitions: Final = Table(
    "contest_transitions",
    tables,
    Column("number", Number, primary_key=True),
    Column("contest", AnyText, nullable=False),
    Column("team", AnyText, nullable=False),
    Column("before", String(16), nullable=False),
    Column("after", String(16), nullable=False),
    Column("reason", AnyText, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("by", AnyText, nullable=False),
    Column("operation", BigInteger, nullable=False),
    Index("ix_contest_transitions_contest", "contest", "number"),
    sqlite_autoincrement=True,
)

outbox: Final = Table(
    "contest_outbox",
    tables,
    # A number of `transitions` whose event was not handed on yet. Written with the transition.
    Column("transition", BigInteger, primary_key=True, autoincrement=False),
)

leases: Final = Table(
    "contest_leases",
    tables,
    Column("name", String(40), primary_key=True),
    Column("holder", AnyText, nullable=False),  # empty: nobody
    Column("term", BigInteger, nullable=False),  # rises with each holder
    Column("beat", BigInteger, nullable=False),  # rises with each sign of life
    Column("duration_ms", BigInteger, nullable=False),  # without one, and it is another's
)

courses: Final = Table(
    "contest_courses",
    tables,
    Column("contest", AnyText, primary_key=True),
    Column("team", AnyText, primary_key=True),  # empty: the contest's own
    Column("kind", String(16), nullable=False),
    Column("step", Integer, nullable=False),
    Column("due_us", BigInteger, nullable=False),
    Column("operation", BigInteger, nullable=False),
    Column("times", Text, nullable=False),  # JSON, microseconds by step
    Column("attempts", Integer, nullable=False),
    Column("error", AnyText, nullable=False),
    Index("ix_contest_courses_due", "due_us"),
    Index("ix_contest_courses_contest_due", "contest", "due_us", "team"),
)

notices: Final = Table(
    "contest_notices",
    tables,
    Column("number", Number, primary_key=True),
    Column("contest", AnyText, nullable=False),
    Column("team", AnyText, nullable=False),  # empty: to the whole contest
    Column("text", AnyText, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("until_us", BigInteger),
    Column("key", AnyText),  # NULL: none was given, so it is like no other
    Column("is_delivered", Boolean, nullable=False),
    UniqueConstraint("contest", "team", "key", name="uq_contest_notices_key"),
    Index("ix_contest_notices_team", "team"),
    sqlite_autoincrement=True,
)
Index(
    "ix_contest_notices_undelivered",
    notices.c.number,
    sqlite_where=~notices.c.is_delivered,
    postgresql_where=~notices.c.is_delivered,
)

deliveries: Final = Table(
    "contest_deliveries",
    tables,
    Column("notice", BigInteger, primary_key=True, autoincrement=False),
    Column("channel", String(40), primary_key=True),
    Column("recipient", String(60), primary_key=True),  # "*", a team, or one address of a team
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_us", BigInteger, nullable=False),
    Column("why", AnyText, nullable=False),
    Index("ix_contest_deliveries_due", "state", "due_us"),
)

archives: Final = Table(
    "contest_archives",
    tables,
    Column("contest", AnyText, primary_key=True),
    Column("team", AnyText, primary_key=True),
    Column("volume", AnyText, primary_key=True),
    Column("place", AnyText, nullable=False),
    Column("key", AnyText, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("keep_until_us", BigInteger),
)

certificates: Final = Table(
    "contest_certificates",
    tables,
    Column("contest", AnyText, primary_key=True),
    Column("text", AnyText, nullable=False),
    Column("at_us", BigInteger, nullable=False),
)
