"""Queries of the audit log: exactly what filters and scope let through, each along an index."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, event

from jupyterhub_collab.models.audit import AuditEvent, Outcome, Person, SentBatch, SentEvent, Verb
from jupyterhub_collab.models.audit_query import OWN_VERBS, EventQuery, Scope
from jupyterhub_collab.storage.audit_log import AuditLog
from jupyterhub_collab.storage.audit_reading import LIMIT_MAX

NOW = datetime(2027, 3, 1, 10, tzinfo=timezone.utc)
CONTESTS, TEAMS, NAMES = ["sea", "sky"], ["ocean", "reef", "cloud"], ["ada", "grace", "eve"]
SETS = ["tides", "winds"]
VERBS = [Verb.LOGIN, Verb.DATASET_READ, Verb.SERVER_START, Verb.SERVER_STOP, Verb.AUDIT_READ]
VERBS += [Verb.AUDIT_GAP, Verb.AUDIT_ERASE]
COUNT = 400
EVERYTHING = Scope(everything=True)


def draw_event(chance):
    def one_of(values, or_none=0.3):
        return None if chance.random() < or_none else chance.choice(values)

    people = {part: one_of(NAMES, 0.6) for part in ("subject", "actor", "recipient")}
    return AuditEvent(
        time=NOW,
        verb=chance.choice(VERBS),
        outcome=chance.choice(list(Outcome)),
        contest=one_of(CONTESTS),
        team=one_of(TEAMS),
        datasets=chance.sample(SETS, chance.randint(0, 2)),
        **{part: Person(name=name) for part, name in people.items() if name},
    )


async def fill(engine, indexed=COUNT):
    """Events of which some are stored at the same moment; tables to go along for the first ones."""
    chance = random.Random(7)
    now = NOW

    def open_log():
        # Rows are written when the log is closed, and at no other time.
        log = AuditLog(engine, now=lambda: now, index_events=10**6, index_after_s=10**6)
        log.open()
        return log

    log = open_log()
    for first in range(1, COUNT, 20):
        if first == indexed + 1:
            log.close()
            log = open_log()
        sent = [SentEvent(sequence=n, event=draw_event(chance)) for n in range(first, first + 20)]
        await log.append("hub", SentBatch(incarnation="0" * 32, events=sent))
        now += timedelta(seconds=chance.choice([0, 1, 3]))
    if indexed == COUNT:
        log.close()
        log = open_log()
    assert log.indexed == indexed
    return log


def is_wanted(stored, query):
    """The same, told event by event."""
    body = json.loads(stored.body)
    names = {kept["value"].get("name") for kept in stored.people.values()}
    about = {(body.get("contest", ""), dataset) for dataset in body.get("datasets", ())}
    at = datetime.fromisoformat(body["stored"].replace("Z", "+00:00"))
    scope = query.scope
    narrow = (
        body.get("team") in scope.teams
        or bool(about & scope.datasets)
        or (scope.person is not None and scope.person in names)
    )
    return (
        (
            scope.everything
            or body.get("contest") in scope.contests
            or (narrow and body["verb"] not in OWN_VERBS)
        )
        and (not query.contests or body.get("contest") in query.contests)
        and (not query.teams or body.get("team") in query.teams)
        and (not query.people or bool(names & query.people))
        and (not query.datasets or bool(about & query.datasets))
        and (
            not query.verbs
            or any(
                body["verb"] == verb or (verb.endswith(".*") and body["verb"].startswith(verb[:-1]))
                for verb in query.verbs
            )
        )
        and (not query.outcomes or body["outcome"] in query.outcomes)
        and (query.since is None or at >= query.since)
        and (query.until is None or at < query.until)
    )


def some_of(values):
    return st.frozensets(st.sampled_from(values), max_size=2)


PAIRS = list(itertools.product([*CONTESTS, ""], SETS))
MOMENTS = st.none() | st.integers(-2, 45).map(lambda s: NOW + timedelta(seconds=s))
QUERIES = st.builds(
    EventQuery,
    scope=st.one_of(
        st.just(EVERYTHING),
        st.builds(
            Scope,
            contests=some_of(CONTESTS),
            teams=some_of(TEAMS),
            datasets=some_of(PAIRS),
            person=st.none() | st.sampled_from(NAMES),
        ),
    ),
    contests=some_of([*CONTESTS, "none"]),
    teams=some_of(TEAMS),
    people=some_of([*NAMES, "nobody"]),
    datasets=some_of(PAIRS),
    verbs=some_of([*(verb.value for verb in VERBS), "server.*", "audit.*"]),
    outcomes=some_of([outcome.value for outcome in Outcome]),
    since=MOMENTS,
    until=MOMENTS,
)


@pytest.mark.parametrize("indexed", [0, 140, 380, COUNT])
def test_any_query_finds_exactly_what_it_means_on_pages_of_any_size(url, indexed):
    engine = create_engine(url)
    log = asyncio.run(fill(engine, indexed))
    stored = list(log.leaves(0, log.size))
    found_some = 0

    async def read_all(query, limit, *, is_newest_first):
        found = []
        while True:
            if is_newest_first:
                before = found[-1].sequence if found else None
                page = await log.read(query, before=before, limit=limit)
            else:
                page = await log.read(query, after=found[-1].sequence if found else 0, limit=limit)
            found += page
            if len(page) < limit:
                return found

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(query=QUERIES, limit=st.integers(5, 200), is_newest_first=st.booleans())
    def check(query, limit, is_newest_first):
        nonlocal found_some
        found = asyncio.run(read_all(query, limit, is_newest_first=is_newest_first))
        wanted = [event for event in stored if is_wanted(event, query)]
        assert found == (wanted[::-1] if is_newest_first else wanted)
        found_some += bool(found)

    check()
    assert found_some > 10  # control
    log.close()
    engine.dispose()


@pytest.fixture
def log(engine):
    log = asyncio.run(fill(engine))
    yield log
    log.close()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"verbs": frozenset({"server.fly"})}, "verb"),
        ({"verbs": frozenset({"fly.*"})}, "verb"),
        ({"verbs": frozenset({"*"})}, "verb"),
        ({"outcomes": frozenset({"won"})}, "outcome"),
        ({"since": datetime(2027, 1, 1)}, "zone"),  # noqa: DTZ001
    ],
)
async def test_words_that_mean_nothing_are_refused(log, query, words):
    with pytest.raises(ValueError, match=words):
        await log.read(EventQuery(EVERYTHING, **query))


@pytest.mark.parametrize("limit", [0, -1, LIMIT_MAX + 1])
async def test_limits_that_are_none(log, limit):
    with pytest.raises(ValueError, match="limit"):
        await log.read(EventQuery(EVERYTHING), limit=limit)


async def test_names_that_are_sql_or_very_many(log):
    hostile = frozenset({"' OR 1=1 --", "%", "\\", "ada\x7f"})
    for field in ("people", "teams", "contests"):
        assert await log.read(EventQuery(EVERYTHING, **{field: hostile})) == ()
    many = frozenset(f"team-{n}" for n in range(1500)) | {"ocean"}
    found = await log.read(EventQuery(Scope(teams=many)), limit=1000)
    wanted = [e for e in log.leaves(0, log.size) if is_wanted(e, EventQuery(Scope(teams=many)))]
    assert list(found) == wanted[::-1]


TEAM, CONTEST = (
    "audit_teams USING PRIMARY KEY (team=?",
    "audit_contests USING PRIMARY KEY (contest=?",
)
VERB = "audit_verbs USING PRIMARY KEY (verb=? AND outcome=?"
PERSON, DATASET = "(name=? AND sequence>", "(contest=? AND dataset=? AND sequence>"
PLACES = "INTEGER PRIMARY KEY (rowid>"
PLANS = {
    "a captain's page": (TEAM, EventQuery(Scope(teams=frozenset({"ocean"})))),
    "a captain's page of one person": (
        TEAM,
        EventQuery(Scope(teams=frozenset({"ocean"})), people=frozenset({"ada"})),
    ),
    "a member's own": (PERSON, EventQuery(Scope(person="ada"))),
    "a steward's": (DATASET, EventQuery(Scope(datasets=frozenset({("sea", "tides")})))),
    "a host's": (CONTEST, EventQuery(Scope(contests=frozenset({"sea"})))),
    "a host's, of a team": (
        TEAM,
        EventQuery(Scope(contests=frozenset({"sea"})), teams=frozenset({"ocean"})),
    ),
    "by team": (TEAM, EventQuery(EVERYTHING, teams=frozenset({"ocean"}))),
    "by contest": (CONTEST, EventQuery(EVERYTHING, contests=frozenset({"sea"}))),
    "by person": (PERSON, EventQuery(EVERYTHING, people=frozenset({"ada"}))),
    "by data set": (DATASET, EventQuery(EVERYTHING, datasets=frozenset({("sea", "tides")}))),
    "by verb": (VERB, EventQuery(EVERYTHING, verbs=frozenset({"server.*"}))),
    "by outcome": (VERB, EventQuery(EVERYTHING, outcomes=frozenset({"refused"}))),
    "by time": (PLACES, EventQuery(EVERYTHING, since=NOW, until=NOW + timedelta(seconds=9))),
    "all": (PLACES, EventQuery(EVERYTHING)),
    "all sorts": (
        TEAM,
        EventQuery(
            Scope(teams=frozenset({"ocean"}), person="ada"),
            verbs=frozenset({"login"}),
            outcomes=frozenset({"refused"}),
            since=NOW,
        ),
    ),
}


@pytest.mark.parametrize("name", PLANS)
async def test_each_way_goes_along_an_index_and_sorts_nothing(tmp_path, name):
    """SQLite's own word for it. Sorting is left to the few that several ways found."""
    engine = create_engine(f"sqlite:///{tmp_path}/audit.sqlite")
    log = await fill(engine)
    asked = []
    event.listen(engine, "before_cursor_execute", lambda *args: asked.append(args[2:4]))
    index, query = PLANS[name]
    await log.read(query, before=COUNT, limit=10)
    found = []
    with engine.connect() as connection:
        for statement, values in list(asked):
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
            found += [row[3] for row in plan]
    assert any(index in step for step in found), found
    for step in found:
        assert not (step.startswith("SCAN") and "audit_" in step), found
        assert index == PLACES or PLACES not in step, found
        assert step != "USE TEMP B-TREE FOR ORDER BY", found
    log.close()
    engine.dispose()
