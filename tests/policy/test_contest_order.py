"""No team is without valid settings while a manifest is applied: every state on the way."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_collab.constants import PROPERTIES_KEY
from jupyterhub_collab.errors import SpecError
from jupyterhub_collab.models import ContestManifest, HubGroup
from jupyterhub_collab.policy.contest_manifest import (
    KIND,
    ContestPlan,
    GroupChange,
    parse_contest_manifest,
    plan_contest,
    to_groups,
)
from jupyterhub_collab.policy.contest_order import NAMED_BY_TEAMS, WriteOrder, order_writes
from jupyterhub_collab.policy.document_file import API_VERSION
from jupyterhub_collab.policy.spec import (
    check_team,
    merge_team_spec,
    to_contest_properties,
    to_team_properties,
)

Groups = dict[str, HubGroup]
SHARED = "contest.sea"


def tier(gib: int) -> dict[str, Any]:
    return {
        "cpu": 2,
        "memory": "8Gi",
        "storage": f"{gib}Gi",
        "ephemeralStorage": "10Gi",
        "pods": 2,
    }


def dataset() -> dict[str, Any]:
    return {"title": "Data", "nfs": {"server": "files.example.org", "path": "/x"}}


def document(
    tiers: dict[str, int], teams: dict[str, Any], *, volume: int = 1, datasets: str = ""
) -> dict[str, Any]:
    """A manifest: storage of each tier and of each team's volume in GiB."""
    return {
        "contest": {"id": "sea", "title": "Sea"},
        "tiers": {key: tier(gib) for key, gib in tiers.items()},
        "images": {"basic": {"title": "Basic", "image": "registry.example.org/basic:1"}},
        "profiles": {"small": {"title": "Small", "cpu": 1, "memory": "1Gi"}},
        "volumes": {"team": f"{volume}Gi", "personal": "1Gi"},
        "datasets": {key: dataset() for key in datasets.split()},
        "teams": {
            key: {"members": [], **(entry if isinstance(entry, dict) else {"tier": entry})}
            for key, entry in teams.items()
        },
    }


def make_manifest(raw: dict[str, Any]) -> ContestManifest:
    text = json.dumps({"apiVersion": API_VERSION, "kind": KIND, **raw})  # JSON is YAML
    return parse_contest_manifest(text, file="contest.yaml")


def groups_of(raw: dict[str, Any]) -> Groups:
    """The hub after this manifest was applied to an empty one."""
    return after({}, plan_contest(make_manifest(raw), {}).changes)


def after(groups: Groups, changes: tuple[GroupChange, ...]) -> Groups:
    found = dict(groups)
    for change in changes:
        old = found.get(change.group, HubGroup(change.group, {}, ()))
        properties = old.properties if change.properties is None else change.properties
        found[change.group] = HubGroup(change.group, properties, old.users)
    return found


def broken(groups: Groups) -> set[str]:
    """Teams that have no valid spec."""
    found = set()
    for name, group in groups.items():
        if name != SHARED and group.properties:
            shared = groups.get(SHARED)
            try:
                merge_team_spec(name, group.properties, shared.properties if shared else None)
            except SpecError:
                found.add(name)
    return found


def states(groups: Groups, order: WriteOrder) -> Iterator[Groups]:
    """Every state that may be seen: in one step any of its writes may have been done."""
    for step in order.steps:
        for count in range(1, len(step) + 1):
            for done in itertools.combinations(step, count):
                yield after(groups, done)
        groups = after(groups, step)


def check(before: dict[str, Any], wanted: dict[str, Any]) -> tuple[ContestPlan, WriteOrder]:
    """Nobody breaks on the way, and the end is what the manifest says."""
    groups = groups_of(before)
    assert not broken(groups)
    manifest = make_manifest(wanted)
    plan = plan_contest(manifest, groups)
    order = order_writes(plan, groups)
    final = groups
    for state in states(groups, order):
        final = state
        if order.is_seamless:
            assert broken(state) <= set(plan.gone), [c.group for s in order.steps for c in s]
    assert plan_contest(manifest, final).is_empty
    for name in to_groups(manifest):
        generation = final[name].properties["collab"]["generation"]
        old = groups[name].properties["collab"]["generation"] if name in groups else 0
        assert generation >= old
    return plan, order


