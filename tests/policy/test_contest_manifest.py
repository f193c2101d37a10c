"""The contest manifest: errors with file and line, YAML's traps, schema, groups and plans."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyterhub_collab.errors import SpecError
from jupyterhub_collab.models import HubDecider, HubGroup, Platform
from jupyterhub_collab.policy.contest_manifest import (
    Action,
    ContestPlan,
    contest_schema,
    parse_contest_manifest,
    plan_contest,
    to_groups,
)
from jupyterhub_collab.policy.located_yaml import MAX_BYTES, parse_yaml
from jupyterhub_collab.policy.problems import DocumentError
from jupyterhub_collab.policy.roster import to_text
from jupyterhub_collab.policy.spec import merge_team_spec

from .manifests import MANIFEST, replaced

SCHEMA = Path(__file__).parents[2] / "docs" / "schema" / "contest-v1alpha1.schema.json"
OCEAN = "    tier: large\n"
MEMBERS = "members: [ada, bob]"
TITLE = "title: Seasonal forecasts"
MIRROR = "    cidr: 151.101.0.0/16\n"


def refusals(text: str | bytes, platform: Platform | None = None) -> list[str]:
    with pytest.raises(SpecError) as error:
        parse_contest_manifest(text, file="contest.yaml", platform=platform)
    return [str(problem) for problem in error.value.problems]


def parse(text: str | bytes = MANIFEST) -> Any:
    return parse_contest_manifest(text, file="contest.yaml")


def test_the_manifest_that_the_others_change_is_right() -> None:
    manifest = parse()
    assert manifest.teams["ocean"].members == ("ada", "bob")
    assert manifest.tiers["large"].cpu_millicores == 8000
    assert list(manifest.images) == ["basic", "deep"]


def test_a_contest_without_end_and_teams_is_one() -> None:
    text = replaced("  ends: 2027-06-30T22:00:00Z\n", "").split("teams:")[0]
    assert parse(text).contest.ends is None


ONE_PROBLEM = [
    (
        OCEAN,
        "    tier: lagre\n",
        'contest.yaml:26: teams.ocean.tier: found "lagre"; expected one of: large, small'
        ' (did you mean "large"?)',
    ),
    (
        OCEAN,
        OCEAN + "    teir: large\n",
        "contest.yaml:27: teams.ocean.teir: found an unknown field; expected one of: datasets,"
        ' gate, members, overrides, retention, tier, title (did you mean "tier"?)',
    ),
    (
        OCEAN,
        "",
        "contest.yaml:25: teams.ocean.tier: found nothing; expected a lower-case letter",
    ),
    (
        "cpu: 8,",
        "cpu: many,",
        'contest.yaml:8: tiers.large.cpu: found "many"; expected a quantity such as 2',
    ),
    (
        "cpu: 8,",
        "cpu_millicores: 8, cpu: 8,",
        "contest.yaml:8: tiers.large.cpu_millicores: found an unknown field",
    ),
    ("cpu: 8,", "cpu: -8,", "contest.yaml:8: tiers.large.cpu: found -8; expected a quantity"),
    ("cpu: 8,", "cpu: .inf,", 'contest.yaml:8: tiers.large.cpu: found ".inf"; expected a quantity'),
    ("cpu: 8,", "cpu: ,", "contest.yaml:8: tiers.large.cpu: found nothing; expected a quantity"),
    (
        "pods: 4",
        'pods: "4"',
        'contest.yaml:8: tiers.large.pods: found "4"; expected a whole number',
    ),
    (
        "T22:00:00Z",
        "",
        'contest.yaml:6: contest.ends: found "2027-06-30"; expected a date and time with its zone',
    ),
    (
        "T22:00:00Z",
        "T22:00:00",
        'contest.yaml:6: contest.ends: found "2027-06-30T22:00:00"; expected a date and time with',
    ),
    (
        "2027-06-30T22:00:00Z",
        "20270630",
        "contest.yaml:6: contest.ends: found 20270630; expected a date and time with its zone",
    ),
    ("kind: Contest", "kind: Pod", 'contest.yaml:2: kind: found "Pod"; expected Contest'),
    (
        MIRROR,
        "    cidr: 151.101.0.1/16\n",
        'contest.yaml:18: egress[0].cidr: found "151.101.0.1/16"; expected a network without host'
        " bits, such as 151.101.0.0/16 (did you mean 151.101.0.0/16?)",
    ),
    (
        MIRROR,
        "    cidr: 5\n",
        "contest.yaml:18: egress[0].cidr: found 5; expected a network",
    ),
    (
        MIRROR,
        "    cidr: 169.254.169.254/32\n",
        "contest.yaml:18: egress[0].cidr: found 169.254.169.254/32, which is link-local",
    ),
    (
        MIRROR,
        "    cidr: 10.1.0.0/16\n",
        "contest.yaml:18: egress[0].cidr: found 10.1.0.0/16, which is private (10.0.0.0/8)",
    ),
    (
        "{port: 443}",
        "{port: 443, endPort: 80}",
        "contest.yaml:19: egress[0].ports[0].endPort: found 80; expected at least 443",
    ),
    ("    datasets: [sst]", "    datasets: [tss]", "contest.yaml:27: teams.ocean.datasets[0]"),
    (
        "csi: {driver: files.example.org, volumeHandle: sst}",
        "size: 1Gi",
        "contest.yaml:21: datasets.sst: found neither csi nor nfs; expected exactly one",
    ),
    (
        "title: Medium, cpu: 1,",
        "title: Medium, cpu: 9,",
        "contest.yaml:14: profiles.medium: found cpu 9, memory 4Gi, gpu 0, ephemeralStorage 1Gi;"
        " expected a size that fits into one of the tiers (large, small)",
    ),
    (
        "title: Medium, cpu: 1,",
        "title: Medium, images: [basc], cpu: 1,",
        'contest.yaml:14: profiles.medium.images[0]: found "basc"; expected one of: basic, deep'
        ' (did you mean "basic"?)',
    ),
    (
        "team: 5Gi",
        "team: 20Gi",
        'contest.yaml:9: tiers.small.storage: found "20Gi"; expected at least volumes.team and one',
    ),
    (MEMBERS, "members: [ada, ada]", 'teams.ocean.members[1]: found "ada" again'),
    (MEMBERS, "members: [ada, true]", "teams.ocean.members[1]: found true; expected text"),
    (MEMBERS, "members: [ada, 7]", "teams.ocean.members[1]: found 7; expected text"),
    (MEMBERS, "members: [a/b]", 'found "a/b"; expected a user name of 1 to 255 characters'),
    (MEMBERS, 'members: [" ada"]', 'found " ada"; expected a user name without spaces'),
    (MEMBERS, "members: ada", 'contest.yaml:28: teams.ocean.members: found "ada"; expected a list'),
    ("  ice:\n", "  NO:\n", 'contest.yaml:29: teams.NO: found "NO"; expected a lower-case letter'),
    (
        "  ice:\n",
        "  i--ce:\n",
        'contest.yaml:29: teams.i--ce: found "i--ce"; expected a lower-case',
    ),
    ("  ice:\n", f"  {'i' * 31}:\n", "expected at most 30 characters"),
    ("  ice:\n", "  null:\n", "teams.null: found the key null, which YAML does not read as text"),
    ("  ice:\n", "  ocean:\n", "contest.yaml:29: teams.ocean: found the key a second time;"),
    ("  ice:\n", "\tice:\n", "contest.yaml:29: (YAML): found a tab; expected spaces"),
    (TITLE, "title: *x", "(YAML): found an alias to nothing"),
    (TITLE, "title: !!python/name:os.system x", "contest.title: found the tag"),
    (TITLE, "title: [x]", "contest.yaml:5: contest.title: found a list; expected text"),
    (TITLE, f"title: {'x' * 201}", "contest.title: found"),
    (TITLE, "title: &a [*a]", "found an alias to what holds it"),
    (TITLE, "title: 'x", "(YAML): found"),
    ("  ice:\n", "---\nice:\n", "found a second document; expected one document"),
    (TITLE, "title: \x00", "found a character that YAML forbids"),
    ("  ice:\n", "  ? [a]\n  :\n", "a key that is a list or a mapping"),
]


@pytest.mark.parametrize(("old", "new", "said"), ONE_PROBLEM, ids=[c[2][:60] for c in ONE_PROBLEM])
def test_one_mistake_gets_one_sentence(old: str, new: str, said: str) -> None:
    (problem,) = refusals(replaced(old, new))
    assert said in problem
    assert problem.startswith("contest.yaml:")


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = MANIFEST.replace("cpu: 8", "cpu: x").replace("pods: 2", "pods: x")
    text = text.replace("port: 443", "port: 0").replace("tier: small", "tier: 1")
    problems = refusals(text)
    assert [p.split(": ")[1] for p in problems] == [
        "tiers.large.cpu",
        "tiers.small.pods",
        "egress[0].ports[0].port",
        "teams.ice.tier",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found an empty file"),
        ("# nothing\n", "found an empty file"),
        ("- a\n", "found a list; expected a mapping"),
        ("just text", 'found "just text"; expected a mapping'),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "found bytes that are no UTF-8 text"),
        (b"\xff\xfea\x00", "found bytes that are no UTF-8 text"),
        (b"x" * (MAX_BYTES + 1), f"expected at most {MAX_BYTES} bytes"),
        ("[" * 10_000, "more than 32 levels"),
        ("{a: " * 10_000, "more than 32 levels"),
    ],
    ids=["empty", "comment", "list", "text", "png", "utf-16", "large", "deep", "deep-map"],
)
def test_what_is_no_manifest_at_all(text: str | bytes, said: str) -> None:
    (problem,) = refusals(text)
    assert said in problem


def test_a_bomb_of_aliases_goes_off_in_nobodys_hands() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for i in range(1, 12):
        lines.append(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]")  # 10**12 entries
    started = time.process_time()
    (problem,) = refusals("\n".join(lines))
    assert "aliases that stand for more than" in problem
    assert time.process_time() - started < 20


def test_aliases_within_reason_are_welcome() -> None:
    text = replaced("ports: [{port: 443}]", "ports: &web [{port: 443}]")
    text = text.replace(
        "datasets:\n", "  - {name: b, cidr: 8.8.8.0/24, ports: *web}\ndatasets:\n", 1
    )
    assert parse(text).egress[1].ports == parse().egress[0].ports


def test_numbers_that_are_names_stay_names() -> None:
    manifest = parse(replaced(MEMBERS, "members: [007, NO, on, 1e5x, 0x1F, 1:30, 2027-01-01]"))
    assert manifest.teams["ocean"].members == (
        *("007", "NO", "on", "1e5x", "0x1F", "1:30", "2027-01-01"),
    )


def test_a_byte_order_mark_and_windows_lines_do_no_harm() -> None:
    assert parse(b"\xef\xbb\xbf" + MANIFEST.replace("\n", "\r\n").encode()) == parse()


@settings(deadline=None)
@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_file_is_either_read_or_refused_in_words(text: str | bytes) -> None:
    problems = refusals(text)
    assert all(p.startswith("contest.yaml:") for p in problems)


PLACES = [
    "Seasonal forecasts",
    "forecast\n",
    "32Gi",
    "basic:1",
    "443",
    "151.101.0.0/16",
    "ada, bob",
]


@settings(deadline=None)
@given(st.sampled_from(PLACES), st.text(max_size=30))
def test_any_scalar_is_either_read_or_refused_in_words(place: str, scalar: str) -> None:
    text = MANIFEST.replace(place, scalar, 1)
    problems, manifest = [], None
    try:
        manifest = parse(text)
    except SpecError as e:
        problems = list(e.problems)
    assert (manifest is None) == bool(problems)
    assert all(p.line and p.found and p.expected for p in problems)
    if manifest is not None:
        assert plan_contest(manifest, apply(plan_contest(manifest, {}), {})).is_empty


def make_platform(**more: Any) -> Platform:
    end = {"host": "h", "address": "10.0.0.1", "port": 80, "peer": {"cidr": "10.0.0.1/32"}}
    return Platform.model_validate({"hub_api": end, "proxy": end, **more})


def test_a_known_platform_is_asked() -> None:
    (problem,) = refusals(MANIFEST, make_platform(dataset_csi_drivers=["files.exmple.org"]))
    assert "contest.yaml:23: datasets.sst.csi.driver" in problem
    assert 'did you mean "files.exmple.org"?' in problem
    platform = make_platform(
        dataset_csi_drivers=["files.example.org"], private_ranges_allowed=["10.1.0.0/16"]
    )
    private = replaced(MIRROR, "    cidr: 10.1.2.0/24\n")
    parse_contest_manifest(private, file="x", platform=platform)
    (problem,) = refusals(replaced(MIRROR, "    cidr: 10.2.0.0/24\n"), platform)
    assert "private" in problem
    taken = platform.model_copy(update={"hub_namespace": "team-ice"})
    (problem,) = refusals(MANIFEST, taken)
    assert problem.startswith("contest.yaml:29: teams.ice: found")


def test_protected_data_is_refused_unless_the_platform_records_mounts() -> None:
    title = "    title: Sea surface temperatures\n"
    text = replaced(title, title + "    protected: true\n")
    drivers = ["files.example.org"]
    for platform in (None, make_platform(dataset_csi_drivers=drivers)):
        (problem,) = refusals(text, platform)
        assert problem.startswith(
            "contest.yaml:23: datasets.sst.protected: found true; expected false: reads from a"
        )
    recorded = make_platform(dataset_csi_drivers=drivers, protected_data="mounts-recorded")
    manifest = parse_contest_manifest(text, file="x", platform=recorded)
    assert manifest.datasets["sst"].protected


MEDIUM = "medium: {title: Medium, cpu: 1, memory: 4Gi"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            "tolerations: [{key: gpu, operator: Exists}]",
            "tolerations[0].effect: found nothing; expected one of: NoSchedule, PreferNoSchedule",
        ),
        (
            "tolerations: [{key: gpu, effect: null}]",
            "tolerations[0].effect: found nothing; expected",
        ),
        (
            "tolerations: [{key: gpu, effect: NoExecute}]",
            'tolerations[0].effect: found "NoExecute"; expected one of: NoSchedule',
        ),
        (
            "priorityClass: system-node-critical",
            'priorityClass: found "system-node-critical"; expected a class that does not begin',
        ),
        (
            "priorityClass: jupyterhub-collab-home",
            'priorityClass: found "jupyterhub-collab-home"; expected a class of your own',
        ),
    ],
)
def test_a_profile_takes_no_place_from_the_cluster_s_own_pods(more: str, said: str) -> None:
    (problem,) = refusals(replaced(MEDIUM, f"{MEDIUM}, {more}"))
    assert f"contest.yaml:14: profiles.medium.{said}" in problem


def test_tolerations_and_priority_classes_of_the_host_are_taken() -> None:
    more = "tolerations: [{key: gpu, effect: NoSchedule}], priorityClass: contest"
    profile = parse(replaced(MEDIUM, f"{MEDIUM}, {more}")).profiles["medium"]
    assert profile.tolerations[0].effect == "NoSchedule"
    assert profile.priority_class == "contest"


def test_the_published_schema_is_the_code_s() -> None:
    text = json.dumps(contest_schema(), indent=2) + "\n"
    assert SCHEMA.read_text() == text, "run: jupyterhub-collab schema > docs/schema/..."


def test_the_schema_agrees_with_the_parser() -> None:
    """What the schema refuses, the parser refuses; the parser knows more."""
    schema = contest_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)

    def is_refused(text: str) -> bool:
        try:
            return not validator.is_valid(parse_yaml(text)[0])
        except DocumentError:
            return False  # no YAML: not the schema's to say

    assert not is_refused(MANIFEST)
    # Every one of these is refused by the parser (above); the schema sees form, names, grammar.
    refused = [said for old, new, said in ONE_PROBLEM if is_refused(replaced(old, new))]
    assert len(refused) > 15


def apply(plan: ContestPlan, groups: dict[str, HubGroup]) -> dict[str, HubGroup]:
    """What the hub's groups are after the plan."""
    after = dict(groups)
    for change in plan.changes:
        old = after.get(change.group, HubGroup(change.group, {}, ()))
        users = [u for u in old.users if u not in change.remove] + list(change.add)
        properties = old.properties if change.properties is None else change.properties
        # As over the wire.
        after[change.group] = HubGroup(
            change.group, json.loads(json.dumps(properties)), tuple(users)
        )
    return after


