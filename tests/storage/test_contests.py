"""The team registry in SQL: what a host's manifest makes of it, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from jupyterhub_collab.errors import PermanentError
from jupyterhub_collab.models import (
    Gate,
    Invitation,
    NamedIdentity,
    Retention,
    TeamEntry,
    TierOverrides,
)
from jupyterhub_collab.models.contest_life import (
    Archive,
    ContestRecord,
    ContestState,
    MemberRecord,
    Notice,
    TeamRecord,
    TeamState,
    Transition,
)
from jupyterhub_collab.policy.contest_projection import to_acceptance
from jupyterhub_collab.storage.contests import (
    AlreadyInError,
    ContestStore,
    PastTransition,
    StaleError,
    TakenError,
)
from jupyterhub_collab.storage.database import DatabaseError
from tests.storage.contest_samples import (
    AT,
    HOSTILE,
    LATER,
    change,
    manifest,
    put,
    register,
    with_agreement,
)

ADA = NamedIdentity(issuer="institute", subject="4711")
BOB = Invitation(issuer="portal", email="Bob@Example.org")


async def test_what_was_written_is_read(registry: ContestStore) -> None:
    assert await registry.contests() == ()
    assert await registry.contest("sea") is None
    made = await put(registry, teams=["river", "ocean"], members={"ocean": ("grace", "ada")})
    assert made == ContestRecord("sea", manifest(), ContestState.REGISTRATION)
    assert list(made.manifest.images) == ["b", "a"]
    assert await registry.contest("sea") == made
    assert await registry.contests() == (made,)
    assert await registry.team("ocean") == TeamRecord("ocean", "sea", tier="small")
    assert await registry.team("lake") is None
    assert await registry.teams("lake") == ()
    rosters = await registry.members(["ocean", "river", "lake"])
    assert [(m.entry, m.joined_at) for m in rosters["ocean"]] == [("grace", AT), ("ada", AT)]
    assert rosters["river"] == rosters["lake"] == ()


async def test_every_field_comes_back(registry: ContestStore) -> None:
    team = TeamRecord(
        "ocean",
        "sea",
        state=TeamState.FROZEN,
        state_before=TeamState.ACTIVE,
        title=HOSTILE,
        tier="small",
        overrides=TierOverrides(cpu_millicores=1500, memory_bytes=1 << 30),
        datasets=("maps", "tides"),
        gate=Gate.FROZEN,
        retention=Retention.DESTROY,
        captain=HOSTILE,
        round=2,
    )
    contest = ContestRecord(
        "sea",
        manifest(teams={"ocean": {"tier": "small"}}),
        ContestState.JUDGING,
        round=2,
        is_frozen=True,
        ranking=("river", "ocean"),
    )
    people = (ADA, BOB, "grace")
    found = await registry.put_contest(
        contest, [team], {"ocean": people}, expected_generation=None, by=HOSTILE, at=AT
    )
    # Teams are rows of their own, so the manifest does not say them again.
    assert contest.manifest.teams == {"ocean": TeamEntry(tier="small")}
    assert found == replace(contest, manifest=manifest())
    assert await registry.team("ocean") == team
    folded = Invitation(issuer="portal", email="bob@example.org")
    assert [m.entry for m in (await registry.members(["ocean"]))["ocean"]] == [ADA, folded, "grace"]
    for entry in (ADA, BOB, folded, "grace"):
        assert list(await registry.teams_of(entry)) == ["ocean"]
    assert await registry.teams_of("institute") == ()
    past = await registry.transitions("sea")
    assert [(p.at, p.by, p.transition) for p in past] == [
        (AT, HOSTILE, Transition("sea", "", "", "judging")),
        (AT, HOSTILE, Transition("sea", "ocean", "", "frozen")),
    ]


async def test_teams_by_page_and_state(registry: ContestStore) -> None:
    # Byte order, as in SQLite: a hyphen before a digit before a letter.
    ids = ["a", "a-b", "a1", "aa", "b"]
    await put(registry, teams=reversed(ids))
    await put(registry, "lake", teams=["a0"], team_state=TeamState.ACTIVE)
    pages, after = [], ""
    while page := await registry.teams("sea", after=after, limit=2):
        pages += [t.id for t in page]
        after = page[-1].id
    assert pages == ids
    ocean = await registry.contest("sea")
    assert ocean is not None
    await change(registry, ocean, [TeamRecord("aa", "sea", TeamState.ACTIVE, tier="small")])
    active = await registry.teams("sea", states=iter([TeamState.ACTIVE, TeamState.FROZEN]))
    assert [t.id for t in active] == ["aa"]
    assert await registry.count_teams("sea") == {TeamState.ACTIVE: 1, TeamState.INVITED: 4}


async def test_a_manifest_that_is_the_same_changes_nothing(registry: ContestStore) -> None:
    made = await put(registry, teams=["ocean"], members={"ocean": ("ada", BOB)})
    ocean = await registry.team("ocean")
    assert ocean is not None
    again = await change(registry, made, [ocean], {"ocean": (BOB, "ada", "ada")})
    assert again == made
    assert await registry.team("ocean") == ocean
    assert len(await registry.transitions("sea")) == 2


async def test_only_what_differs_is_raised(registry: ContestStore) -> None:
    made = await put(registry, teams=["ocean", "river", "lake"], members={"lake": ("ada",)})
    teams = {t.id: t for t in await registry.teams("sea")}
    other = replace(teams["ocean"], title="Ocean", overrides=TierOverrides(pod_count=2))
    after = await change(registry, made, [other, teams["river"]], {"lake": ("ada", "bob")})
    found = {t.id: t for t in await registry.teams("sea")}
    assert found["ocean"] == replace(other, generation=2)
    assert found["river"] == teams["river"]
    assert found["lake"] == replace(teams["lake"], generation=2)
    assert after.generation == 2  # so nothing that was planned before is written any more
    joined = (await registry.members(["lake"]))["lake"]
    assert [(m.entry, m.joined_at) for m in joined] == [("ada", AT), ("bob", LATER)]


async def test_who_leaves_one_team_may_be_in_another(registry: ContestStore) -> None:
    made = await put(registry, teams=["lake", "ocean"], members={"ocean": ("ada", "bob")})
    after = await change(registry, made, rosters={"lake": ("ada",), "ocean": ("bob",)})
    assert list(await registry.teams_of("ada")) == ["lake"]
    with pytest.raises(AlreadyInError, match="bob"):
        await change(registry, after, rosters={"lake": ("ada", "bob")})
    assert [m.entry for m in (await registry.members(["lake"]))["lake"]] == ["ada"]
    await put(registry, "land", teams=["hill"], members={"hill": ("ada", "bob")})
    assert list(await registry.teams_of("ada")) == ["hill", "lake"]


async def test_a_contest_that_changed_meanwhile(registry: ContestStore) -> None:
    made = await put(registry)
    with pytest.raises(StaleError, match="already"):
        await put(registry)
    await change(registry, replace(made, round=1))
    with pytest.raises(StaleError, match="meanwhile"):
        await change(registry, replace(made, round=2))
    with pytest.raises(StaleError, match="no contest"):
        await change(registry, replace(made, id="land"))
    found = await registry.contest("sea")
    assert found is not None
    assert (found.round, found.generation) == (1, 2)


async def test_a_team_that_changed_meanwhile(registry: ContestStore) -> None:
    made = await put(registry, teams=["ocean", "river"])
    ocean = await registry.team("ocean")
    assert ocean is not None
    await registry.update_team("ocean", {"gate": Gate.CLOSED})
    with pytest.raises(StaleError, match="ocean"):
        await change(
            registry,
            replace(made, round=1),
            [TeamRecord("hill", "sea", tier="small"), replace(ocean, title="Ocean")],
            {"river": ("ada",)},
        )
    # Nothing of it was written.
    assert await registry.contest("sea") == made
    assert await registry.team("hill") is None
    assert await registry.teams_of("ada") == ()


async def test_ids_are_for_good_and_over_all_contests(registry: ContestStore) -> None:
    sea = await put(registry, teams=["ocean"])
    land = await put(registry, "land", teams=["hill"])
    with pytest.raises(TakenError, match="ocean"):
        await change(registry, land, [TeamRecord("ocean", "land", tier="small")])
    with pytest.raises(TakenError, match="ocean"):
        await change(registry, land, rosters={"ocean": ("ada",)})
    with pytest.raises(TakenError, match="hill"):
        await register(registry, "hill", "ada")
    gone = TeamRecord("ocean", "sea", TeamState.DESTROYED, tier="small")
    after = await change(registry, sea, [gone])
    for attempt in (
        change(registry, after, [replace(gone, state=TeamState.INVITED, generation=2)]),
        change(registry, after, rosters={"ocean": ("ada",)}),
        register(registry, "ocean", "ada"),
        put(registry, "lake", teams=["ocean"]),
    ):
        with pytest.raises(TakenError, match="never used again"):
            await attempt
    assert await registry.contest("lake") is None
    # A manifest may go on to list it as it is.
    destroyed = await registry.team("ocean")
    assert destroyed is not None
    assert await change(registry, after, [destroyed], {"ocean": ()}) == after


async def test_a_roster_of_no_team(registry: ContestStore) -> None:
    made = await put(registry)
    with pytest.raises(StaleError, match="no team hill"):
        await change(registry, replace(made, round=1), rosters={"hill": ("ada",)})
    assert await registry.contest("sea") == made


async def test_what_the_hub_is_behind(registry: ContestStore) -> None:
    made = await put(registry, teams=["ocean", "river"])
    contests, teams = await registry.unprojected(limit=10)
    assert [c.id for c in contests] == ["sea"]
    assert [t.id for t in teams] == ["ocean", "river"]
    assert [t.id for t in (await registry.unprojected(limit=1))[1]] == ["ocean"]
    assert await registry.behind() == {"ocean": False, "river": False}
    await registry.mark_projected()
    await registry.mark_projected(contests={"sea": 1}, teams={"ocean": 1, "nowhere": 1})
    contests, teams = await registry.unprojected(limit=10)
    assert (contests, [t.id for t in teams]) == ((), ["river"])
    await registry.mark_projected(teams={"river": 1})
    assert await registry.behind() == {}
    # Changed while it was written.
    ocean = await registry.update_team("ocean", {"gate": Gate.CLOSED})
    await registry.update_team("ocean", {"gate": Gate.OPEN}, expected_generation=2)
    await registry.mark_projected(teams={"ocean": ocean.generation})
    assert await registry.behind() == {"ocean": True}
    rows = await registry.teams_by_id(["river", HOSTILE, "ocean"])
    assert {id_: row.generation for id_, row in rows.items()} == {"ocean": 3, "river": 1}
    assert await registry.teams_by_id([]) == {}
    assert [t.id for t in (await registry.unprojected(limit=10))[1]] == ["ocean"]
    await put(registry, "land", teams=["hill"])
    await registry.mark_projected(contests={"land": 1})
    await registry.mark_projected(teams={"hill": 1})
    await registry.mark_projected(teams={"ocean": 3})
    assert await registry.unprojected(limit=10) == ((), ())
    await registry.forget_projection("sea")
    contests, teams = await registry.unprojected(limit=10)
    assert ([c.id for c in contests], [t.id for t in teams]) == (["sea"], ["ocean", "river"])
    await registry.forget_projection()
    contests, teams = await registry.unprojected(limit=10)
    assert [c.id for c in contests] == ["land", "sea"]
    assert [t.id for t in teams] == ["hill", "ocean", "river"]
    assert made.generation == 1


async def test_a_contest_s_group_is_written_for_what_it_shows(registry: ContestStore) -> None:
    made = await put(registry, teams=["ocean"])
    await registry.mark_projected(contests={"sea": 1})
    ranked = await change(registry, replace(made, ranking=("ocean",), projected=1))
    assert (ranked.generation, ranked.projected) == (2, 2)
    ocean = await registry.team("ocean")
    assert ocean is not None
    titled = await change(registry, ranked, [replace(ocean, title="Ocean")])
    assert (titled.generation, titled.projected) == (3, 3)
    frozen = await change(registry, replace(titled, is_frozen=True))
    assert (frozen.generation, frozen.projected) == (4, 3)
    # What it does not say yet it does not say by another change either.
    again = await change(registry, replace(frozen, ranking=()))
    assert (again.generation, again.projected) == (5, 3)


@pytest.mark.parametrize("entry", ["ada", ADA, BOB])
async def test_an_agreement_is_accepted_once(registry: ContestStore, entry: object) -> None:
    made = await put(registry, teams=["ocean", "river"], members={"ocean": (entry,)})
    who = to_acceptance(entry)
    await registry.accept_agreement("sea", HOSTILE, who, at=AT, entry=entry)
    await registry.accept_agreement("sea", HOSTILE, who, at=LATER, entry=entry)
    await registry.accept_agreement("sea", HOSTILE, "stranger", at=LATER, entry="stranger")
    assert await registry.acceptances("sea", HOSTILE) == {who: AT, "stranger": LATER}
    some = await registry.acceptances("sea", HOSTILE, users=[who, "nobody"])
    assert some == {who: AT}
    assert await registry.acceptances("sea", HOSTILE, users=[]) == {}
    assert await registry.acceptances("sea", "2") == {}
    assert await registry.acceptances("land", HOSTILE) == {}
    found = {t.id: t.generation for t in await registry.teams("sea")}
    assert found == {"ocean": 2, "river": 1}  # its roster in the hub is another now
    assert await registry.contest("sea") == made


async def test_another_agreement_is_another_roster_everywhere(registry: ContestStore) -> None:
    made = await put(registry, teams=["ocean", "river"])
    after = await change(registry, replace(made, manifest=with_agreement("1")))
    assert [t.generation for t in await registry.teams("sea")] == [2, 2]
    after = await change(registry, replace(after, round=1))
    assert [t.generation for t in await registry.teams("sea")] == [2, 2]
    await change(registry, replace(after, manifest=with_agreement("2")))
    assert [t.generation for t in await registry.teams("sea")] == [3, 3]


async def test_notices(registry: ContestStore) -> None:
    await put(registry, teams=["ocean", "river"])
    await put(registry, "land", teams=["hill"])
    to_all = Notice("sea", "", "The round closes", AT, key="closes")
    to_ocean = Notice("sea", "ocean", HOSTILE, LATER, until=LATER + timedelta(hours=1), key="out")
    to_land = Notice("land", "", "Hello", AT)
    for notice in (to_all, to_ocean, to_land):
        assert await registry.put_notice(notice)
    assert not await registry.put_notice(replace(to_all, text="again"))
    assert await registry.put_notice(replace(to_all, team="river"))  # to another is another
    assert await registry.put_notice(to_land)  # without a key each is one

    async def shown(now: datetime, **who: object) -> list[Notice]:
        return list(await registry.notices(now=now, **who))

    assert await shown(AT, teams=["ocean"]) == [to_all]
    assert await shown(LATER, teams=["ocean"]) == [to_ocean, to_all]
    assert await shown(LATER, contest="sea") == [to_ocean, replace(to_all, team="river"), to_all]
    assert await shown(LATER + timedelta(hours=1), teams=["ocean"]) == [to_all]
    assert await shown(AT, teams=["hill", "ocean"]) == [to_land, to_land, to_all]
    assert await shown(AT - timedelta(microseconds=1), contest="sea") == []
    assert await shown(LATER) == []

    left = await registry.undelivered(limit=2)
    assert [notice for _, notice in left] == [to_all, to_ocean]
    after = await registry.undelivered(after=left[0][0], limit=10)
    assert next(n for _, n in after) == to_ocean


async def test_archives(registry: ContestStore) -> None:
    await put(registry, teams=["ocean"])
    first = Archive("sea", "ocean", HOSTILE, "s3", HOSTILE, 1 << 40, "a" * 64, AT)
    second = replace(first, key="k2", sha256="b" * 64, keep_until=LATER)
    other = replace(first, volume="home", team="river")
    for archive in (first, other, second):
        await registry.put_archive(archive)
    assert await registry.archives("sea") == (second, other)
    assert await registry.archives("sea", team="river") == (other,)
    assert await registry.archives("land") == ()


async def test_the_first_certificate_stays(registry: ContestStore) -> None:
    assert await registry.certificate("sea") is None
    await registry.put_certificate("sea", HOSTILE, at=AT)
    await registry.put_certificate("sea", "another", at=LATER)
    assert await registry.certificate("sea") == HOSTILE


async def test_questions_with_hostile_words(registry: ContestStore) -> None:
    """What stands in an address is asked for as it is."""
    assert await registry.contest(HOSTILE) is None
    assert await registry.team(HOSTILE) is None
    assert await registry.teams(HOSTILE, after=HOSTILE) == ()
    assert await registry.teams_of(HOSTILE) == ()
    assert await registry.invitations(HOSTILE) == ()
    assert not await registry.withdraw_invitation(HOSTILE, HOSTILE)
    assert await registry.operation_of(HOSTILE, HOSTILE) is None
    assert await registry.courses(HOSTILE) == {}
    assert await registry.course(HOSTILE, HOSTILE) is None
    assert await registry.notices(contest=HOSTILE, teams=[HOSTILE], now=AT) == ()
    assert await registry.archives(HOSTILE, team=HOSTILE) == ()


async def test_transitions_are_read_on(registry: ContestStore) -> None:
    await put(registry, teams=["ocean", "river"])
    await put(registry, "land", teams=["hill"])
    first = await registry.transitions("sea", limit=2)
    rest = await registry.transitions("sea", after=first[-1].number)
    assert [p.transition.team for p in (*first, *rest)] == ["", "ocean", "river"]
    numbers = [p.number for p in (*first, *rest, *await registry.transitions("land"))]
    assert numbers == sorted(numbers)
    assert await registry.newest_transitions("sea", limit=2) == (rest[0], first[1])
    assert await registry.newest_transitions("sea", team="ocean") == (first[1],)
    assert isinstance(rest[0], PastTransition)


async def test_a_moment_without_a_zone_is_refused(registry: ContestStore) -> None:
    with pytest.raises(ValueError, match="time zone"):
        await registry.put_certificate("sea", "text", at=AT.replace(tzinfo=None))
    assert await registry.certificate("sea") is None


async def test_values_that_nobody_may_set(registry: ContestStore) -> None:
    await put(registry, teams=["ocean"])
    for values in ({"contest": "land"}, {"generation": 7}, {"state": TeamState.ACTIVE}, {"x": 1}):
        with pytest.raises(ValueError, match=next(iter(values))):
            await registry.update_team("ocean", values)


async def test_a_manifest_of_another_version(registry: ContestStore, engine: Engine) -> None:
    await put(registry)
    with engine.begin() as connection:
        connection.execute(text('UPDATE contest_contests SET manifest = \'{"kind": "x"}\''))
    with pytest.raises(PermanentError, match="row of the contest sea"):
        await registry.contest("sea")


async def test_a_database_that_is_not_there(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/no/such/folder/x.sqlite")
    store = ContestStore(engine)
    with pytest.raises(DatabaseError):
        store.upgrade()
    with pytest.raises(DatabaseError):
        await store.contests()
    with pytest.raises(DatabaseError):
        await put(store)
    store.close()
    engine.dispose()


async def test_two_make_the_same_contest(stores: list[ContestStore]) -> None:
    done = await asyncio.gather(
        *(put(store, teams=[f"t{i}"]) for i, store in enumerate(stores)), return_exceptions=True
    )
    assert [type(e) for e in done if isinstance(e, BaseException)] == [StaleError] * 3
    assert len(await stores[0].teams("sea")) == 1


async def test_two_apply_at_once(stores: list[ContestStore]) -> None:
    made = await put(stores[0], teams=[f"t{i}" for i in range(4)])
    done = await asyncio.gather(
        *(
            change(store, replace(made, round=i + 1), rosters={f"t{i}": ("ada",)})
            for i, store in enumerate(stores)
        ),
        return_exceptions=True,
    )
    won = [r for r in done if isinstance(r, ContestRecord)]
    assert len(won) == 1
    assert {type(e) for e in done if isinstance(e, BaseException)} == {StaleError}
    assert await stores[0].contest("sea") == won[0]
    assert list(await stores[0].teams_of("ada")) == [f"t{won[0].round - 1}"]


async def test_members_of_thousands(registry: ContestStore) -> None:
    """More than one statement takes."""
    ids = [f"t{i}" for i in range(1200)]
    made = await put(registry, teams=ids, members={team: (f"of-{team}",) for team in ids})
    found = await registry.members(ids)
    assert found["t1199"] == (MemberRecord("t1199", "of-t1199", AT),)
    assert len(found) == 1200
    other = [replace(t, title="x") for t in await registry.teams("sea")]
    await change(registry, made, other)
    assert {t.generation for t in await registry.teams("sea")} == {2}


async def test_what_concerns_all_of_a_contest_may_take_longer(
    registry: ContestStore, engine: Engine
) -> None:
    impatient = ContestStore(engine, timeout_s=0)
    made = await put(impatient, teams=["ocean"])
    with pytest.raises(DatabaseError, match="no answer in 0 s"):
        await impatient.contest("sea")
    assert await registry.contest("sea") == made
    impatient.close()
