"""The provable way down: copies, the look for what is left, the certificate; killed anywhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text

from jupyterhub_collab import names
from jupyterhub_collab.auditapi.client import DeniedError, NoAnswerError
from jupyterhub_collab.constants import PROPERTIES_KEY
from jupyterhub_collab.errors import CollabError
from jupyterhub_collab.hubapi.errors import HubUnavailableError
from jupyterhub_collab.managers import contest_ending
from jupyterhub_collab.managers.contest_ending import Ending
from jupyterhub_collab.managers.contest_steps import StepSettings
from jupyterhub_collab.managers.team_archives import AT_ONCE
from jupyterhub_collab.models import HubDecider, HubGroup, Invitation, NamedIdentity
from jupyterhub_collab.models.audit import Outcome
from jupyterhub_collab.models.contest_life import (
    Action,
    Archive,
    ContestRecord,
    ContestState,
    Step,
    TeamRecord,
    TeamState,
)
from jupyterhub_collab.models.standing import ContestStanding
from jupyterhub_collab.policy.contest_courses import next_step
from jupyterhub_collab.policy.teardown_certificate import (
    TeardownCertificate,
    certificate_sha256,
    tell_certificate,
    verify_certificate,
)
from tests.managers.contest_hub import Killed, Points
from tests.managers.contest_world import WINDOW, manifest, state_of
from tests.managers.ending_world import SIGNER, EndingWorld

ROSTERS = {"ocean": ("ada", "bob"), "reef": ("cleo",)}
_PARTS = 8  # of one long loop, so that no test of it is cut off on a busy machine
ADA, BOB = names.personal_claim("ada"), names.personal_claim("bob")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[EndingWorld]:
    found = EndingWorld(tmp_path)
    yield found
    found.close()


async def finished(world: EndingWorld, *teams: str, **endings: Any) -> None:
    """A contest that is over, with volumes in which there is something."""
    await running(world, *teams, **endings)
    await world.act("sea", Action.FINISH)
    await world.go()


async def running(world: EndingWorld, *teams: str, **endings: Any) -> None:
    """A contest in its first round."""
    sea = ContestRecord("sea", manifest(**endings), state=ContestState.DRAFT)
    rosters = {t: ROSTERS[t] for t in teams or ROSTERS}
    await world.put(sea, [TeamRecord(t, "sea", tier="small") for t in rosters], rosters)
    await world.act("sea", Action.START)
    for team in rosters:
        await world.act("sea", Action.ADMIT, team=team)
    await world.go()
    world.volumes = {
        "ocean": {"team": b"shared", ADA: b"ada's", BOB: None},
        "reef": {"team": b"corals"},
    }
    world.provisioner.released.add("sea")


async def certificate(world: EndingWorld) -> TeardownCertificate:
    note = await world.store.certificate("sea")
    assert note is not None
    return verify_certificate(note, SIGNER.verifier)


async def why(world: EndingWorld, team: str = "") -> tuple[Step | None, str]:
    """Before which step a course stands, and what it says."""
    course = await world.store.course("sea", team)
    assert course is not None
    return next_step(course), course.error


async def go_on(world: EndingWorld, **more: float) -> None:
    await world.go(until=world.now + timedelta(**more))


async def test_a_contest_ends_with_copies_and_a_certificate(world: EndingWorld) -> None:
    await finished(world, archive=True, keepArchivesDays=30)
    asked_at = world.now
    operation = await world.act("sea", Action.DESTROY)
    await world.go()
    contest = await world.store.contest("sea")
    assert contest is not None
    assert contest.state is ContestState.DESTROYED
    assert world.hub.groups == {}
    found = await certificate(world)
    assert (found.contest, found.asked.operation) == ("sea", operation.number)
    assert (found.asked.at, found.asked.by) == (asked_at, "person")
    assert found.audit_checkpoint == "the log's head\n"
    assert [(t.team, t.members, t.volumes, t.lost_volumes) for t in found.teams] == [
        ("ocean", 2, 2, 0),
        ("reef", 1, 1, 0),
    ]
    assert found.teams[0].namespace == "team-ocean"
    assert all(team.destroyed_at is not None for team in found.teams)
    assert [(v.team, v.volume, v.bytes, v.missed) for v in sorted(found.kept, key=str)] == [
        ("ocean", "personal-1", 5, 1),
        ("ocean", "team", 6, 1),
        ("reef", "team", 6, 1),
    ]
    for volume in found.kept:
        kept = await world.place.find(volume.key)
        assert kept is not None
        assert (kept.sha256, kept.keep_until) == (volume.sha256, volume.keep_until)
        assert volume.keep_until == volume.at + timedelta(days=30)
    assert found.scan.looked[:2] == ("Job", "Namespace")
    assert "hub users" in found.scan.looked
    text = found.to_text()
    for person in ("ada", "bob", "cleo", "hanna"):
        assert person not in text
    told = [e for e in world.recorder.events if e.reason == "certify"]
    note = await world.store.certificate("sea") or ""
    assert [e.details["sha256"] for e in told] == [certificate_sha256(note)]


async def with_a_team_never_let_in(world: EndingWorld) -> None:
    """The contest is about to be destroyed; people of the team never let in are hub users."""
    await finished(world)
    members = {"never": ("zoe", "yan")}
    never = TeamRecord("never", "sea", tier="small", state=TeamState.INVITED)
    record = await world.store.contest("sea")
    assert record is not None
    listed = await world.store.teams("sea")
    rosters = {t.id: ROSTERS[t.id] for t in listed}
    await world.store.put_contest(
        record,
        [*listed, never],
        {**rosters, **members},
        expected_generation=record.generation,
        by="hanna",
        at=world.now,
    )
    world.hub.users.update(zoe=False, yan=False)


@pytest.mark.parametrize("action", [Action.REJECT, Action.DESTROY])
async def test_people_of_a_team_that_was_never_let_in_go_too(
    action: Action, world: EndingWorld
) -> None:
    await with_a_team_never_let_in(world)
    if action is Action.REJECT:
        await world.act("sea", Action.REJECT, team="never")
    await world.act("sea", Action.DESTROY)
    await world.go()
    assert world.hub.users == {}
    told = [e for e in world.recorder.events if e.reason == "forget-users"]
    assert [(e.outcome, e.details["users"]) for e in told] == [(Outcome.ALLOWED, 2)]
    assert (await certificate(world)).contest == "sea"


async def test_nobody_of_them_goes_unrecorded(world: EndingWorld) -> None:
    await with_a_team_never_let_in(world)
    real = world.handlers[Step.REMOVE_SHARED]

    async def remove_shared(work: Any) -> Any:
        world.hub.groups.pop("contest.sea", None)
        world.recorder.is_away = True
        return await real(work)

    world.handlers = {**world.handlers, Step.REMOVE_SHARED: remove_shared}
    await world.act("sea", Action.DESTROY)
    await go_on(world, hours=2)
    assert set(world.hub.users) == {"zoe", "yan"}
    assert (await why(world))[0] is Step.REMOVE_SHARED


async def test_a_member_who_never_had_a_place_in_the_group_goes_with_the_team(
    world: EndingWorld,
) -> None:
    """Whoever has not accepted the agreement is in the roster alone."""
    await finished(world)
    world.hub.groups["ocean"] = replace(world.hub.groups["ocean"], users=("ada",))
    await world.act("sea", Action.DESTROY, team="ocean")
    await world.go()
    assert set(world.hub.users) == {"cleo"}


async def in_another_contest(world: EndingWorld, *roster: Any) -> None:
    other = TeamRecord("lagoon", "lakes", tier="small", state=TeamState.INVITED)
    lakes = ContestRecord("lakes", manifest("lakes"), state=ContestState.REGISTRATION)
    world.hub.decider = HubDecider(frozenset({"orcid"}))
    await world.put(lakes, [other], {"lagoon": roster})


ADA_OF_ORCID = NamedIdentity(issuer="orcid", subject="0000-1")
ADA_AT_HOME = Invitation(issuer="orcid", email="ada@example.org")
ELSEWHERE: dict[str, tuple[tuple[Any, ...], ContestStanding | None]] = {
    "by name": (("ada",), None),
    "by identity": ((ADA_OF_ORCID,), None),
    "by an address that was taken": ((ADA_AT_HOME,), None),
    "as host": ((), ContestStanding(contest="lakes", is_host=True)),
    "as judge": ((), ContestStanding(contest="lakes", is_judge=True)),
    "as data steward": ((), ContestStanding(contest="lakes", keeps=("sst",))),
}


@pytest.mark.parametrize(("roster", "role"), ELSEWHERE.values(), ids=ELSEWHERE)
async def test_who_is_known_elsewhere_stays_and_is_no_leftover(
    roster: tuple[Any, ...], role: ContestStanding | None, world: EndingWorld
) -> None:
    await finished(world)
    await in_another_contest(world, *roster)
    world.hub.identities = {"ada": (ADA_OF_ORCID, ADA_AT_HOME)}
    world.hub.roles = {} if role is None else {"ada": (role,)}
    await world.act("sea", Action.DESTROY)
    await world.go()
    assert set(world.hub.users) == {"ada"}
    assert (await certificate(world)).contest == "sea"


async def test_nobody_is_deleted_of_whom_the_hub_cannot_say_where_they_stand(
    world: EndingWorld,
) -> None:
    await finished(world)

    def fail(call: str) -> None:
        if call == "read_standing":
            raise HubUnavailableError("nobody can say just now")

    world.hub.fail = fail
    await world.act("sea", Action.DESTROY)
    await go_on(world, hours=2)
    assert set(world.hub.users) == {"ada", "bob", "cleo"}
    step, said = await why(world, "reef")
    assert step is Step.FORGET
    assert "nobody can say just now" in said


async def test_without_archives_it_says_what_was_lost(world: EndingWorld) -> None:
    await finished(world)
    await world.act("sea", Action.DESTROY)
    await world.go()
    found = await certificate(world)
    assert found.kept == ()
    assert [(t.volumes, t.lost_volumes, t.lost_bytes) for t in found.teams] == [
        (2, 2, 2 << 30),
        (1, 1, 1 << 30),
    ]
    assert world.jobs == {}


@pytest.mark.parametrize("part", range(_PARTS))
async def test_killed_anywhere_it_comes_to_the_same_end(part: int, tmp_path: Path) -> None:
    """At each place there is, once; another process goes on."""

    async def run(folder: str, points: Points) -> EndingWorld:
        world = EndingWorld(tmp_path / folder)
        sea = ContestRecord(
            "sea", manifest(archive=True, noticeSeconds=0), state=ContestState.FINISHED
        )
        ocean = TeamRecord("ocean", "sea", tier="small", state=TeamState.ACTIVE)
        await world.put(sea, [ocean], {"ocean": ("ada", "bob")})
        await world.go()
        await world.provisioner.read_team("ocean")  # its namespace stands
        world.volumes = {"ocean": {"team": b"shared", ADA: b"ada's", BOB: None}}
        world.provisioner.released.add("sea")
        await world.act("sea", Action.DESTROY)
        world.points = points
        return world

    undisturbed = await run("0", points := Points(names=[]))
    await undisturbed.go()
    expected = (await state_of(undisturbed), await archives_of(undisturbed))
    undisturbed.close()
    assert points.names is not None
    # Each place the last time that it is passed: before that a step only waits.
    places = {name: n for n, name in enumerate(points.names, start=1)}
    for kill_at in sorted(places.values())[part::_PARTS]:
        world = await run(str(kill_at), Points(kill_at=kill_at))
        with pytest.raises(Killed):
            await world.go()
        world.points = Points()
        before = await world.store.certificate("sea")
        await world.go()
        after = await world.store.certificate("sea")
        assert after is not None
        assert before in (None, after), "the first certificate stays"
        found = await certificate(world)
        assert len(found.kept) == 2
        assert (await state_of(world), await archives_of(world)) == expected, points.names[
            kill_at - 1
        ]
        world.close()
        shutil.rmtree(tmp_path / str(kill_at))


async def archives_of(world: EndingWorld) -> list[tuple[Any, ...]]:
    rows = await world.store.archives("sea")
    return [(a.team, a.volume, a.place, a.key, a.bytes, a.sha256) for a in rows]


async def test_an_orphan_is_found_and_nothing_is_certified_until_it_is_gone(
    world: EndingWorld,
) -> None:
    await finished(world)
    orphan = {
        "kind": "PersistentVolume",
        "namespace": None,
        "name": "pvc-1",
        "team": "ocean",
        "terminating": False,
        "why": "was a team's volume, and keeps what is in it",
    }
    world.leftovers = [orphan]
    await world.act("sea", Action.DESTROY)
    await go_on(world, hours=2)
    step, said = await why(world)
    assert step is Step.SCAN
    assert "PersistentVolume pvc-1" in said
    assert await world.store.certificate("sea") is None
    world.leftovers = []
    await world.go()
    assert (await certificate(world)).contest == "sea"


ORPHANS: dict[str, tuple[Callable[[EndingWorld], None], str]] = {
    "group of a team": (
        lambda world: world.hub.groups.update(ocean=HubGroup("ocean", {}, ())),
        "hub group ocean",
    ),
    "group by its properties": (
        lambda world: world.hub.groups.update(
            other=HubGroup("other", {PROPERTIES_KEY: {"contest": "sea"}}, ())
        ),
        "hub group other",
    ),
    "user": (lambda world: world.hub.users.update(ada=False), "belongs to nothing else"),
}


@pytest.mark.parametrize(("plant", "words"), ORPHANS.values(), ids=ORPHANS)
async def test_what_is_left_on_the_hub_is_found(
    plant: Callable[[EndingWorld], None], words: str, world: EndingWorld
) -> None:
    await finished(world)
    world.leftovers = [{"kind": "Job", "namespace": "x", "name": "j", "why": "label"}]
    await world.act("sea", Action.DESTROY)
    await go_on(world, hours=2)
    world.leftovers = []
    plant(world)
    await go_on(world, hours=1)
    step, said = await why(world)
    assert step is Step.SCAN
    assert words in said
    assert "ada" not in said
    world.settings = StepSettings(keep_users=True)
    world.hub.groups.clear()
    await world.go()
    assert await world.store.certificate("sea") is not None


async def test_something_that_comes_between_the_look_and_the_signature_is_seen(
    world: EndingWorld,
) -> None:
    await finished(world)
    real = world.handlers[Step.SCAN]

    async def scan(work: Any) -> Any:
        answer = await real(work)
        if answer.is_done:
            world.leftovers = [{"kind": "Job", "namespace": "x", "name": "j", "why": "label"}]
        return answer

    world.handlers = {**world.handlers, Step.SCAN: scan}
    await world.act("sea", Action.DESTROY)
    await go_on(world, hours=2)
    assert (await why(world))[0] is Step.CERTIFY
    assert await world.store.certificate("sea") is None


@pytest.mark.parametrize("team", ["ocean", ""])
async def test_a_server_that_started_as_the_gate_closed_is_stopped_before_draining_is_done(
    team: str, world: EndingWorld
) -> None:
    """Nobody saw it at the first look; in the cluster the gate was open still."""
    await finished(world, noticeSeconds=0)
    assert world.hub.start("ada", "late", "ocean")
    late = replace(world.hub.servers.pop(("ada", "late")), gate="open")
    real_status, real_drain = world.provisioner._status, world.handlers[Step.DRAIN]
    asked, at_the_end = [], []

    def status(name: str) -> dict[str, Any] | None:
        found = real_status(name)
        if found is not None and name == "ocean" and asked and len(asked) < 3:
            # The hub has closed the gate; what stands in the cluster is from before.
            return {**found, "state": "provisioning", "readyHash": "of-before"}
        return found

    async def drain(work: Any) -> Any:
        if work.team is None or work.team.id != "ocean":
            return await real_drain(work)
        asked.append(work.now)
        answer = await real_drain(work)
        if answer.is_done:
            at_the_end.append((len(asked), dict(world.hub.servers)))
        if len(asked) == 1:
            world.hub.servers["ada", "late"] = late
        return answer

    world.provisioner._status = status  # type: ignore[method-assign]
    world.handlers = {**world.handlers, Step.DRAIN: drain}
    await world.act("sea", Action.DESTROY, **({"team": team} if team else {}))
    await world.go()
    assert at_the_end == [(3, {})]
    assert "stop_server ada/late" in world.hub.calls


async def test_without_a_place_an_archive_waits_and_says_why(tmp_path: Path) -> None:
    world = EndingWorld(tmp_path, has_place=False)
    await finished(world, archive=True)
    await world.act("sea", Action.DESTROY, team="ocean")
    await go_on(world, hours=3)
    step, said = await why(world, "ocean")
    assert step is Step.ARCHIVE
    assert "no place for archives" in said
    assert "docs/teardown.md" in said
    assert "ocean" in world.provisioner.ready, "nothing is destroyed without the copy"
    world.close()


async def test_without_an_image_an_archive_waits_and_says_why(world: EndingWorld) -> None:
    await finished(world, archive=True)
    world.refused = "Nothing can be archived: the platform's settings have no archive_image."
    await world.act("sea", Action.DESTROY, team="ocean")
    await go_on(world, hours=3)
    assert await why(world, "ocean") == (Step.ARCHIVE, world.refused)
    assert world.jobs == {}


async def test_without_a_key_nothing_is_certified(tmp_path: Path) -> None:
    world = EndingWorld(tmp_path, has_key=False)
    await finished(world)
    await world.act("sea", Action.DESTROY)
    await go_on(world, hours=3)
    step, said = await why(world)
    assert step is Step.CERTIFY
    assert "no key" in said
    world.close()


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (NoAnswerError("no answer from https://audit.test/api/checkpoints"), "no answer from"),
        (DeniedError("401 This needs the token of an emitter"), "401 This needs"),
        ("", "it has signed none yet"),
    ],
)
async def test_a_certificate_waits_for_the_head_of_the_audit_log(
    found: str | CollabError, words: str, world: EndingWorld
) -> None:
    answers = [found, "hub.test/audit\n7\ncm9vdA==\n\n— hub.test/audit sig\n"]

    async def read_checkpoint() -> str:
        answer = answers[0]
        if isinstance(answer, CollabError):
            raise answer
        return answer

    await finished(world)
    ending = Ending(world.archives, SIGNER, read_checkpoint)
    world.handlers = {**world.handlers, Step.CERTIFY: ending.certify}
    await world.act("sea", Action.DESTROY)
    await go_on(world, hours=2)
    step, said = await why(world)
    assert step is Step.CERTIFY
    assert "waits for the audit log's newest signed head" in said
    assert words in said
    answers.pop(0)
    await world.go()
    made = await certificate(world)
    assert made.audit_checkpoint == answers[0]
    told = "It names the head of the audit log hub.test/audit: 7 events, root cm9vdA==."
    assert told in tell_certificate(made)


async def test_without_an_audit_service_the_certificate_says_so(world: EndingWorld) -> None:
    await finished(world)
    world.handlers = {**world.handlers, Step.CERTIFY: Ending(world.archives, SIGNER).certify}
    await world.act("sea", Action.DESTROY)
    await world.go()
    made = await certificate(world)
    assert made.audit_checkpoint == ""
    assert any("no audit service was configured" in line for line in tell_certificate(made))


async def test_a_job_that_fails_is_said_and_tried_again(world: EndingWorld) -> None:
    await finished(world, archive=True)
    operation = await world.act("sea", Action.DESTROY, team="ocean")
    archive = names.archive_id("ocean", "team", operation.number)
    world.failing = {archive: 3}
    seen = []
    while await world.store.course("sea", "ocean") is not None:
        await go_on(world, minutes=1)
        course = await world.store.course("sea", "ocean")
        seen.append(course.error if course is not None else "")
        assert len(seen) < 500
    assert any("the disk is broken" in said for said in seen)
    rows = await world.store.archives("sea", team="ocean")
    assert [row.bytes for row in rows if row.volume == "team"] == [6]


async def test_no_jobs_pile_up_however_many_volumes_a_team_has(world: EndingWorld) -> None:
    """A quota counts Jobs' Secrets, and a small tier has room for few of them."""
    await finished(world, archive=True)
    people = {names.personal_claim(f"user-{n}"): b"notes" for n in range(30)}
    world.volumes["ocean"] = {"team": b"shared", **people}
    await world.act("sea", Action.ARCHIVE, team="ocean")
    await world.go()
    assert len(await world.store.archives("sea", team="ocean")) == 31
    assert 0 < world.jobs_seen <= 2 * AT_ONCE
    assert world.jobs == {}


