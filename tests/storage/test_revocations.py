"""Revocations: the latest counts, and rows do not grow for ever."""

from datetime import datetime, timedelta, timezone

import pytest

from jupyterhub_collab.models import Identity
from jupyterhub_collab.storage.revocations import KEPT, Revocations

NOW = datetime(2027, 3, 1, 12, tzinfo=timezone.utc)
ADA, BOB = Identity("portal", "ada"), Identity("portal", "bob")


@pytest.fixture
def revocations(engine):
    store = Revocations(engine)
    store.create_tables()
    store.create_tables()
    yield store
    store.close()


async def test_up_to_the_latest_moment(revocations):
    second = timedelta(seconds=1)
    assert not await revocations.is_revoked(ADA, NOW)
    await revocations.revoke([ADA], NOW)
    await revocations.revoke([ADA, BOB], NOW - 5 * second)  # comes late: the later one counts
    assert await revocations.is_revoked(ADA, NOW)
    assert not await revocations.is_revoked(ADA, NOW + second)
    assert await revocations.is_revoked(BOB, NOW - 5 * second)
    assert not await revocations.is_revoked(BOB, NOW)
    assert not await revocations.is_revoked(Identity("other", "ada"), NOW)


async def test_rows_go_after_a_day(revocations):
    await revocations.revoke([ADA], NOW)
    await revocations.revoke([BOB], NOW + KEPT)
    assert await revocations.is_revoked(ADA, NOW)
    await revocations.revoke([BOB], NOW + KEPT + timedelta(seconds=1))
    assert not await revocations.is_revoked(ADA, NOW)
