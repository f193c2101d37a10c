"""What each hub user was last found to be, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from sqlalchemy import Engine, create_engine

from jupyterhub_collab.models import Entitlement, Granted, Identity, Role
from jupyterhub_collab.storage.database import DatabaseError
from jupyterhub_collab.storage.memberships import Membership, Memberships

AT = datetime(2027, 1, 2, 3, 4, 5, 678000, tzinfo=timezone.utc)
ADA = Membership(
    name="ada",
    identity=Identity("institute", "4711"),
    granted=(
        Granted(Entitlement(team="ocean", role=Role.CAPTAIN), "member of CN=Ö\u2028,\"x\""),
        Granted(Entitlement(contest="sea", dataset="maps"), "named by the rule itself"),
    ),
    groups=("cn=ocean,dc=x", "'; DROP TABLE users; --"),
    confirmed_at=AT,
    rules="f" * 64,
)  # fmt: skip


@pytest.fixture
def memberships(engine: Engine) -> Iterator[Memberships]:
    made = Memberships(engine)
    made.create_tables()
    yield made
    made.close()


def of(name: str, *, issuer: str = "institute") -> Membership:
    return Membership(name, Identity(issuer, name), (), (), AT)


async def test_what_was_written_is_read(memberships: Memberships) -> None:
    assert await memberships.read("ada") is None
    await memberships.write(ADA)
    assert await memberships.read("ada") == ADA
    assert await memberships.read("Ada") is None


async def test_the_last_word_counts(memberships: Memberships) -> None:
    await memberships.write(ADA)
    gone = Membership("ada", Identity("other", "1"), (), (), AT, is_active=False)
    await memberships.write(gone)
    assert await memberships.read("ada") == gone
    assert await memberships.list_of("institute") == ()


async def test_a_source_s_people_and_no_others(memberships: Memberships) -> None:
    for name in ("dan", "bob", "cora"):
        await memberships.write(of(name))
    await memberships.write(of("eve", issuer="portal"))
    assert [m.name for m in await memberships.list_of("institute")] == ["bob", "cora", "dan"]
    await memberships.forget("bob")
    await memberships.forget("nobody")
    assert [m.name for m in await memberships.list_of("institute")] == ["cora", "dan"]


async def test_confirming_moves_the_moment_alone(memberships: Memberships) -> None:
    names = [f"u{i}" for i in range(1201)]  # more than one statement holds
    for name in (names[0], names[600], names[1200], "other"):
        await memberships.write(of(name))
    later = AT + timedelta(seconds=61)
    await memberships.confirm(names, later)
    found = {m.name: m.confirmed_at for m in await memberships.list_of("institute")}
    assert found == {names[0]: later, names[600]: later, names[1200]: later, "other": AT}


async def test_two_that_write_at_once(memberships: Memberships) -> None:
    """The same person in two browsers: one of the two rows is there, and nobody is told off."""
    rows = [of("ada"), ADA] * 8
    done = await asyncio.gather(*map(memberships.write, rows), return_exceptions=True)
    assert [e for e in done if isinstance(e, BaseException)] == []
    assert await memberships.read("ada") in (of("ada"), ADA)


async def test_a_database_that_is_not_there(tmp_path: object) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/no/such/folder/x.sqlite")
    made = Memberships(engine)
    with pytest.raises(DatabaseError):
        made.create_tables()
    with pytest.raises(DatabaseError):
        await made.read("ada")
    made.close()
    engine.dispose()
