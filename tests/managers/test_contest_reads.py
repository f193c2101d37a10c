"""What is done with one team reads nothing of the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event

from jupyterhub_collab.models.contest_life import Action, ActionRequest, TeamState
from jupyterhub_collab.storage.contests import ContestStore
from tests.managers.test_contest_twice import Process, Told
from tests.storage.contest_samples import AT, course, operation, plan, put

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
