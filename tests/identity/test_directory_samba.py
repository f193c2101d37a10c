"""What is Active Directory's own, asked of a real Samba domain controller."""

import base64

import pytest

from jupyterhub_collab.identity.directory_errors import SAME_WORDS
from tests.identity import samba

USERS = f"CN=Users,{samba.SUFFIX}"
DISABLED, NORMAL = 514, 512
EXPIRED_YEARS_AGO = 132_000_000_000_000_000  # 100 ns since 1601: in 2019
ACTIVE = "(!(userAccountControl:1.2.840.113556.1.4.803:=2))"


def person(name, *lines, control=NORMAL, password=samba.PASSWORD):
    secret = base64.b64encode(f'"{password}"'.encode("utf-16-le")).decode()
    extra = "".join(f"{line}\n" for line in lines)
    return (
        f"dn: CN={name},{USERS}\nchangetype: add\nobjectClass: user\nsAMAccountName: {name}\n"
        f"userPrincipalName: {name}@ad.contest.test\nunicodePwd:: {secret}\n"
        f"userAccountControl: {control}\n{extra}\n"
    )


def group(name, *members):
    lines = "".join(f"member: CN={member},{USERS}\n" for member in members)
    return (
        f"dn: CN={name},{USERS}\nchangetype: add\nobjectClass: group\nsAMAccountName: {name}\n"
        f"{lines}\n"
    )


LDIF = (
    person("svc") + person("alice") + person("dave", control=DISABLED)
    + person("erin", f"accountExpires: {EXPIRED_YEARS_AGO}") + person("frank", "pwdLastSet: 0")
    + person("grace", password="Another.pw.long")
    + group("C# inner", "alice", "dave") + group("outer", "C# inner") + group("loop", "outer")
    + f"dn: CN=C# inner,{USERS}\nchangetype: modify\nadd: member\nmember: CN=loop,{USERS}\n\n"
)  # fmt: skip

INNER = "C\\# inner"  # as the server spells it
NESTED = [INNER, "Domain Users", "Users", "loop", "outer"]
STRATEGIES = ["ad-chain", "token-groups", "breadth-first"]
TEMPLATES = ["{username}@ad.contest.test", "ADCONTEST\\{username}", f"CN={{username}},{USERS}"]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Answer by question: one start of the server for all."""
    why = samba.missing()
    if why:
        pytest.skip(f"NOT PROVED: what is Active Directory's own ({why})")
    folder = tmp_path_factory.mktemp("samba")
    samba.provision(folder)
    base = {
        "name": "ad", "servers": ["127.0.0.1"], "ca_file": str(folder / "tls" / "ca.crt"),
        "user_bases": [USERS], "group_bases": [samba.SUFFIX], "primary_group": True,
        "user_filter": "(&(objectClass=user)(sAMAccountName={username}))",
        "active_filter": ACTIVE, "username_attribute": "sAMAccountName",
        "identity_attribute": "objectGUID", "group_filter": "(objectClass=group)",
        "member_attributes": ["member"], "group_strategy": "ad-chain",
    }  # fmt: skip
    service = {**base, "bind_dn": "ADCONTEST\\svc", "bind_password": samba.PASSWORD}
    right = samba.PASSWORD
    asked = {}
    for strategy in [*STRATEGIES, "memberof"]:
        with_it = {**service, "group_strategy": strategy}
        asked["in", strategy] = (with_it, "authenticate", ["ALICE", right])
        for name in ("outer", "Domain Users"):
            asked["members", strategy, name] = (with_it, "members_of", [f"CN={name},{USERS}"])
    for template in TEMPLATES:
        direct = {**base, "bind_templates": [template], "group_strategy": "token-groups"}
        asked["direct", template] = (direct, "authenticate", ["alice", right])
        asked["direct wrong", template] = (direct, "authenticate", ["alice", "no"])
        asked["direct other", template] = (direct, "authenticate", ["OTHER\\alice", right])
        other = {**direct, "user_filter": "(|(mail={username}@elsewhere)(sAMAccountName=grace))"}
        asked["direct mixed up", template] = (other, "authenticate", ["alice", right])
    for name in ("dave", "erin", "frank", "nobody-here"):
        asked["right", name] = (service, "authenticate", [name, right])
        asked["wrong", name] = (service, "authenticate", [name, "no"])
    asked["look up", "alice"] = (service, "look_up", ["alice"])
    asked["look up", "dave"] = (service, "look_up", ["dave"])
    questions = [{"settings": s, "call": c, "with": w} for s, c, w in asked.values()]
    return dict(zip(asked, samba.ask(folder, LDIF, questions), strict=True))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_finds_nested_groups_and_the_primary_one(answers, strategy):
    alice = answers["in", strategy]
    assert alice["username"] == "alice"
    assert alice["groups"] == NESTED
    assert answers["members", strategy, "outer"] == [alice["subject"]], "dave is disabled"
    assert alice["subject"] in answers["members", strategy, "Domain Users"]


def test_memberof_alone_knows_no_nested_groups(answers):
    assert answers["in", "memberof"]["groups"] == [INNER, "Domain Users"]


@pytest.mark.parametrize("template", TEMPLATES)
def test_direct_binds_by_principal_domain_and_distinguished_name(answers, template):
    assert answers["direct", template] == answers["in", "token-groups"]
    assert answers["direct wrong", template]["told"] == SAME_WORDS
    assert answers["direct other", template]["told"] == SAME_WORDS


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_password_lets_nobody_in_as_whom_the_filter_takes_them_for(answers, template):
    assert answers["direct mixed up", template]["told"] == SAME_WORDS


@pytest.mark.parametrize(
    ("name", "reason", "word"),
    [
        ("dave", "DISABLED", "disabled"),
        ("erin", "ACCOUNT_EXPIRED", "expired"),
        ("frank", "MUST_CHANGE", "change your password"),
    ],
)
def test_what_is_wrong_with_an_account_is_told_to_whoever_knows_its_password(
    answers, name, reason, word
):
    assert answers["right", name]["refused"] == reason
    assert word in answers["right", name]["told"]
    assert answers["wrong", name]["told"] == SAME_WORDS


def test_nobody_is_told_apart_for_the_admin_alone(answers):
    assert answers["right", "nobody-here"] == {"refused": "UNKNOWN", "told": SAME_WORDS}


def test_a_disabled_account_is_nobody_to_a_look_up(answers):
    assert answers["look up", "alice"] == answers["in", "ad-chain"]
    assert answers["look up", "dave"] is None
