"""A name is given once, and who has it keeps it: on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine

from jupyterhub_collab.models import Identity
from jupyterhub_collab.storage.database import DatabaseError
from jupyterhub_collab.storage.identities import Identities, NameTakenError

ADA = Identity("institute", "4711")
OTHER = Identity("institute", "4712")
PORTAL = Identity("portal", "4711")


@pytest.fixture
def identities(engine: Engine) -> Iterator[Identities]:
    made = Identities(engine)
    made.create_tables()
    yield made
    made.close()


async def test_the_first_who_comes_has_the_name(identities: Identities) -> None:
    assert await identities.name_of(ADA) is None
    assert await identities.bind(ADA, "ada") == "ada"
    assert await identities.bind(ADA, "ada") == "ada"
    assert await identities.name_of(ADA) == "ada"
    assert await identities.identities_of("ada") == (ADA,)


@pytest.mark.parametrize("other", [OTHER, PORTAL])
async def test_another_under_the_same_name_is_refused(
    identities: Identities, other: Identity
) -> None:
    """Also one that another source calls by the same key."""
    await identities.bind(ADA, "ada")
    with pytest.raises(NameTakenError, match="belongs to somebody else"):
        await identities.bind(other, "ada")
    assert await identities.name_of(other) is None
    assert await identities.bind(other, "ada2") == "ada2"


async def test_who_is_called_otherwise_now_keeps_the_name(identities: Identities) -> None:
    await identities.bind(ADA, "ada")
    assert await identities.bind(ADA, "lovelace") == "ada"
    assert await identities.bind(OTHER, "lovelace") == "lovelace"


async def test_names_differ_in_every_letter(identities: Identities) -> None:
    await identities.bind(ADA, "ada")
    assert await identities.bind(OTHER, "Ada") == "Ada"


async def test_identities_are_linked_on_purpose(identities: Identities) -> None:
    assert not await identities.link(PORTAL, "ada"), "nobody has the name"
    await identities.bind(ADA, "ada")
    assert await identities.link(PORTAL, "ada")
    assert await identities.name_of(PORTAL) == "ada"
    assert await identities.identities_of("ada") == (ADA, PORTAL)
    await identities.bind(OTHER, "grace")
    assert not await identities.link(OTHER, "ada"), "it is somebody already"
    assert not await identities.link(PORTAL, "grace")


async def test_what_is_forgotten_may_be_anothers(identities: Identities) -> None:
    await identities.bind(ADA, "ada")
    await identities.link(PORTAL, "ada")
    await identities.forget("ada")
    assert await identities.identities_of("ada") == ()
    assert await identities.bind(OTHER, "ada") == "ada"
    with pytest.raises(NameTakenError):
        await identities.bind(PORTAL, "ada")


async def test_of_many_who_come_at_once_one_has_the_name(identities: Identities) -> None:
    people = [Identity("institute", str(number)) for number in range(20)]
    found = await asyncio.gather(
        *(identities.bind(who, "ada") for who in people), return_exceptions=True
    )
    assert [answer for answer in found if not isinstance(answer, NameTakenError)] == ["ada"]
    assert len(await identities.identities_of("ada")) == 1


async def test_one_who_comes_many_times_at_once_is_one(identities: Identities) -> None:
    names = [f"ada{number}" for number in range(20)]
    found = await asyncio.gather(*(identities.bind(ADA, name) for name in names))
    assert len(set(found)) == 1
    taken = [name for name in names if name != found[0]]
    assert await identities.bind(OTHER, taken[0]) == taken[0], "no name is lost on the way"


async def test_a_restart_forgets_nobody(identities: Identities, url: str) -> None:
    await identities.bind(ADA, "ada")
    engine = create_engine(url)
    again = Identities(engine)
    again.create_tables()
    assert await again.name_of(ADA) == "ada"
    again.close()
    engine.dispose()


@pytest.mark.parametrize("key", ["", "a\x00b", "x" * 513, "\ud800"])
async def test_what_no_database_keeps_is_refused(identities: Identities, key: str) -> None:
    for bad in (Identity(key, "1"), Identity("institute", key)):
        with pytest.raises(ValueError, match=r"key of 1 to|surrogates"):
            await identities.bind(bad, "ada")
    with pytest.raises(ValueError, match=r"key of 1 to|surrogates"):
        await identities.bind(ADA, key)
    assert await identities.name_of(ADA) is None


@pytest.mark.parametrize("name", ["'; DROP TABLE collab_accounts; --", "%", "a\nb", "\u00e9" * 512])
async def test_odd_names_are_names(identities: Identities, name: str) -> None:
    assert await identities.bind(Identity(name, name), name) == name
    assert await identities.identities_of(name) == (Identity(name, name),)
    assert await identities.identities_of("ada") == ()


async def test_without_a_database_nobody_is_anybody(tmp_path: object) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/no/such/folder/x.sqlite")
    away = Identities(engine)
    with pytest.raises(DatabaseError) as told:
        await away.bind(ADA, "ada")
    assert "4711" not in str(told.value)
    away.close()
    engine.dispose()
