"""Reading the log: what the policy says, whatever is asked; and a record of each question."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from jupyterhub_collab.errors import PermanentError, RetryableError
from jupyterhub_collab.managers.audit_reading import AuditReading, NobodyError, NotYetError
from jupyterhub_collab.models.audit import Outcome, Person, SentBatch, SentEvent, Verb
from jupyterhub_collab.models.audit_query import EventQuery, Scope
from jupyterhub_collab.models.standing import PersonStanding
from jupyterhub_collab.policy.audit_access import is_asked_for, own_scope, scope_of
from jupyterhub_collab.policy.audit_reading import Reader, ShownEvent
from jupyterhub_collab.policy.checkpoint import LogSigner
from jupyterhub_collab.policy.merkle import is_included, leaf_hash
from jupyterhub_collab.storage.audit_log import AuditLog
from jupyterhub_collab.storage.database import DatabaseError
from tests.audit_samples import AT, DATASETS, STANDINGS, TEAMS, Clock, fill, to_event, who

SIGNER = LogSigner.generate("collab.example.org/audit")
EVERYTHING = EventQuery(Scope(everything=True))


class Scene:
    """A log that is filled once; what reading records goes nowhere unless a test says so."""

    def __init__(self, log: AuditLog) -> None:
        self.log = log
        self.recorded: list[Any] = []
        self.error: Exception | None = None
        self.standings = dict(STANDINGS)
        self.reading = AuditReading(
            self,  # type: ignore[arg-type]
            record=self.append_own,
            ask_standing=self.ask,
            verifier=SIGNER.verifier,
            now=lambda: AT,
        )

    async def ask(self, name: str) -> PersonStanding | None:
        return self.standings.get(name)

    async def append_own(self, event: Any) -> int:
        if self.error is not None:
            raise self.error
        self.recorded.append(event)
        return 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuditLog]:
    engine = create_engine(f"sqlite:///{tmp_path_factory.mktemp('log')}/log.sqlite")
    log = AuditLog(engine, now=Clock())
    log.open()
    asyncio.run(fill(log))
    yield log
    log.close()
    engine.dispose()


@pytest.fixture
def scene(filled: AuditLog) -> Scene:
    return Scene(filled)


def reader(name: str, *, is_full: bool = True) -> Reader:
    standing = STANDINGS[name]
    return Reader(standing, scope_of(standing) if is_full else own_scope(name), "10.1.1.1", "curl")


def sets(values: Any) -> Any:
    return st.frozensets(st.sampled_from(sorted(values)), max_size=2)


names = st.sampled_from(sorted(STANDINGS))
moments = st.none() | st.integers(0, 140).map(lambda n: AT + timedelta(minutes=7 * n))
queries = st.builds(
    EventQuery,
    scope=st.just(Scope()),
    contests=sets(DATASETS),
    teams=sets(TEAMS),
    people=st.frozensets(st.sampled_from(["ada", "bob", "eve", "root", "zoe"]), max_size=1),
    datasets=sets([(c, d) for c, ds in DATASETS.items() for d in ds]),
    verbs=sets(verb.value for verb in Verb),
    outcomes=sets(outcome.value for outcome in Outcome),
    since=moments,
    until=moments,
)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(sorted(STANDINGS)), st.booleans(), queries, st.integers(1, 30), st.booleans()
)
def test_whatever_is_asked_exactly_what_the_policy_says_is_shown(
    filled: AuditLog, name: str, is_full: bool, query: EventQuery, limit: int, forwards: bool
) -> None:
    scene = Scene(filled)
    asking = reader(name, is_full=is_full)

    async def read() -> list[int]:
        found: list[int] = []
        at: int | None = 0 if forwards else None
        while True:
            way = {"after": at} if forwards else {"before": at}
            page = await scene.reading.search(asking, query, limit=limit, **way)
            assert len(page.events) <= limit
            found += [event.sequence for event in page.events]
            if page.following is None:
                return found
            assert page.following == found[-1], "a cursor is the number of an event that was shown"
            at = page.following

    everything = list(filled.leaves(0, filled.size))
    scoped = EventQuery(**{**vars(query), "scope": asking.scope})
    wanted = [
        event.sequence
        for event in everything
        if is_asked_for(scoped, json.loads(event.body), event.people)
    ]
    assert asyncio.run(read()) == (wanted if forwards else wanted[::-1])


@settings(max_examples=150, deadline=None)
@given(names, queries)
def test_a_record_of_a_place_tells_of_no_other_place(
    filled: AuditLog, name: str, query: EventQuery
) -> None:
    scene = Scene(filled)
    asking = reader(name)
    asyncio.run(scene.reading.search(asking, query, limit=1000))
    assert scene.recorded, "nobody reads without a record"
    for record in scene.recorded:
        text = json.dumps(record.details)
        scope = asking.scope
        if record.contest is None and record.team is None:
            continue
        assert (
            scope.everything
            or record.contest in scope.contests
            or record.team in scope.teams
            or (record.team is None and any(c == record.contest for c, _ in scope.datasets))
        ), "nobody records at a place where they may see nothing"
        assert not any(f'"{team}"' in text for team in set(TEAMS) - {record.team})
        for dataset in record.datasets:
            pair = (record.contest, dataset)
            assert scope.everything or record.contest in scope.contests or pair in scope.datasets


async def _search(scene: Scene, name: str, **filters: Any) -> tuple[ShownEvent, ...]:
    page = await scene.reading.search(reader(name), EventQuery(Scope(), **filters), limit=1000)
    return page.events


async def test_who_is_shown_what_of_people(scene: Scene) -> None:
    wanted = {"teams": frozenset({"ocean"}), "verbs": frozenset({"impersonate"})}
    [by_captain, *_] = [e for e in await _search(scene, "ada", **wanted) if _named(e, "bob")]
    admin = {"name": "root", "roles": ["admin of the hub"]}
    assert by_captain.people == {"subject": {"name": "bob"}, "actor": admin}
    assert by_captain.opened == {}, "with a salt one could try addresses"
    [by_host, *_] = [e for e in await _search(scene, "hana", **wanted) if _named(e, "bob")]
    assert by_host.people["actor"]["note"] == "asked by bob"
    assert by_host.people["subject"]["address"] == "10.0.0.3"
    [by_self, *_] = await _search(scene, "bob", **wanted)
    assert by_self.people["subject"]["address"] == "10.0.0.3"
    assert by_self.people["actor"] == admin
    assert set(by_self.opened) == {"subject"}
    [by_admin, *_] = await _search(scene, "root", **wanted)
    assert set(by_admin.opened) == {"subject", "actor"}


def _named(event: ShownEvent, name: str) -> bool:
    return event.people["subject"]["name"] == name


async def test_roles_in_other_teams_are_not_shown_to_a_captain_or_a_host(scene: Scene) -> None:
    for name in ("ada", "hana"):
        events = await _search(scene, name, verbs=frozenset({"dataset.read"}))
        others = [e for e in events if e.people["subject"]["name"] != name]
        assert others
        for event in others:
            roles = event.people["subject"].get("roles", [])
            assert roles == [f"member of team {event.document['team']}"]


async def test_the_record_says_who_asked_for_what(scene: Scene) -> None:
    await _search(scene, "hana", teams=frozenset({"ocean"}), people=frozenset({"bob"}))
    [record] = scene.recorded
    assert (record.verb, record.contest, record.team) == (Verb.AUDIT_READ, "sea", "ocean")
    assert record.subject == Person(name="bob")
    assert record.actor.name == "hana"
    assert record.actor.roles == ("host of contest sea",)
    assert (record.actor.address, record.actor.agent) == ("10.1.1.1", "curl")
    assert record.details["results"] > 0


async def test_who_asks_for_everything_of_theirs_is_recorded_at_each_place(scene: Scene) -> None:
    await _search(scene, "hana")
    assert [(r.contest, r.team) for r in scene.recorded] == [("sea", None)]
    scene.recorded.clear()
    await _search(scene, "ada")
    [record] = scene.recorded
    assert (record.contest, record.team) == ("sea", "ocean")
    page = await _search(scene, "ada")
    ocean = sum(event.document.get("team") == "ocean" for event in page)
    assert 0 < ocean < len(page)
    assert record.details["results"] == ocean, "what else she got is nobody's business there"


async def test_nobody_leaves_a_record_with_a_team_that_is_not_theirs(scene: Scene) -> None:
    assert await _search(scene, "eve", teams=frozenset({"ocean"})) == ()
    [record] = scene.recorded
    assert (record.contest, record.team) == (None, None)
    assert record.details == {"teams": ("ocean",), "results": 0}


async def test_what_cannot_be_recorded_is_not_answered(scene: Scene) -> None:
    scene.error = DatabaseError("The disk is full.")
    asking = reader("root")
    ways: list[Callable[[], Awaitable[Any]]] = [
        lambda: scene.reading.search(asking, EVERYTHING),
        lambda: scene.reading.find(asking, 1),
        lambda: scene.reading.prove(asking, 1),
        lambda: scene.reading.accesses(asking, "sea", "tides"),
        lambda: scene.reading.export(asking, EVERYTHING, form="csv"),
        lambda: scene.reading.follow(asking, EVERYTHING, after=0, is_live=lambda: True),
    ]
    for way in ways:
        with pytest.raises(DatabaseError):
            await way()


async def test_an_event_of_others_is_not_there(scene: Scene) -> None:
    for name in STANDINGS:
        shown = {e.sequence for e in (await _search(scene, name))}
        for sequence in range(scene.log.size + 2):
            found = await scene.reading.find(reader(name), sequence)
            assert (found is not None) == (sequence in shown)


async def test_an_event_asked_for_by_number_is_recorded_where_it_belongs(scene: Scene) -> None:
    [event, *_] = await _search(scene, "ada", teams=frozenset({"ocean"}))
    scene.recorded.clear()
    await scene.reading.find(reader("ada"), event.sequence)
    [record] = scene.recorded
    assert (record.contest, record.team, record.thing) == ("sea", "ocean", str(event.sequence))
    scene.recorded.clear()
    await scene.reading.find(reader("cyd"), event.sequence)
    [record] = scene.recorded
    assert (record.contest, record.team, record.thing) == (None, None, str(event.sequence))


async def test_who_reads_is_asked_each_time_and_refused_when_nobody_says(scene: Scene) -> None:
    assert (await scene.reading.reader("ada", is_full=True)).scope.teams == {"ocean"}
    scene.standings["ada"] = PersonStanding(name="ada")
    assert not (await scene.reading.reader("ada", is_full=True)).scope.teams
    assert (await scene.reading.reader("root", is_full=False)).scope == Scope(person="root")
    with pytest.raises(NobodyError):
        await scene.reading.reader("zoe", is_full=True)
    scene.standings["bob"] = STANDINGS["root"]
    with pytest.raises(PermanentError, match="another person"):
        await scene.reading.reader("bob", is_full=True)


async def test_accesses_of_a_data_set_by_person_and_team(scene: Scene) -> None:
    found = await scene.reading.accesses(reader("stew"), "sea", "tides")
    rows = {(row.name, row.team): row for row in found.rows}
    assert set(rows) == {("ada", "ocean"), ("cyd", "river")}
    assert rows["ada", "ocean"].count == 6
    assert rows["ada", "ocean"].first < rows["ada", "ocean"].last
    assert [row.last for row in found.rows] == sorted((r.last for r in found.rows), reverse=True)
    salt = await scene.reading.accesses(reader("hana"), "sea", "salt")
    assert {row.name: row.refused for row in salt.rows} == {"bob": 1, "ada": 1}
    assert not found.is_cut
    assert (await scene.reading.accesses(reader("stew"), "ice", "tides")).rows == ()
    [mine] = (await scene.reading.accesses(reader("bob"), "sea", "salt")).rows
    assert mine.name == "bob"


async def test_a_start_counts_once_though_it_is_told_twice(scene: Scene) -> None:
    told = [("one", "allowed"), ("one", "succeeded"), ("two", "allowed"), ("two", "failed")]
    told += [("three", "allowed"), ("four", "refused")]
    common = {"verb": "server.start", "contest": "fog", "team": "mist", "datasets": ["dew"]}
    events = tuple(
        SentEvent(
            sequence=number,
            event=to_event({**common, "thing": thing, "outcome": outcome, "subject": who("fay")}),
        )
        for number, (thing, outcome) in enumerate(told, start=1)
    )
    await scene.log.append("hub", SentBatch(incarnation="1" * 32, events=events))
    [row] = (await scene.reading.accesses(reader("root"), "fog", "dew")).rows
    assert (row.count, row.refused) == (4, 2)


async def test_a_time_line_counts_what_is_shown(scene: Scene) -> None:
    for name in ("root", "cyd", "nobody"):
        page = await scene.reading.search(
            reader(name), EventQuery(Scope()), limit=1000, with_hours=True
        )
        counts: dict[str, int] = {}
        for event in page.events:
            hour = event.document["stored"][:13]
            counts[hour] = counts.get(hour, 0) + 1
        assert page.hours is not None
        assert page.hours.counts == counts


async def test_proofs_lead_to_the_signed_head(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/log.sqlite")
    log = AuditLog(engine, now=Clock())
    log.open()
    try:
        await fill(log)
        scene = Scene(log)
        with pytest.raises(NotYetError) as early:
            await scene.reading.prove(reader("root"), 3)
        assert early.value.event is not None
        frontier = log.frontier()
        await log.add_checkpoint(frontier.size, SIGNER.sign(frontier.size, frontier.root(), AT))
        proof = await scene.reading.prove(reader("root"), 3)
        assert proof is not None
        leaf = leaf_hash(proof.event.body)
        assert is_included(leaf, 2, proof.size, proof.path, frontier.root())
        assert await scene.reading.prove(reader("nobody"), 3) is None
    finally:
        log.close()
        engine.dispose()


async def test_an_export_is_recorded_at_its_begin_and_at_its_end(scene: Scene) -> None:
    pages = await scene.reading.export(reader("hana"), EventQuery(Scope()), form="csv")
    [began] = scene.recorded
    assert (began.verb, began.outcome) == (Verb.AUDIT_EXPORT, Outcome.ALLOWED)
    sequences = [event.sequence async for events in pages for event in events]
    assert sequences == sorted(e.sequence for e in await _search(scene, "hana"))
    ended = scene.recorded[1]
    assert (ended.outcome, ended.details["results"]) == (Outcome.SUCCEEDED, len(sequences))


async def test_an_export_that_was_left_is_recorded_as_such(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jupyterhub_collab.managers.audit_reading._EXPORT_PAGE", 5)
    pages = await scene.reading.export(reader("root"), EventQuery(Scope()), form="jsonl")
    async with aclosing(pages):
        async for events in pages:
            assert len(events) == 5
            break
    ended = scene.recorded[-1]
    assert (ended.outcome, ended.details["results"]) == (Outcome.FAILED, 5)


async def test_following_shows_what_comes_and_nothing_of_others(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/log.sqlite")
    log = AuditLog(engine, now=Clock())
    log.open()
    scene = Scene(log)
    live = True
    try:
        follow = scene.reading.follow
        stream = await follow(reader("ada"), EventQuery(Scope()), after=None, is_live=lambda: live)
        got: list[ShownEvent] = []

        async def collect() -> None:
            async for events in stream:
                got.extend(events)

        task = asyncio.create_task(collect())
        await fill(log)
        wanted = [e.sequence for e in reversed(await _search(scene, "ada"))]
        await _until(lambda: len(got) >= len(wanted))
        live = False
        await task
        assert [event.sequence for event in got] == wanted
        assert scene.recorded[0].details == {"live": True}
        assert scene.recorded[-1].details["live"] is True
        assert scene.recorded[-1].details["results"] > 0
    finally:
        log.close()
        engine.dispose()


async def test_what_comes_between_size_and_look_is_shown_once(tmp_path: Path) -> None:
    """The log grows after its size was asked for and before the events are looked at."""
    engine = create_engine(f"sqlite:///{tmp_path}/log.sqlite")
    log = AuditLog(engine, now=Clock())
    log.open()
    live = True

    class Growing(Scene):
        async def read(self, query: EventQuery, **page: Any) -> Any:
            nonlocal live
            live = log.size < 5
            await log.append_own(to_event({"verb": "login", "subject": who("ada")}))
            return await log.read(query, **page)

    try:
        follow = Growing(log).reading.follow
        stream = await follow(reader("ada"), EventQuery(Scope()), after=0, is_live=lambda: live)
        await log.append_own(to_event({"verb": "login", "subject": who("ada")}))
        got = [event.sequence async for events in stream for event in events]
        assert got == [1, 2, 3, 4, 5]
    finally:
        log.close()
        engine.dispose()


async def _until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - a test's time limit ends it
        await asyncio.sleep(0.02)


async def test_the_hub_s_silence_reaches_who_asks(scene: Scene) -> None:
    async def away(_name: str) -> PersonStanding | None:
        raise RetryableError("the hub does not answer")

    reading = AuditReading(
        scene,  # type: ignore[arg-type]
        record=scene.append_own,
        ask_standing=away,
        verifier=SIGNER.verifier,
        now=lambda: AT,
    )
    with pytest.raises(RetryableError):
        await reading.reader("ada", is_full=True)
