"""Groups in claims: what is read, and that what cannot be read is never taken for "none"."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_collab.policy.group_claim import GroupClaimError, GroupOverageError, read_groups

GRAPH = {"src1": {"endpoint": "https://graph.example.org/users/7/getMemberObjects"}}


@pytest.mark.parametrize(
    ("claims", "groups"),
    [
        ({}, None),
        ({"groups": None}, None),
        ({"groups": []}, ()),
        ({"groups": "captains"}, ("captains",)),
        ({"groups": "CN=a, b,OU=c"}, ("CN=a, b,OU=c",)),
        ({"groups": ["b", "a", "b"]}, ("b", "a")),
        ({"groups": ["Ådä", "山田"]}, ("Ådä", "山田")),
        ({"groups": ["a"], "hasgroups": False}, ("a",)),
        ({"groups": ["a"], "_claim_names": {"roles": "src1"}, "_claim_sources": GRAPH}, ("a",)),
        ({"groups": ["a"], "_claim_names": {}}, ("a",)),
    ],
    ids=str,
)
def test_what_is_read(claims, groups):
    assert read_groups(claims) == groups


@pytest.mark.parametrize(
    ("claims", "claim", "groups"),
    [
        ({"cognito:groups": ["a"]}, "cognito:groups", ("a",)),
        ({"https://example.org/groups": ["a"]}, "https://example.org/groups", ("a",)),
        ({"realm_access": {"roles": ["a"]}}, ("realm_access", "roles"), ("a",)),
        ({"realm_access": {}}, ("realm_access", "roles"), None),
        ({"realm_access.roles": ["a"]}, "realm_access.roles", ("a",)),
        ({"roles": ["a"], "hasgroups": True}, "roles", ("a",)),
    ],
    ids=str,
)
def test_which_claim(claims, claim, groups):
    assert read_groups(claims, claim) == groups


@pytest.mark.parametrize(
    "claims",
    [
        {"_claim_names": {"groups": "src1"}, "_claim_sources": GRAPH},
        {"_claim_names": {"groups": "src1"}},
        {"_claim_names": {"groups": None}, "groups": []},
        {"groups": "src1", "_claim_sources": GRAPH},
        {"groups:src1": GRAPH["src1"]},
        {"hasgroups": True},
        {"hasgroups": "true"},
        {"hasgroups": 1, "groups": []},
        {"hasgroups": True, "groups": ["only some"]},
    ],
    ids=str,
)
def test_groups_left_out_are_never_no_groups(claims):
    with pytest.raises(GroupOverageError, match="too many"):
        read_groups(claims)


@pytest.mark.parametrize(
    ("claims", "what"),
    [
        ({"groups": 7}, "a number"),
        ({"groups": True}, "true or false"),
        ({"groups": False}, "true or false"),
        ({"groups": {"secret": 1}}, "an object"),
        ({"groups": ["a", None]}, "null"),
        ({"groups": ["a", ["secret"]]}, "a list"),
        ({"groups": ["a", {"value": "secret"}]}, "an object"),
        ({"groups": ["a", ""]}, "without a name"),
        ({"groups": ""}, "without a name"),
        ({"groups": "  "}, "without a name"),
        ({"groups": "secret\n"}, "not printable"),
        ({"groups": ["secret\x00"]}, "not printable"),
        ({"groups": ["\ud800"]}, "not printable"),
        ({"_claim_names": "secret", "groups": []}, "_claim_names: found a text"),
    ],
    ids=ascii,
)
def test_nonsense_is_refused_by_name_and_not_repeated(claims, what):
    with pytest.raises(GroupClaimError, match="claim") as refused:
        read_groups(claims)
    assert what in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_way_that_ends_early_is_nonsense():
    with pytest.raises(GroupClaimError, match="claim realm_access: found a list"):
        read_groups({"realm_access": ["a"]}, ("realm_access", "roles"))
    with pytest.raises(GroupClaimError, match="names no claim"):
        read_groups({}, ())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
NAMES = st.sampled_from(["groups", "hasgroups", "_claim_names", "_claim_sources", "groups:src1"])


@given(st.dictionaries(NAMES, JSON))
def test_no_groups_only_when_it_says_so(claims):
    try:
        groups = read_groups(claims)
    except GroupClaimError:
        return
    assert groups == () or groups is None or claims["groups"] in (groups[0], list(claims["groups"]))
    if groups == ():
        assert claims["groups"] == []
    if groups is None:
        assert claims.get("groups") is None
