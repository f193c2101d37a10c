"""What the rules give, to whom, and why; and which rules are refused."""

from __future__ import annotations

import itertools
from datetime import datetime, timezone
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_collab import names
from jupyterhub_collab.errors import SpecError
from jupyterhub_collab.models import Entitlement, Entitlements, Facts, Identity, Role
from jupyterhub_collab.policy.entitlements import decide, explain, parse_entitlement_rules

NOW = datetime(2027, 1, 31, tzinfo=timezone.utc)
HERE = "institute"
BASE = "OU=teams,DC=institute,DC=org"
MEMBER, CAPTAIN, JUDGE, STEWARD = Role.MEMBER, Role.CAPTAIN, Role.JUDGE, Role.DATA_STEWARD
TEAM = {"team": "ocean"}


def facts(*groups: str, issuer: str = HERE, **claims: Any) -> Facts:
    return Facts(Identity(issuer, "4711"), "ada", NOW, groups, claims)


def text_of(*rules: dict[str, Any]) -> str:
    head = {"apiVersion": "jupyterhub-collab.org/v1alpha1", "kind": "Entitlements"}
    return yaml.safe_dump({**head, "rules": list(rules)}, sort_keys=False)


def rule(**more: Any) -> dict[str, Any]:
    return {"issuer": HERE, **more}


def ask(who: Facts, *rules: dict[str, Any], absent: tuple[str, ...] = ()) -> Entitlements:
    read = parse_entitlement_rules(text_of(*rules), file="rules.yaml")
    return decide(who, read, exists=lambda what: what.team not in absent)


def given_to(who: Facts, *rules: dict[str, Any]) -> set[Entitlement]:
    return {granted.what for granted in ask(who, *rules).granted}


def test_the_example_of_the_issue_says_why() -> None:
    captains = "CN=ocean-captains,OU=teams,DC=institute,DC=org"
    found = ask(facts(captains), rule(group=captains, gives={"team": "ocean", "role": "captain"}))
    assert explain(found) == [f"captain of team ocean because member of {captains} (rule 1)"]
    assert found.teams == {"ocean"}
    assert found.has(Entitlement(team="ocean", role=CAPTAIN))
    assert found.has(Entitlement(team="ocean", role=MEMBER)), "a captain is a member"
    assert not found.has(Entitlement(team="oceans", role=MEMBER))
    assert not found.is_admin


GIVES = (
    ({"team": "ocean"}, Entitlement(team="ocean", role=MEMBER)),
    ({"team": "ocean", "role": "captain"}, Entitlement(team="ocean", role=CAPTAIN)),
    ({"contest": "reef", "role": "judge"}, Entitlement(contest="reef", role=JUDGE)),
    ({"contest": "reef", "role": "host"}, Entitlement(contest="reef", role=Role.HOST)),
    ({"contest": "reef", "dataset": "sst"}, Entitlement(contest="reef", dataset="sst")),
    (
        {"contest": "reef", "dataset": "sst", "role": "data-steward"},
        Entitlement(contest="reef", dataset="sst", role=STEWARD),
    ),
    ({"role": "admin"}, Entitlement(role=Role.ADMIN)),
)


@pytest.mark.parametrize(("gives", "expected"), GIVES)
def test_a_rule_gives_this_and_nothing_else(gives: dict[str, str], expected: Entitlement) -> None:
    """Every role beside every other: the deny side of the matrix as well."""
    found = ask(facts("g"), rule(group="g", gives=gives))
    assert [granted.what for granted in found.granted] == [expected]
    for _, other in GIVES:
        implied = expected == Entitlement(team="ocean", role=CAPTAIN) and other.role is MEMBER
        assert found.has(other) == (other == expected or implied), other
    assert ask(facts("h"), rule(group="g", gives=gives)).granted == ()


@pytest.mark.parametrize(
    ("who", "holds"),
    [
        (facts("g", "h", dept="sea"), True),
        (facts("g", dept="land"), False),
        (facts("h", dept="sea"), False),
        (facts("g", dept="sea", issuer="portal"), False),
        (facts("G", dept="sea"), False),
        (facts("g"), False),
        (facts("g", dept=["land", "sea"]), True),
    ],
)
def test_all_that_a_rule_asks_must_hold(who: Facts, holds: bool) -> None:
    claim = {"name": "dept", "is": "sea"}
    assert bool(given_to(who, rule(group="g", claim=claim, gives=TEAM))) is holds


def test_a_subject_is_one_person_of_one_source() -> None:
    named = rule(subject="4711", gives=TEAM)
    assert given_to(facts(), named)
    assert not given_to(facts(issuer="portal"), named)
    assert not given_to(facts(), rule(subject="4712", gives=TEAM))
    assert "named by the rule itself" in explain(ask(facts(), named))[0]


def test_everybody_of_a_source() -> None:
    assert given_to(facts(), rule(gives=TEAM))
    assert not given_to(facts(issuer="other"), rule(gives=TEAM))


