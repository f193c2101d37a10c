"""What one transaction does while another is in its middle, on PostgreSQL.

SQLite has one writer at a time, so there is no middle there: `test_contests_teams` shows that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import Engine, create_engine, event, text

from jupyterhub_collab.models.contest_life import OperationState, TeamRecord, TeamState
from jupyterhub_collab.storage import contest_transactions
from jupyterhub_collab.storage.contest_lease import Held, LeaseStore
from jupyterhub_collab.storage.contests import (
    ContestStore,
    InvitationError,
    NotHolderError,
    StaleError,
)
from jupyterhub_collab.storage.database import DatabaseError
from tests.storage.contest_samples import (
    AT,
    LATER,
    change,
    course,
    invitation,
    join,
    manifest,
    operation,
    plan,
    put,
    register,
    rules,
    take,
)

pytestmark = pytest.mark.parametrize("url", ["postgresql"], indirect=True)
WAITING = text("SELECT count(*) FROM pg_locks WHERE NOT granted")


class Between:
    """Does something else, once, before a certain statement of the registry's.

    Attributes
    ----------
    has_waited
        Whether that had to wait for a lock; then the registry goes on first.
    is_stopped
        The registry goes on only once the other is done, as where its process was stopped.
    """

    is_stopped = False

    def __init__(self, url: str, engine: Engine) -> None:
        self._url, self._engine = url, engine
        self._pool = ThreadPoolExecutor(1)
        self.has_waited: bool | None = None
        self._other: Future[object] | None = None

    async def run(
        self,
        first: Awaitable[object],
        statement: str,
        other: Callable[[ContestStore], Awaitable[object]],
    ) -> tuple[object, object]:
        """What both came to. The statement may be COMMIT."""
        is_commit = statement == "COMMIT"

        def interrupt(_c: object, _cursor: object = None, sql: str = "", *_more: object) -> None:
            if (is_commit or sql.startswith(statement)) and self._other is None:
                self._other = self._pool.submit(asyncio.run, self._do(other))
                self.has_waited = self._wait()

        at = "commit" if is_commit else "before_cursor_execute"
        event.listen(self._engine, at, interrupt)
        try:
            (result,) = await asyncio.gather(first, return_exceptions=True)
        finally:
            event.remove(self._engine, at, interrupt)
        assert self._other is not None, "the statement did not come"
        return result, await asyncio.wrap_future(self._other)

    async def _do(self, other: Callable[[ContestStore], Awaitable[object]]) -> object:
        engine = create_engine(self._url)
        store = ContestStore(engine)
        try:
            return await other(store)
        except (InvitationError, StaleError) as e:
            return e
        finally:
            store.close()
            engine.dispose()

    def _wait(self) -> bool:
        """Until the other is done, or waits for a lock. Whether it waits."""
        if self.is_stopped:
            assert self._other is not None
            self._other.exception(60)
            return True
        engine = create_engine(self._url)
        try:
            with engine.connect() as connection:
                while self._other is not None and not self._other.done():
                    if connection.execute(WAITING).scalar_one():
                        return True
            return False
        finally:
            engine.dispose()

    def close(self) -> None:
        self._pool.shutdown()


@pytest.fixture
def between(url: str, engine: Engine) -> Iterator[Between]:
    made = Between(url, engine)
    yield made
    made.close()


async def test_declined_while_it_is_approved(registry: ContestStore, between: Between) -> None:
    await put(registry, teams=["ocean"])
    kept = await registry.propose(operation())
    approved = replace(kept, state=OperationState.RUNNING, approved_by="second")
    result, _ = await between.run(
        registry.commit(plan(1, course("ocean")), approved, at=AT),
        "UPDATE contest_operations",
        lambda store: store.end_operation(kept.number, OperationState.DECLINED, at=AT),
    )
    assert isinstance(result, StaleError)
    assert not between.has_waited
    found = await registry.operation(kept.number)
    assert found is not None
    assert found.state is OperationState.DECLINED
    assert await registry.courses("sea") == {}


async def test_leaving_while_made_captain(registry: ContestStore, between: Between) -> None:
    await put(registry)
    await register(registry, "ocean", "ada", "bob")
    _, left = await between.run(
        registry.update_team("ocean", {"captain": "bob"}, captain_entry="bob"),
        "UPDATE contest_teams",
        lambda store: store.remove_member("ocean", "bob"),
    )
    assert between.has_waited
    assert isinstance(left, StaleError)
    assert [m.entry for m in (await registry.members(["ocean"]))["ocean"]] == ["ada", "bob"]


async def test_joining_while_the_agreement_is_accepted(
    registry: ContestStore, between: Between
) -> None:
    """Else the hub's group could be written after the join, and before anybody knew of the rest."""
    await put(registry, teams=["ocean"])
    await between.run(
        registry.accept_agreement("sea", "1", "ada", at=AT, entry="ada"),
        "SELECT contest_members",
        lambda store: store.add_member(join("ocean", "ada")),
    )
    assert between.has_waited


