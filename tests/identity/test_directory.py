"""A real OpenLDAP server: who gets in, as what, and what is said to the rest."""

import asyncio
import logging
import re
import uuid
from datetime import datetime, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyterhub_collab.errors import CollabError
from jupyterhub_collab.identity import directory_link
from jupyterhub_collab.identity.directory import Directory
from jupyterhub_collab.identity.directory_errors import (
    SAME_WORDS,
    BadCredentialsError,
    DirectoryCertificateError,
    DirectorySettingsError,
    GroupNotFoundError,
    Refusal,
)
from tests.identity import slapd as s
from tests.identity.conftest import GUID, make_settings

NOW = datetime(2027, 1, 31, 12, 0, tzinfo=timezone.utc)
DIRECT = {"bind_dn": "", "bind_password": "", "bind_templates": [f"uid={{username}},{s.PEOPLE}"]}


def starttls(server, **more):
    return make_settings(server, tls="starttls", servers=[f"127.0.0.1:{server.port}"], **more)


@pytest.fixture
async def directory(slapd):
    async with Directory(make_settings(slapd), now=lambda: NOW) as found:
        yield found


async def refusal(directory, username, password):
    with pytest.raises(BadCredentialsError) as refused:
        await directory.authenticate(username, password)
    return refused.value


def short(groups):
    return {dn.split(",")[0].removeprefix("cn=") for dn in groups}


async def test_a_person_gets_in_as_what_the_directory_says(directory):
    facts = await directory.authenticate("ADA", s.PASSWORD)
    assert facts.username == "ada"
    assert facts.identity.issuer == "test"
    assert str(uuid.UUID(facts.identity.subject)) == facts.identity.subject
    assert facts.at == NOW
    assert facts.claims == {
        "cn": ["ada of Contest"], "mail": ["ada@contest.test"], "dn": [s.person_dn("ada")]
    }  # fmt: skip
    assert facts.emails == ("ada@contest.test",)
    assert short(facts.groups) == {"ocean"}


@pytest.mark.parametrize("way", [make_settings, starttls], ids=["ldaps", "starttls"])
@pytest.mark.parametrize("bind", [{}, DIRECT], ids=["search", "direct"])
async def test_every_way_in_gives_the_same_facts(slapd, way, bind):
    async with Directory(way(slapd, **bind)) as directory:
        facts = await directory.authenticate("bob", s.PASSWORD)
        assert short(facts.groups) == {"ocean", "divers"}
        assert (await refusal(directory, "bob", "wrong")).reason is Refusal.WRONG_PASSWORD


async def test_the_stranger_reads_the_same_whatever_was_wrong(directory):
    said = {}
    for username, password in [
        ("ada", "wrong"), ("nobody-here", "wrong"), ("other", s.PASSWORD), ("ada", ""),
        ("ada", "   "), ("", "x"), ("a\0da", "x"), ("ada", "x\0"), ("x" * 300, "x"),
        ("*", s.PASSWORD), ("\ud800", "x"),
    ]:  # fmt: skip
        error = await refusal(directory, username, password)
        said[username, password] = error.reason
        assert str(error) == SAME_WORDS
    assert said["ada", "wrong"] is Refusal.WRONG_PASSWORD
    assert said["nobody-here", "wrong"] is Refusal.UNKNOWN
    assert said["other", s.PASSWORD] is Refusal.SEVERAL
    assert said["ada", ""] is said["ada", "   "] is Refusal.BAD_INPUT


async def test_the_admins_log_tells_and_holds_no_password(directory, caplog):
    with caplog.at_level(logging.DEBUG):
        await refusal(directory, "ada", "my secret pw")
        await refusal(directory, "nobody-here", "my secret pw")
    assert "no such person" in caplog.text
    assert "wrong password" in caplog.text
    assert "my secret pw" not in caplog.text
    assert "reader pw" not in repr(directory.settings)


async def test_a_password_that_preparation_would_empty_is_no_anonymous_bind(directory):
    """This server lets binds without a password succeed, as nobody."""
    for password in ["\u00ad", "\u200b\u00ad", "\u2060"]:
        assert (await refusal(directory, "ada", password)).reason is Refusal.WRONG_PASSWORD


async def test_an_unknown_person_costs_a_bind_too(directory, monkeypatch):
    """Or the time to an answer would tell which names exist."""
    bound = []
    bind = directory_link.Link.bind

    def recording(self, name, password):
        bound.append((name, password))
        return bind(self, name, password)

    monkeypatch.setattr(directory_link.Link, "bind", recording)
    await directory.look_up("ada")
    bound.clear()
    await refusal(directory, "nobody-here", "secret")
    ((name, password),) = bound
    assert name.endswith(s.PEOPLE)
    assert password != "secret"


