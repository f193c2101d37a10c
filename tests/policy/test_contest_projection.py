"""Registry and manifest: what the hub's groups are brought after, what a host's file changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyterhub_collab.errors import SpecError
from jupyterhub_collab.models import HubDecider, HubGroup, Invitation, NamedIdentity, Retention
from jupyterhub_collab.models.contest_life import (
    ContestRecord,
    ContestState,
    CourseKind,
    MemberRecord,
    TeamRecord,
    TeamState,
)
from jupyterhub_collab.models.team import Gate
from jupyterhub_collab.policy.contest_actions import plan_admission
from jupyterhub_collab.policy.contest_manifest import plan_contest, plan_team, to_groups
from jupyterhub_collab.policy.contest_projection import (
    ManifestPlan,
    Registered,
    from_manifest,
    gate_of,
    plan_manifest,
    to_acceptance,
    to_manifest,
)
from jupyterhub_collab.policy.spec import merge_team_spec

from .lives import LONG, NOW, WITHOUT_TEAMS, Life, contest, course, manifest, team
from .manifests import MANIFEST, replaced

DECIDER = HubDecider(frozenset({"institute", "portal"}))


def members(*entries: Any) -> tuple[MemberRecord, ...]:
    return tuple(MemberRecord("ice", entry, NOW) for entry in entries)


def registered(plan: ManifestPlan, **values: Any) -> Registered:
    """The registry after the plan; listed teams are in."""
    teams = {t.id: replace(t, state=TeamState.ACTIVE, **values) for t in plan.teams}
    return Registered(plan.contest, teams, plan.rosters)


def groups(found: ContestRecord, *teams: TeamRecord, **rosters: Any) -> dict[str, Any]:
    projected = to_manifest(found, teams, rosters)
    return to_groups(projected.manifest, DECIDER, projected.reached)


# To the hub.


def test_a_simple_contest_is_projected_as_its_manifest_says() -> None:
    """Who had a contest before there was a registry sees no group change."""
    found = manifest(MANIFEST)
    record, teams, rosters = from_manifest(found)
    assert record.state is ContestState.RUNNING
    assert not record.manifest.teams
    ready = [replace(t, state=TeamState.ACTIVE) for t in teams]
    people = {
        name: tuple(MemberRecord(name, e, NOW) for e in roster) for name, roster in rosters.items()
    }
    projected = to_manifest(record, ready, people)
    before = to_groups(found)
    assert plan_contest(projected.manifest, before, None, projected.reached).is_empty
    before = to_groups(found, DECIDER)
    assert plan_contest(projected.manifest, before, DECIDER, projected.reached).is_empty


MINE = {"collab": {"contest": "forecast", "generation": 7}}


@pytest.mark.parametrize("decider", [None, DECIDER])
@pytest.mark.parametrize(
    "properties", [None, {}, {**MINE, "theirs": 1}], ids=["absent", "empty", "another's too"]
)
def test_a_team_alone_is_planned_as_with_its_contest(
    properties: dict[str, Any] | None, decider: HubDecider | None
) -> None:
    found = manifest(MANIFEST)
    there = to_groups(found, decider)
    del there["ice"]
    if properties is not None:
        there["ice"] = HubGroup("ice", properties, ("eve",) if properties else ())
    plan = plan_contest(found, there, decider)
    assert (plan_team(found, "ice", there.get("ice"), decider),) == plan.changes
    assert plan_team(found, "ocean", there["ocean"], decider) is None


@pytest.mark.parametrize("properties", [{"theirs": 1}, {"collab": {"contest": "another"}}])
def test_a_team_alone_is_refused_as_with_its_contest(properties: dict[str, Any]) -> None:
    found = manifest(MANIFEST)
    current = HubGroup("ice", properties, ())
    with pytest.raises(SpecError) as together:
        plan_contest(found, {"ice": current})
    with pytest.raises(SpecError) as alone:
        plan_team(found, "ice", current)
    assert alone.value.problems == together.value.problems


@pytest.mark.parametrize("state", TeamState)
def test_teams_have_a_group_from_their_admission_to_their_end(state: TeamState) -> None:
    found = groups(contest(), team("ice", state))
    assert ("ice" in found) is (state not in (TeamState.INVITED, TeamState.DESTROYED))


@pytest.mark.parametrize(
    ("state", "gate"),
    [
        (ContestState.DRAFT, "closed"),
        (ContestState.REGISTRATION, "closed"),
        (ContestState.RUNNING, None),
        (ContestState.JUDGING, "frozen"),
        (ContestState.FINISHED, "frozen"),
        (ContestState.ARCHIVED, "closed"),
        (ContestState.DESTROYED, "closed"),
    ],
)
def test_the_contest_s_gate_follows_its_state(state: ContestState, gate: str | None) -> None:
    assert groups(contest(state))["contest.forecast"].properties["collab"].get("gate") == gate


def test_a_frozen_contest_is_at_most_frozen() -> None:
    corner = groups(contest(ContestState.RUNNING, is_frozen=True))["contest.forecast"]
    assert corner.properties["collab"]["gate"] == "frozen"
    assert gate_of(contest(ContestState.RUNNING, is_frozen=True), team("ice")) is Gate.FROZEN
    assert gate_of(contest(ContestState.DRAFT, is_frozen=True), team("ice")) is Gate.CLOSED


@pytest.mark.parametrize("state", ContestState)
@pytest.mark.parametrize("own", Gate)
@pytest.mark.parametrize("retention", Retention)
def test_the_gate_that_is_told_is_the_one_that_the_cluster_gets(
    state: ContestState, own: Gate, retention: Retention
) -> None:
    of_contest, of_team = contest(state), team("ice", gate=own, retention=retention)
    found = groups(of_contest, of_team)
    spec = merge_team_spec("ice", found["ice"].properties, found["contest.forecast"].properties)
    assert spec.gate is gate_of(of_contest, of_team)


def test_only_who_accepted_the_agreement_is_in_the_roster() -> None:
    agreed = manifest(WITHOUT_TEAMS + '  agreement: {version: "1", text: Be kind.}\n')
    someone = NamedIdentity(issuer="institute", subject="5a0d")
    invited = Invitation(issuer="portal", email="bob@example.org")
    rosters = {"ice": members("ada", "eve", someone, invited)}
    found = contest(manifest=agreed)

    def roster(*accepted: str) -> Any:
        projected = to_manifest(found, [team("ice")], rosters, frozenset(accepted))
        return projected.manifest.teams["ice"].members

    assert roster() == ()
    assert roster("ada", "bob@example.org", "5a0d") == ("ada",)
    assert roster(to_acceptance(someone), to_acceptance(invited)) == (someone, invited)
    assert "/" in to_acceptance(someone), "which no user name has"
    shouted = Invitation(issuer="portal", email="BOB@example.org")
    assert to_acceptance(shouted) == to_acceptance(invited)


def test_a_team_that_registered_itself_has_the_registration_s_tier() -> None:
    assert groups(contest(), team("ice", tier=""))["ice"].properties["collab"]["tier"] == "small"


@pytest.mark.parametrize(
    ("in_round", "tier", "images", "datasets"),
    [
        (0, "large", ["basic", "deep"], []),
        (1, "small", ["basic", "deep"], []),
        (2, "large", ["deep"], ["sst"]),
    ],
)
def test_the_spec_of_each_round(
    in_round: int, tier: str, images: list[str], datasets: list[str]
) -> None:
    of_team = team("ice", round=in_round, tier="large")
    found = groups(contest(ContestState.RUNNING, round=2), of_team)
    spec = merge_team_spec("ice", found["ice"].properties, found["contest.forecast"].properties)
    assert (spec.tier_name, list(spec.images), list(spec.datasets)) == (tier, images, datasets)
    assert spec.tier == manifest().tiers[tier]


# From a host.


def test_a_contest_with_rounds_or_registration_begins_as_a_draft() -> None:
    assert from_manifest(manifest(LONG))[0].state is ContestState.DRAFT
    assert from_manifest(manifest(MANIFEST))[0].state is ContestState.RUNNING


def test_what_a_manifest_says_is_admitted_by_a_second_plan() -> None:
    plan = plan_manifest(Registered(), manifest(MANIFEST))
    assert plan.admitted == ("ocean", "ice")
    assert plan.rosters == {"ocean": ("ada", "bob"), "ice": ("ada",)}
    assert [change.group for change in plan.difference.changes] == [
        "contest.forecast",
        "ocean",
        "ice",
    ]
    life = Life(plan.contest, {t.id: t for t in plan.teams})
    life.write(plan_admission(plan.contest, plan.teams, {}, now=NOW))
    life.work()
    assert {t.state for t in life.teams.values()} == {TeamState.ACTIVE}
    again = plan_manifest(Registered(life.contest, life.teams, plan.rosters), manifest(MANIFEST))
    assert again.difference.is_empty
    assert again.admitted == ()
    assert {t.id: t for t in again.teams} == life.teams


def test_who_was_killed_before_the_second_plan_finds_what_is_left() -> None:
    plan = plan_manifest(Registered(), manifest(MANIFEST))
    half = Registered(plan.contest, {t.id: t for t in plan.teams}, plan.rosters)
    assert plan_manifest(half, manifest(MANIFEST)).admitted == ("ocean", "ice")


def test_a_change_is_told_as_a_difference_of_groups() -> None:
    now = registered(plan_manifest(Registered(), manifest(MANIFEST)))
    text = replaced("    members: [ada, bob]", "    members: [ada, eve]")
    text = text.replace("tier: small", "tier: large")
    plan = plan_manifest(now, manifest(text))
    ocean, ice = plan.difference.changes
    assert (ocean.joining, ocean.leaving) == (("eve",), ("bob",))
    assert [(f.field, f.before, f.after) for f in ice.fields] == [("tier", '"small"', '"large"')]
    assert {t.id: t.tier for t in plan.teams} == {"ocean": "large", "ice": "large"}


def test_teams_that_are_not_listed_stay_and_are_told_of() -> None:
    now = registered(plan_manifest(Registered(), manifest(MANIFEST)))
    text = MANIFEST[: MANIFEST.index("  ice:")]
    plan = plan_manifest(now, manifest(text))
    assert plan.difference.is_empty
    assert plan.difference.gone == ("ice",)
    assert [t.id for t in plan.teams] == ["ocean"]
    long = registered(plan_manifest(Registered(), manifest(LONG)))
    assert plan_manifest(long, manifest()).difference.gone == (), "they come by themselves there"


def test_where_people_register_themselves_a_manifest_only_adds() -> None:
    now = registered(plan_manifest(Registered(), manifest(LONG)))
    now = replace(now, rosters={**now.rosters, "ice": ("ada", "joined")})
    text = LONG.replace(
        "    tier: small\n    members: [ada]", "    tier: small\n    members: [eve]"
    )
    plan = plan_manifest(now, manifest(text))
    assert plan.rosters["ice"] == ("ada", "joined", "eve")
    (change,) = plan.difference.changes
    assert (change.joining, change.leaving) == (("eve",), ())
    plan = plan_manifest(now, manifest(LONG.replace("    members: [ada]\n", "")))
    assert plan.rosters["ice"] == ("ada", "joined")


def test_a_captain_who_leaves_is_none_any_more() -> None:
    now = registered(plan_manifest(Registered(), manifest(MANIFEST)), captain="bob")
    now.teams["ice"] = replace(now.teams["ice"], captain="ldap-ada")  # in by an identity
    plan = plan_manifest(now, manifest(replaced("[ada, bob]", "[ada]")))
    assert {t.id: t.captain for t in plan.teams} == {"ocean": "", "ice": "ldap-ada"}


@pytest.mark.parametrize("state", [TeamState.FROZEN, TeamState.ELIMINATED, TeamState.ARCHIVED])
def test_a_manifest_opens_nothing_that_a_host_closed(state: TeamState) -> None:
    now = registered(plan_manifest(Registered(), manifest(MANIFEST)))
    now.teams["ice"] = replace(
        now.teams["ice"], state=state, gate=Gate.FROZEN, retention=Retention.DESTROY
    )
    plan = plan_manifest(now, manifest(MANIFEST))
    assert plan.difference.is_empty
    ice = next(t for t in plan.teams if t.id == "ice")
    assert (ice.gate, ice.retention) == (Gate.FROZEN, Retention.DESTROY)


@pytest.mark.parametrize("kind", CourseKind)
def test_a_manifest_opens_no_team_that_is_on_its_way_out(kind: CourseKind) -> None:
    now = registered(plan_manifest(Registered(), manifest(MANIFEST)))
    now.teams["ice"] = replace(now.teams["ice"], gate=Gate.CLOSED)
    now = replace(now, courses={"ice": course("ice", kind)})
    ice = next(t for t in plan_manifest(now, manifest(MANIFEST)).teams if t.id == "ice")
    is_up = kind in (CourseKind.ADMIT, CourseKind.ADVANCE)
    assert ice.gate is (Gate.OPEN if is_up else Gate.CLOSED)


def test_a_gate_of_the_manifest_is_the_team_s_own() -> None:
    text = replaced("    tier: large\n", "    tier: large\n    gate: closed\n")
    plan = plan_manifest(Registered(), manifest(text))
    assert {t.id: t.gate for t in plan.teams} == {"ocean": Gate.CLOSED, "ice": Gate.OPEN}


def refusals(now: Registered, text: str) -> list[str]:
    with pytest.raises(SpecError) as error:
        plan_manifest(now, manifest(text))
    return [str(problem) for problem in error.value.problems]


def test_what_is_gone_does_not_come_back_by_a_file() -> None:
    now = registered(plan_manifest(Registered(), manifest(MANIFEST)))
    now.teams["ice"] = replace(now.teams["ice"], state=TeamState.DESTROYED)
    now.teams["ocean"] = replace(now.teams["ocean"], contest="other")
    ocean, ice = refusals(now, MANIFEST)
    assert ice.startswith("teams.ice: found a team that is destroyed; expected an id that no team")
    assert ocean.startswith("teams.ocean: found a team of another contest")
    assert now.contest is not None
    now = Registered(replace(now.contest, state=ContestState.DESTROYED))
    (text,) = refusals(now, MANIFEST)
    assert text.startswith('contest.id: found "forecast", a contest that is destroyed')


def test_what_a_team_has_that_is_not_listed_stays_in_the_file() -> None:
    now = registered(plan_manifest(Registered(), manifest(MANIFEST)))
    without = MANIFEST[: MANIFEST.index("  ocean:")] + MANIFEST[MANIFEST.index("  ice:") :]
    sets = without[without.index("datasets:") : without.index("teams:")]
    (text,) = refusals(now, without.replace(sets, ""))
    assert text.startswith('teams.ocean.datasets[0]: found "sst" (the team is not in the file, so')
    large = without[without.index("  large:") : without.index("  small:")]
    (text,) = refusals(now, without.replace(large, ""))
    assert text.startswith('teams.ocean.tier: found "large" (the team is not in the file')
    now.teams["ocean"] = replace(now.teams["ocean"], state=TeamState.DESTROYED)
    plan_manifest(now, manifest(without.replace(large, "")))
    now.teams["ocean"] = team("ocean", tier="")  # as who registered has the registration's
    assert "teams.ocean.tier" in refusals(now, without)[0]


@pytest.mark.parametrize("kind", [CourseKind.END, CourseKind.SHELVE])
def test_nothing_comes_into_a_contest_that_ends(kind: CourseKind) -> None:
    """It would wait for a team that nobody takes along."""
    now = Registered(contest(ContestState.FINISHED), courses={"": course("", kind)})
    (text,) = refusals(now, LONG)
    assert text.startswith('contest.id: found "forecast", a contest that is being ')


def test_rounds_that_were_are_not_taken_away() -> None:
    now = Registered(contest(round=2))
    first = LONG.replace(LONG[LONG.index("  - title: Second") : LONG.index("registration:")], "")
    (text,) = refusals(now, first)
    assert text == "rounds: found 1, and the contest is in round 2; expected at least 2"


@settings(deadline=None)
@given(st.sampled_from(ContestState), st.integers(0, 2), st.booleans())
def test_a_manifest_changes_no_state(state: ContestState, number: int, is_frozen: bool) -> None:
    if state is ContestState.DESTROYED:
        return
    before = contest(state, round=number, is_frozen=is_frozen, ranking=("ice",))
    after = plan_manifest(Registered(before), manifest(LONG)).contest
    assert after == replace(before, manifest=after.manifest)
