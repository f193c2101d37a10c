"""What a round gives, and a contest's gate, in the merged spec; what existing groups are."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyterhub_collab.errors import SpecError
from jupyterhub_collab.models import ContestProperties, HubGroup, TeamProperties, TeamSpec
from jupyterhub_collab.models.team import Gate
from jupyterhub_collab.policy.contest_life import strictest
from jupyterhub_collab.policy.contest_manifest import (
    Reached,
    parse_contest_manifest,
    plan_contest,
    to_groups,
)
from jupyterhub_collab.policy.contest_order import order_writes
from jupyterhub_collab.policy.spec import merge_team_spec

from .manifests import MANIFEST

GROUPS = to_groups(parse_contest_manifest(MANIFEST, file="x"))
CONTEST: Any = GROUPS["contest.forecast"].properties
ICE: Any = GROUPS["ice"].properties
OPEN_MANIFEST = parse_contest_manifest(MANIFEST, file="x")
SECOND = {"tier": "large", "images": ["deep"], "datasets": ["sst"]}


def ice(**changes: Any) -> dict[str, Any]:
    return {"collab": {**ICE["collab"], **changes}}


def contest(*rounds: Any, **changes: Any) -> dict[str, Any]:
    corner = {**copy.deepcopy(CONTEST["collab"]), **changes}
    return {"collab": {**corner, **({"rounds": list(rounds)} if rounds else {})}}


def merged(team: Any, shared: Any) -> TeamSpec:
    return merge_team_spec("ice", team, shared)


def refusals(team: Any, shared: Any) -> list[str]:
    with pytest.raises(SpecError) as error:
        merged(team, shared)
    return [str(problem) for problem in error.value.problems]


# What there was before.


def test_groups_without_a_life_are_written_as_ever() -> None:
    """Byte for byte: their hashes are in the cluster."""
    assert not {"gate", "rounds"} & set(CONTEST["collab"])
    assert "round" not in ICE["collab"]
    for model, corner in ((ContestProperties, CONTEST), (TeamProperties, ICE)):
        assert model.model_validate(corner["collab"]).to_wire() == corner["collab"]
    plain = merged(ICE, CONTEST)
    assert merged(ice(round=0), contest(gate="open", rounds=[])).hash() == plain.hash()
    assert merged(ICE, contest(SECOND)).hash() == plain.hash(), "it is in no round"


def test_gate_rounds_and_round_survive_the_wire() -> None:
    found = ContestProperties.model_validate(contest({}, SECOND, gate="frozen")["collab"])
    assert ContestProperties.model_validate(found.to_wire()) == found
    assert found.to_wire()["gate"] == "frozen"
    assert found.to_wire()["rounds"][1] == SECOND
    team = TeamProperties.model_validate(ice(round=2)["collab"])
    assert TeamProperties.model_validate(team.to_wire()) == team
    assert team.to_wire()["round"] == 2


# The merge.


@pytest.mark.parametrize("of_team", Gate)
@pytest.mark.parametrize("of_contest", Gate)
@pytest.mark.parametrize("retention", ["keep", "destroy"])
def test_the_strictest_gate_counts(of_team: Gate, of_contest: Gate, retention: str) -> None:
    team = ice(gate=of_team.value, retention=retention)
    spec = merged(team, contest(gate=of_contest.value))
    widest = Gate.CLOSED if retention == "destroy" else Gate.OPEN
    assert spec.gate is strictest(of_team, of_contest, widest)


def test_a_round_s_tier_is_instead_of_the_team_s_and_overrides_lie_over_it() -> None:
    spec = merged(ice(round=2, overrides={"cpu": "500m"}), contest({}, SECOND))
    large = merged(ice(tier="large"), CONTEST).tier
    assert (spec.tier_name, spec.tier.cpu_millicores) == ("large", 500)
    assert spec.tier.memory_bytes == large.memory_bytes
    assert merged(ice(round=1), contest({}, SECOND)).tier_name == "small", "says nothing of it"


def test_a_round_s_first_image_is_the_default() -> None:
    assert list(merged(ICE, CONTEST).images) == ["basic", "deep"]
    spec = merged(ice(round=1), contest({"images": ["deep", "basic"]}))
    assert list(spec.images) == ["deep", "basic"]


def test_profiles_for_images_that_a_round_has_not_are_not_offered() -> None:
    medium = CONTEST["collab"]["profiles"]["medium"]
    profiles = {
        "only": {**medium, "images": ["basic"]},
        "both": {**medium, "images": ["basic", "deep"]},
        "any": medium,
    }
    spec = merged(ice(round=1), contest(SECOND, profiles=profiles))
    assert list(spec.profiles) == ["both", "any"]
    assert spec.profiles["both"].images == ("deep",)
    assert spec.profiles["any"].images is None
    assert TeamSpec.model_validate_json(spec.to_canonical_json()) == spec
    del profiles["both"], profiles["any"]
    (text,) = refusals(ICE, contest(SECOND, profiles=profiles))
    assert "rounds[0].images: found deep; expected at least one that some profile" in text


def test_a_round_s_data_sets_are_added() -> None:
    assert list(merged(ice(round=1), contest({})).datasets) == []
    assert list(merged(ice(round=1), contest(SECOND)).datasets) == ["sst"]
    own = merged(ice(round=1, datasets=["sst"]), contest({"datasets": []}))
    assert list(own.datasets) == ["sst"]


@pytest.mark.parametrize(
    ("team", "shared", "said"),
    [
        (ice(round=3), contest({}, SECOND), "groups.ice.collab.round: found 3; expected at most 2"),
        (
            ice(round=1),
            contest(),
            "round: found 1; expected at most 0, the number of its contest's",
        ),
        (ice(round=-1), contest({}), "collab.round: found -1"),
        (ice(round=True), contest({}), "collab.round: found true"),
        (ice(round="1"), contest({}), 'collab.round: found "1"'),
        (ice(), contest({"tier": "huge"}), 'rounds[0].tier: found "huge"; expected one of'),
        (ice(round=1), contest({"tier": "huge"}), 'rounds[0].tier: found "huge"; expected one of'),
        (ice(round=1), contest({"images": ["x"]}), 'rounds[0].images[0]: found "x"; expected one'),
        (ice(round=1), contest({"datasets": ["x"]}), 'rounds[0].datasets[0]: found "x"; expected'),
        (ice(round=1), contest({"images": []}), "rounds[0].images: found an empty list"),
        (ice(), contest({"gate": "open"}), "rounds[0].gate: found an unknown field"),
        (ice(), contest(gate="ajar"), 'collab.gate: found "ajar"; expected one of'),
        (ice(tier="huge", round=1), contest(SECOND), 'collab.tier: found "huge"'),
        (ice(), contest(*([{}] * 51)), "collab.rounds"),
    ],
)
def test_what_does_not_fit_is_refused(team: Any, shared: Any, said: str) -> None:
    assert said in refusals(team, shared)[0]


def test_overrides_under_a_round_that_names_no_tier_of_ours_are_still_told_plainly() -> None:
    found = refusals(ice(round=1, overrides={"cpu": "0"}), contest({"tier": "huge"}))
    assert len(found) == 1


# Writing.

ROUNDS = """\
rounds:
  - {title: One, tier: small}
  - {title: Two, tier: large, datasets: [sst]}