async def test_teams_wait_for_one_another_where_too_many_jobs_would_run(world: EndingWorld) -> None:
    await finished(world, archive=True)
    world.jobs_max = 1
    await world.act("sea", Action.DESTROY)
    seen = set()
    while await world.store.courses("sea"):
        await go_on(world, seconds=10)
        seen |= {course.error for course in (await world.store.courses("sea")).values()}
        assert len(world.jobs) <= 1 + AT_ONCE
    assert any("Volumes of other teams are copied first" in said for said in seen)
    assert len((await certificate(world)).kept) == 3


async def test_a_copy_that_is_lost_after_its_job_was_done_is_made_anew(world: EndingWorld) -> None:
    await finished(world, archive=True)
    operation = await world.act("sea", Action.ARCHIVE, team="reef")
    archive = names.archive_id("reef", "team", operation.number)
    world.jobs[archive] = {"work": "save", "archive": archive, "volume": "team", "state": "done"}
    await world.go()
    assert [row.bytes for row in await world.store.archives("sea", team="reef")] == [6]


async def test_an_eliminated_team_is_archived_after_its_window(world: EndingWorld) -> None:
    await finished(world, archive=True)
    await world.act("sea", Action.ARCHIVE, team="ocean")
    await world.go()
    team = await world.store.team("ocean")
    assert team is not None
    assert team.state is TeamState.ARCHIVED
    assert len(await world.store.archives("sea", team="ocean")) == 2
    assert WINDOW


