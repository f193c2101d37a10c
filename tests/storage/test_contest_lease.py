"""The row that one process holds, and the registry for whoever lost it: on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, event

from jupyterhub_collab.storage.contest_lease import Held, LeaseStore
from jupyterhub_collab.storage.contests import ContestStore, NotHolderError
from jupyterhub_collab.storage.database import DatabaseError
from tests.storage.contest_samples import put


@pytest.fixture
def leases(engine: Engine, registry: ContestStore) -> Iterator[LeaseStore]:
    made = LeaseStore(engine)
    yield made
    made.close()


async def take(leases: LeaseStore, holder: str, seen: Held | None) -> Held | None:
    return await leases.take(holder, seen, duration_s=8)


async def test_of_many_one_takes_it(leases: LeaseStore) -> None:
    for seen in (None, Held("dead", 1, 0, 8)):
        if seen is not None:
            await leases.give_back(await leases.read())  # type: ignore[arg-type]
            seen = await leases.read()
        taken = await asyncio.gather(*(take(leases, f"p{i}", seen) for i in range(8)))
        (held,) = [one for one in taken if one is not None]
        assert await leases.read() == held
        assert held.term == (1 if seen is None else seen.term + 1)


async def test_who_shows_to_be_alive_cannot_be_taken_from(leases: LeaseStore) -> None:
    first = await take(leases, "a", None)
    assert first is not None
    seen = await leases.read()
    renewed = await leases.renew(first)
    assert renewed is not None
    assert await take(leases, "b", seen) is None
    second = await take(leases, "b", renewed)
    assert second is not None
    assert await leases.renew(renewed) is None
    await leases.give_back(renewed)  # of an earlier term: nothing
    assert await leases.read() == second


async def test_a_sign_of_life_whose_answer_was_lost_is_given_again(leases: LeaseStore) -> None:
    first = await take(leases, "a", None)
    assert first is not None
    await leases.renew(first)
    again = await leases.renew(first)
    assert again is not None
    assert again == await leases.read()
    assert again.beat == first.beat + 2


async def test_who_lost_it_writes_nothing_any_more(
    leases: LeaseStore, registry: ContestStore
) -> None:
    await put(registry, teams=("ocean",))
    first = await take(leases, "a", None)
    assert first is not None
    fenced = registry.fenced(lambda: first.term)
    team = await registry.team("ocean")
    assert team is not None
    await fenced.mark_projected(teams={"ocean": team.generation})
    assert await take(leases, "b", first) is not None
    with pytest.raises(NotHolderError):
        await fenced.update_team("ocean", {"title": "Stale"})
    assert await registry.team("ocean") is not None
    after = await registry.team("ocean")
    assert after is not None
    assert after.title == team.title
    assert after.projected == team.generation
    assert await fenced.contests(), "it may look"


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_on_sqlite_nobody_takes_it_while_somebody_writes(
    leases: LeaseStore, registry: ContestStore, engine: Engine, url: str
) -> None:
    """On PostgreSQL: `test_contests_between`."""
    await put(registry, teams=("ocean",))
    first = await take(leases, "a", None)
    assert first is not None
    impatient = LeaseStore(create_engine(url, connect_args={"timeout": 0}))
    refused: list[str] = []

    def interrupt(_c: object, _cursor: object = None, sql: str = "COMMIT", *_: object) -> None:
        if sql == "COMMIT" or sql.startswith("UPDATE contest_teams"):
            with pytest.raises(DatabaseError):
                asyncio.run(take(impatient, "b", first))
            refused.append(sql[:6])

    for when in ("before_cursor_execute", "commit"):
        event.listen(engine, when, interrupt)
    fenced = registry.fenced(lambda: first.term)
    await fenced.update_team("ocean", {"title": "In time"})
    for when in ("before_cursor_execute", "commit"):
        event.remove(engine, when, interrupt)
    assert refused == ["UPDATE", "COMMIT"]
    assert await take(impatient, "b", first) is not None
    impatient.close()


async def test_a_group_that_was_written_too_late_is_looked_at_again(
    leases: LeaseStore, registry: ContestStore
) -> None:
    """What a process that woke up wrote to the hub may be older than what the holder wrote."""
    await put(registry, teams=("ocean",))
    first = await take(leases, "a", None)
    assert first is not None
    fenced = registry.fenced(lambda: first.term)
    team = await registry.team("ocean")
    assert team is not None
    second = await take(leases, "b", first)
    assert second is not None
    await registry.fenced(lambda: second.term).mark_projected(teams={"ocean": team.generation})
    with pytest.raises(NotHolderError):
        await fenced.mark_projected(teams={"ocean": team.generation})
    _, teams = await registry.unprojected(limit=10)
    assert [found.id for found in teams] == ["ocean"]