"""


@settings(deadline=None)
@given(
    st.sampled_from(Gate),
    st.sampled_from(Gate),
    st.integers(0, 2),
    st.integers(0, 2),
    st.booleans(),
)
def test_no_team_is_without_a_spec_on_the_way_from_round_to_round(
    gate: Gate, later: Gate, number: int, following: int, renamed: bool
) -> None:
    """Also where the tiers that rounds name are renamed with it."""
    text = MANIFEST + ROUNDS
    old = parse_contest_manifest(text, file="x")
    new = parse_contest_manifest(text.replace("large", "huge") if renamed else text, file="x")
    before = to_groups(old, None, Reached(gate, {"ocean": number, "ice": number}))
    after = Reached(later, {"ocean": following, "ice": following})
    plan = plan_contest(new, before, None, after)
    order = order_writes(plan, before)
    assert order.is_seamless
    state = dict(before)
    for step in order.steps:
        for change in step:
            assert change.properties is not None
            users = before[change.group].users
            state[change.group] = HubGroup(change.group, change.properties, users)
            for team in ("ocean", "ice"):
                merge_team_spec(team, state[team].properties, state["contest.forecast"].properties)
    assert plan_contest(new, state, None, after).is_empty
    assert state["ice"].properties["collab"].get("round", 0) == following


def test_closing_a_round_writes_one_group() -> None:
    manifest = parse_contest_manifest(MANIFEST + ROUNDS, file="x")
    rounds = {"ocean": 1, "ice": 1}
    before = to_groups(manifest, None, Reached(Gate.OPEN, rounds))
    plan = plan_contest(manifest, before, None, Reached(Gate.FROZEN, rounds))
    (change,) = plan.changes
    assert change.group == "contest.forecast"
    assert [(f.field, f.before, f.after) for f in change.fields] == [("gate", None, '"frozen"')]
    plan = plan_contest(manifest, before, None, Reached(Gate.OPEN, {**rounds, "ice": 2}))
    (change,) = plan.changes
    assert [(f.field, f.before, f.after) for f in change.fields] == [("round", "1", "2")]