async def archived(world: EndingWorld, **endings: Any) -> list[Archive]:
    """The team ocean is archived; its copies, the team's first."""
    await finished(world, **endings)
    await world.act("sea", Action.ARCHIVE, team="ocean")
    await world.go()
    rows = await world.store.archives("sea", team="ocean")
    return sorted(rows, key=lambda row: row.volume != "team")


async def test_an_archived_team_is_destroyed_with_the_copies_that_it_has(
    world: EndingWorld,
) -> None:
    before = await archived(world)
    await world.act("sea", Action.DESTROY)
    await world.go()
    rows = await world.store.archives("sea", team="ocean")
    assert {row.key for row in rows} == {row.key for row in before}
    assert {kept.key for kept in (await certificate(world)).kept} == {row.key for row in before}


@pytest.mark.parametrize("how", ["lost", "over"])
async def test_a_copy_that_is_gone_is_made_anew_before_the_volume_goes(
    how: str, world: EndingWorld
) -> None:
    before = await archived(world, keepArchivesDays=30)
    if how == "over":
        world.now += timedelta(days=31)
        await world.archives.sweep()
        gone = before
    else:
        (world.folder / "archives" / before[0].key).unlink()
        gone = before[:1]
    operation = await world.act("sea", Action.DESTROY)
    await world.go()
    rows = {row.volume: row for row in await world.store.archives("sea", team="ocean")}
    anew = {row.volume for row in rows.values() if row.key.endswith(f".{operation.number}.tar")}
    assert anew == {row.volume for row in gone}
    found = await certificate(world)
    assert [(t.team, t.lost_volumes) for t in found.teams] == [("ocean", 0), ("reef", 1)]
    for volume in found.kept:
        assert await world.place.find(volume.key) is not None


