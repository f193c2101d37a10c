"""Nobody comes into a contest that is frozen: it may be on its way to be destroyed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jupyterhub_collab.models.contest_life import MemberRecord, TeamRecord
from jupyterhub_collab.storage.contests import ContestStore, StaleError

from .contest_samples import AT, LATER, put


async def test_nobody_registers_for_a_frozen_contest(registry: ContestStore) -> None:
    contest = await put(registry)

    async def register(team: str) -> TeamRecord:
        member = MemberRecord(team, f"captain-of-{team}", AT, is_captain=True)
        record = TeamRecord(team, "sea", tier="small")
        made, _ = await registry.register_team(record, [member], key=team, by="ada", at=AT)
        return made

    before = await register("fog")
    await registry.put_contest(
        replace(contest, is_frozen=True),
        (),
        {},
        expected_generation=contest.generation,
        by="host",
        at=LATER,
    )
    with pytest.raises(StaleError, match="frozen"):
        await register("ice")
    assert [team.id for team in await registry.teams("sea")] == ["fog"]
    assert (await register("fog")).id == before.id, "what was asked for twice is there"
