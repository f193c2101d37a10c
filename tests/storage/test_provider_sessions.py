"""Whose a provider's session is: known after a restart, gone when it is over."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from jupyterhub_collab.storage.provider_sessions import KEPT, PURGE_EVERY, ProviderSessions

NOW = datetime(2027, 1, 31, 12, 0, tzinfo=timezone.utc)
ISSUER = "https://login.example.org"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path}/db.sqlite")
    yield engine
    engine.dispose()


def make(engine: Engine, now: datetime = NOW) -> ProviderSessions:
    sessions = ProviderSessions(engine, now=lambda: now)
    sessions.create_tables()
    return sessions


async def test_a_session_is_known_until_it_ends(engine: Engine) -> None:
    one = make(engine)
    await one.begin(ISSUER, "s1", "ada")
    await one.begin(ISSUER, "s1", "ada")  # the same again
    await one.begin(ISSUER, "s2", "ada")
    one.close()
    two = make(engine)  # after a restart
    assert await two.name_of(ISSUER, "s1") == "ada"
    assert await two.name_of("https://other.example", "s1") is None
    assert await two.name_of(ISSUER, "s3") is None
    await two.end(ISSUER, "s1")
    assert await two.name_of(ISSUER, "s1") is None
    assert await two.has_any(ISSUER, "ada")
    await two.end_all(ISSUER, "ada")
    assert not await two.has_any(ISSUER, "ada")
    assert await two.name_of(ISSUER, "s2") is None
    two.close()


async def test_a_session_of_somebody_else_now_is_theirs(engine: Engine) -> None:
    sessions = make(engine)
    await sessions.begin(ISSUER, "s1", "ada")
    await sessions.begin(ISSUER, "s1", "bob")
    assert await sessions.name_of(ISSUER, "s1") == "bob"
    sessions.close()


async def test_old_ones_go_and_no_id_is_kept(engine: Engine) -> None:
    sessions = make(engine)
    await sessions.begin(ISSUER, "the-session-itself", "ada")
    sessions.close()
    later = make(engine, NOW + KEPT + PURGE_EVERY + timedelta(seconds=1))
    assert await later.name_of(ISSUER, "the-session-itself") == "ada"
    await later.begin(ISSUER, "s2", "bob")
    assert await later.name_of(ISSUER, "the-session-itself") is None
    later.close()
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM collab_provider_sessions")).all()
    assert len(rows) == 1
    assert "s2" not in str(rows)


async def test_odd_ids_are_kept_like_others(engine: Engine) -> None:
    sessions = make(engine)
    for odd in ("\x00", "\ud800", "é" * 5000):
        await sessions.begin(ISSUER, odd, "ada")
        assert await sessions.name_of(ISSUER, odd) == "ada"
    sessions.close()
