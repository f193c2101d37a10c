"""Texts of LDAP: nothing typed gets out of its place in a filter or a name; settings that hold."""

import uuid

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ldap3.operation.search import MATCH_EQUAL, compile_filter, parse_filter
from pydantic import ValidationError

from jupyterhub_collab.identity import directory_entries as e
from jupyterhub_collab.identity.directory_errors import (
    SAME_WORDS,
    BadCredentialsError,
    DirectorySettingsError,
    Refusal,
    to_refusal,
)
from jupyterhub_collab.identity.directory_link import Deadline, Link, Turn
from jupyterhub_collab.identity.directory_settings import DirectorySettings, Server
from jupyterhub_collab.policy.distinguished_name import split_dn

SAID = {
    "name": "test",
    "servers": ["ldap.example.org"],
    "bind_dn": "cn=reader",
    "bind_password": "the secret",
    "user_bases": ["ou=people"],
    "group_bases": ["ou=groups"],
}
TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


def settings(**more):
    return DirectorySettings.model_validate({**SAID, **more})


@given(TEXTS)
@example(" ")
@example(" a ")
def test_a_value_stays_one_value_of_a_filter(text):
    parsed = parse_filter(f"(uid={e.to_filter_value(text)})", None, False, False, None, False)
    (node,) = parsed.elements
    assert node.tag == MATCH_EQUAL  # no presence, no wildcard
    sent = compile_filter(node)["equalityMatch"]
    assert bytes(sent["assertionValue"]) == text.encode()


@given(TEXTS.filter(lambda t: "\0" not in t))
def test_a_value_stays_one_part_of_a_name(text):
    dn = e.to_bind_name("uid={username},ou=people,dc=x", text)
    assert split_dn(dn) == [
        ("uid", text.encode(), ","), ("ou", b"people", ","), ("dc", b"x", "")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CN=Ada,OU=People", "cn=ada, ou=people"),
        ("cn=a\\2cb,o=x", "cn=a\\,b,o=x"),
        ("cn=\\C3\\A9,o=x", "cn=é,o=x"),
        ("cn=a\\20 b,o=x", "cn=a  b,o=x"),
        ("cn={a},o=x", "CN={A},O=X"),
        ("cn=C# (x)=y,o=x", "cn=c\\23 (x)\\=y , o=x"),
        ("cn=a;o=x", "cn=a,o=x"),
        ("1.2.3=a,o=x", "1.2.3=A,o=x"),
    ],
)
def test_spellings_of_one_name_are_one(one, other):
    assert e.normalise_dn(one) == e.normalise_dn(other)


def test_other_names_stay_others():
    dns = ["cn=a,o=x", "cn=a\\,o=x", "cn=a+o=x", "cn=ab,o=x", "cn=a,o=x,c=y", "nonsense", ""]
    assert len({e.normalise_dn(dn) for dn in dns}) == len(dns)


@given(st.text(max_size=60))
def test_any_text_has_a_spelling(text):
    e.normalise_dn(text)
    e.to_rdn_filter(text)
    e.is_dn(text)


@pytest.mark.parametrize("text", ["", "ada", "ada@x", "X\\ada", "=x", "cn=a,", "cn=a,b", 'cn="a"'])
def test_what_is_no_name_is_none(text):
    assert split_dn(text) == []


def test_placeholders_are_filled_in_once():
    assert e.substitute("(&(a={username})(b={dn}))", username="{dn}", dn="x") == (
        "(&(a={dn})(b=x))"
    )


@pytest.mark.parametrize(
    ("template", "username", "name"),
    [
        ("{username}@ad.example.org", "ada", "ada@ad.example.org"),
        ("CONTEST\\{username}", "ada", "CONTEST\\ada"),
        ("CONTEST\\{username}", "OTHER\\ada", None),
        ("{username}@ad.example.org", "ada@elsewhere", None),
        ("uid={username},o=x", "a,b", "uid=a\\2cb,o=x"),
    ],
)
def test_bind_names(template, username, name):
    assert e.to_bind_name(template, username) == name


def test_object_guid_is_the_text_that_windows_shows():
    raw = bytes.fromhex("d5f0957beda36c48919c077b8c9731f2")
    assert e.to_subject("objectGUID", raw) == "7b95f0d5-a3ed-486c-919c-077b8c9731f2"
    assert e.to_identity_filter("objectGUID", e.to_subject("objectGUID", raw)) == (
        "(objectGUID=" + "".join(f"\\{byte:02x}" for byte in raw) + ")"
    )
    key = str(uuid.uuid4())
    assert e.to_subject("entryUUID", key.upper().encode()) == key


@pytest.mark.parametrize("raw", [b"", b"x", b"\xff" * 15])
@pytest.mark.parametrize("attribute", ["objectGUID", "entryUUID"])
def test_what_is_no_identity_is_none(attribute, raw):
    with pytest.raises(ValueError):
        e.to_subject(attribute, raw)


