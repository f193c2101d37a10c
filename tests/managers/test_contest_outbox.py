"""What the audit log is told of transitions: each, and whatever stands in it."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest

from jupyterhub_collab.auditapi import Emitter
from jupyterhub_collab.auditapi.spool import Spool
from jupyterhub_collab.managers.contest_outbox import TransitionOutbox, to_event
from jupyterhub_collab.models.contest_life import (
    ContestRecord,
    ContestState,
    TeamRecord,
    Transition,
)
from jupyterhub_collab.storage.contests import PastTransition
from tests.managers.contest_world import World, manifest, no_sleep
from tests.real_hub import find_free_port

AT = datetime(2027, 3, 1, 12, tzinfo=timezone.utc)


async def test_each_transition_is_told_once_with_who_did_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    sea = ContestRecord("sea", manifest(), state=ContestState.RUNNING, round=1)
    await world.put(sea, [TeamRecord(f"t{i}", "sea", tier="small") for i in range(250)])
    outbox = TransitionOutbox(world.store, world.recorder, sleep=no_sleep)
    assert [await outbox.tell_some() for _ in range(3)] == [200, 51, 0]
    told = [e.details["transition"] for e in world.recorder.events]
    assert told == [past.number for past in await world.store.transitions("sea", limit=1000)]
    first = world.recorder.events[0]
    assert (first.contest, first.team, first.reason) == ("sea", None, "transition")
    assert (first.details["before"], first.details["after"]) == ("", "running")
    assert first.actor is not None
    assert (first.actor.name, first.time) == ("hanna", world.now)
    world.close()


async def test_what_was_told_and_not_noted_is_told_again_under_its_number(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.put(ContestRecord("sea", manifest()))

    class Dying:
        """The store of a process that ends before it notes what it told."""

        untold = staticmethod(world.store.untold)

        async def mark_told(self, numbers: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await TransitionOutbox(Dying(), world.recorder).tell_some()  # type: ignore[arg-type]
    outbox = TransitionOutbox(world.store, world.recorder)
    assert await outbox.tell_some() == 1
    one, again = world.recorder.events
    assert one == again
    world.close()


async def test_what_the_spool_does_not_take_stays_in_the_outbox(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    await world.put(
        ContestRecord("sea", manifest()), [TeamRecord(f"t{i}", "sea", tier="small") for i in "ab"]
    )
    url = f"http://127.0.0.1:{find_free_port()}"
    spool = Spool(tmp_path / "spool", spool_bytes=1)  # one goes in, whatever its size
    async with Emitter(
        tmp_path / "spool", url, "token", now=lambda: AT, spool=spool, flush_s=0
    ) as emitter:
        outbox = TransitionOutbox(world.store, emitter)
        assert [await outbox.tell_some() for _ in range(3)] == [1, 0, 0]
        assert emitter.spool.is_in_trouble
        assert emitter.spool.last == 1
    left = [past.transition.team for past in await world.store.untold(limit=10)]
    assert left == ["ta", "tb"]
    world.close()


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "line\nline", "x" * 5000, "\x7f\x1b[31m"])
def test_what_people_typed_keeps_no_event_back(text: str) -> None:
    changed = Transition("sea", "ocean", "active", "frozen", text)
    event = to_event(PastTransition(7, AT, text, 3, changed))
    kept = json.loads(event.model_dump_json(exclude_none=True))
    assert kept["details"]["transition"] == 7
    assert len(kept["actor"]["note"]) <= 1024