async def test_a_step_while_an_action_is_written(registry: ContestStore, between: Between) -> None:
    await put(registry, teams=["ocean"], team_state=TeamState.ACTIVE)
    await registry.commit(plan(1, course("ocean")), operation("k1"), at=AT)
    now = await registry.course("sea", "ocean")
    assert now is not None
    result, went_on = await between.run(
        registry.commit(plan(2, course("ocean")), operation("k2"), at=AT),
        "DELETE FROM contest_courses",
        lambda store: store.step_done(now, due_at=LATER, at=AT, team_values={"round": 2}),
    )
    assert not isinstance(result, BaseException)
    assert between.has_waited
    assert went_on is False
    after = await registry.course("sea", "ocean")
    assert after is not None
    assert after.step == 0
    ocean = await registry.team("ocean")
    assert ocean is not None
    assert ocean.round == 0


async def test_a_manifest_while_a_step_is_done(registry: ContestStore, between: Between) -> None:
    """What the step wrote is not written over by what was read before it."""
    made = await put(registry, teams=["ocean"])
    await registry.commit(plan(1, course("ocean")), operation(), at=AT)
    now, ocean = await registry.course("sea", "ocean"), await registry.team("ocean")
    assert now is not None
    assert ocean is not None
    _, applied = await between.run(
        registry.step_done(now, due_at=LATER, at=AT, team_values={"round": 2}),
        "UPDATE contest_teams",
        lambda store: store.put_contest(
            made, [replace(ocean, title="x")], {}, expected_generation=2, by="host", at=AT
        ),
    )
    assert between.has_waited
    assert isinstance(applied, StaleError)
    after = await registry.team("ocean")
    assert after is not None
    assert (after.round, after.title) == (2, None)


async def test_joining_while_a_contest_is_being_frozen(
    registry: ContestStore, between: Between
) -> None:
    """Who was let in by a look before the freeze is not in after it."""
    made = await put(registry, teams=["ocean"])
    _, joined = await between.run(
        registry.put_contest(
            replace(made, is_frozen=True), [], {}, expected_generation=1, by="host", at=AT
        ),
        "UPDATE contest_contests",
        lambda store: store.add_member(join("ocean", "ada")),
    )
    assert between.has_waited
    assert isinstance(joined, StaleError)
    assert (await registry.members(["ocean"]))["ocean"] == ()


async def test_merging_while_the_invitation_is_used(
    registry: ContestStore, between: Between
) -> None:
    await put(registry)
    for team in ("ocean", "river"):
        await register(registry, team, team)
    await registry.put_invitation(invitation(1))
    _, merged = await between.run(
        take(registry, 1, "ada"),
        "UPDATE contest_invitations",
        lambda store: store.merge_teams(
            "river", "ocean", token_sha256=f"{1:064x}", by="river", at=AT
        ),
    )
    assert between.has_waited
    assert isinstance(merged, InvitationError)
    river = await registry.team("river")
    assert river is not None
    assert river.state is TeamState.INVITED


async def waits(engine: Engine, count: int) -> None:
    """Until so many wait for a lock."""
    with engine.connect() as connection:
        for _ in range(100_000):
            if connection.execute(WAITING).scalar_one() >= count:
                return
            await asyncio.sleep(0)
    raise AssertionError("they never did")


Write = Callable[[ContestStore], Awaitable[object]]
BULK: dict[str, Write] = {
    "all forgotten": lambda store: store.forget_projection(),
    "a contest forgotten": lambda store: store.forget_projection("sea"),
    "an agreement": lambda store: change_registration(
        store, {"agreement": {"version": "2", "text": "Be kind."}}
    ),
    "no registration": lambda store: change_registration(store, None),
}


