"""Which hub user an identity is. A name is given once, to whoever comes under it first.

A hub user is a name; a person is an identity (`models.Identity`). Names change and are given to
others, so each name is bound to the identity that first logged in under it: another one that comes
under that name is refused, and the same one that comes under another name keeps the old. Binding is
inserting a row, so of two that come at once one is the first, in all processes.

A second identity of the same person is linked on purpose only (`link`). When a name is to be given
to somebody else, an admin has it forgotten (`forget`), which the hub does when a user is deleted.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
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
)
from sqlalchemy.exc import IntegrityError

from ..errors import UserError
from ..models import Identity
from .database import TIMEOUT_S, Database

KEY_MAX: Final = 512  # characters; what PostgreSQL can index, and more than any source's keys have

_tables = MetaData()
_accounts = Table("collab_accounts", _tables, Column("name", String, primary_key=True))
_identities = Table(
    "collab_identities",
    _tables,
    Column("issuer", String, primary_key=True),
    Column("subject", String, primary_key=True),
    Column("name", String, nullable=False, index=True),
)


class NameTakenError(UserError):
    """Another person has this name here."""


class Identities:
    """Identities and their names in one database. Close it when done; the engine stays open."""

    def __init__(self, engine: Engine, *, timeout_s: float = TIMEOUT_S) -> None:
        self._database = Database(engine, _identities.name, timeout_s=timeout_s)

    def create_tables(self) -> None:
        """Make the tables if they are not there. Raises DatabaseError."""
        self._database.create_tables(_tables)

    async def name_of(self, identity: Identity) -> str | None:
        """Hub user of an identity; None when it never came. Raises DatabaseError."""
        key = _key_of(identity)
        return await self._database.run(lambda connection: _find_name(connection, key))

    async def bind(self, identity: Identity, name: str) -> str:
        """Hub user of an identity: the one it has, else `name`, which is its own from now on.

        Raises
        ------
        NameTakenError
            The name is another identity's.
        ValueError
            A key or name that no database keeps.
        DatabaseError
            Nobody knows. Nothing is bound, or this identity to this name.
        """
        key = {**_key_of(identity), "name": _check(name)}

        def work(connection: Connection) -> str:
            known = _find_name(connection, key)
            if known is None:
                connection.execute(insert(_accounts), [{"name": name}])
                connection.execute(insert(_identities), [key])
            return known or name

        try:
            return await self._database.run(work)
        except IntegrityError as e:
            # Another process bound this identity, or the name, at the same moment or before.
            known = await self.name_of(identity)
            if known is not None:
                return known
            raise NameTakenError(
                f"The user name {name!r} belongs to somebody else here. If that is you under "
                "another account, ask an administrator to link the two."
            ) from e

    async def link(self, identity: Identity, name: str) -> bool:
        """Let another identity be this hub user too. False: it is somebody already, or nobody has
        that name. Raises DatabaseError and ValueError."""
        key = {**_key_of(identity), "name": _check(name)}

        def work(connection: Connection) -> bool:
            there = connection.execute(select(_accounts).where(_accounts.c.name == name)).first()
            if there is None:
                return False
            connection.execute(insert(_identities), [key])
            return True

        try:
            return await self._database.run(work)
        except IntegrityError:
            return False

    async def unlink(self, identity: Identity) -> str | None:
        """An identity is nobody here any more. Returns the hub user it was; None: nobody.

        The name stays its hub user's, also without any identity left: only `forget` frees it.
        Raises DatabaseError and ValueError.
        """
        key = _key_of(identity)

        def work(connection: Connection) -> str | None:
            name = _find_name(connection, key)
            if name is not None:
                connection.execute(delete(_identities).where(*_is(key)))
            return name

        return await self._database.run(work)

    async def identities_of(self, name: str) -> tuple[Identity, ...]:
        """All identities that are this hub user, sorted. Raises DatabaseError."""
        columns = select(_identities.c.issuer, _identities.c.subject)
        wanted = columns.where(_identities.c.name == name).order_by(*columns.selected_columns)
        found = await self._database.run(lambda connection: connection.execute(wanted).all())
        return tuple(Identity(issuer, subject) for issuer, subject in found)

    async def forget(self, name: str) -> None:
        """Nobody is this hub user any more; whoever comes under the name next has it."""

        def work(connection: Connection) -> None:
            connection.execute(delete(_identities).where(_identities.c.name == name))
            connection.execute(delete(_accounts).where(_accounts.c.name == name))

        await self._database.run(work)

    def close(self) -> None:
        """End the threads."""
        self._database.close()


def _find_name(connection: Connection, key: dict[str, str]) -> str | None:
    found = connection.execute(select(_identities.c.name).where(*_is(key))).scalar()
    return None if found is None else str(found)


def _is(key: dict[str, str]) -> tuple[ColumnElement[bool], ...]:
    return (_identities.c.issuer == key["issuer"], _identities.c.subject == key["subject"])


def _key_of(identity: Identity) -> dict[str, str]:
    return {"issuer": _check(identity.issuer), "subject": _check(identity.subject)}


def _check(text: str) -> str:
    """A text that every database keeps as it is."""
    if not text or len(text) > KEY_MAX or "\x00" in text:
        raise ValueError(f"a key of 1 to {KEY_MAX} characters without NUL, not {text[:40]!r}")
    text.encode()  # half of a surrogate pair is a ValueError too
    return text