@pytest.mark.parametrize(
    ("group", "teams"),
    [
        (f"CN=team-ocean,{BASE}", {"ocean"}),
        (f"cn=Team-Ocean, {BASE.lower()}", {"ocean"}),
        (f"CN=team-deep-sea-2,{BASE}", {"deep-sea-2"}),
        (f"CN=team-{'a' * 30},{BASE}", {"a" * 30}),
        (f"CN=team-{'a' * 31},{BASE}", set()),
        (f"CN=team-,{BASE}", set()),
        (f"CN=team-a--b,{BASE}", set()),
        (f"CN=team-ocean,OU=x,{BASE}", set()),
        (f"CN=team-ocean\\,OU\\=teams,{BASE}", set()),
        ("CN=team-ocean,OU=mine,DC=institute,DC=org", set()),
        (f"OU=team-ocean,{BASE}", set()),
        (f"CN=team-ocean+CN=x,{BASE}", set()),
        ("team-ocean", set()),
    ],
)
def test_a_pattern_of_distinguished_names(group: str, teams: set[str]) -> None:
    pattern = rule(group={"like": f"CN=team-{{team}},{BASE}"}, gives={"team": "{team}"})
    assert ask(facts(group), pattern).teams == teams


@pytest.mark.parametrize(
    ("like", "text", "team"),
    [
        ("/{team}/captains", "/ocean/captains", "ocean"),
        ("/{team}/captains", "/ocean/CAPTAINS", None),
        ("/{team}/captains", "/Ocean/captains", None),
        ("{team}-captains", "deep-sea-captains", "deep-sea"),
        ("{team}-captains", f"{'a' * 29}-captains", "a" * 29),
        ("*/{team}", "x/y/ocean", "ocean"),
        ("{team}@*", "ocean@a@b", "ocean"),
        ("{team}/{team}", "ocean/ocean", "ocean"),
        ("{team}/{team}", "ocean/tide", None),
        ("urn:{team}", "urn:ocean\nx", None),
    ],
)
def test_a_pattern_of_texts(like: str, text: str, team: str | None) -> None:
    by_group = rule(group={"like": like}, gives={"team": "{team}"})
    by_claim = rule(claim={"name": "role", "like": like}, gives={"team": "{team}"})
    expected = {team} if team else set()
    assert ask(facts(text), by_group).teams == expected
    assert ask(facts(role=text), by_claim).teams == expected


def test_group_and_claim_must_mean_the_same_team() -> None:
    both = rule(
        group={"like": "g/{team}"},
        claim={"name": "of", "like": "c/{team}"},
        gives={"team": "{team}"},
    )
    found = ask(facts("g/ocean", "g/tide", of=["c/tide", "c/kelp"]), both)
    assert found.teams == {"tide"}
    assert "member of g/tide and of is c/tide" in explain(found)[0]


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        ("faculty", True),
        (["student", "faculty"], True),
        ("faculty student", False),
        (["Faculty"], False),
        ([], False),
        (None, False),
        ("", False),
        (True, False),
        (["faculty", 1, True], True),
    ],
)
def test_a_claim_of_plain_values(value: object, holds: bool) -> None:
    asked = rule(claim={"name": "affiliation", "is": "faculty"}, gives=TEAM)
    found = ask(facts(affiliation=value), asked)
    assert bool(found.granted) is holds
    assert found.notes == ()


@pytest.mark.parametrize(
    "value", [{"faculty": True}, [["faculty"]], [{"is": "faculty"}], 1.5, ["faculty", None]]
)
def test_a_claim_that_is_nonsense_is_told_by_its_name(value: object) -> None:
    asked = rule(claim={"name": "affiliation", "is": "faculty"}, gives=TEAM)
    found = ask(facts(affiliation=value), asked)
    assert found.granted == ()
    (note,) = found.notes
    assert note.startswith("claim affiliation holds")


def test_true_is_not_one_and_not_its_text() -> None:
    for wanted, value in itertools.permutations([True, 1, "true", "1"], 2):
        asked = rule(claim={"name": "flag", "is": wanted}, gives=TEAM)
        assert not given_to(facts(flag=value), asked), (wanted, value)
        assert given_to(facts(flag=wanted), asked), wanted


def test_a_nested_claim() -> None:
    asked = rule(claim={"name": ["realm", "roles"], "is": "judge"}, gives=TEAM)
    assert given_to(facts(realm={"roles": ["judge"]}), asked)
    for claims in ({}, {"realm": {}}, {"realm.roles": ["judge"]}):
        assert ask(facts(**claims), asked).granted == ()
    assert "claim realm.roles is not where" in ask(facts(realm="judge"), asked).notes[0]


def test_what_there_is_not_is_given_to_nobody() -> None:
    pattern = rule(group={"like": "team-{team}"}, gives={"team": "{team}"})
    found = ask(facts("team-ocean", "team-gone"), pattern, absent=("gone",))
    assert found.teams == {"ocean"}
    assert found.notes == ('rule 1 would give "gone", which there is not',)


