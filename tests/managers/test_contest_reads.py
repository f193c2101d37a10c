"""What is done with one team reads nothing of the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, text

from jupyterhub_collab.managers.contest_refusals import NotNowError
from jupyterhub_collab.models.contest_life import Action, ActionRequest, ContestState, TeamState
from jupyterhub_collab.storage.contests import ContestStore
from tests.managers.test_contest_twice import Process, Told
from tests.storage.contest_samples import AT, change, course, operation, plan, put

TEAMS = [f"t{i:02}" for i in range(40)]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = create_engine(f"sqlite:///{tmp_path}/contests.sqlite")
    yield made
    made.dispose()


async def test_an_action_on_one_team_reads_two_courses(engine: Engine) -> None:
    store = ContestStore(engine)
    store.upgrade()
    await put(store, teams=TEAMS, team_state=TeamState.ACTIVE)
    await store.commit(plan(1, *map(course, TEAMS)), operation("begin"), at=AT)
    asked: list[tuple[str, Any]] = []

    def keep(_c: object, _cursor: object, sql: str, parameters: Any, *_more: object) -> None:
        if sql.startswith("SELECT") and ("contest_courses" in sql or "contest_teams" in sql):
            asked.append((sql, parameters))

    event.listen(engine, "before_cursor_execute", keep)
    request = ActionRequest(action=Action.ELIMINATE, team="t07")
    done = await Process(store, Told()).registry.act("sea", request, by="ada", key="k")
    event.remove(engine, "before_cursor_execute", keep)
    assert asked
    for sql, parameters in asked:
        assert "t07" in parameters, f"read more than this team: {sql}"
    assert set(await store.courses("sea", teams=("t07", "t08", "none"))) == {"t07", "t08"}
    assert (await store.courses("sea"))["t07"].operation == done.number
    store.close()


async def test_an_action_on_all_leaves_out_teams_that_cannot_be_read(engine: Engine) -> None:
    store = ContestStore(engine)
    store.upgrade()
    judging = await put(
        store,
        teams=TEAMS,
        team_state=TeamState.ACTIVE,
        state=ContestState.JUDGING,
        rounds=[{"title": "First"}, {"title": "Second"}],
    )
    judging = await change(store, replace(judging, round=1))
    await store.commit(plan(judging.generation, *map(course, TEAMS)), operation("begin"), at=AT)
    with engine.begin() as connection:
        connection.execute(text("UPDATE contest_courses SET times = '[]' WHERE team = 't07'"))
        connection.execute(text("UPDATE contest_teams SET datasets = '7' WHERE id = 't08'"))
    registry = Process(store, Told()).registry
    for team in ("t07", "t08"):
        request = ActionRequest(action=Action.ELIMINATE, team=team)
        with pytest.raises(NotNowError, match=f"{team} in the registry cannot be read"):
            await registry.act("sea", request, by="ada", key=team)
    advanced = await registry.plan("sea", ActionRequest(action=Action.ADVANCE, keep=("t01",)))
    assert {c.team for c in advanced.courses if c.team} == {*TEAMS} - {"t01", "t07", "t08"}
    await change(store, replace(await store.contest("sea"), state=ContestState.FINISHED))
    for action in (Action.ARCHIVE, Action.DESTROY):
        with pytest.raises(NotNowError, match="2 cannot be read: t07, t08"):
            await registry.plan("sea", ActionRequest(action=action))
    store.close()
