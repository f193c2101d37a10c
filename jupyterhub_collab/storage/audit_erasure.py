"""Erasing a person and retiring old events, each with the event that authorises it.

Both delete and say so in one transaction: whoever checks the log finds what is missing named by an
event in it, and takes any other absence for tampering. Much is done in several transactions, each
whole by itself, so that events go on being stored in between.

Erasure takes a person's salt and value from beside the leaves, which stay; it names events and
parts and never the person. Retirement takes whole tiles of the oldest events, leaves and all, and
keeps their hashes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, delete, func, select, update

from ..models.audit import PARTS, AuditEvent, Verb
from ..policy.tiles import TILE_WIDTH
from . import audit_tables as tables
from .audit_index import delete_index
from .audit_writer import Transaction, to_text

ERASED_AT_ONCE: Final = 300  # events; with three parts each named in 29 bytes, 26 of 32 KiB
RETIRED_AT_ONCE: Final = 64 * TILE_WIDTH  # events: about a tenth of a second
AUTHORISED_MAX_BYTES: Final = 4096  # of the event that is given, which says more besides


@dataclass(frozen=True)
class Erased:
    """What an erasure did.

    Attributes
    ----------
    events, parts
        How many events held the person, and in how many parts.
    recorded
        Places of the events that say so.
    is_overwritten
        The bytes are no longer in the database's files. False on PostgreSQL, where they go when
        the server vacuums, and while somebody reads from SQLite: then they go with a later commit.
    """

    events: int
    parts: int
    recorded: tuple[int, ...]
    is_overwritten: bool


@dataclass(frozen=True)
class Retired:
    """What a retirement did.

    Attributes
    ----------
    events
        How many events are no longer there.
    until
        The last place that is empty now; 0 for none.
    recorded
        Places of the events that say so.
    """

    events: int
    until: int
    recorded: tuple[int, ...]


def check_authorised(event: AuditEvent) -> None:
    """Raises ValueError for an event that leaves no room to name what it authorises."""
    if len(event.model_dump_json()) > AUTHORISED_MAX_BYTES or len(event.details) > 20:
        raise ValueError(
            f"the event that authorises must stay below {AUTHORISED_MAX_BYTES} bytes and 20 details"
        )


def erase_some(
    transaction: Transaction, name: str, authorised: AuditEvent
) -> tuple[int, int, int] | None:
    """Erase a person from some events. Events, parts, place of the record; None: from none."""
    transaction.write_index()  # it goes along the names, so all events must have theirs
    connection = transaction.connection
    named = select(tables.people.c.sequence).where(tables.people.c.name == name)
    some = list(
        connection.execute(named.order_by(tables.people.c.sequence).limit(ERASED_AT_ONCE)).scalars()
    )
    if not some:
        return None
    columns = tables.events.c
    rows = connection.execute(
        select(columns.sequence, columns.people)
        .where(columns.sequence.in_(some))
        .order_by(columns.sequence)
    ).all()
    erased: list[str] = []
    changed: list[dict[str, Any]] = []
    for sequence, kept in rows:
        people = json.loads(kept) if kept else {}
        gone = [part for part in people if people[part]["value"].get("name") == name]
        erased += (f"{sequence}:{part}" for part in gone)
        left = {part: people[part] for part in people if part not in gone}
        changed.append({"at": sequence, "left": to_text(left)})
    connection.execute(
        update(tables.events)
        .where(columns.sequence == bindparam("at"))
        .values(people=bindparam("left")),
        changed,
    )
    connection.execute(
        delete(tables.people).where(
            tables.people.c.name == name, tables.people.c.sequence <= some[-1]
        )
    )
    # An administrator may have themself erased: their name is in no event after it.
    hidden = {part: None for part in PARTS if _is_called(getattr(authorised, part), name)}
    record = authorised.model_copy(
        update={
            "verb": Verb.AUDIT_ERASE,
            "details": {**authorised.details, "sequences": tuple(erased)},
            **hidden,
        }
    )
    transaction.clears_journal = True
    return len(rows), len(erased), transaction.add_own(record)


def retire_some(
    transaction: Transaction, until: int, authorised: AuditEvent, hold: frozenset[str] = frozenset()
) -> tuple[int, int, int] | None:
    """Delete some of the oldest events up to a place, whole tiles only, none of contests `hold`.

    Events, the last place that is empty now, place of the record; None: nothing is left to delete.
    """
    transaction.write_index()  # what is retired must not get rows afterwards
    connection = transaction.connection
    columns = tables.events.c
    first = connection.execute(select(func.min(columns.sequence))).scalar()
    last = min(until, transaction.size) // TILE_WIDTH * TILE_WIDTH
    if first is None or first > last:
        return None
    last = min(last, (first - 1) // TILE_WIDTH * TILE_WIDTH + RETIRED_AT_ONCE)
    if hold:  # in the events themselves: what searches go along can be edited
        held = select(func.min(columns.sequence)).where(
            columns.sequence <= last, columns.contest.in_(sorted(hold))
        )
        first_held = connection.execute(held).scalar()
        if first_held is not None:
            last = (first_held - 1) // TILE_WIDTH * TILE_WIDTH
        if first > last:
            return None
    delete_index(connection, last)
    events = connection.execute(delete(tables.events).where(columns.sequence <= last)).rowcount
    record = authorised.model_copy(
        update={
            "verb": Verb.AUDIT_RETIRE,
            "details": {**authorised.details, "first": first, "until": last},
        }
    )
    transaction.clears_journal = True
    return events, last, transaction.add_own(record)


def _is_called(who: Any, name: str) -> bool:
    return who is not None and who.name == name