async def test_of_a_team_that_was_on_its_way_back_there_are_new_copies(world: EndingWorld) -> None:
    """Its gate was open, and whoever started a server wrote what no copy has."""
    await running(world, archive=True)
    await world.act("sea", Action.ARCHIVE, team="ocean")
    await world.go()
    await world.act("sea", Action.RESTORE, team="ocean")
    operation = await world.act("sea", Action.DESTROY, team="ocean")
    await world.go()
    rows = await world.store.archives("sea", team="ocean")
    assert len(rows) == 2
    assert all(row.key.endswith(f".{operation.number}.tar") for row in rows)


async def test_a_certificate_claims_no_copy_that_is_missing(world: EndingWorld) -> None:
    await finished(world, archive=True)
    real = world.handlers[Step.CERTIFY]

    async def certify(work: Any) -> Any:
        [row] = [r for r in await world.store.archives("sea") if r.team == "reef"]
        (world.folder / "archives" / row.key).unlink()
        return await real(work)

    world.handlers = {**world.handlers, Step.CERTIFY: certify}
    await world.act("sea", Action.DESTROY)
    await world.go()
    found = await certificate(world)
    assert {volume.team for volume in found.kept} == {"ocean"}
    assert [(t.team, t.lost_volumes, t.lost_bytes) for t in found.teams] == [
        ("ocean", 0, 0),
        ("reef", 1, 6),
    ]


