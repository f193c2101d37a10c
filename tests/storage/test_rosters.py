"""Which rosters the hub was brought after: on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from jupyterhub_collab.storage.rosters import Rosters


@pytest.fixture
def rosters(engine: Engine) -> Iterator[Rosters]:
    made = Rosters(engine)
    made.create_tables()
    yield made
    made.close()


async def test_the_last_word_counts(rosters: Rosters) -> None:
    assert await rosters.read() == {}
    await rosters.write({"ocean": "1", "reef": "1"})
    await rosters.write({"ocean": "2"})
    await rosters.write({})
    assert await rosters.read() == {"ocean": "2", "reef": "1"}
    await rosters.forget(["ocean", "none"])
    assert await rosters.read() == {"reef": "1"}


async def test_many(rosters: Rosters) -> None:
    everything = {f"team-{i}": str(i) for i in range(1200)}
    await rosters.write(everything)
    assert await rosters.read() == everything
    await rosters.forget(everything)
    assert await rosters.read() == {}


async def test_the_same_at_once(rosters: Rosters) -> None:
    await asyncio.gather(*(rosters.write({"ocean": "1"}) for _ in range(20)))
    assert await rosters.read() == {"ocean": "1"}
