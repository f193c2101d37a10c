"""The merge of a team's group and its contest's group."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyterhub_collab.constants import TEAM_PROPERTIES_MAX_BYTES
from jupyterhub_collab.errors import SpecError
from jupyterhub_collab.models import Gate, TeamSpec
from jupyterhub_collab.policy.contest_manifest import parse_contest_manifest, to_groups
from jupyterhub_collab.policy.spec import check_platform, is_team_group, merge_team_spec

from .manifests import MANIFEST
from .test_contest_manifest import make_platform

GROUPS = to_groups(parse_contest_manifest(MANIFEST, file="x"))
CONTEST: Any = GROUPS["contest.forecast"].properties
OCEAN: Any = GROUPS["ocean"].properties


def ocean(**changes: Any) -> dict[str, Any]:
    return {"collab": {**OCEAN["collab"], **changes}}


def contest(**changes: Any) -> dict[str, Any]:
    return {"collab": {**copy.deepcopy(CONTEST["collab"]), **changes}}


def refusals(team: str, properties: Any, shared: Any) -> list[str]:
    with pytest.raises(SpecError) as error:
        merge_team_spec(team, properties, shared)
    return [str(problem) for problem in error.value.problems]


def test_the_merge_is_stable_and_survives_the_annotation() -> None:
    spec = merge_team_spec("ocean", OCEAN, CONTEST)
    again = merge_team_spec("ocean", json.loads(json.dumps(OCEAN)), json.loads(json.dumps(CONTEST)))
    assert spec == again
    assert spec.hash() == again.hash()
    assert TeamSpec.model_validate_json(spec.to_canonical_json()).hash() == spec.hash()


def test_who_is_in_the_team_and_generations_change_nothing() -> None:
    """Otherwise every new member would have the whole tenancy rendered anew."""
    spec = merge_team_spec("ocean", OCEAN, CONTEST)
    assert merge_team_spec("ocean", ocean(generation=9), contest(generation=9)) == spec
    assert "ada" not in spec.to_canonical_json()


def test_overrides_lie_over_the_tier() -> None:
    spec = merge_team_spec("ocean", ocean(overrides={"cpu": "500m", "gpu": 2}), CONTEST)
    assert (spec.tier.cpu_millicores, spec.tier.gpu_count) == (500, 2)
    plain = merge_team_spec("ocean", OCEAN, CONTEST)
    assert spec.tier.memory_bytes == plain.tier.memory_bytes
    assert spec.hash() != plain.hash()


def test_a_team_gets_what_it_lists_and_what_everybody_gets() -> None:
    assert list(merge_team_spec("ocean", OCEAN, CONTEST).datasets) == ["sst"]
    assert not merge_team_spec("ocean", ocean(datasets=[]), CONTEST).datasets
    shared = contest()
    shared["collab"]["datasets"]["sst"]["everyTeam"] = True
    assert list(merge_team_spec("ocean", ocean(datasets=[]), shared).datasets) == ["sst"]


def test_protected_data_is_refused_where_the_platform_does_not_record_mounts() -> None:
    shared = contest()
    shared["collab"]["datasets"]["sst"]["protected"] = True
    spec = merge_team_spec("ocean", ocean(datasets=["sst"]), shared)
    platform = make_platform(dataset_csi_drivers=["files.example.org"])
    (problem,) = check_platform(spec, platform)
    assert str(problem).startswith(
        "datasets.sst.protected: found true; expected false: reads from a mounted volume are not"
    )
    recorded = platform.model_copy(update={"protected_data": "mounts-recorded"})
    assert not check_platform(spec, recorded)
    # Whoever is granted none of it is not concerned.
    assert not check_platform(merge_team_spec("ocean", ocean(datasets=[]), shared), platform)


def test_the_gate_travels() -> None:
    assert merge_team_spec("ocean", ocean(gate="frozen"), CONTEST).gate is Gate.FROZEN


@pytest.mark.parametrize(
    ("properties", "shared", "said"),
    [
        ({}, CONTEST, "groups.ocean.collab: found nothing"),
        ({"collab": 3}, CONTEST, "groups.ocean.collab"),
        ({"collab": None}, CONTEST, "groups.ocean.collab"),
        (OCEAN, None, 'groups.ocean.collab.contest: found contest "forecast", but no hub group'),
        (OCEAN, {}, 'groups."contest.forecast".collab: found nothing'),
        (ocean(tier="lagre"), CONTEST, 'groups.ocean.collab.tier: found "lagre"; expected one of'),
        (ocean(datasets=["x"]), CONTEST, "groups.ocean.collab.datasets[0]"),
        (ocean(overrides={"cpu": 0}), CONTEST, "groups.ocean.collab.overrides.cpu"),
        (ocean(schema=2), CONTEST, "groups.ocean.collab.schema: found 2; expected one of: 1"),
        (ocean(generation=True), CONTEST, "groups.ocean.collab.generation"),
        (ocean(unknown=1), CONTEST, "groups.ocean.collab.unknown: found an unknown field"),
        (ocean(title="x" * 5000), CONTEST, f"at most {TEAM_PROPERTIES_MAX_BYTES}"),
        (OCEAN, contest(tiers={}), "groups.ocean.collab.tier"),
        (OCEAN, contest(images=[]), 'groups."contest.forecast".collab.images'),
    ],
)
def test_what_is_refused(properties: Any, shared: Any, said: str) -> None:
    (problem,) = refusals("ocean", properties, shared)
    assert said in problem


def test_problems_of_both_groups_are_told_together() -> None:
    shared = contest()
    shared["collab"]["volumes"]["team"] = "999Gi"
    fields = [p.split(": ")[0] for p in refusals("ocean", ocean(datasets=["x"]), shared)]
    assert fields == [
        "groups.ocean.collab.datasets[0]",
        'groups."contest.forecast".collab.tiers.large.storage',
        'groups."contest.forecast".collab.tiers.small.storage',
    ]


def test_a_spec_too_large_for_an_annotation_is_refused() -> None:
    images = {
        f"image-{i}": {"title": "x" * 200, "image": "registry.example.org/basic:1"}
        for i in range(1000)
    }
    (problem,) = refusals("ocean", OCEAN, contest(images=images))
    assert "kept on the team's namespace" in problem


@pytest.mark.parametrize("team", ["Ocean", "a--b", "", "contest.x", "a" * 31, "kube_system", "ö"])
def test_no_other_group_is_a_team(team: str) -> None:
    assert not is_team_group(team, OCEAN)
    assert refusals(team, OCEAN, CONTEST)


def test_a_group_without_our_corner_is_no_team() -> None:
    assert is_team_group("ocean", OCEAN)
    assert not is_team_group("ocean", {"theirs": 1})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.sampled_from(sorted(OCEAN["collab"])), JSON)
def test_whatever_stands_in_a_field_is_merged_or_refused_in_words(field: str, value: Any) -> None:
    """Somebody else may write to the hub's groups; nothing of it may crash hub or provisioner."""
    try:
        spec = merge_team_spec("ocean", ocean(**{field: value}), CONTEST)
    except SpecError as e:
        problems = [str(problem) for problem in e.problems]
    else:
        assert TeamSpec.model_validate_json(spec.to_canonical_json()) == spec
        return
    assert all(problem.startswith("groups.ocean.") for problem in problems)


@settings(deadline=None)
@given(st.sampled_from(sorted(CONTEST["collab"])), JSON)
def test_the_same_for_the_contest(field: str, value: Any) -> None:
    try:
        merge_team_spec("ocean", OCEAN, contest(**{field: value}))
    except SpecError as e:
        assert e.problems  # noqa: PT017 - no exception is as right as this one
