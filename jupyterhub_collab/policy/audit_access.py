"""Who may read what in the audit log: from where somebody stands to a scope, and what is shown.

A scope says which events; `show_people` says what of the people in an event. An admin reads the
whole log, a host the contest, a captain the team, a data steward the data set, everybody what they
stand in themselves. A judge reads no more than any member: to look at results takes no knowledge of
who did what. What the audit service records of itself only admins and hosts see, but for who read
or exported: that is seen by those whose team, data set or person was asked for.

Nothing here is decided by what an event's text says beyond its contest, team, data sets and people,
for that is what the database decides by.

It must not: know where a standing comes from, or be asked about a standing of before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..models.audit_query import OWN_VERBS, EventQuery, Scope
from ..models.standing import PersonStanding
from .audit_leaf import to_time

People = Mapping[str, Mapping[str, Any]]
Place = tuple["str | None", "str | None"]
"""A contest and a team; None: not of one."""

NOWHERE: Final[Place] = (None, None)
_NAMED: Final = ("name", "roles")  # what is shown of a person to somebody who is in no charge


def scope_of(standing: PersonStanding) -> Scope:
    """What somebody may read who is asked as themselves, in a browser or with a full token."""
    if standing.is_admin:
        return Scope(everything=True)
    return Scope(
        contests=frozenset(c.contest for c in standing.contests if c.is_host),
        teams=frozenset(t.team for t in standing.teams if t.is_captain),
        datasets=frozenset((c.contest, d) for c in standing.contests for d in c.keeps),
        person=standing.name,
    )


def own_scope(name: str) -> Scope:
    """What a token may read that was not made for reading more: events with its owner in them."""
    return Scope(person=name)


def is_readable(scope: Scope, body: Mapping[str, Any], people: People) -> bool:
    """Whether an event is in a scope: the rule that the SQL of the log repeats.

    Parameters
    ----------
    body
        The leaf, parsed.
    people
        What is kept beside it, by part: ``{"salt": ..., "value": {...}}``.
    """
    if scope.everything or body.get("contest") in scope.contests:
        return True
    if body["verb"] in OWN_VERBS:
        return False
    if body.get("team") in scope.teams:
        return True
    if any(
        (body.get("contest"), dataset) in scope.datasets for dataset in body.get("datasets", ())
    ):
        return True
    return scope.person is not None and scope.person in names_in(people)


def names_in(people: People) -> frozenset[str]:
    """Hub users in an event."""
    return frozenset(kept["value"].get("name", "") for kept in people.values()) - {""}


def is_asked_for(query: EventQuery, body: Mapping[str, Any], people: People) -> bool:
    """Whether an event passes all of a query's filters and is in its scope.

    Times are compared by the texts of the log's clock, which sort as the times do.
    """
    wanted = (
        (query.contests, {body.get("contest")}),
        (query.teams, {body.get("team")}),
        (query.people, names_in(people)),
        (query.datasets, {(body.get("contest"), d) for d in body.get("datasets", ())}),
        (query.verbs, {body["verb"]}),
        (query.outcomes, {body["outcome"]}),
    )
    if any(some and not some & found for some, found in wanted):
        return False
    if query.since is not None and body["stored"] < to_time(query.since):
        return False
    if query.until is not None and body["stored"] >= to_time(query.until):
        return False
    return is_readable(query.scope, body, people)


def show_people(scope: Scope, body: Mapping[str, Any], people: People) -> dict[str, dict[str, Any]]:
    """What a reader is shown of the people in an event that they may read, by part.

    All of it to admins, to the contest's hosts but for roles elsewhere, and to the person. Others
    see the name, and the roles that have to do with the event: enough to know who did it.
    """
    shown = {}
    for part, kept in people.items():
        value = kept["value"]
        if scope.everything or (scope.person is not None and value.get("name") == scope.person):
            shown[part] = dict(value)
            continue
        in_charge = body.get("contest") in scope.contests
        fields = {k: v for k, v in value.items() if in_charge or k in _NAMED}
        roles = [role for role in fields.pop("roles", ()) if _has_to_do_with(role, body)]
        if roles:
            fields["roles"] = roles
        shown[part] = fields
    return shown


def open_people(scope: Scope, body: Mapping[str, Any], people: People) -> dict[str, dict[str, Any]]:
    """Those parts of which a reader is shown all, with their salts: these can be checked.

    The salt of a part that is shown in part stays here. With it one could try addresses until
    the commitment fits.
    """
    shown = show_people(scope, body, people)
    return {part: dict(kept) for part, kept in people.items() if kept["value"] == shown[part]}


def places_of(query: EventQuery, contests: Mapping[str, str | None]) -> tuple[Place, ...]:
    """What a query is recorded as being about, so that those in charge there see who read.

    Who asks for no place asks for all that is theirs. A place of which the reader may see nothing
    is not among them: nobody can put events into what others are shown by asking for their team.

    Parameters
    ----------
    contests
        The contest of each team that is known.
    """
    scope = query.scope
    if query.teams:
        asked_for: set[Place] = {(contests.get(team), team) for team in query.teams}
    else:
        named = query.contests | {contest for contest, _ in query.datasets}
        asked_for = {(contest, None) for contest in named or scope.contests} | {
            (contests.get(team), team)
            for team in scope.teams
            if not named or contests.get(team) in named
        }
    found = [place for place in asked_for if _is_open(place, query)]
    return tuple(sorted(found, key=lambda place: (place[0] or "", place[1] or ""))) or (NOWHERE,)


def datasets_at(query: EventQuery, place: Place) -> tuple[str, ...]:
    """Data sets of a place that a query is recorded as being about."""
    contest, scope = place[0], query.scope
    is_open = scope.everything or contest in scope.contests
    found = query.datasets if is_open else query.datasets & scope.datasets
    return tuple(sorted(dataset for where, dataset in found if where == contest))


def _is_open(place: Place, query: EventQuery) -> bool:
    """Whether a reader may see something there."""
    (contest, team), scope = place, query.scope
    if scope.everything or contest in scope.contests:
        return True
    if team is not None:
        return team in scope.teams
    return any(where == contest for where, _ in query.datasets & scope.datasets)


def _has_to_do_with(role: str, body: Mapping[str, Any]) -> bool:
    """Whether a role, as `models.Entitlement` writes it, is of the event's team or contest."""
    if role == "admin of the hub":
        return True
    places = [(" of team ", body.get("team")), (" of contest ", body.get("contest"))]
    return any(place is not None and role.endswith(word + place) for word, place in places)