def test_groups_merge_to_the_teams_specs() -> None:
    groups = to_groups(parse())
    assert list(groups) == ["contest.forecast", "ocean", "ice"]
    assert groups["contest.forecast"].users == ()
    shared = groups["contest.forecast"].properties
    ocean = merge_team_spec("ocean", groups["ocean"].properties, shared)
    assert ocean.tier == parse().tiers["large"]
    assert list(ocean.datasets) == ["sst"]
    assert list(merge_team_spec("ice", groups["ice"].properties, shared).datasets) == []


def test_a_plan_applied_leaves_nothing_to_do() -> None:
    plan = plan_contest(parse(), {})
    assert [c.group for c in plan.changes] == ["contest.forecast", "ocean", "ice"]
    assert {c.action for c in plan.changes} == {Action.CREATE}
    groups = apply(plan, {})
    assert plan_contest(parse(), groups).is_empty
    assert all(g.properties["collab"]["generation"] == 1 for g in groups.values())


def test_only_what_changed_gets_a_new_generation() -> None:
    groups = apply(plan_contest(parse(), {}), {})
    plan = plan_contest(parse(replaced("    tier: small\n", "    tier: large\n")), groups)
    (change,) = plan.changes
    assert (change.group, change.action, change.exists) == ("ice", Action.CHANGE, True)
    assert [(f.field, f.before, f.after) for f in change.fields] == [("tier", '"small"', '"large"')]
    assert apply(plan, groups)["ice"].properties["collab"]["generation"] == 2
    assert apply(plan, groups)["ocean"] == groups["ocean"]