async def test_odd_names_get_in(directory):
    facts = await directory.authenticate("odd{1}*(", s.PASSWORD)
    assert facts.username == "odd{1}*("
    assert short(facts.groups) == {"deep", "divers", "ocean"}


async def test_nested_groups_end_in_a_cycle(directory):
    facts = await directory.authenticate("carol", s.PASSWORD)
    assert short(facts.groups) == {"circle-a", "circle-b", "deep", "divers", "ocean"}


async def test_memberof_is_what_the_entry_says(slapd):
    async with Directory(make_settings(slapd, group_strategy="memberof")) as directory:
        assert short((await directory.authenticate("bob", s.PASSWORD)).groups) == {"divers"}
        assert {i.subject for i in await directory.members_of(s.group_dn("divers"))} == {
            (await directory.look_up("bob")).identity.subject
        }


async def test_groups_that_list_names(slapd):
    more = {"member_name_attributes": ["memberUid"]}
    async with Directory(make_settings(slapd, **more)) as directory:
        ada = await directory.authenticate("ada", s.PASSWORD)
        assert short(ada.groups) == {"ocean", "unix"}
        assert await directory.members_of(s.group_dn("unix")) == {ada.identity}


AD = {"identity_attribute": "objectGUID"}


async def test_identity_of_active_directory_is_the_text_that_its_tools_show(slapd):
    async with Directory(make_settings(slapd, **AD)) as directory:
        facts = await directory.authenticate("prima", s.PASSWORD)
        assert facts.identity.subject == str(uuid.UUID(bytes_le=GUID))
        assert (await directory.look_up_subject(facts.identity.subject)).username == "prima"


async def test_token_groups_are_named_by_their_security_identifiers(slapd):
    more = {**AD, "group_strategy": "token-groups"}
    async with Directory(make_settings(slapd, **more)) as directory:
        facts = await directory.authenticate("prima", s.PASSWORD)
        assert short(facts.groups) == {"Domain Users", "staff"}


async def test_primary_group_and_what_it_is_in_count(slapd):
    more = {**AD, "primary_group": True}
    async with Directory(make_settings(slapd, **more)) as directory:
        facts = await directory.authenticate("prima", s.PASSWORD)
        assert short(facts.groups) == {"Domain Users", "staff"}
        assert await directory.members_of(s.group_dn("staff")) == {facts.identity}


async def test_token_groups_of_another_kind_of_server_are_an_error_not_none(slapd):
    more = {**AD, "group_strategy": "token-groups", "user_filter": "(cn={username} of Contest)"}
    async with Directory(make_settings(slapd, **more)) as directory:
        with pytest.raises(DirectorySettingsError, match="objectGUID"):
            await directory.authenticate("ada", s.PASSWORD)


@pytest.mark.parametrize("bounds", [{"max_groups": 100}, {"max_depth": 1}], ids=str)
async def test_more_than_the_bounds_is_an_error_never_half_a_list(slapd, bounds):
    who = "many" if "max_groups" in bounds else "carol"
    async with Directory(make_settings(slapd, **bounds)) as directory:
        with pytest.raises(DirectorySettingsError, match="max_groups"):
            await directory.authenticate(who, s.PASSWORD)


async def test_all_members_at_once_those_of_nested_groups_too(directory):
    wanted = {
        (await directory.look_up(name)).identity for name in ["ada", "bob", "carol", "odd{1}*("]
    }
    assert await directory.members_of(s.group_dn("ocean")) == wanted
    assert await directory.members_of(s.group_dn("circle-b")) == {
        (await directory.look_up("carol")).identity
    }


async def test_a_group_that_cannot_be_seen_is_no_empty_one(directory):
    with pytest.raises(GroupNotFoundError):
        await directory.members_of(s.group_dn("gone"))


async def test_who_is_not_active_is_not_found_and_no_member(slapd):
    more = {"active_filter": "(!(uid=bob))"}
    async with Directory(make_settings(slapd, **more)) as directory:
        assert await directory.look_up("bob") is None
        assert len(await directory.members_of(s.group_dn("ocean"))) == 3


async def test_a_renamed_person_is_found_by_who_they_are(own_slapd):
    async with Directory(make_settings(own_slapd)) as directory:
        before = await directory.authenticate("ada", s.PASSWORD)
        own_slapd.modify(
            f"dn: {s.person_dn('ada')}\nchangetype: modrdn\nnewrdn: uid=lovelace\ndeleteoldrdn: 1\n"
        )
        assert await directory.look_up("ada") is None
        after = await directory.look_up_subject(before.identity.subject)
        assert after.username == "lovelace"
        assert after.identity == before.identity


