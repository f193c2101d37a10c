"""What each hub user was last found to be, by whose word, and when.

The hub's groups say who is in which team now. They cannot say why, nor what else somebody is
(captain, judge, data steward), nor which source let them in and has to be asked again. That is a
row here, written at each log-in and each time the source confirmed it. Losing the rows loses no
access rule: everybody who logs in writes theirs anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    MetaData,
    Row,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from ..models import Identity
from ..models.entitlement import Entitlement, Granted, Role
from .database import TIMEOUT_S, Database

_CHUNK: Final = 500  # names in one statement; SQLite takes 32,766 values, older ones 999

_tables = MetaData()
_memberships = Table(
    "collab_memberships",
    _tables,
    Column("name", String, primary_key=True),
    Column("issuer", String, nullable=False, index=True),
    Column("subject", String, nullable=False),
    Column("granted", Text, nullable=False),  # JSON
    Column("groups", Text, nullable=False),  # JSON
    Column("is_active", Boolean, nullable=False),
    Column("rules", String(64), nullable=False),
    Column("confirmed_ms", BigInteger, nullable=False),  # since 1970
)


@dataclass(frozen=True)
class Membership:
    """What a hub user was last found to be.

    Attributes
    ----------
    identity
        Who let them in: the source that is asked again.
    granted
        What rules gave, with the reasons; the roster is not in it.
    groups
        Those of the source's groups that a rule looked at: what to ask for in bulk.
    confirmed_at
        When the source last said so.
    is_active
        False: the source knows nobody of that key any more, or lets them in no more. Then the
        roster counts for nothing either.
    rules
        By which rules it was judged (`EntitlementRules.fingerprint`).
    """

    name: str
    identity: Identity
    granted: tuple[Granted, ...]
    groups: tuple[str, ...]
    confirmed_at: datetime
    is_active: bool = True
    rules: str = ""


class Memberships:
    """All rows, in one database. Close it when done; the engine stays open."""

    def __init__(self, engine: Engine, *, timeout_s: float = TIMEOUT_S) -> None:
        self._database = Database(engine, _memberships.name, timeout_s=timeout_s)

    def create_tables(self) -> None:
        """Make the table if it is not there. Raises DatabaseError."""
        self._database.create_tables(_tables)

    async def read(self, name: str) -> Membership | None:
        """A hub user's row; None: never logged in through a source. Raises DatabaseError."""
        wanted = select(_memberships).where(_memberships.c.name == name)
        row = await self._database.run(lambda connection: connection.execute(wanted).first())
        return None if row is None else _to_membership(row)

    async def write(self, membership: Membership) -> None:
        """Put a hub user's row in the place of the one before. Raises DatabaseError."""
        row = _to_row(membership)

        def work(connection: Connection) -> None:
            where = _memberships.c.name == membership.name
            if connection.execute(update(_memberships).where(where).values(row)).rowcount == 0:
                connection.execute(insert(_memberships), [row])

        try:
            await self._database.run(work)
        except IntegrityError:  # somebody inserted it between the two: now it can be updated
            await self._database.run(work)

    async def confirm(self, names: Iterable[str], at: datetime) -> None:
        """The source says of these what it said before. Raises DatabaseError."""
        everybody = list(names)
        moment = {"confirmed_ms": _to_ms(at)}

        def work(connection: Connection) -> None:
            for start in range(0, len(everybody), _CHUNK):
                some = _memberships.c.name.in_(everybody[start : start + _CHUNK])
                connection.execute(update(_memberships).where(some).values(moment))

        await self._database.run(work)

    async def list_of(self, issuer: str) -> tuple[Membership, ...]:
        """All who came in through a source, sorted by name. Raises DatabaseError."""
        wanted = select(_memberships).where(_memberships.c.issuer == issuer)
        ordered = wanted.order_by(_memberships.c.name)

        def work(connection: Connection) -> tuple[Membership, ...]:
            # In the thread: thousands of rows take longer than the hub's loop may.
            return tuple(_to_membership(row) for row in connection.execute(ordered))

        return await self._database.run(work)

    async def forget(self, name: str) -> None:
        """Drop a hub user's row; none there is fine. Raises DatabaseError."""
        gone = delete(_memberships).where(_memberships.c.name == name)
        await self._database.run(lambda connection: connection.execute(gone))

    def close(self) -> None:
        """End the threads."""
        self._database.close()


def _to_ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _to_row(membership: Membership) -> dict[str, Any]:
    granted = [
        {
            "team": g.what.team,
            "contest": g.what.contest,
            "dataset": g.what.dataset,
            "role": g.what.role.value if g.what.role else None,
            "because": g.because,
        }
        for g in membership.granted
    ]
    return {
        "name": membership.name,
        "issuer": membership.identity.issuer,
        "subject": membership.identity.subject,
        "granted": json.dumps(granted),
        "groups": json.dumps(membership.groups),
        "is_active": membership.is_active,
        "rules": membership.rules,
        "confirmed_ms": _to_ms(membership.confirmed_at),
    }


def _to_membership(row: Row[Any]) -> Membership:
    granted = tuple(
        Granted(
            Entitlement(
                team=g["team"],
                contest=g["contest"],
                dataset=g["dataset"],
                role=Role(g["role"]) if g["role"] else None,
            ),
            g["because"],
        )
        for g in json.loads(row.granted)
    )
    return Membership(
        name=row.name,
        identity=Identity(row.issuer, row.subject),
        granted=granted,
        groups=tuple(json.loads(row.groups)),
        confirmed_at=datetime.fromtimestamp(row.confirmed_ms / 1000, tz=timezone.utc),
        is_active=row.is_active,
        rules=row.rules,
    )
