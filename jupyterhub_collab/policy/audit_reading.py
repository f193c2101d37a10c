"""What is recorded when somebody reads the audit log, and an event as a reader is shown it.

To read is to leave a record: who, what they asked for, how many events they got. There is one
record for each place that was asked for (`audit_access.places_of`), so that a captain sees who read
the team's events and nothing of the other teams that were read at the same time: each record tells
of its own place only.

It must not: tell the time. A reader's filters that name somebody go into the personal part.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..models.audit import AuditEvent, Detail, Outcome, Person, StoredEvent, Verb
from ..models.audit_query import EventQuery, Scope
from ..models.standing import PersonStanding
from .audit_access import NOWHERE, Place, datasets_at, open_people, places_of, show_people
from .audit_leaf import to_time


@dataclass(frozen=True)
class Reader:
    """Somebody who reads, at the moment of one request.

    Attributes
    ----------
    scope
        What they may see.
    address, agent
        Where from, and with which program.
    correlation
        The request's.
    """

    standing: PersonStanding
    scope: Scope
    address: str = ""
    agent: str = ""
    correlation: str | None = None

    @property
    def name(self) -> str:
        """The hub user."""
        return self.standing.name

    def to_person(self) -> Person:
        """As the record of a reading has them."""
        return Person(
            name=self.name,
            roles=tuple(roles_of(self.standing))[:100],
            address=self.address[:1024],
            agent="".join(c for c in self.agent[:1024] if c.isprintable()),
        )

    def contests(self) -> dict[str, str | None]:
        """The contest of each team of theirs."""
        return {team.team: team.contest for team in self.standing.teams}


@dataclass(frozen=True)
class ShownEvent:
    """An event as one reader is shown it.

    Attributes
    ----------
    body
        The leaf's text.
    document
        The same, parsed.
    people
        What is shown of the people in it, by part.
    opened
        Parts that are shown as a whole, with their salts: what a proof can be checked with.
    """

    sequence: int
    body: bytes
    document: Mapping[str, Any]
    people: Mapping[str, Mapping[str, Any]]
    opened: Mapping[str, Mapping[str, Any]] = field(repr=False)
    erased: tuple[str, ...] = ()

    def to_wire(self) -> dict[str, Any]:
        """As the API shows it."""
        hidden = ("schema", "blind", "incarnation", "emitterSequence", "people")
        wire = {key: value for key, value in self.document.items() if key not in hidden}
        if self.people:
            wire["people"] = self.people
        if self.erased:
            wire["erased"] = list(self.erased)
        return wire

    def to_line(self) -> dict[str, Any]:
        """As a line of an export: what can be checked against the tree."""
        return {"body": self.body.decode(), "people": self.opened}


def show(scope: Scope, event: StoredEvent) -> ShownEvent:
    """An event of this scope as its reader is shown it."""
    document = json.loads(event.body)
    committed = document.get("people", {})
    return ShownEvent(
        sequence=event.sequence,
        body=event.body,
        document=document,
        people=show_people(scope, document, event.people),
        opened=open_people(scope, document, event.people),
        erased=tuple(part for part in committed if part not in event.people),
    )


def roles_of(standing: PersonStanding) -> Iterable[str]:
    """Roles in words, as `models.Entitlement` writes them."""
    if standing.is_admin:
        yield "admin of the hub"
    for contest in standing.contests:
        if contest.is_host:
            yield f"host of contest {contest.contest}"
        if contest.is_judge:
            yield f"judge of contest {contest.contest}"
        for dataset in contest.keeps:
            yield f"data steward of data set {dataset} of contest {contest.contest}"
    for team in standing.teams:
        yield f"{'captain' if team.is_captain else 'member'} of team {team.team}"


Counts = Mapping[Place, int]
"""How many events were given, by their own contest and team."""


def count(events: Iterable[ShownEvent]) -> Counter[Place]:
    """As a record needs it."""
    return Counter((e.document.get("contest"), e.document.get("team")) for e in events)


def make_records(
    reader: Reader,
    query: EventQuery,
    *,
    at: datetime,
    verb: Verb = Verb.AUDIT_READ,
    outcome: Outcome = Outcome.SUCCEEDED,
    given: Counts | None = None,
    places: Sequence[Place] | None = None,
    thing: str | None = None,
    more: Mapping[str, Detail] | None = None,
) -> list[AuditEvent]:
    """Events that say what a reader asked for, one for each place.

    Parameters
    ----------
    given
        What they are given; None: not known yet.
    places
        What it was about; None: as the query says.
    thing
        Number of the one event that was asked for.
    more
        Further details, the same in each record.
    """
    contests = {team: contest for contest, team in given or () if team} | reader.contests()
    person, *others = sorted(query.people) or [reader.name]
    assert not others, "one name in a query: a record has one subject"
    me = reader.to_person()
    records = []
    for place in places_of(query, contests) if places is None else places:
        details = {**_filters(query, place), **(more or {})}
        if given is not None:
            details["results"] = sum(n for where, n in given.items() if _is_in(where, place))
        records.append(
            AuditEvent(
                time=at,
                verb=verb,
                outcome=outcome,
                contest=place[0],
                team=place[1],
                thing=thing,
                datasets=datasets_at(query, place),
                details=details,
                correlation=reader.correlation,
                subject=me if person == reader.name else Person(name=person),
                actor=None if person == reader.name else me,
            )
        )
    return records


def places_of_event(scope: Scope, event: ShownEvent) -> tuple[Place, ...]:
    """What it is about to read one event."""
    contest, team = event.document.get("contest"), event.document.get("team")
    datasets = frozenset((contest, name) for name in event.document.get("datasets", ()) if contest)
    narrow = EventQuery(scope, teams=frozenset({team} if team else ()))
    found = places_of(narrow, {team: contest} if team else {}) if team else (NOWHERE,)
    if found == (NOWHERE,) and contest:
        wide = EventQuery(scope, contests=frozenset({contest}), datasets=datasets)
        found = tuple(place for place in places_of(wide, {}) if place[1] is None)
    return found


def _is_in(where: Place, place: Place) -> bool:
    """Whether an event of a contest and team is counted at a place."""
    if place == NOWHERE:
        return True
    return where[1] == place[1] if place[1] is not None else where[0] == place[0]


def _filters(query: EventQuery, place: Place) -> dict[str, Detail]:
    """Filters in words; of places only where the record has none of its own."""
    found: dict[str, Detail] = {}
    if query.verbs:
        found["verbs"] = tuple(sorted(query.verbs))
    if query.outcomes:
        found["outcomes"] = tuple(sorted(query.outcomes))
    if query.since is not None:
        found["since"] = to_time(query.since)
    if query.until is not None:
        found["until"] = to_time(query.until)
    if place == NOWHERE:
        named = {
            "contests": sorted(query.contests),
            "teams": sorted(query.teams),
            "datasets": sorted("/".join(pair) for pair in query.datasets),
        }
        found.update({key: tuple(values) for key, values in named.items() if values})
    return found