async def test_losing_a_group_shows_in_both_ways_of_asking(own_slapd):
    async with Directory(make_settings(own_slapd)) as directory:
        bob = await directory.authenticate("bob", s.PASSWORD)
        assert bob.identity in await directory.members_of(s.group_dn("ocean"))
        own_slapd.modify(
            f"dn: {s.group_dn('divers')}\nchangetype: modify\ndelete: member\n"
            f"member: {s.person_dn('bob')}\n"
        )
        assert bob.identity not in await directory.members_of(s.group_dn("ocean"))
        assert (await directory.look_up("bob")).groups == ()


async def test_lookups_of_nobody_and_nonsense(directory):
    for name in ["nobody-here", "*", "a)(uid=*", "", "\0", "x" * 400, "\ud800"]:
        assert await directory.look_up(name) is None
    for subject in ["", "nonsense", "*", str(uuid.uuid4())]:
        assert await directory.look_up_subject(subject) is None


async def test_direct_binds_without_a_service_account_cannot_look_up(slapd):
    async with Directory(make_settings(slapd, **DIRECT)) as directory:
        with pytest.raises(DirectorySettingsError, match="bind_dn"):
            await directory.look_up("ada")


async def test_templates_are_tried_in_turn(slapd):
    templates = [f"uid={{username}},ou=services,{s.SUFFIX}", *DIRECT["bind_templates"]]
    more = {**DIRECT, "bind_templates": templates}
    async with Directory(make_settings(slapd, **more)) as directory:
        assert (await directory.authenticate("ada", s.PASSWORD)).username == "ada"
        assert (await refusal(directory, "ada", "no")).reason is Refusal.WRONG_PASSWORD


async def test_a_right_password_for_another_entry_than_the_filter_finds_is_refused(slapd):
    """The bind name is ada's; the filter takes it for bob's."""
    more = {**DIRECT, "user_filter": "(|(mail={username}@elsewhere)(uid=bob))"}
    async with Directory(make_settings(slapd, **more)) as directory:
        assert (await refusal(directory, "ada", s.PASSWORD)).reason is Refusal.UNKNOWN


async def test_lock_out_tells_the_admin_and_strangers_only_if_asked_to(own_slapd):
    async with Directory(make_settings(own_slapd)) as directory:
        for _ in range(3):
            await refusal(directory, "locky", "wrong")
        error = await refusal(directory, "locky", s.PASSWORD)
        assert error.reason is Refusal.LOCKED
        assert str(error) == SAME_WORDS
    async with Directory(make_settings(own_slapd, tell_locked=True)) as directory:
        assert "locked after too many" in str(await refusal(directory, "locky", s.PASSWORD))


async def test_one_wrong_password_counts_once(own_slapd):
    """The directory locks after three: a log-in must not spend two."""
    async with Directory(make_settings(own_slapd)) as directory:
        for _ in range(2):
            await refusal(directory, "locky", "wrong")
        assert (await directory.authenticate("locky", s.PASSWORD)).username == "locky"


async def test_a_password_that_must_be_changed_lets_nobody_in(directory):
    error = await refusal(directory, "reset", s.PASSWORD)
    assert error.reason is Refusal.MUST_CHANGE
    assert "change your password" in str(error)
    assert str(await refusal(directory, "reset", "wrong")) == SAME_WORDS


@pytest.mark.parametrize("way", [make_settings, starttls], ids=["ldaps", "starttls"])
async def test_a_server_of_an_unknown_ca_gets_no_password(slapd, tmp_path, way):
    s.make_certificates(tmp_path)
    async with Directory(way(slapd, ca_file=tmp_path / "ca.crt")) as directory:
        for _ in range(5):  # the fuse must not turn it into another error
            with pytest.raises(DirectoryCertificateError, match="did not prove"):
                await directory.authenticate("ada", s.PASSWORD)


@pytest.mark.parametrize("way", [make_settings, starttls], ids=["ldaps", "starttls"])
async def test_a_server_of_another_name_gets_no_password(slapd, way):
    port = slapd.tls_port if way is make_settings else slapd.port
    settings = way(slapd).model_copy(update={"servers": (f"localhost:{port}",)})
    async with Directory(settings) as directory:
        with pytest.raises(DirectoryCertificateError, match="did not prove"):
            await directory.authenticate("ada", s.PASSWORD)


async def test_without_tls_it_says_so_loudly_and_the_server_may_refuse(slapd, caplog):
    more = {"tls": "insecure", "servers": [f"127.0.0.1:{slapd.port}"]}
    async with Directory(make_settings(slapd, **more)) as directory:
        assert "WITHOUT TLS" in caplog.text
        with pytest.raises(DirectorySettingsError, match="insecure"):
            await directory.authenticate("ada", s.PASSWORD)


