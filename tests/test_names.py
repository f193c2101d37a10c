"""Names: what is allowed, and that two things never get one name."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jupyterhub_collab import names

_WORDS = st.text("abcxyz019", min_size=1, max_size=9)
TEAM_IDS = st.lists(_WORDS, min_size=1, max_size=3).map(lambda words: "t" + "-".join(words))
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
HOSTILE = [
    *("", "-", "a-", "-a", "a--b", "A", "ä", "a_b", "a.b", "a/b", "../a", "a\n", "a\0", " a"),
    *("1a", "a" * 31, "a" * 10_000, "kube_system", "а"),  # the last is Cyrillic
]
USERNAMES = st.text(min_size=1, max_size=60)


@given(TEAM_IDS)
def test_namespace_is_a_bijection(team: str) -> None:
    namespace = names.namespace_of(team, prefix="team-")
    assert names.team_of_namespace(namespace, prefix="team-") == team
    assert DNS_LABEL.fullmatch(namespace)


@given(TEAM_IDS, TEAM_IDS)
def test_two_teams_never_meet(one: str, other: str) -> None:
    assume(one != other)
    same = names.namespace_of(one, prefix="t-") == names.namespace_of(other, prefix="t-")
    assert not same


@given(st.text(max_size=70))
def test_only_what_some_team_has_is_a_team_s_namespace(namespace: str) -> None:
    team = names.team_of_namespace(namespace, prefix="team-")
    if team is not None:
        assert names.namespace_of(team, prefix="team-") == namespace


@pytest.mark.parametrize("team", HOSTILE)
def test_hostile_team_ids(team: str) -> None:
    assert not names.is_team_id(team)
    with pytest.raises(ValueError, match="not a team id"):
        names.namespace_of(team, prefix="team-")
    assert names.team_of_namespace(f"team-{team}", prefix="team-") is None


@pytest.mark.parametrize("thing", [None, 3, True, b"ocean", ["ocean"]])
def test_what_is_no_text_is_no_team_id(thing: object) -> None:
    assert not names.is_team_id(thing)


@pytest.mark.parametrize("prefix", ["", "-", "team", "Team-", "te am-", "a" * 20 + "-", "1-", "--"])
def test_hostile_prefixes(prefix: str) -> None:
    assert not names.is_namespace_prefix(prefix)
    with pytest.raises(ValueError, match="not a namespace prefix"):
        names.namespace_of("ocean", prefix=prefix)


@given(TEAM_IDS)
def test_contest_groups_and_team_groups_never_meet(contest: str) -> None:
    group = names.contest_group(contest)
    assert names.contest_of_group(group) == contest
    assert not names.is_team_id(group)
    assert names.contest_of_group(contest) is None


@given(USERNAMES, USERNAMES)
def test_personal_claims_are_labels_and_never_shared(one: str, other: str) -> None:
    assume(one != other)
    assert DNS_LABEL.fullmatch(names.personal_claim(one))
    assert names.personal_claim(one) != names.personal_claim(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("a.b", "a-b"), ("A", "a"), ("x" * 200 + "1", "x" * 200 + "2"), ("é", "e"), ("-", "--")],
)
def test_claims_of_names_with_the_same_slug_differ(one: str, other: str) -> None:
    assert names.personal_claim(one) != names.personal_claim(other)


@given(st.tuples(USERNAMES, USERNAMES), st.tuples(USERNAMES, USERNAMES))
def test_pods_are_labels_and_never_shared(one: tuple[str, str], other: tuple[str, str]) -> None:
    assume(one != other and "\0" not in "".join((*one, *other)))
    assert DNS_LABEL.fullmatch(names.server_pod(*one))
    assert names.server_pod(*one) != names.server_pod(*other)


def test_a_server_name_cannot_move_into_the_user_name() -> None:
    assert names.server_pod("ada-x", "y") != names.server_pod("ada", "x-y")
    assert names.server_pod("ada", "") != names.server_pod("ad", "a")


@given(TEAM_IDS, TEAM_IDS)
def test_what_hangs_on_a_team_has_names_that_kubernetes_takes(team: str, dataset: str) -> None:
    namespace = names.namespace_of(team, prefix="twenty-characters-x-")
    volume = names.dataset_volume(namespace, dataset)
    assert len(volume) <= 253
    assert volume.split(".") == [namespace, dataset]
    assert DNS_LABEL.fullmatch(names.dataset_claim(dataset))
    assert DNS_LABEL.fullmatch(names.egress_policy(dataset))


@pytest.mark.parametrize(
    "namespace", ["default", "kube-system", "kube-public", "kube-x", "jupyterhub"]
)
def test_reserved_namespaces(namespace: str) -> None:
    assert names.is_reserved_namespace(namespace, hub_namespace="jupyterhub")
    assert not names.is_reserved_namespace("team-ocean", hub_namespace="jupyterhub")
