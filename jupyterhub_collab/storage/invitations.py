"""Who took an invitation by an e-mail address. The first takes it, for good.

A roster may invite an address of a source. The first identity of which that source vouches that the
address is theirs takes the invitation; from then on it is that identity's, whatever becomes of the
address, which may be given to somebody else. Taking is inserting a row, so of two that come at once
one is the first, in all processes. Whether a roster still invites is not known here.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Connection, Engine, Index, MetaData, String, Table, insert, select
from sqlalchemy.exc import IntegrityError

from ..models import Identity
from .database import TIMEOUT_S, Database

_tables: Final = MetaData()
_taken = Table(
    "collab_invitations",
    _tables,
    Column("issuer", String, primary_key=True),
    Column("email", String, primary_key=True),  # folded
    Column("subject", String, nullable=False),
    Index("ix_collab_invitations_identity", "issuer", "subject"),
)


class Invitations:
    """Taken invitations in one database. Close it when done; the engine stays open.

    Addresses are compared as they are: whoever asks has folded them (`policy.roster`).
    """

    def __init__(self, engine: Engine, *, timeout_s: float = TIMEOUT_S) -> None:
        self._database = Database(engine, _taken.name, timeout_s=timeout_s)

    def create_tables(self) -> None:
        """Make the table if it is not there. Raises DatabaseError."""
        self._database.create_tables(_tables)

    async def take(self, identity: Identity, email: str) -> bool:
        """Whether the invitation of this address is this identity's: it took it now, or before.

        Raises
        ------
        DatabaseError
            Nobody knows. It may be taken now, by this identity.
        """
        row = {"issuer": identity.issuer, "email": email, "subject": identity.subject}

        def work(connection: Connection) -> Identity | None:
            found = _find_taker(connection, identity.issuer, email)
            if found is None:
                connection.execute(insert(_taken), [row])
            return found

        try:
            taker = await self._database.run(work)
        except IntegrityError:  # another process was first, at the same moment
            taker = await self.taker_of(identity.issuer, email)
        return taker is None or taker == identity

    async def taker_of(self, issuer: str, email: str) -> Identity | None:
        """Who took the invitation of an address; None: nobody yet. Raises DatabaseError."""
        return await self._database.run(lambda c: _find_taker(c, issuer, email))

    async def taken_by(self, identity: Identity) -> tuple[str, ...]:
        """All addresses whose invitations this identity took, sorted. Raises DatabaseError."""
        where = (_taken.c.issuer == identity.issuer, _taken.c.subject == identity.subject)
        wanted = select(_taken.c.email).where(*where).order_by(_taken.c.email)
        rows = await self._database.run(lambda connection: connection.execute(wanted).all())
        return tuple(str(row.email) for row in rows)

    def close(self) -> None:
        """End the threads."""
        self._database.close()


def _find_taker(connection: Connection, issuer: str, email: str) -> Identity | None:
    where = (_taken.c.issuer == issuer, _taken.c.email == email)
    found = connection.execute(select(_taken.c.subject).where(*where)).scalar()
    return None if found is None else Identity(issuer, str(found))
