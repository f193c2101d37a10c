"""How teams come together in the registry: sizes, names, invitations, under concurrent callers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from jupyterhub_collab.models import Gate, Invitation, NamedIdentity
from jupyterhub_collab.models.contest_life import (
    ContestRecord,
    ContestState,
    MemberRecord,
    TeamRecord,
    TeamState,
    Transition,
)
from jupyterhub_collab.storage.contests import (
    AlreadyInError,
    ContestStore,
    FullError,
    InvitationError,
    StaleError,
    TakenError,
)
from tests.storage.contest_samples import (
    AT,
    HOSTILE,
    LATER,
    change,
    invitation,
    join,
    manifest,
    put,
    register,
    rules,
    take,
)

ADA = NamedIdentity(issuer="institute", subject="4711")


def errors(done: Iterable[object]) -> Counter[type]:
    """Kinds, and how often."""
    return Counter(type(e) for e in done if isinstance(e, BaseException))


async def people(registry: ContestStore, team: str) -> list[object]:
    return [m.entry for m in (await registry.members([team]))[team]]


async def resize(registry: ContestStore, **more: Any) -> None:
    """Apply a manifest with another registration."""
    contest = await registry.contest("sea")
    assert contest is not None
    await change(registry, replace(contest, manifest=manifest(registration=rules(**more))))


async def destroy(registry: ContestStore, team: str) -> None:
    """By a manifest, which is the shortest."""
    contest, found = await registry.contest("sea"), await registry.team(team)
    assert contest is not None
    assert found is not None
    gone = TeamRecord(**{**vars(found), "state": TeamState.DESTROYED})
    await change(registry, contest, [gone])


async def test_a_team_registers(registry: ContestStore) -> None:
    await put(registry)
    made = await register(registry, "ocean", "ada", "bob", key=HOSTILE)
    assert made == TeamRecord("ocean", "sea", tier="small", captain="ada")
    assert await registry.team("ocean") == made
    assert (await registry.members(["ocean"]))["ocean"] == (
        MemberRecord("ocean", "ada", AT, is_captain=True),
        MemberRecord("ocean", "bob", AT),
    )
    assert (await registry.newest_transitions("sea"))[0].transition == Transition(
        "sea", "ocean", "", "invited"
    )


async def test_registering_twice_is_once(registry: ContestStore) -> None:
    await put(registry)
    await put(registry, "land")
    made = await register(registry, "ocean", "ada", key="k")
    assert await register(registry, "river", "bob", key="k") == made
    assert await registry.team("river") is None
    other = await register(registry, "hill", "ada", contest="land", key="k")
    assert other.id == "hill"
    for team in ("a", "b"):  # no key is like no other
        assert (await register(registry, team, team)).id == team
    # Also when it is full by now, or over.
    await resize(registry, teamsMax=1, closes="2020-01-01T00:00")
    assert await register(registry, "ocean", "ada", key="k") == made


async def test_another_wish_with_a_used_key(registry: ContestStore) -> None:
    await put(registry)
    made = await register(registry, "ocean", "ada", key="k", wish="this")
    assert await register(registry, "ocean", "ada", key="k", wish="this") == made
    with pytest.raises(TakenError, match="ocean was registered, and otherwise"):
        await register(registry, "ocean", "ada", key="k", wish="that")
    assert (await register(registry, "k", "bob", key="k2", wish="that")).id == "k"


async def test_nobody_registers_before_or_after(registry: ContestStore) -> None:
    await put(registry, state=ContestState.DRAFT)
    with pytest.raises(StaleError, match="in state draft"):
        await register(registry, "ocean", "ada")
    await put(registry, "land", registration=rules(closes="2027-01-02T04:00"))
    await register(registry, "hill", "ada", contest="land", at=AT)
    with pytest.raises(StaleError, match="closed 2027-01-02T04:00"):
        await register(registry, "rock", "bob", contest="land", at=LATER)
    await put(registry, "air", registration=None)
    with pytest.raises(StaleError, match="its host lists them"):
        await register(registry, "wind", "ada", contest="air")
    await put(registry, "pool", registration=rules(teamSizeMax=2))
    with pytest.raises(FullError, match="at most 2"):
        await register(registry, "puddle", "a", "b", "c", contest="pool")
    assert await registry.teams("pool") == ()


async def test_of_a_registration_that_is_refused_nothing_stays(registry: ContestStore) -> None:
    await put(registry)
    await register(registry, "ocean", "ada")
    before = await registry.transitions("sea")
    with pytest.raises(AlreadyInError, match="ada"):
        await register(registry, "river", "bob", "ada", key="k")
    with pytest.raises(TakenError, match="ocean"):
        await register(registry, "ocean", "bob", key="k")
    await resize(registry, teamsMax=1)
    with pytest.raises(FullError, match="1 teams"):
        await register(registry, "river", "bob", key="k")
    await resize(registry)
    with pytest.raises(StaleError, match="no contest"):
        await register(registry, "river", "bob", contest="land")
    assert await registry.team("river") is None
    assert await registry.teams_of("bob") == ()
    assert await registry.transitions("sea") == before
    assert (await register(registry, "river", "bob", key="k")).id == "river"


async def test_destroyed_teams_take_no_place(registry: ContestStore) -> None:
    await put(registry, registration=rules(teamsMax=1))
    await register(registry, "ocean", "ada")
    await registry.put_invitation(invitation(1))
    await destroy(registry, "ocean")
    assert await registry.teams_of("ada") == ()
    await register(registry, "river", "ada")  # who is free again
    assert list(await registry.teams_of("ada")) == ["river"]
    assert await people(registry, "ocean") == ["ada"]  # for the record
    for attempt in (
        registry.add_member(join("ocean", "bob")),
        registry.remove_member("ocean", "ada"),
        registry.update_team("ocean", {"gate": Gate.OPEN}),
        registry.put_invitation(invitation(2)),
    ):
        with pytest.raises(StaleError, match="destroyed"):
            await attempt
    with pytest.raises(InvitationError):
        await take(registry, 1, "bob")


async def test_members_come_and_go(registry: ContestStore) -> None:
    await put(registry, registration=rules(teamSizeMax=2))
    await register(registry, "ocean", "ada")
    bob = Invitation(issuer="portal", email="Bob@Example.org")
    folded = Invitation(issuer="portal", email="bob@example.org")
    await registry.add_member(join("ocean", bob))
    await registry.add_member(join("ocean", folded))  # who is in it stays
    assert (await registry.members(["ocean"]))["ocean"][1] == MemberRecord("ocean", folded, LATER)
    assert [t.generation for t in await registry.teams("sea")] == [2]
    with pytest.raises(FullError, match="2 members"):
        await registry.add_member(join("ocean", "cora"))
    assert await registry.remove_member("ocean", folded)
    assert not await registry.remove_member("ocean", folded)
    assert [t.generation for t in await registry.teams("sea")] == [3]
    with pytest.raises(StaleError, match="no team"):
        await registry.add_member(join("lake", "cora"))


async def test_one_team_of_a_contest(registry: ContestStore) -> None:
    await put(registry, teams=["river"])
    await register(registry, "ocean", "ada", ADA)
    for who in ("ada", ADA):
        with pytest.raises(AlreadyInError):
            await registry.add_member(join("river", who))
    assert [t.generation for t in await registry.teams("sea")] == [1, 1]
    await put(registry, "land", teams=["hill"])
    await registry.add_member(join("hill", "ada"))
    assert list(await registry.teams_of("ada")) == ["hill", "ocean"]


async def test_a_host_lists_somebody_in_several_teams(registry: ContestStore) -> None:
    """Where teams do not register themselves: a lasting collaboration."""
    rosters = {"ocean": ("ada", "bob"), "river": ("ada", ADA)}
    made = await put(registry, teams=rosters, members=rosters, registration=None)
    assert list(await registry.teams_of("ada")) == ["ocean", "river"]
    await registry.add_member(join("ocean", ADA))
    await registry.accept_agreement("sea", "1", "ada", at=AT, entry="ada")
    assert [t.generation for t in await registry.teams("sea")] == [3, 2]
    # To open registration, each has to be in one.
    opened = replace(made, manifest=manifest())
    with pytest.raises(AlreadyInError, match="ada in ocean, ada in river"):
        await change(registry, opened)
    assert await registry.contest("sea") == made
    after = await change(registry, opened, rosters={"river": (), "ocean": ("ada", "bob")})
    with pytest.raises(AlreadyInError, match="bob"):
        await registry.add_member(join("river", "bob"))
    await change(registry, replace(after, manifest=made.manifest))
    await registry.add_member(join("river", "bob"))
    # Teams are one again only where they register themselves.
    with pytest.raises(StaleError, match="only while registration is open"):
        await registry.merge_teams("river", "ocean", by="host", at=LATER)


async def test_the_captain_stays_until_another_leads(registry: ContestStore) -> None:
    await put(registry)
    await register(registry, "ocean", "ada", "bob", ADA)
    with pytest.raises(StaleError, match="captain"):
        await registry.remove_member("ocean", "ada")
    await registry.update_team("ocean", {"captain": "bob"})
    assert await registry.remove_member("ocean", "ada")
    with pytest.raises(StaleError, match="captain"):
        await registry.remove_member("ocean", "bob")
    # Somebody whose hub user name does not stand in the roster.
    made = await registry.update_team("ocean", {"captain": "inst-ada"}, captain_entry=ADA)
    assert made.captain == "inst-ada"
    assert [m.is_captain for m in (await registry.members(["ocean"]))["ocean"]] == [False, True]
    with pytest.raises(StaleError, match="captain"):
        await registry.remove_member("ocean", ADA)
    with pytest.raises(StaleError, match="not in ocean"):
        await registry.update_team("ocean", {"captain": "eve"}, captain_entry="eve")
    assert await registry.team("ocean") == made


async def test_new_values_of_a_team(registry: ContestStore) -> None:
    await put(registry, teams=["ocean"])
    made = await registry.update_team("ocean", {"title": HOSTILE, "round": 2})
    assert (made.title, made.round, made.generation) == (HOSTILE, 2, 2)
    assert await registry.update_team("ocean", {"round": 2}) == made
    with pytest.raises(StaleError, match="meanwhile"):
        await registry.update_team("ocean", {"round": 3}, expected_generation=1)
    assert await registry.team("ocean") == made
    with pytest.raises(StaleError, match="no team"):
        await registry.update_team("lake", {"round": 3})


async def test_two_teams_merge(registry: ContestStore) -> None:
    await put(registry, registration=rules(teamSizeMax=3))
    await register(registry, "ocean", "ada", "bob")
    await register(registry, "river", "cora", "dan")
    await registry.put_invitation(invitation(1, "river"))
    with pytest.raises(FullError, match="4 members together"):
        await registry.merge_teams("river", "ocean", by="host", at=LATER)
    await resize(registry, teamSizeMax=4)
    await registry.merge_teams("river", "ocean", by="host", at=LATER)
    found = {t.id: t for t in await registry.teams("sea")}
    assert (found["river"].state, found["river"].captain) == (TeamState.DESTROYED, "")
    assert (found["ocean"].captain, found["ocean"].generation) == ("ada", 2)
    assert await people(registry, "ocean") == ["ada", "bob", "cora", "dan"]
    assert await people(registry, "river") == []
    assert await registry.remove_member("ocean", "cora")  # who leads nobody any more
    with pytest.raises(InvitationError):
        await take(registry, 1, "eve")
    last = (await registry.newest_transitions("sea"))[0]
    assert last.transition == Transition(
        "sea", "river", "invited", "destroyed", "merged into ocean"
    )
    assert (last.by, last.at) == ("host", LATER)


async def test_what_cannot_merge(registry: ContestStore) -> None:
    await put(registry, teams=["ocean"])
    await put(registry, "land", teams=["hill", "rock"], team_state=TeamState.ACTIVE)
    for source, into in (
        ("ocean", "ocean"),
        ("ocean", "lake"),
        ("lake", "ocean"),
        ("ocean", "hill"),
        ("hill", "rock"),
    ):
        with pytest.raises(StaleError):
            await registry.merge_teams(source, into, by="host", at=LATER)
    assert await registry.count_teams("land") == {TeamState.ACTIVE: 2}
    assert await registry.count_teams("sea") == {TeamState.INVITED: 1}


async def test_an_invitation(registry: ContestStore) -> None:
    await put(registry)
    await register(registry, "ocean", "ada")
    for number in (1, 2, 3):
        await registry.put_invitation(invitation(number))
    assert await registry.invitations("ocean") == tuple(invitation(n) for n in (1, 2, 3))
    assert await registry.withdraw_invitation("ocean", "i2")
    assert not await registry.withdraw_invitation("ocean", "i2")
    assert not await registry.withdraw_invitation("river", "i1")
    found = await take(registry, 1, "bob")
    assert (found.id, found.generation) == ("ocean", 2)
    assert (await registry.members(["ocean"]))["ocean"][1] == MemberRecord("ocean", "bob", AT)
    assert await take(registry, 1, "bob") == found  # a second click
    assert await registry.invitations("ocean") == (invitation(3),)
    assert not await registry.withdraw_invitation("ocean", "i1")
    for number, at in ((1, AT), (2, AT), (3, LATER), (4, AT)):  # used, withdrawn, late, none
        with pytest.raises(InvitationError) as told:
            await take(registry, number, "cora", at=at)
        assert "used already, withdrawn, or its time is over" in str(told.value)
    assert await people(registry, "ocean") == ["ada", "bob"]


async def test_an_invitation_that_leads_nowhere_stays(registry: ContestStore) -> None:
    await put(registry)
    await register(registry, "ocean", "ada")
    await register(registry, "river", "cora")
    await registry.put_invitation(invitation(1))
    with pytest.raises(AlreadyInError, match="cora"):
        await take(registry, 1, "cora")
    await resize(registry, teamSizeMax=1)
    with pytest.raises(FullError):
        await take(registry, 1, "bob")
    await resize(registry)
    contest = await registry.contest("sea")
    assert contest is not None
    frozen = await change(registry, replace(contest, is_frozen=True))
    with pytest.raises(StaleError, match="the contest is frozen"):
        await take(registry, 1, "bob")
    await change(registry, replace(frozen, is_frozen=False))
    with pytest.raises(StaleError, match="at the same moment"):
        await registry.put_invitation(invitation(1))
    assert await registry.invitations("ocean") == (invitation(1),)
    assert (await take(registry, 1, "bob")).id == "ocean"


# Races: four connections of their own, as four processes have.


async def test_the_last_places_of_a_team(stores: list[ContestStore]) -> None:
    await put(stores[0], registration=rules(teamSizeMax=7))
    await register(stores[0], "ocean", "p0")
    for number in range(20):
        await stores[0].put_invitation(invitation(number))
    joining = [stores[i % 4].add_member(join("ocean", f"p{i}")) for i in range(20)]
    taking = [take(stores[i % 4], i, f"q{i}") for i in range(20)]
    mixed = [attempt for pair in zip(joining, taking, strict=True) for attempt in pair]
    done = await asyncio.gather(*mixed, return_exceptions=True)
    assert errors(done).keys() == {FullError}
    assert len(await people(stores[0], "ocean")) == 7
    taken = 20 - len(await stores[0].invitations("ocean"))
    assert taken == sum(str(who).startswith("q") for who in await people(stores[0], "ocean"))


async def test_the_last_places_of_a_contest(stores: list[ContestStore]) -> None:
    await put(stores[0], registration=rules(teamsMax=5))
    done = await asyncio.gather(
        *(register(stores[i % 4], f"t{i}", f"p{i}") for i in range(24)),
        return_exceptions=True,
    )
    assert errors(done) == {FullError: 19}
    assert await stores[0].count_teams("sea") == {TeamState.INVITED: 5}


async def test_one_name_in_several_contests(stores: list[ContestStore]) -> None:
    for contest in range(4):
        await put(stores[0], f"c{contest}")
    done = await asyncio.gather(
        *(register(store, "ocean", f"p{i}", contest=f"c{i}") for i, store in enumerate(stores)),
        return_exceptions=True,
    )
    assert errors(done) == {TakenError: 3}
    won = next(team for team in done if isinstance(team, TeamRecord))
    assert await stores[0].team("ocean") == won
    assert await people(stores[0], "ocean") == [won.captain]


async def test_one_click_on_four_pages(stores: list[ContestStore]) -> None:
    await put(stores[0])
    done = await asyncio.gather(
        *(register(store, f"t{i}", f"p{i}", key="k") for i, store in enumerate(stores))
    )
    assert len(set(done)) == 1
    assert len(await stores[0].teams("sea")) == 1


async def test_one_person_into_several_teams(stores: list[ContestStore]) -> None:
    await put(stores[0], teams=[f"t{i}" for i in range(8)])
    for number in range(4):
        await stores[0].put_invitation(invitation(number, f"t{number}"))
    done = await asyncio.gather(
        *(take(store, i, "ada") for i, store in enumerate(stores)),
        *(store.add_member(join(f"t{i + 4}", "ada")) for i, store in enumerate(stores)),
        *(register(store, f"r{i}", "ada") for i, store in enumerate(stores)),
        return_exceptions=True,
    )
    assert errors(done) == {AlreadyInError: 11}
    assert len(await stores[0].teams_of("ada")) == 1


async def test_one_invitation_and_many_people(stores: list[ContestStore]) -> None:
    await put(stores[0], teams=["ocean"])
    await stores[0].put_invitation(invitation(1))
    done = await asyncio.gather(
        *(take(stores[i % 4], 1, f"p{i}") for i in range(12)),
        stores[0].withdraw_invitation("ocean", "i1"),
        return_exceptions=True,
    )
    withdrawn = done[-1]
    assert errors(done) == {InvitationError: 12 if withdrawn else 11}
    assert len(await people(stores[0], "ocean")) == (0 if withdrawn else 1)
    assert await stores[0].invitations("ocean") == ()


async def test_a_merger_and_those_who_join(stores: list[ContestStore]) -> None:
    """Nobody gets lost in a team that is destroyed, and nobody is one too many."""
    await put(stores[0], registration=rules(teamSizeMax=4))
    await register(stores[0], "ocean", "ada")
    await register(stores[0], "river", "bob")
    both = ("ocean", "river")
    joining = [stores[i % 4].add_member(join(both[i % 2], f"p{i}")) for i in range(12)]
    merging = stores[3].merge_teams("river", "ocean", by="host", at=LATER)
    done = await asyncio.gather(*joining[:6], merging, *joining[6:], return_exceptions=True)
    assert errors(done).keys() <= {FullError, StaleError}
    found = {t.id: t for t in await stores[0].teams("sea")}
    sizes = {team: len(await people(stores[0], team)) for team in both}
    if found["river"].state is TeamState.DESTROYED:
        assert sizes["river"] == 0
    assert sizes["ocean"] <= 4
    joined = 12 - sum(isinstance(e, BaseException) for e in (*done[:6], *done[7:]))
    assert sum(sizes.values()) == 2 + joined


async def test_handing_over_to_who_leaves(stores: list[ContestStore]) -> None:
    await put(stores[0])
    await register(stores[0], "ocean", "ada", "bob")
    leaving, leading = await asyncio.gather(
        stores[0].remove_member("ocean", "bob"),
        stores[1].update_team("ocean", {"captain": "bob"}, captain_entry="bob"),
        return_exceptions=True,
    )
    assert isinstance(leaving, StaleError) != isinstance(leading, StaleError)
    found = await stores[0].team("ocean")
    assert found is not None
    assert found.captain in await people(stores[0], "ocean")


async def frozen(store: ContestStore, contest: ContestRecord) -> ContestRecord:
    """As an action would."""
    return await change(store, replace(contest, is_frozen=True))


async def test_a_merger_that_is_refused_leaves_the_invitation(registry: ContestStore) -> None:
    contest = await put(registry, registration=rules(teamSizeMax=1))
    await register(registry, "ocean", "ada")
    await register(registry, "river", "bob")
    await registry.put_invitation(invitation(1))

    async def merge(number: int = 1, into: str = "ocean", at: datetime = AT) -> None:
        token = f"{number:064x}"
        await registry.merge_teams("river", into, token_sha256=token, by="bob", at=at)

    with pytest.raises(FullError, match="2 members together"):
        await merge()
    assert await registry.invitations("ocean") == (invitation(1),)
    await resize(registry, mergeUntil="2020-01-01T00:00")
    with pytest.raises(StaleError, match="That is over"):
        await merge()
    assert await registry.invitations("ocean") == (invitation(1),)
    await resize(registry)
    contest = await registry.contest("sea") or contest
    contest = await frozen(registry, contest)
    with pytest.raises(StaleError, match="frozen"):
        await merge()
    assert await registry.invitations("ocean") == (invitation(1),)
    contest = await change(registry, replace(contest, is_frozen=False))
    ocean = await registry.team("ocean")
    assert ocean is not None
    contest = await change(registry, contest, [replace(ocean, state=TeamState.ACTIVE)])
    with pytest.raises(StaleError, match="only before they are admitted"):
        await merge()
    assert await registry.invitations("ocean") == (invitation(1),)
    ocean = await registry.team("ocean")
    assert ocean is not None
    await change(registry, contest, [replace(ocean, state=TeamState.INVITED)])
    await merge()
    assert await people(registry, "ocean") == ["ada", "bob"]
    assert await registry.invitations("ocean") == ()
    with pytest.raises(InvitationError):
        await take(registry, 1, "cora")


async def test_a_merger_without_an_invitation_says_the_same_of_all(registry: ContestStore) -> None:
    """Of a team that is there, of one that is not, and of one of another contest."""
    await put(registry)
    await put(registry, "land")
    for team in ("ocean", "river"):
        await register(registry, team, team[0])
    await register(registry, "hills", "h", contest="land")
    await registry.put_invitation(invitation(1))
    await registry.put_invitation(invitation(2, "hills"))
    said = set()
    for into, number, at in (
        ("ocean", 9, AT),
        ("nowhr", 9, AT),
        ("hills", 9, AT),
        ("nowhr", 1, AT),  # another team's
        ("ocean", 2, AT),
        ("ocean", 1, LATER),  # late
    ):
        with pytest.raises(InvitationError) as told:
            await registry.merge_teams("river", into, token_sha256=f"{number:064x}", by="r", at=at)
        said.add(str(told.value).replace(into, "T"))
    assert len(said) == 1
    assert len(await registry.invitations("ocean")) == 1


# Races of these: four connections of their own, as four processes have.


async def test_two_teams_with_one_invitation_to_merge(stores: list[ContestStore]) -> None:
    await put(stores[0])
    for team in ("ocean", "river", "brook"):
        await register(stores[0], team, team)
    await stores[0].put_invitation(invitation(1))
    token = f"{1:064x}"
    done = await asyncio.gather(
        *(
            store.merge_teams(team, "ocean", token_sha256=token, by=team, at=AT)
            for store, team in zip(stores, ("river", "brook"), strict=False)
        ),
        take(stores[2], 1, "eve"),
        return_exceptions=True,
    )
    assert errors(done) == {InvitationError: 2}
    assert len(await people(stores[0], "ocean")) == 2


async def test_joins_while_a_contest_is_frozen(stores: list[ContestStore]) -> None:
    """Whoever is in is in before the freeze: nobody comes after it, however much earlier asked."""
    contest = await put(stores[0], registration=rules(teamSizeMax=1000))
    await register(stores[0], "ocean", "ada")
    for number in range(8):
        await stores[0].put_invitation(invitation(number))
    seen: list[int] = []

    async def freeze() -> None:
        await frozen(stores[3], contest)
        seen.append(len(await people(stores[3], "ocean")))

    done = await asyncio.gather(
        *(stores[i % 3].add_member(join("ocean", f"p{i}")) for i in range(8)),
        *(register(stores[i % 3], f"t{i}", f"r{i}") for i in range(8)),
        freeze(),
        *(take(stores[i % 3], i, f"q{i}") for i in range(8)),
        return_exceptions=True,
    )
    assert errors(done).keys() <= {StaleError}
    assert seen == [len(await people(stores[0], "ocean"))]
    teams = await stores[0].teams("sea")
    for attempt in (
        stores[0].add_member(join("ocean", "late")),
        take(stores[1], 99, "late"),
        register(stores[2], "late", "late"),
    ):
        with pytest.raises((StaleError, InvitationError)):
            await attempt
    assert await stores[0].teams("sea") == teams


async def test_a_size_that_is_made_smaller_while_people_join(stores: list[ContestStore]) -> None:
    contest = await put(stores[0], registration=rules(teamSizeMax=1000))
    await register(stores[0], "ocean", "ada")
    smaller = replace(contest, manifest=manifest(registration=rules(teamSizeMax=3)))
    seen: list[int] = []

    async def shrink() -> None:
        await change(stores[3], smaller)
        seen.append(len(await people(stores[3], "ocean")))

    done = await asyncio.gather(
        *(stores[i % 3].add_member(join("ocean", f"p{i}")) for i in range(6)),
        shrink(),
        *(stores[i % 3].add_member(join("ocean", f"q{i}")) for i in range(6)),
        return_exceptions=True,
    )
    assert errors(done).keys() <= {FullError}
    after = len(await people(stores[0], "ocean"))
    assert after == max(3, seen[0])
