"""A contest's node pool: on every profile, refused where it cannot be, and nobody else's."""

from __future__ import annotations

from typing import Any, Final

import pytest

from jupyterhub_collab.errors import SpecError
from jupyterhub_collab.manifests.allowances import make_allowances
from jupyterhub_collab.models import Platform, TeamSpec
from jupyterhub_collab.policy.contest_manifest import parse_contest_manifest, to_groups
from jupyterhub_collab.policy.spec import check_platform, merge_team_spec

from .manifests import MANIFEST, replaced
from .test_contest_manifest import make_platform

POOL: Final = """\
  nodePool:
    nodeSelector: {contest: forecast}
    tolerations: [{key: contest, value: forecast, effect: NoSchedule}]
"""
TITLE: Final = "  title: Seasonal forecasts\n"
MEDIUM: Final = "  medium: {title: Medium, cpu: 1, memory: 4Gi}\n"
DRIVERS: Final = {"dataset_csi_drivers": ["files.example.org"]}


def manifest_with(pool: str = POOL, profiles: str = "") -> str:
    return replaced(TITLE, TITLE + pool).replace(MEDIUM, MEDIUM + profiles)


def spec_of(text: str, team: str = "ocean") -> TeamSpec:
    groups = to_groups(parse_contest_manifest(text, file="x"))
    return merge_team_spec(team, groups[team].properties, groups["contest.forecast"].properties)


def refusals(text: str, platform: Platform | None = None) -> list[str]:
    with pytest.raises(SpecError) as error:
        parse_contest_manifest(text, file="contest.yaml", platform=platform)
    return [str(problem) for problem in error.value.problems]


def test_every_profile_of_every_team_is_placed_on_it() -> None:
    gpu = (
        "  gpu:\n    title: GPU\n    cpu: 1\n    memory: 1Gi\n"
        "    nodeSelector: {accelerator: a100}\n"
        "    tolerations: [{key: gpu, operator: Exists, effect: NoSchedule}]\n"
    )
    for team in ("ocean", "ice"):
        profiles = spec_of(manifest_with(profiles=gpu), team).profiles
        assert profiles["medium"].node_selector == {"contest": "forecast"}
        assert profiles["gpu"].node_selector == {"accelerator": "a100", "contest": "forecast"}
        assert [t.key for t in profiles["medium"].tolerations] == ["contest"]
        assert [t.key for t in profiles["gpu"].tolerations] == ["gpu", "contest"]


def test_a_toleration_that_a_profile_has_already_stands_once() -> None:
    own = (
        "  own:\n    title: Own\n    cpu: 1\n    memory: 1Gi\n"
        "    tolerations: [{key: contest, value: forecast, effect: NoSchedule}]\n"
    )
    assert len(spec_of(manifest_with(profiles=own)).profiles["own"].tolerations) == 1


def test_without_a_pool_nothing_changes() -> None:
    """Specs of contests that have none keep their hash, and so their namespaces as they are."""
    spec = spec_of(MANIFEST)
    assert spec.profiles["medium"].node_selector == {}
    assert (
        "nodePool"
        not in to_groups(parse_contest_manifest(MANIFEST, file="x"))["contest.forecast"].properties[
            "collab"
        ]
    )


def test_what_the_cluster_lets_pods_tolerate_is_the_pools_too() -> None:
    """The admission policy reads it on the namespace: a server of another contest has it not."""
    with_pool = make_allowances(spec_of(manifest_with()), make_platform(**DRIVERS))
    without = make_allowances(spec_of(MANIFEST), make_platform(**DRIVERS))
    line = "contest|Equal|forecast|NoSchedule"
    assert line in str(with_pool)
    assert line not in str(without)


def test_a_profile_cannot_leave_the_pool() -> None:
    away = (
        "  away:\n    title: Away\n    cpu: 1\n    memory: 1Gi\n"
        "    nodeSelector: {contest: another}\n"
    )
    (problem,) = refusals(manifest_with(profiles=away))
    assert 'profiles.away.nodeSelector.contest: found "another"; expected "forecast"' in problem


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        ("  nodePool: {}\n", "nodeSelector"),
        ("  nodePool: {nodeSelector: {}}\n", "nodeSelector"),
        (
            "  nodePool:\n    nodeSelector: {a: b}\n    tolerations: [{key: x}]\n",
            "tolerations[0].effect",
        ),
        (
            "  nodePool:\n    nodeSelector: {a: b}\n"
            "    tolerations: [{key: x, operator: Exists, effect: NoExecute}]\n",
            "tolerations[0].effect",
        ),
    ],
)
def test_a_pool_without_labels_or_that_says_too_much_is_refused(pool: str, said: str) -> None:
    assert any(f"contest.nodePool.{said}" in problem for problem in refusals(manifest_with(pool)))


@pytest.mark.parametrize(
    ("key", "allowed", "said"),
    [
        ("contest", ["gpu"], "this platform's toleration keys"),
        ("node-role.kubernetes.io/control-plane", None, "other than the control plane's"),
    ],
)
def test_the_platform_says_what_may_be_tolerated(
    key: str, allowed: list[str] | None, said: str
) -> None:
    platform = make_platform(**DRIVERS, toleration_keys=allowed)
    text = manifest_with(POOL.replace("key: contest", f"key: {key}"))
    (problem,) = refusals(text, platform)
    assert "contest.nodePool.tolerations[0].key" in problem
    assert said in problem
    # And where a group was written past the manifest: each profile of the spec says it.
    found: list[Any] = list(check_platform(spec_of(text), platform))
    assert any(said in str(problem) for problem in found)