async def change_registration(store: ContestStore, more: dict[str, object] | None) -> None:
    """With a new title of one team."""
    sea, z = await store.contest("sea"), await store.team("z")
    assert sea is not None
    assert z is not None
    registration = None if more is None else rules(**more)
    changed = replace(sea, manifest=manifest(registration=registration))
    await change(store, changed, [replace(z, title="Z")])


@pytest.mark.parametrize("how", BULK)
async def test_groups_are_noted_while_all_teams_change(
    registry: ContestStore, stores: list[ContestStore], engine: Engine, how: str
) -> None:
    """One has the first row, another the last, and each wants the other's: nobody may wait so."""
    sea = await put(registry)
    for team in ("z", "m", "a"):  # as they lie in the table
        sea = await change(registry, sea, [TeamRecord(team, "sea", tier="small")])
    with engine.begin() as holder:
        holder.execute(text("SELECT 1 FROM contest_teams WHERE id = 'm' FOR UPDATE"))
        noting = asyncio.create_task(
            stores[0].mark_projected(teams=dict.fromkeys(("a", "m", "z"), 1))
        )
        await waits(engine, 1)
        changing = asyncio.ensure_future(BULK[how](stores[1]))
        await waits(engine, 2)
    assert await asyncio.gather(noting, changing, return_exceptions=True) == [None, None]


async def take_lease(store: ContestStore, holder: str, seen: Held | None) -> Held | None:
    leases = LeaseStore(store._engine)
    try:
        return await leases.take(holder, seen, duration_s=8)
    finally:
        leases.close()


async def renew_lease(store: ContestStore, held: Held) -> Held | None:
    leases = LeaseStore(store._engine)
    try:
        return await leases.renew(held)
    finally:
        leases.close()


async def under_lease(registry: ContestStore) -> tuple[ContestStore, Held]:
    """A team, and the registry for the first who has the lease."""
    await put(registry, teams=["ocean"])
    held = await take_lease(registry, "a", None)
    assert held is not None
    return registry.fenced(lambda: held.term), held


async def title_of(registry: ContestStore) -> str:
    team = await registry.team("ocean")
    assert team is not None
    return team.title


async def test_the_lease_is_lost_in_the_middle(registry: ContestStore, between: Between) -> None:
    fenced, held = await under_lease(registry)
    before = await title_of(registry)
    result, taken = await between.run(
        fenced.update_team("ocean", {"title": "Late"}),
        "UPDATE contest_teams",
        lambda store: take_lease(store, "b", held),
    )
    assert not between.has_waited
    assert isinstance(taken, Held)
    assert isinstance(result, NotHolderError)
    assert await title_of(registry) == before


async def test_the_lease_is_taken_at_the_last_moment(
    registry: ContestStore, between: Between
) -> None:
    """After the fence has looked: who takes it begins once this is written, and sees it."""
    fenced, held = await under_lease(registry)

    async def take_and_look(store: ContestStore) -> tuple[Held | None, str]:
        return await take_lease(store, "b", held), await title_of(store)

    _, after = await between.run(
        fenced.update_team("ocean", {"title": "In time"}), "COMMIT", take_and_look
    )
    assert between.has_waited
    assert after == (replace(held, holder="b", term=held.term + 1, beat=0), "In time")


async def test_what_is_being_written_holds_up_no_sign_of_life(
    registry: ContestStore, between: Between
) -> None:
    fenced, held = await under_lease(registry)
    _, renewed = await between.run(
        fenced.update_team("ocean", {"title": "In time"}),
        "COMMIT",
        lambda store: renew_lease(store, held),
    )
    assert not between.has_waited
    assert isinstance(renewed, Held)
    assert await title_of(registry) == "In time"


async def test_who_is_stopped_at_the_last_moment_keeps_nobody_from_the_lease(
    registry: ContestStore, between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contest_transactions, "_IDLE_MS", 300)
    fenced, held = await under_lease(registry)
    before = await title_of(registry)
    between.is_stopped = True
    result, taken = await between.run(
        fenced.update_team("ocean", {"title": "Late"}),
        "COMMIT",
        lambda store: take_lease(store, "b", held),
    )
    assert isinstance(taken, Held)
    assert isinstance(result, DatabaseError)
    assert await title_of(registry) == before