def test_what_two_rules_give_is_given_once_with_the_first_reason() -> None:
    found = ask(facts("a", "b"), rule(group="a", gives=TEAM), rule(group="b", gives=TEAM))
    assert explain(found) == ["member of team ocean because member of a (rule 1)"]


REFUSED = (
    (rule(gives={}), "gives.role"),
    (rule(gives={"role": "admin"}), "everybody of this source"),
    (rule(group="g", gives={"role": "captain"}), "without team, contest or data set: admin"),
    (rule(gives={"team": "ocean", "role": "judge"}), "of a team: captain, member"),
    (rule(gives={"contest": "reef"}), "of a contest: host, judge"),
    (rule(gives={"team": "ocean", "contest": "reef"}), "a team and more"),
    (rule(gives={"dataset": "sst"}), "the contest whose data set it is"),
    (rule(gives={"team": "Ocean"}), names.TEAM_ID_RULE),
    (rule(gives={"team": "kube_system"}), names.TEAM_ID_RULE),
    (rule(group="g", gives={"team": "{team}"}), "names in braces that the rule's"),
    (rule(group={"like": "{a}/{b}"}, gives={"team": "{a}-{b}"}), "split in two ways"),
    (rule(group={"like": "{a}-{b}"}, gives={"team": "{a}"}), "something that no id has"),
    (rule(group={"like": "{a}{b}"}, gives={"team": "{a}"}), "something that no id has"),
    (rule(group={"like": "*{a}"}, gives={"team": "{a}"}), "something that no id has"),
    (rule(group={"like": "*-{a}"}, gives={"team": "{a}"}), "something that no id has"),
    (rule(group={"like": "*/{a}/*"}, gives={"team": "{a}"}), "at most one *"),
    (rule(group={"like": "*****"}, gives=TEAM), "at most four"),
    (rule(group={"like": "{A}"}, gives=TEAM), "small letters"),
    (rule(group={"like": "{}"}, gives=TEAM), "small letters"),
    (rule(group={"like": "{a"}, gives=TEAM), "braces only around a name"),
    (rule(claim={"name": "x"}, gives=TEAM), "exactly one"),
    (rule(claim={"name": "x", "is": "a", "like": "b"}, gives=TEAM), "exactly one"),
    (rule(claim={"name": "x", "is": 1.5}, gives=TEAM), "rules[0].claim.is"),
    (rule(group={"lik": "x"}, gives=TEAM), "rules[0].group"),
    (rule(group="", gives=TEAM), "rules[0].group"),
    ({"gives": TEAM}, "rules[0].issuer"),
    (rule(groups="g", gives=TEAM), 'did you mean "group"'),
    (rule(gives={**TEAM, "role": "cpatain"}), 'did you mean "captain"'),
)


@pytest.mark.parametrize(("wrong", "words"), REFUSED)
def test_a_rule_that_could_be_misread_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as refusal:
        parse_entitlement_rules(text_of(wrong), file="rules.yaml")
    assert words in str(refusal.value)
    assert str(refusal.value).startswith("rules.yaml:")


def test_another_kind_of_file_gets_one_sentence() -> None:
    with pytest.raises(SpecError, match=r'kind: found "Contest"; expected Entitlements'):
        parse_entitlement_rules(
            "apiVersion: jupyterhub-collab.org/v1alpha1\nkind: Contest\n", file="x"
        )


ids = st.from_regex(names.TEAM_ID_PATTERN, fullmatch=True).filter(names.is_team_id)
LIKES = ("{a}/{b}", "x-{a}_{b}-y", "{b}:*:{a}", "*,{a}", f"CN={{a}}.{{b}},{BASE}")


@given(st.sampled_from(LIKES), ids, ids, st.text("ab-_/:.,*{}", max_size=12))
def test_a_text_is_read_in_one_way(like: str, a: str, b: str, rest: str) -> None:
    """Whatever a group is called, the ids that it gives are those that it was built of."""
    text = like.replace("{a}", a).replace("{b}", b).replace("*", rest)
    asked = rule(group={"like": like}, gives={"team": "{a}"})
    assert ask(facts(text), asked).teams == {a}


hostile = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.lists(st.text(max_size=60), max_size=4), st.dictionaries(st.text(max_size=5), hostile))
def test_whatever_a_source_says_is_answered(groups: list[str], claims: dict[str, Any]) -> None:
    """And gives nothing but ids."""
    rules = (
        rule(group={"like": "*{"[:1]}, gives=TEAM),
        rule(group={"like": "{team}"}, gives={"team": "{team}"}),
        rule(claim={"name": "a", "like": "*/{team}"}, gives={"team": "{team}"}),
        rule(claim={"name": ["a", "b"], "is": "x"}, gives={"role": "admin"}),
    )
    who = Facts(Identity(HERE, "1"), "ada", NOW, tuple(groups), claims)
    found = ask(who, *rules)
    assert all(names.is_team_id(team) for team in found.teams)
    explain(found)