def names_of(order: WriteOrder) -> list[set[str]]:
    return [{change.group for change in step} for step in order.steps]


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[set[str]]]] = {
    "a tier is new": (
        document({"small": 20}, {"ocean": "small"}),
        document({"small": 20, "large": 40}, {"ocean": "large"}),
        [{SHARED}, {"ocean"}],
    ),
    "a tier is dropped": (
        document({"small": 20, "large": 40}, {"ocean": "large", "ice": "small"}),
        document({"small": 20}, {"ocean": "small", "ice": "small"}),
        [{"ocean"}, {SHARED}],
    ),
    "a tier is renamed": (
        document({"small": 20}, {"ocean": "small", "ice": "small"}),
        document({"tiny": 20}, {"ocean": "tiny", "ice": "tiny"}),
        [{SHARED}, {"ocean", "ice"}, {SHARED}],
    ),
    "two tiers change names": (
        document({"a": 20, "b": 40}, {"ocean": "a", "ice": "b"}),
        document({"b": 20, "a": 40}, {"ocean": "b", "ice": "a"}),
        [{SHARED}, {"ice", "ocean"}],
    ),
    "a tier is renamed, and volumes outgrow the old one": (
        document({"small": 10}, {"ocean": "small"}),
        document({"large": 100}, {"ocean": "large"}, volume=50),
        [{SHARED}, {"ocean"}, {SHARED}],
    ),
    "a tier is renamed, and volumes shrink below the new one": (
        document({"large": 100}, {"ocean": "large"}, volume=50),
        document({"small": 10}, {"ocean": "small"}),
        [{SHARED}, {"ocean"}, {SHARED}],
    ),
    "volumes grow, and a team's own limit with them": (
        document({"small": 100}, {"ocean": {"tier": "small", "overrides": {"storage": "5Gi"}}}),
        document(
            {"small": 100},
            {"ocean": {"tier": "small", "overrides": {"storage": "90Gi"}}},
            volume=50,
        ),
        [{"ocean"}, {SHARED}],
    ),
    "volumes shrink, and a team's own limit with them": (
        document(
            {"small": 100},
            {"ocean": {"tier": "small", "overrides": {"storage": "90Gi"}}},
            volume=50,
        ),
        document({"small": 100}, {"ocean": {"tier": "small", "overrides": {"storage": "5Gi"}}}),
        [{SHARED}, {"ocean"}],
    ),
    "a data set is dropped": (
        document({"s": 20}, {"ocean": {"tier": "s", "datasets": ["x"]}}, datasets="x"),
        document({"s": 20}, {"ocean": "s"}),
        [{"ocean"}, {SHARED}],
    ),
    "one team has to go first, another last": (
        document({"a": 20, "b": 20}, {"ocean": "a", "ice": "b"}),
        document({"b": 20, "c": 20}, {"ocean": "b", "ice": "c"}),
        [{"ocean"}, {SHARED}, {"ice"}],
    ),
    "a team that is gone names the dropped tier": (
        document({"a": 20, "b": 20}, {"ocean": "a", "ice": "b"}),
        document({"b": 20}, {"ice": "b"}),
        [{SHARED}],
    ),
    "all is new": (
        document({"a": 20}, {}),
        document({"a": 20, "b": 20}, {"ocean": "a", "ice": "b"}),
        [{SHARED}, {"ocean", "ice"}],
    ),
}


@pytest.mark.parametrize(("before", "wanted", "steps"), CASES.values(), ids=CASES)
def test_orders(before: dict[str, Any], wanted: dict[str, Any], steps: list[set[str]]) -> None:
    _, order = check(before, wanted)
    assert order.is_seamless
    assert names_of(order) == steps


