"""A row that cannot be read costs its own contest, and no other."""

from __future__ import annotations

import json
import logging

import pytest
from sqlalchemy import Engine, text, update

from jupyterhub_collab.storage import contest_tables as tables
from jupyterhub_collab.storage.contests import ContestStore, UnreadableError
from tests.storage.contest_samples import course, operation, plan, put

BROKEN = {
    "no JSON": {"manifest": "{"},
    "no manifest": {"manifest": json.dumps({"kind": "Contest"})},
    "a list": {"manifest": "[]"},
    "nested without end": {"manifest": "[" * 100_000},
    "another version's state": {"state": "dreaming"},
    "no ranking": {"ranking": "7"},
}


def spoil(engine: Engine, contest: str, **columns: str) -> None:
    """As another version, or a hand, would."""
    mine = update(tables.contests).where(tables.contests.c.id == contest)
    with engine.begin() as connection:
        connection.execute(mine.values(columns))


@pytest.mark.parametrize("how", BROKEN)
async def test_the_others_go_on(registry: ContestStore, engine: Engine, how: str) -> None:
    for contest in ("air", "sea", "void"):
        await put(registry, contest)
    spoil(engine, "sea", **BROKEN[how])
    assert [c.id for c in await registry.contests()] == ["air", "void"]
    contests, _ = await registry.unprojected(limit=2)
    assert [c.id for c in contests] == ["air", "void"]
    (found,) = await registry.unreadable_contests()
    assert found.id == "sea"
    assert "sea in the registry cannot be read" in found.why
    assert len(found.why) < 1000
    with pytest.raises(UnreadableError, match="sea"):
        await registry.contest("sea")
    assert (await registry.contest("air")) is not None


async def test_what_is_due_in_others_is_due(registry: ContestStore, engine: Engine) -> None:
    for contest, team in (("air", "wind"), ("sea", "ocean")):
        await put(registry, contest, teams=[team])
        await registry.commit(
            plan(1, course(team, contest=contest), contest=contest),
            operation(contest=contest),
            at=course(team).due_at,
        )
    spoil(engine, "air", manifest="{")
    due = await registry.due_courses(course("ocean").due_at, limit=10)
    assert {c.contest for c in due} == {"air", "sea"}


async def test_it_is_said_once_until_it_changes(
    registry: ContestStore, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    made = await put(registry)
    spoil(engine, "sea", manifest="{")
    with caplog.at_level(logging.ERROR):
        for reader in (registry, registry.fenced(lambda: 1), registry.fenced(lambda: 1)):
            for _ in range(3):
                assert await reader.contests() == ()
    assert len(caplog.records) == 1
    with engine.begin() as connection:  # as it was
        wire = made.manifest.to_wire()
        wire.pop("teams", None)
        connection.execute(
            text("UPDATE contest_contests SET manifest = :m"), {"m": json.dumps(wire)}
        )
    assert await registry.contests() == (made,)
    assert await registry.unreadable_contests() == ()


TEAMS = {
    "no JSON": (tables.teams, {"overrides": "{"}),
    "a list": (tables.teams, {"overrides": "[1]"}),
    "no data sets": (tables.teams, {"datasets": "7"}),
    "another version's state": (tables.teams, {"state": "dreaming"}),
    "no times": (tables.courses, {"times": "[]"}),
    "a moment beyond time": (tables.courses, {"times": json.dumps({"notify": 10**30})}),
    "another version's kind": (tables.courses, {"kind": "dream"}),
}


async def with_rotten(registry: ContestStore, engine: Engine, how: str) -> None:
    """Two teams on their way, one of them spoilt; and one at rest."""
    await put(registry, teams=["lake", "ocean", "river"], members={"lake": ("ada",)})
    both = course("lake"), course("ocean")
    await registry.commit(plan(1, *both), operation(), at=both[0].due_at)
    table, columns = TEAMS[how]
    mine = table.c.team if table is tables.courses else table.c.id
    with engine.begin() as connection:
        connection.execute(update(table).where(mine == "lake").values(columns))


@pytest.mark.parametrize("how", TEAMS)
async def test_other_teams_go_on(
    registry: ContestStore, engine: Engine, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    await with_rotten(registry, engine, how)
    is_team = TEAMS[how][0] is tables.teams
    (found,) = await registry.unreadable_teams("sea")
    assert (found.contest, found.id) == ("sea", "lake")
    assert "cannot be read" in found.why
    assert len(found.why) < 1000
    others = ["ocean", "river"] if is_team else ["lake", "ocean", "river"]
    assert [team.id for team in await registry.teams("sea")] == others
    assert [team.id for team in await registry.teams("sea", limit=2)] == others[:2]
    assert list(await registry.teams_by_id(["lake", "ocean", "river"])) == others
    mine = await registry.teams_of_any(["ada"])
    assert [team.id for team, _ in mine] == ([] if is_team else ["lake"])
    assert await registry.teams_of("ada") == ("lake",), "they belong to it all the same"
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            _, teams = await registry.unprojected(limit=2)
            assert [team.id for team in teams] == others[:2]
            due = await registry.due_courses(course("lake").due_at, limit=10)
            assert [c.team for c in due] == (["lake", "ocean"] if is_team else ["ocean"])
    assert len(caplog.records) == 1
    assert sum((await registry.count_teams("sea")).values()) == 3 - (
        how == "another version's state"
    )
    with pytest.raises(UnreadableError, match="lake"):
        await (registry.team("lake") if is_team else registry.course("sea", "lake"))
    assert list(await registry.courses("sea")) == (["lake", "ocean"] if is_team else ["ocean"])


async def test_many_that_cannot_be_read_fill_no_place(
    registry: ContestStore, engine: Engine
) -> None:
    names = [f"t{i:02}" for i in range(20)]
    await put(registry, teams=names)
    await registry.commit(plan(1, *map(course, names)), operation(), at=course("t00").due_at)
    with engine.begin() as connection:
        bad = tables.teams.c.id.in_(names[:15])
        connection.execute(update(tables.teams).where(bad).values(datasets="7"))
        bad = tables.courses.c.team.in_(names[:15])
        connection.execute(update(tables.courses).where(bad).values(times="7"))
    _, teams = await registry.unprojected(limit=4)
    assert [team.id for team in teams] == names[15:19]
    due = await registry.due_courses(course("t00").due_at, limit=4)
    assert [c.team for c in due] == names[15:19]
    assert [team.id for team in await registry.teams("sea", after="t16", limit=9)] == names[17:]
    assert len(await registry.unreadable_teams("sea")) == 15