async def test_where_copies_can_no_longer_be_looked_at_nothing_is_certified(
    world: EndingWorld,
) -> None:
    await finished(world, archive=True)
    await world.act("sea", Action.DESTROY)
    real = world.handlers[Step.CERTIFY]
    world.handlers = {**world.handlers, Step.CERTIFY: Ending(None, SIGNER).certify}
    await go_on(world, hours=3)
    step, said = await why(world)
    assert step is Step.CERTIFY
    assert "has no place for archives now" in said
    world.handlers = {**world.handlers, Step.CERTIFY: real}
    await world.go()
    assert len((await certificate(world)).kept) == 3


async def test_what_was_archived_is_told_to_the_log(world: EndingWorld) -> None:
    await finished(world, archive=True)
    await world.act("sea", Action.ARCHIVE, team="reef")
    await world.go()
    [event] = [e for e in world.recorder.events if e.reason == "archive"]
    assert event.outcome is Outcome.SUCCEEDED
    assert (event.details["volumes"], event.details["bytes"], event.details["missed"]) == (1, 6, 1)


async def test_nothing_is_certified_unrecorded(world: EndingWorld) -> None:
    await finished(world)
    await world.act("sea", Action.DESTROY)
    real = world.handlers[Step.CERTIFY]

    async def certify(work: Any) -> Any:
        world.recorder.is_away = True
        return await real(work)

    world.handlers = {**world.handlers, Step.CERTIFY: certify}
    await go_on(world, hours=3)
    assert (await why(world))[0] is Step.CERTIFY
    first = await world.store.certificate("sea")
    world.handlers = {**world.handlers, Step.CERTIFY: real}
    world.recorder.is_away = False
    await world.go()
    assert await world.store.certificate("sea") == first


async def test_a_team_that_cannot_be_read_is_left_of_a_contest(world: EndingWorld) -> None:
    """Between the wait for all teams and the look for what is left."""
    await finished(world)
    with world.engine.begin() as connection:
        connection.execute(
            text("UPDATE contest_teams SET state = 'destroyed', datasets = '7' WHERE id = 'ocean'")
        )
    contest = await world.store.contest("sea")
    work: Any = SimpleNamespace(contest=contest, store=world.store)
    words = await contest_ending._in_the_registry(work, ["reef"])
    assert "registry: a row of team ocean that cannot be read" in words
