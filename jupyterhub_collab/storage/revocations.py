"""Until when a source's word about somebody counts for nothing: it was revoked.

A revocation must also stop a log-in that is under way, and one of somebody who was never here. So
the moment is a row, written before access is ended, and looked at before and after somebody is let
in. Words live for minutes, so rows are kept for a day.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Engine,
    MetaData,
    String,
    Table,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from ..models import Identity
from .database import TIMEOUT_S, Database, DatabaseError

KEPT: Final = timedelta(days=1)  # a portal token is refused by its age after minutes

_tables = MetaData()
_revocations = Table(
    "collab_revocations",
    _tables,
    Column("issuer", String, primary_key=True),
    Column("subject", String, primary_key=True),
    Column("revoked_ms", BigInteger, nullable=False, index=True),  # since 1970
)


class Revocations:
    """All rows, in one database. Close it when done; the engine stays open."""

    def __init__(self, engine: Engine, *, timeout_s: float = TIMEOUT_S) -> None:
        self._database = Database(engine, _revocations.name, timeout_s=timeout_s)

    def create_tables(self) -> None:
        """Make the table if it is not there. Raises DatabaseError."""
        self._database.create_tables(_tables)

    async def revoke(self, identities: Iterable[Identity], at: datetime) -> None:
        """What was said of these up to `at` counts no more. All or none. Raises DatabaseError."""
        everybody = list(identities)
        moment = to_ms(at)

        def work(connection: Connection) -> None:
            for identity in everybody:
                row = {"revoked_ms": moment}
                older = update(_revocations).where(
                    *_is(identity), _revocations.c.revoked_ms <= moment
                )
                if connection.execute(older.values(row)).rowcount:
                    continue
                if connection.execute(select(_revocations).where(*_is(identity))).first() is None:
                    key = {"issuer": identity.issuer, "subject": identity.subject}
                    connection.execute(insert(_revocations), [{**key, **row}])
            gone = moment - int(KEPT.total_seconds() * 1000)
            connection.execute(delete(_revocations).where(_revocations.c.revoked_ms < gone))

        for is_last in (False, True):
            try:
                await self._database.run(work)
            except IntegrityError as e:
                # Another process revoked one of them at the same moment: the second try updates.
                if is_last:
                    raise DatabaseError("revocations: somebody else writes them too") from e
            else:
                return

    async def is_revoked(self, identity: Identity, said_at: datetime) -> bool:
        """Whether what was said of somebody then counts no more. Raises DatabaseError."""
        wanted = select(_revocations.c.revoked_ms).where(*_is(identity))
        found = await self._database.run(lambda connection: connection.execute(wanted).scalar())
        return found is not None and to_ms(said_at) <= int(found)

    def close(self) -> None:
        """End the threads."""
        self._database.close()


def to_ms(at: datetime) -> int:
    """Milliseconds since 1970, as rows have them."""
    return int(at.timestamp() * 1000)


def _is(identity: Identity) -> tuple[ColumnElement[bool], ...]:
    return (
        _revocations.c.issuer == identity.issuer,
        _revocations.c.subject == identity.subject,
    )