def test_primary_group_is_of_the_same_domain():
    sid = bytes.fromhex("010500000000000515000000010000000200000003000000e9030000")
    assert e.to_group_sid(sid, 513).hex() == sid.hex()[:-8] + "01020000"
    assert e.to_relative_id(sid) == 1001
    for broken in [b"", sid[:-1], b"\x01\xff" + sid[2:]]:
        with pytest.raises(ValueError):
            e.to_group_sid(broken, 513)


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        ("3000", None), ("3003810101", 1), ("3003810100", 0), ("3008a003800101810102", 2),
        ("3005a003800101", None), ("", None), ("30", None), ("3003810201", None),
        ("30ff810101", None), ("300281", None),
    ],
)  # fmt: skip
def test_password_policy_control(raw, error):
    assert e.to_password_policy_error(bytes.fromhex(raw)) == error


@given(st.binary(max_size=20))
def test_any_control_is_read_without_failing(raw):
    e.to_password_policy_error(raw)


AD = "80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data {}, v1db1"


@pytest.mark.parametrize(
    ("data", "reason", "is_told"),
    [
        ("525", Refusal.UNKNOWN, False),
        ("52e", Refusal.WRONG_PASSWORD, False),
        ("530", Refusal.NOT_NOW, True),
        ("531", Refusal.NOT_HERE, True),
        ("532", Refusal.PASSWORD_EXPIRED, True),
        ("533", Refusal.DISABLED, True),
        ("701", Refusal.ACCOUNT_EXPIRED, True),
        ("773", Refusal.MUST_CHANGE, True),
        ("775", Refusal.LOCKED, False),
        ("999", Refusal.WRONG_PASSWORD, False),
    ],
)
def test_active_directorys_codes_become_sentences(data, reason, is_told):
    assert to_refusal(AD.format(data), None) is reason
    assert to_refusal(AD.format(data.upper()), None) is reason
    assert (str(BadCredentialsError(reason)) != SAME_WORDS) is is_told


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"servers": []}, "servers"),
        ({"servers": ["http://x"]}, "ldaps://"),
        ({"servers": ["ldap://x"]}, "ldaps://"),
        ({"servers": ["ldaps://x"], "tls": "starttls"}, "ldap://"),
        ({"servers": ["x:99999"]}, "port"),
        ({"servers": ["ldaps://u:pw@x"]}, "no address"),
        ({"tls": "never"}, "tls"),
        ({"user_filter": "(uid=*)"}, "would fit everybody"),
        ({"user_filter": "(uid={username}"}, "no LDAP filter"),
        ({"group_filter": "group"}, "no LDAP filter"),
        ({"bind_templates": ["uid=ada"]}, "would fit everybody"),
        ({"bind_password": ""}, "come together"),
        ({"bind_dn": "", "bind_password": ""}, "service account"),
        ({"user_bases": []}, "user_bases"),
        ({"group_bases": []}, "group_bases"),
        ({"group_strategy": "ad-chain"}, "objectGUID"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"surprise": 1}, "surprise"),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused_and_show_no_password(more, said):
    with pytest.raises(ValidationError, match=said) as refused:
        settings(**more)
    assert "the secret" not in str(refused.value)


def test_addresses_of_servers():
    found = settings(servers=["a", "b:1", "ldaps://c", "[::1]:7", "ldaps://[::1]"]).addresses
    assert [(s.host, s.port) for s in found] == [
        ("a", 636), ("b", 1), ("c", 636), ("::1", 7), ("::1", 636)
    ]  # fmt: skip
    (plain,) = settings(tls="starttls").addresses
    assert plain.port == 389


class InParts:
    """Stands for ldap3's connection to a server that sends `size` values at a time."""

    def __init__(self, count, size, *, stuck=False):
        self._values = [b"v%d" % i for i in range(count)]
        self._size, self._stuck = size, stuck

    def search(self, _base, _filter, *, attributes, **_):
        wanted = next(a for a in attributes if a.startswith("member"))
        start = 0 if self._stuck or ";" not in wanted else int(wanted.split("=")[1].split("-")[0])
        some = self._values[start : start + self._size]
        last = start + len(some) >= len(self._values)
        name = f"member;range={start}-{'*' if last else start + len(some) - 1}"
        raw = {"member": [], name: some}
        item = {"type": "searchResEntry", "dn": "cn=x", "raw_attributes": raw}
        return True, {"result": 0, "description": "success"}, [item], None


class NoWire:
    def settimeout(self, _):
        pass


def link_to(connection):
    link = Link(Server(host="x", port=1), settings(), None, Turn())
    link.use(Deadline(60, lambda: 0.0))
    link._connection, link._wire = connection, NoWire()
    return link


@pytest.mark.parametrize("count", [0, 1, 1500, 1501, 4000])
def test_values_that_come_in_parts_are_put_together(count):
    """As Active Directory sends more than 1500 (MS-ADTS 3.1.1.3.1.3.3)."""
    entry = link_to(InParts(count, 1500)).read("cn=x", ["member"])
    assert entry.raw("member") == [b"v%d" % i for i in range(count)]


def test_a_server_that_sends_the_same_part_again_and_again_is_refused():
    with pytest.raises(DirectorySettingsError):
        link_to(InParts(10, 5, stuck=True)).read("cn=x", ["member"])