async def test_a_wrong_service_account_is_the_admins_to_mend(slapd):
    async with Directory(make_settings(slapd, bind_password="nope")) as directory:
        with pytest.raises(DirectorySettingsError, match="service account") as refused:
            await directory.authenticate("ada", s.PASSWORD)
        assert "nope" not in str(refused.value)
        steps = {(f.step, f.is_fine) for f in await directory.check()}
        assert ("connect", True) in steps
        assert ("bind", False) in steps


async def test_a_base_that_is_not_there_is_said(slapd):
    async with Directory(make_settings(slapd, user_bases=["ou=gone,dc=contest,dc=test"])) as d:
        with pytest.raises(DirectorySettingsError, match="ou=gone"):
            await d.authenticate("ada", s.PASSWORD)


async def test_a_check_tells_what_works_and_what_somebody_would_get(directory):
    found = await directory.check("bob")
    assert all(f.is_fine for f in found)
    assert {f.step for f in found} == {"connect", "bind", "search", "person", "groups"}
    assert "TLSv1" in found[0].text
    assert "cn=ocean" in found[-1].text


async def test_connections_are_kept_and_end_with_it(slapd, monkeypatch):
    opened = []
    open_one = directory_link.Link.open

    def counting(self):
        opened.append(self)
        open_one(self)

    monkeypatch.setattr(directory_link.Link, "open", counting)
    async with Directory(make_settings(slapd)) as directory:
        for _ in range(5):
            await directory.authenticate("ada", s.PASSWORD)
        assert len(opened) == 2  # the service account's, and one to show passwords on
    assert all(link._connection is None for link in opened)


async def test_kept_connections_that_the_server_closed_are_replaced(own_slapd):
    async with Directory(make_settings(own_slapd)) as directory:
        await directory.authenticate("ada", s.PASSWORD)
        own_slapd.stop()
        own_slapd.start()
        assert (await directory.authenticate("ada", s.PASSWORD)).username == "ada"


async def test_people_who_log_in_at_once_are_not_mixed_up(slapd):
    names = ["ada", "bob", "carol", "many", "prima"] * 8
    async with Directory(make_settings(slapd, timeout_s=60)) as directory:
        found = await asyncio.gather(*(directory.authenticate(n, s.PASSWORD) for n in names))
        assert [facts.username for facts in found] == names
        answers = await asyncio.gather(
            *(
                directory.authenticate(n, s.PASSWORD if i % 2 else "no")
                for i, n in enumerate(names)
            ),
            return_exceptions=True,
        )
        right = [not isinstance(answer, BadCredentialsError) for answer in answers]
        assert right == [i % 2 == 1 for i in range(len(names))]
        assert all(a.username == n for a, n, ok in zip(answers, names, right, strict=True) if ok)


HOSTILE = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="*()\\\0{}=,+\"<>;#/ &|!~@:%\r\n\t", max_size=20),
    st.sampled_from(
        ["*", "a*", "*)(uid=*", "ada)(|(uid=*", "ada\\", "{username}", "{dn}", "{0}", "{", "}}",
         "ada,ou=people", "ada+cn=x", "ada\\2a", " ada", "ada ", "#ada", "\ufeffada", "a" * 5000,
         "ada\u0000", "\ud83d", "CONTEST\\ada", "ada@contest", "${jndi:ldap://x}", "\u202eada"]
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def both_ways(slapd):
    """A loop of its own: hypothesis calls the test many times within one."""
    loop = asyncio.new_event_loop()
    ways = [Directory(make_settings(slapd)), Directory(make_settings(slapd, **DIRECT))]
    yield loop, ways
    for directory in ways:
        loop.run_until_complete(directory.close())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def plain(username):
    """What a directory compares: without case and needless white space (RFC 4518)."""
    return " ".join(username.split()).casefold()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(username=HOSTILE)
def test_hostile_names_are_refused_in_the_same_words(both_ways, username):
    loop, ways = both_ways
    for directory in ways:
        try:
            facts = loop.run_until_complete(directory.authenticate(username, s.PASSWORD))
        except BadCredentialsError as e:
            if str(e) != SAME_WORDS:
                pytest.fail(f"{username!r} was told {e}")
        except CollabError as e:
            pytest.fail(f"{username!r} ended in {e!r}")
        else:  # only somebody's own name lets them in
            prepared = re.sub("[\u00ad\u200b\u2060\ufeff]", "", plain(username))
            assert prepared == plain(facts.username)
