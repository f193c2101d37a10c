"""Changed rows of the hub's database, as events: what is committed, by whom, and nothing else."""

import asyncio
import contextvars
from types import SimpleNamespace

import pytest
from jupyterhub import orm, roles

from jupyterhub_collab.hub.audit import rows
from jupyterhub_collab.hub.audit.origin import (
    Origin,
    Who,
    begin,
    carry_on,
    caused,
    continued,
    current_origin,
    kept_origin,
    sent_correlation,
)
from jupyterhub_collab.hub.audit.recorder import RECORDER
from jupyterhub_collab.hub.audit.rows import RowListener
from jupyterhub_collab.hub.audit.servers import stop_reason
from jupyterhub_collab.hub.audit.telling import ROLES, Happening, to_event
from jupyterhub_collab.models.audit import Outcome, Verb

TEAM = {"collab": {"schema": 1, "generation": 3, "contest": "sea", "tier": "small"}}


class Kept:
    def __init__(self):
        self.events = []

    def emit(self, event):
        self.events.append(event)

    async def record(self, event):
        self.emit(event)

    def told(self):
        """Verb, reason, subject and team of all since the last time."""
        found = [
            (e.verb.value, e.reason, e.subject.name if e.subject else "", e.team)
            for e in self.events
        ]
        self.events.clear()
        return found


@pytest.fixture
def kept():
    found = Kept()
    before = RECORDER._recorder, RECORDER.is_on
    RECORDER.use(found)
    yield found
    RECORDER._recorder, RECORDER.is_on = before


@pytest.fixture
def db(kept):
    factory = orm.new_session_factory("sqlite:///:memory:")
    session = factory()
    for role in roles.get_default_roles():
        roles.create_role(session, role)
    session.add(orm.OAuthClient(identifier="jupyterhub", secret="x"))
    session.commit()
    RowListener(factory)
    yield session
    session.close()
    session.get_bind().dispose()


def add_user(db, name):
    user = orm.User(name=name)
    db.add(user)
    db.commit()
    return user


def add_team(db, name, *members):
    group = orm.Group(name=name, properties=TEAM)
    db.add(group)
    group.users = list(members)
    db.commit()
    return group


def test_what_is_rolled_back_is_never_told(db, kept):
    db.add(orm.User(name="ada"))
    db.flush()
    db.rollback()
    db.commit()
    assert kept.told() == []
    add_user(db, "bob")
    assert kept.told() == [("user.change", "created", "bob", None)]


def test_a_member_comes_and_goes_through_either_end(db, kept):
    ada, bob = add_user(db, "ada"), add_user(db, "bob")
    kept.told()
    group = add_team(db, "ocean", ada)
    told = kept.told()
    assert ("access.change", "gained", "ada", "ocean") in told
    assert ("group.change", "created", "", "ocean") in told
    assert len(told) == 2
    bob.groups.append(group)
    db.commit()
    assert kept.told() == [("access.change", "gained", "bob", "ocean")]
    group.users.remove(ada)
    db.commit()
    assert kept.told() == [("access.change", "lost", "ada", "ocean")]
    db.delete(group)
    db.commit()
    assert sorted(kept.told(), key=str) == [
        ("access.change", "lost", "bob", "ocean"),
        ("group.change", "deleted", "", "ocean"),
    ]


def test_properties_tell_which_fields_and_how_the_gate(db, kept):
    group = add_team(db, "ocean")
    kept.told()
    members = [{"issuer": "https://idp", "subject": "ada-secret"}]
    group.properties = {"collab": {**TEAM["collab"], "gate": "closed", "members": members}}
    db.commit()
    (event,) = kept.events
    assert event.verb is Verb.GROUP_CHANGE
    assert (event.contest, event.team) == ("sea", "ocean")
    assert event.details["fields"] == ("gate", "members")
    assert (event.details["gate"], event.details["generation"]) == ("closed", 3)
    assert "ada-secret" not in event.model_dump_json()