def test_the_order_of_images_counts_since_the_first_is_the_default() -> None:
    groups = apply(plan_contest(parse(), {}), {})
    lines = MANIFEST.splitlines(keepends=True)
    basic = next(i for i, line in enumerate(lines) if line.startswith("  basic:"))
    lines[basic], lines[basic + 1] = lines[basic + 1], lines[basic]
    (change,) = plan_contest(parse("".join(lines)), groups).changes
    assert [(f.field, f.before, f.after) for f in change.fields] == [
        ("images", "basic, deep", "deep, basic")
    ]


def test_members_come_and_go_without_touching_properties() -> None:
    groups = apply(plan_contest(parse(), {}), {})
    (change,) = plan_contest(parse(replaced(MEMBERS, "members: [bob, eve]")), groups).changes
    assert (change.add, change.remove, change.properties) == (("eve",), ("ada",), None)


def test_a_team_gone_is_reported_and_kept() -> None:
    groups = apply(plan_contest(parse(), {}), {})
    plan = plan_contest(parse(MANIFEST.split("  ice:")[0]), groups)
    assert (plan.changes, plan.gone, plan.is_empty) == ((), ("ice",), True)


def test_what_others_keep_in_a_group_stays() -> None:
    groups = apply(plan_contest(parse(), {}), {})
    ice = groups["ice"]
    groups["ice"] = replace(ice, properties={"theirs": [1], **ice.properties})
    (change,) = plan_contest(parse(replaced("    tier: small\n", OCEAN)), groups).changes
    assert change.properties is not None
    assert change.properties["theirs"] == [1]


