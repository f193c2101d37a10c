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