def test_users_are_renamed_become_admins_and_are_deleted_with_all_they_had(db, kept):
    user = add_user(db, "ada")
    roles.assign_default_roles(db, entity=user)
    add_team(db, "ocean", user)
    orm.APIToken.new(user=user, note="Ada's own note", scopes=["read:users!user=ada"])
    (made,) = [e for e in kept.events if e.verb is Verb.TOKEN_CREATE]
    assert made.details["scopes"] == ("read:users",)
    assert made.details["kind"] == "program"
    kept.told()
    user.name = "ada2"
    user.admin = True
    roles.assign_default_roles(db, entity=user)
    db.commit()
    (renamed, *rest) = kept.events
    assert (renamed.subject.name, renamed.subject.note) == ("ada2", "was ada")
    assert [(e.verb, e.reason, e.details["role"]) for e in rest] == [
        (Verb.ROLE_CHANGE, "gained", "admin-flag"),
        (Verb.ROLE_CHANGE, "gained", "admin"),
    ]
    user.cookie_id = orm.new_token()
    db.commit()
    kept.events = kept.events[-1:]
    assert kept.told() == [("logout", "all-sessions", "ada2", None)]
    db.delete(user)
    db.commit()
    told = kept.told()
    assert ("token.delete", None, "ada2", None) in told
    assert ("access.change", "lost", "ada2", "ocean") in told
    assert ("user.change", "deleted", "ada2", None) in told


def add_server(db, user):
    server = orm.Spawner(name="", user=user, state={"collab": {"team": "ocean"}})
    client = orm.OAuthClient(identifier=f"jupyterhub-user-{user.name}", secret="x")
    server.oauth_client = client
    db.add(server)
    db.commit()
    return server


def test_all_shares_at_once_and_codes(db, kept):
    ada, bob, carl = (add_user(db, name) for name in ("ada", "bob", "carl"))
    server = add_server(db, ada)
    kept.told()
    for guest in (bob, carl):
        orm.Share.grant(db, server, guest)
    assert [e.recipient.name for e in kept.events] == ["bob", "carl"]
    assert {e.team for e in kept.events} == {"ocean"}
    assert {e.details["scopes"] for e in kept.events} == {("access:servers",)}
    kept.told()
    # As JupyterHub does it, past the session's unit of work.
    db.query(orm.Share).filter_by(spawner_id=server.id).delete()
    db.commit()
    assert sorted(e.recipient.name for e in kept.events) == ["bob", "carl"]
    assert kept.told() == [("share.delete", None, "ada", "ocean")] * 2
    code, value = orm.ShareCode.new(db, server, scopes=["access:servers"])
    assert kept.events[-1].reason == "code"
    code.exchange(carl)
    assert [e.reason for e in kept.events] == ["code", None, "code-accepted"]
    assert value not in "".join(e.model_dump_json() for e in kept.events)


def test_a_code_for_anothers_server_is_a_visit(db, kept):
    ada, bob = add_user(db, "ada"), add_user(db, "bob")
    server = add_server(db, ada)
    kept.told()
    begin(Origin(who=Who("bob", is_admin=True), address="192.0.2.1"))
    for user in (ada, bob):
        code = orm.OAuthCode(code=f"secret-{user.name}", client=server.oauth_client, user=user)
        db.add(code)
        db.commit()
    (event,) = kept.events
    assert event.verb is Verb.IMPERSONATE
    assert (event.subject.name, event.actor.name) == ("ada", "bob")
    assert (event.actor.roles, event.actor.address) == (("admin of the hub",), "192.0.2.1")
    assert event.reason == "admin-access"
    assert "secret-" not in event.model_dump_json()
    begin(None)