def test_foreign_groups_are_never_adopted() -> None:
    other = {"collab": {"generation": 1, "contest": "another", "tier": "x"}}
    current = {
        "ocean": HubGroup("ocean", other, ("eve",)),
        "ice": HubGroup("ice", {}, ("eve",)),
        "contest.forecast": HubGroup("contest.forecast", {"theirs": 1}, ()),
    }
    with pytest.raises(SpecError) as error:
        plan_contest(parse(), current)
    assert [p.field for p in error.value.problems] == ["contest.id", "teams.ocean", "teams.ice"]
    assert 'the contest "another"' in error.value.problems[1].found


def test_an_empty_group_is_what_an_interrupted_apply_leaves() -> None:
    plan = plan_contest(parse(), {"ocean": HubGroup("ocean", {}, ())})
    change = next(c for c in plan.changes if c.group == "ocean")
    assert (change.action, change.exists) == (Action.CREATE, True)


@pytest.mark.parametrize(
    ("contest", "team", "retention", "gate"),
    [
        ("", "", "keep", "open"),
        ("", "retention: destroy", "destroy", "closed"),
        ("retention: destroy", "", "destroy", "closed"),
        ("retention: destroy", "retention: keep", "keep", "open"),
    ],
)
def test_who_decides_that_a_team_is_destroyed(
    contest: str, team: str, retention: str, gate: str
) -> None:
    """Team before contest; and nothing starts any more in what is to be destroyed."""
    text = replaced(TITLE, f"{TITLE}\n  {contest}".rstrip())
    text = text.replace(OCEAN, f"{OCEAN}    {team}".rstrip() + "\n")
    groups = to_groups(parse(text))
    assert groups["ocean"].properties["collab"]["retention"] == retention
    shared = groups["contest.forecast"].properties
    spec = merge_team_spec("ocean", groups["ocean"].properties, shared)
    assert spec.gate.value == gate


