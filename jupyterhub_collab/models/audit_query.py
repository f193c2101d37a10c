"""What somebody asks of the audit log, and what of it they may see.

A `Scope` is made by `policy.audit_access` of what the hub says about the reader. It goes with each
query into the SQL, so that no filter, cursor, count or error can tell of what is outside it. Sets
are frozen and may be empty: an empty filter lets everything through, an empty scope nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from .audit import Verb

OWN_VERBS: Final = frozenset(
    verb.value
    for verb in Verb
    if verb.value.startswith("audit.") and verb not in (Verb.AUDIT_READ, Verb.AUDIT_EXPORT)
)
"""What the audit service records of itself. Only `everything` and `contests` show these; who read
or exported something is shown to those whom it was about."""


@dataclass(frozen=True)
class Scope:
    """What of the log somebody may see: an event that one of these says, and no other.

    Attributes
    ----------
    everything
        All events.
    contests
        Events of these contests, whatever their verb.
    teams, datasets, person
        Events of these teams; about one of these data sets (contest, data set); in which this
        hub user stands, as subject, actor or recipient. None of them shows `OWN_VERBS`.
    """

    everything: bool = False
    contests: frozenset[str] = frozenset()
    teams: frozenset[str] = frozenset()
    datasets: frozenset[tuple[str, str]] = frozenset()
    person: str | None = None


@dataclass(frozen=True)
class EventQuery:
    """What is asked for: events in the scope that pass each filter.

    Attributes
    ----------
    scope
        What the reader may see.
    people
        Hub users, in whichever part of an event.
    datasets
        Pairs of contest and data set: two contests may call theirs alike.
    verbs, outcomes
        Whole words, as `Verb` and `Outcome` have them.
    since, until
        By the log's clock (`stored`), aware: from `since` on and before `until`.
    """

    scope: Scope
    contests: frozenset[str] = frozenset()
    teams: frozenset[str] = frozenset()
    people: frozenset[str] = frozenset()
    datasets: frozenset[tuple[str, str]] = frozenset()
    verbs: frozenset[str] = frozenset()
    outcomes: frozenset[str] = frozenset()
    since: datetime | None = None
    until: datetime | None = None