def test_an_apply_that_was_cut_short_goes_on_without_a_seam() -> None:
    """From each state on the way the next plan leads to the same end."""
    before, wanted, _ = CASES["a tier is renamed"]
    groups = groups_of(before)
    manifest = make_manifest(wanted)
    for state in states(groups, order_writes(plan_contest(manifest, groups), groups)):
        plan = plan_contest(manifest, state)
        order = order_writes(plan, state)
        assert order.is_seamless
        for later in states(state, order):
            assert not broken(later)


def test_a_team_that_is_broken_already_is_put_right() -> None:
    raw = document({"a": 20}, {"ocean": "a", "ice": "a"})
    groups = groups_of(raw)
    corner = {**groups["ocean"].properties["collab"], "tier": "nowhere"}
    groups["ocean"] = HubGroup("ocean", {"collab": corner}, ())
    renamed = make_manifest(document({"b": 20}, {"ocean": "b", "ice": "b"}))
    order = order_writes(plan_contest(renamed, groups), groups)
    assert order.is_seamless
    for state in states(groups, order):
        assert "ice" not in broken(state)
    assert not broken(state)


def test_where_no_order_is_without_a_seam_the_contest_comes_first() -> None:
    """Old and new data sets together are more than a spec may hold."""
    team = {"tier": "s", "members": []}

    def many(letter: str) -> dict[str, Any]:
        names = [f"{letter}{i}" for i in range(400)]
        raw = document({"s": 20}, {"ocean": {**team, "datasets": names[:1]}})
        return {**raw, "datasets": {name: {**dataset(), "title": "x" * 200} for name in names}}

    _, order = check(many("d"), many("e"))
    assert not order.is_seamless
    assert names_of(order) == [{SHARED}, {"ocean"}]


KEYS = st.sampled_from(["a", "b", "c"])


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    volume = draw(st.sampled_from([1, 30]))
    least = volume + 2
    sizes = st.sampled_from([least, least + 5, 60])
    tiers = draw(st.dictionaries(KEYS, sizes, min_size=1, max_size=3))
    data = draw(st.sets(st.sampled_from(["x", "y"])))
    teams = {}
    for team in draw(st.sets(st.sampled_from(["ocean", "ice", "wind"]))):
        entry: dict[str, Any] = {"tier": draw(st.sampled_from(sorted(tiers)))}
        if data:
            entry["datasets"] = sorted(draw(st.sets(st.sampled_from(sorted(data)))))
        if draw(st.booleans()):
            entry["overrides"] = {"storage": f"{draw(sizes)}Gi"}
        teams[team] = entry
    return document(tiers, teams, volume=volume, datasets=" ".join(sorted(data)))


@given(documents(), documents())
def test_any_manifest_after_any_other(before: dict[str, Any], wanted: dict[str, Any]) -> None:
    _, order = check(before, wanted)
    assert order.is_seamless


def test_what_teams_name_is_what_they_cannot_be_without() -> None:
    """One list for who writes groups, and for who decides that their order matters."""
    raw = document({"s": 20}, {"ocean": {"tier": "s", "datasets": ["d"]}}, datasets="d")
    raw["rounds"] = [{"title": "One"}]
    groups = groups_of(raw)
    corner = groups[SHARED].properties[PROPERTIES_KEY]
    team = {**groups["ocean"].properties[PROPERTIES_KEY], "round": 1}
    mine = to_team_properties("ocean", {PROPERTIES_KEY: team})
    named = set()
    for key, value in corner.items():
        if isinstance(value, (dict, list)) and value:
            less = {**corner, key: type(value)()}
            contest = to_contest_properties("sea", {PROPERTIES_KEY: less})
            if check_team(mine, contest):
                named.add(key)
    assert named == set(NAMED_BY_TEAMS)