def test_a_retention_that_is_misspelt_decides_nothing() -> None:
    (problem,) = refusals(replaced(OCEAN, OCEAN + "    retention: destory\n"))
    assert 'contest.yaml:27: teams.ocean.retention: found "destory"' in problem
    assert "destroy" in problem.split("expected")[1]


TEAM_NAMES = st.sampled_from(["ocean", "ice", "wind"])
TEAMS = st.dictionaries(
    TEAM_NAMES,
    st.fixed_dictionaries(
        {"tier": st.sampled_from(["large", "small"])},
        optional={
            "members": st.lists(st.sampled_from(["ada", "bob", "eve"]), unique=True),
            "gate": st.sampled_from(["open", "frozen", "closed"]),
            "retention": st.sampled_from(["keep", "destroy"]),
            "title": st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=20),
            "overrides": st.fixed_dictionaries({"gpu": st.integers(0, 4)}),
        },
    ),
)


@pytest.mark.parametrize("members", ["", "    members: []\n"])
def test_a_team_without_members_loses_all_and_whoever_writes_it_is_told(members: str) -> None:
    groups = apply(plan_contest(parse(), {}), {})
    plan = plan_contest(parse(replaced(f"    {MEMBERS}\n", members)), groups)
    assert [(change.group, change.remove) for change in plan.changes] == [("ocean", ("ada", "bob"))]
    field = contest_schema()["$defs"]["TeamEntry"]["properties"]["members"]
    assert "everybody leaves" in field["description"], "editors show it"
    guide = (Path(__file__).parents[2] / "docs" / "contest-manifest.md").read_text()
    assert "**A team whose `members` are left out, or empty, loses all of them**" in guide