def test_a_fault_of_ours_breaks_no_commit(db, kept, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(rows, "of_new", broken)
    add_user(db, "ada")
    assert orm.User.find(db, "ada") is not None
    assert "could not be told" in caplog.text


# -- who asked --------------------------------------------------------------------------------


async def test_a_task_that_outlives_its_request_asks_for_nobody():
    """As the poll of a server that this request started."""
    origin = Origin(who=Who("ada"))
    begin(origin)
    answered = asyncio.Event()

    async def look_later():
        await answered.wait()
        return current_origin()

    async def go_on():
        with continued(kept_origin()):
            await answered.wait()
            inside = current_origin()
        return inside, current_origin()

    async def stop():
        carry_on()
        await answered.wait()
        return current_origin()

    later, on, stopping = map(asyncio.ensure_future, (look_later(), go_on(), stop()))
    await asyncio.sleep(0)
    origin.end()
    answered.set()
    assert await later is None
    inside, after = await on
    assert inside.correlation == origin.correlation
    assert inside.asker() == Who("ada")
    assert after is None
    assert (await stopping).asker() == Who("ada")
    assert current_origin() is None


def in_context(work):
    return contextvars.copy_context().run(work)


def test_what_the_hub_does_of_its_own_accord_names_the_cause_and_keeps_the_id():
    def work():
        begin(Origin(who=Who("root", is_admin=True), address="192.0.2.9", correlation="c1"))
        with caused("access-lost", note="team ocean"):
            mine = to_event(Happening(Verb.SERVER_STOP, subject="ada"))
        theirs = to_event(Happening(Verb.SERVER_STOP, subject="ada"))
        return mine, theirs

    mine, theirs = in_context(work)
    assert mine.actor is None
    assert (mine.correlation, mine.details) == ("c1", {"cause": "access-lost"})
    assert (mine.subject.name, mine.subject.note) == ("ada", "team ocean")
    assert mine.subject.address == ""
    assert (theirs.actor.name, theirs.actor.address) == ("root", "192.0.2.9")
    assert theirs.correlation == "c1"


def test_texts_from_outside_become_what_an_event_can_hold():
    happening = Happening(
        Verb.LOGIN,
        Outcome.REFUSED,
        reason="Weird: Reason!",
        team="No team",
        subject="a\x00b\n" + "ü" * 2000,
        note="\ud800",
        details={"text": "x\ty", "nothing": None},
    )
    event = in_context(lambda: to_event(happening, origin=None))
    assert event.reason == "weird-reason"
    assert event.team is None
    assert event.subject.name.startswith("a b ü")
    assert len(event.subject.name) == 1024
    assert event.details == {"text": "x y"}
    assert event.model_dump_json()


def test_people_have_the_roles_they_were_last_found_to_have():
    ROLES.put("cap", ["captain of team ocean"])
    try:
        event = in_context(lambda: to_event(Happening(Verb.LOGOUT, subject="cap"), origin=None))
        assert event.subject.roles == ("captain of team ocean",)
    finally:
        ROLES.forget("cap")


@pytest.mark.parametrize(
    ("origin", "waiting", "word"),
    [
        (None, False, "hub"),
        (Origin(who=Who("ada")), False, "asked"),
        (Origin(who=Who("root", is_admin=True)), False, "asked-by-other"),
        (Origin(who=Who("portal", "service")), False, "asked-by-service"),
        (Origin(who=Who("jupyterhub-idle-culler", "service")), False, "culled"),
        (Origin(cause="access-lost"), False, "access-lost"),
        (Origin(who=Who("ada")), True, "no-answer"),
    ],
)
def test_why_a_server_is_stopped(origin, waiting, word):
    def work():
        begin(origin)
        user = SimpleNamespace(name="ada")
        return stop_reason(SimpleNamespace(user=user, _waiting_for_response=waiting))

    assert in_context(work) == word


def test_a_service_hands_its_id_on():
    assert sent_correlation({"X-Collab-Correlation": "start-1"}) == "start-1"
    assert sent_correlation({"X-Request-Id": "a b"}) == ""
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert sent_correlation({"traceparent": trace}) == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert sent_correlation({}) == ""
