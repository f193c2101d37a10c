"""An invitation is taken once: on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine

from jupyterhub_collab.models import Identity
from jupyterhub_collab.storage.database import DatabaseError
from jupyterhub_collab.storage.invitations import Invitations

ADA = Identity("institute", "1")
BOB = Identity("institute", "2")
PORTAL = Identity("portal", "1")


@pytest.fixture
def invitations(engine: Engine) -> Iterator[Invitations]:
    made = Invitations(engine)
    made.create_tables()
    made.create_tables()
    yield made
    made.close()


async def test_the_first_has_it_for_good(invitations: Invitations) -> None:
    assert await invitations.taker_of("institute", "a@x.org") is None
    assert await invitations.take(ADA, "a@x.org")
    assert not await invitations.take(BOB, "a@x.org")
    assert await invitations.take(ADA, "a@x.org"), "again is no loss"
    assert await invitations.taker_of("institute", "a@x.org") == ADA


async def test_each_source_has_its_own(invitations: Invitations) -> None:
    assert await invitations.take(ADA, "a@x.org")
    assert await invitations.take(PORTAL, "a@x.org")
    assert await invitations.take(ADA, "b@x.org")
    assert await invitations.taken_by(ADA) == ("a@x.org", "b@x.org")
    assert await invitations.taken_by(PORTAL) == ("a@x.org",)
    assert await invitations.taken_by(BOB) == ()


async def test_of_many_at_once_one_is_the_first(url: str, invitations: Invitations) -> None:
    """Through engines of their own, as processes would."""
    engines = [create_engine(url) for _ in range(4)]
    stores = [Invitations(engine) for engine in engines]
    try:
        for round_ in range(10):
            email = f"{round_}@x.org"
            people = [Identity("institute", f"{i}") for i in range(8)]
            tries = [stores[i % 4].take(who, email) for i, who in enumerate(people)]
            first = await asyncio.gather(*tries)
            assert sum(first) == 1
            taker = await invitations.taker_of("institute", email)
            assert taker == people[first.index(True)]
    finally:
        for store, engine in zip(stores, engines, strict=True):
            store.close()
            engine.dispose()


async def test_without_an_answer_nobody_takes_it(engine: Engine) -> None:
    store = Invitations(engine)  # no table
    with pytest.raises(DatabaseError):
        await store.take(ADA, "a@x.org")
    store.close()