@settings(deadline=None)
@given(TEAMS, TEAMS)
def test_any_change_is_planned_once(first: Any, second: Any) -> None:
    """Whatever the hub held before, after one apply the next plan is empty."""
    base = parse_yaml(MANIFEST)[0]
    groups: dict[str, HubGroup] = {}
    for teams in (first, second):
        manifest = parse(json.dumps({**base, "teams": teams}, ensure_ascii=False))
        plan = plan_contest(manifest, groups)
        groups = apply(plan, groups)
        again = plan_contest(manifest, groups)
        assert again.is_empty
        assert set(again.gone) == (set(groups) - {"contest.forecast"} - set(teams))
        for team, entry in teams.items():
            assert sorted(groups[team].users) == sorted(entry.get("members", []))


def test_the_example_of_the_guide_is_right() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "contest-manifest.md").read_text()
    blocks = [part.split("```")[0] for part in guide.split("```yaml\n")[1:]]
    manifest = parse(next(block for block in blocks if block.startswith("apiVersion")))
    assert manifest.teams["ice"].overrides.memory_bytes == 24 << 30
    schema = jsonschema.Draft202012Validator(contest_schema())
    assert schema.is_valid(parse_yaml(blocks[0])[0])


ROSTER_PROBLEMS = [
    (
        "[ada, {issuer: lab}]",
        "members[1].subject: found nothing; expected text",
    ),
    (
        "[{issuer: lab, subjct: x, subject: y}]",
        "members[0].subjct: found an unknown field; expected one of: issuer, subject"
        ' (did you mean "subject"?)',
    ),
    (
        "[{issuer: lab, email: ada, }]",
        'members[0].email: found "ada"; expected an e-mail address and nothing else, such as ada@',
    ),
    (
        "[{issuer: lab, email: a@x.org, subject: y}]",
        "members[0].subject: found an unknown field; expected one of: email, issuer",
    ),
    ("[{issuer: lab, subject: 7}]", "members[0].subject: found 7; expected text (in quotes"),
    ("[{}]", "members[0].issuer: found nothing; expected text"),
    ("[[ada]]", "members[0]: found a list; expected text (in quotes"),
    ("[12]", "members[0]: found 12; expected text (in quotes"),
    ("[a/b]", 'members[0]: found "a/b"; expected a user name of 1 to 255 characters without'),
    (
        "[{issuer: lab, email: A@x.org}, {issuer: lab, email: a@X.org}]",
        'members[1]: found "a@X.org of lab (invited)" again; expected each member once',
    ),
    (
        "[{issuer: lab, subject: x}, {subject: x, issuer: lab}]",
        'members[1]: found "x of lab" again; expected each member once',
    ),
]


@pytest.mark.parametrize(("members", "said"), ROSTER_PROBLEMS)
def test_a_wrong_entry_of_a_roster_is_told_by_field_and_line(members: str, said: str) -> None:
    found = refusals(replaced(MEMBERS, f"members: {members}"))
    assert found[0].startswith(f"contest.yaml:28: teams.ocean.{said}"), found[0]


def test_entries_on_lines_of_their_own_have_those_lines() -> None:
    text = """members:
      - ada
      - issuer: lab
        email: nobody
      - {issuer: lab, subject: "4711"}
      - issuer: lab
        subject: "4711"
"""
    found = refusals(replaced(MEMBERS, text.rstrip()))
    assert found[0].startswith("contest.yaml:31: teams.ocean.members[1].email: ")


def test_the_schema_takes_what_the_parser_takes_of_rosters() -> None:
    text = replaced(MEMBERS, "members: [ada, {issuer: lab, subject: x}, {issuer: lab, email: a@b}]")
    parse(text)
    schema = contest_schema()
    value, _ = parse_yaml(text)
    jsonschema.validate(value, schema)
    for bad, _ in ROSTER_PROBLEMS[:8]:
        value, _ = parse_yaml(replaced(MEMBERS, f"members: {bad}"))
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(value, schema)


HUB = HubDecider(frozenset({"lab"}))
MIXED = "members: [bob, {issuer: lab, email: A@x.org}, ada, {issuer: lab, subject: x}]"


def test_where_the_hub_decides_groups_have_rosters_and_no_users() -> None:
    groups = to_groups(parse(replaced(MEMBERS, MIXED)), HUB)
    assert groups["ocean"].users == ()
    assert groups["ocean"].properties["collab"]["members"] == [
        {"issuer": "lab", "subject": "x"},
        {"issuer": "lab", "email": "a@x.org"},
        "ada",
        "bob",
    ]
    nobody = to_groups(parse(replaced(MEMBERS, "members: []")), HUB)["ocean"]
    assert "members" not in nobody.properties["collab"]
    without = to_groups(parse(), None)["ocean"]
    assert "members" not in without.properties["collab"]
    assert without.users == ("ada", "bob")


def test_a_roster_is_no_part_of_what_a_team_is() -> None:
    """Neither its spec, nor its hash, nor the bound on the rest know of it."""
    crowd = ", ".join(f"{{issuer: lab, subject: person-{i}}}" for i in range(900))
    specs = set()
    for members in ("members: [ada]", MIXED, f"members: [{crowd}]"):
        groups = to_groups(parse(replaced(MEMBERS, members)), HUB)
        shared = groups["contest.forecast"].properties
        specs.add(merge_team_spec("ocean", groups["ocean"].properties, shared).hash())
    assert len(specs) == 1


def test_plans_of_rosters() -> None:
    def names_of(change: Any) -> tuple[set[str], set[str]]:
        return tuple({to_text(e) for e in entries} for entries in (change.joining, change.leaving))

    manifest = parse(replaced(MEMBERS, MIXED))
    first = plan_contest(manifest, {}, HUB)
    ocean = next(change for change in first.changes if change.group == "ocean")
    assert names_of(ocean) == ({"bob", "ada", "x of lab", "a@x.org of lab (invited)"}, set())
    assert (ocean.add, ocean.remove) == ((), ())
    assert not [field for field in ocean.fields if field.field.startswith("members")]
    # Whom the hub put in besides is not the plan's to see.
    current = {
        c.group: HubGroup(c.group, c.properties or {}, ("zoe",) if c.group == "ocean" else ())
        for c in first.changes
    }
    assert plan_contest(manifest, current, HUB).is_empty
    less = parse(replaced(MEMBERS, "members: [ada, eve, {issuer: lab, email: A@X.ORG}]"))
    (change,) = plan_contest(less, current, HUB).changes
    assert names_of(change) == ({"eve"}, {"bob", "x of lab"})
    assert change.properties is not None
    assert change.properties["collab"]["generation"] == 2
    # A hub that does not decide any more: users again, and no roster left behind.
    (ocean, ice) = plan_contest(parse(), current, None).changes
    assert (ocean.add, ocean.remove, ice.add) == (("ada", "bob"), ("zoe",), ("ada",))
    assert ocean.properties is not None
    assert "members" not in ocean.properties["collab"]


def test_identities_need_a_hub_that_knows_sources() -> None:
    with pytest.raises(SpecError) as error:
        plan_contest(parse(replaced(MEMBERS, MIXED)), {})
    found = [str(problem) for problem in error.value.problems]
    assert found[0].startswith(
        'teams.ocean.members[1]: found an invitation ("A@x.org of lab (invited)"); expected a user'
        " name: this hub's authenticator does not decide who is in which team"
    )
    assert found[1].startswith('teams.ocean.members[3]: found an identity ("x of lab")')
