"""Every way to tamper with one event of a log, and what a check must find then.

A mutation gives the log as it is afterwards. The attacker holds the database: columns and, where
that helps, the log's own hashes fit what they wrote.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from jupyterhub_collab.policy.audit_block import Row
from jupyterhub_collab.policy.audit_leaf import canonical_json
from tests.policy.audit_logs import Log, edit_body, parts_of, renumber, to_row, without

Mutate = Callable[[Sequence[Row], int], "list[Row] | None"]
"""From rows and the index of an event to other rows; None where it cannot be done."""


@dataclass(frozen=True)
class Mutation:
    """One tampered log.

    Attributes
    ----------
    event
        The first event that is wrong.
    """

    name: str
    event: int
    log: Log


def _one(change: Callable[[Row], Row | None]) -> Mutate:
    """Another row instead of one."""

    def mutate(rows: Sequence[Row], at: int) -> list[Row] | None:
        row = change(rows[at])
        if row is None or row == rows[at]:
            return None
        return [*rows[:at], row, *rows[at + 1 :]]

    return mutate


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def flip_body(at: int) -> Mutate:
    """One bit of a byte of the text."""
    return _one(lambda row: row._replace(body=_flip(row.body or b"", at % len(row.body or b""))))


def flip_people(at: int) -> Mutate:
    """One bit of a byte of salts and values."""
    return _one(
        lambda row: (
            row._replace(people=_flip(row.people, at % len(row.people))) if row.people else None
        )
    )


def _edit_person(field: str, to: object) -> Mutate:
    def change(row: Row) -> Row | None:
        people = json.loads(row.people or b"{}")
        if not people:
            return None
        part = sorted(people)[-1]
        if field == "salt":
            people[part]["salt"] = to
        else:
            people[part]["value"][field] = to
        return row._replace(people=canonical_json(people))

    return _one(change)


def _recommit(row: Row) -> Row | None:
    """Another person, and a commitment that fits: the text is another."""
    from jupyterhub_collab.policy.audit_leaf import commitment_of

    body, people = json.loads(row.body or b""), json.loads(row.people or b"{}")
    for part, kept in people.items():
        kept["value"]["name"] = "eve"
        body["people"][part] = commitment_of(kept)
    return to_row(row.sequence, canonical_json(body), people) if people else None


def _erase(part: int) -> Mutate:
    def change(row: Row) -> Row | None:
        parts = parts_of(row)
        return without(row, parts[part % len(parts)]) if parts else None

    return _one(change)


def _swap(distance: int, *, is_renumbered: bool) -> Mutate:
    place = renumber if is_renumbered else lambda row, at: row._replace(sequence=at)

    def mutate(rows: Sequence[Row], at: int) -> list[Row] | None:
        other = at + distance
        if other >= len(rows):
            return None
        changed = list(rows)
        changed[at], changed[other] = place(rows[other], at + 1), place(rows[at], other + 1)
        return changed

    return mutate


def _delete(rows: Sequence[Row], at: int) -> list[Row]:
    return [*rows[:at], *rows[at + 1 :]]


def _shift(rows: Sequence[Row], by: int, *, is_renumbered: bool) -> list[Row]:
    if is_renumbered:
        return [renumber(row, row.sequence + by) for row in rows]
    return [row._replace(sequence=row.sequence + by) for row in rows]


def _delete_and_close(*, is_renumbered: bool) -> Mutate:
    return lambda rows, at: [
        *rows[:at],
        *_shift(rows[at + 1 :], -1, is_renumbered=is_renumbered),
    ]


def _insert(make: Callable[[Row], Row], *, is_renumbered: bool) -> Mutate:
    return lambda rows, at: [
        *rows[:at],
        make(rows[at]),
        *_shift(rows[at:], 1, is_renumbered=is_renumbered),
    ]


def _move(distance: int) -> Mutate:
    def mutate(rows: Sequence[Row], at: int) -> list[Row] | None:
        if at + distance >= len(rows):
            return None
        moved = [*rows[at + 1 : at + distance + 1], rows[at]]
        placed = [row._replace(sequence=at + n) for n, row in enumerate(moved, 1)]
        return [*rows[:at], *placed, *rows[at + distance + 1 :]]

    return mutate


EDITS: dict[str, Mutate] = {
    **{f"bit of byte {at} of the text": flip_body(at) for at in (0, 7, 31, 57, 101, 151, 199)},
    "bit of the last byte of the text": flip_body(-1),
    "verb": _one(lambda row: edit_body(row, verb="logout")),
    "outcome": _one(lambda row: edit_body(row, outcome="failed")),
    "thing": _one(lambda row: edit_body(row, thing="another")),
    "team": _one(lambda row: edit_body(row, team="other")),
    "no reason": _one(lambda row: edit_body(row, reason=None)),
    "data sets": _one(lambda row: edit_body(row, datasets=["mine"])),
    "time": _one(lambda row: edit_body(row, time="2027-03-01T09:00:00.000000Z")),
    "another person, with a commitment": _one(_recommit),
    "nobody": _one(lambda row: edit_body(row._replace(people=b""), people=None)),
}
"""One event says something else: a head outside tells."""

BESIDE: dict[str, Mutate] = {
    **{f"bit of byte {at} of people": flip_people(at) for at in (0, 3, 12, 25, 51, 60, 75, 90)},
    "bit of the last byte of people": flip_people(-1),
    "name": _edit_person("name", "eve"),
    "note": _edit_person("note", "said so"),
    "salt": _edit_person("salt", "00" * 16),
    "erased": _erase(0),
    "erased, another part": _erase(1),
    "contest column": _one(lambda row: row._replace(contest=b"lake")),
    "team column": _one(lambda row: row._replace(team=b"other")),
    "verb column": _one(lambda row: row._replace(verb=b"logout")),
    "outcome column": _one(lambda row: row._replace(outcome=b"failed")),
    "time column": _one(lambda row: row._replace(stored_us=row.stored_us + 1)),
}
"""The event is what it was, and what is kept beside it is not."""

PLACES: dict[str, Mutate] = {
    "taken out": _delete,
    "changed places with the next": _swap(1, is_renumbered=False),
    "changed places with the next, renumbered": _swap(1, is_renumbered=True),
    "changed places with a far one": _swap(333, is_renumbered=False),
    "changed places with a far one, renumbered": _swap(333, is_renumbered=True),
    "moved behind the next ten": _move(10),
}

SHIFTS: dict[str, Mutate] = {
    "taken out, all after it moved up": _delete_and_close(is_renumbered=False),
    "taken out, all after it renumbered": _delete_and_close(is_renumbered=True),
    "a false one put in": _insert(lambda row: edit_body(row, thing="false"), is_renumbered=False),
    "a false one put in, all after it renumbered": _insert(
        lambda row: edit_body(row, thing="false"), is_renumbered=True
    ),
    "put in twice": _insert(lambda row: row, is_renumbered=False),
    "put in twice, all after it renumbered": _insert(lambda row: row, is_renumbered=True),
}


def mutations(
    log: Log, kinds: dict[str, Mutate], events: Sequence[int], *, each: int
) -> Iterator[Mutation]:
    """Tampered logs.

    Parameters
    ----------
    each
        Of how many kinds for each event; the next event takes the next ones.
    """
    names = list(kinds)
    for number, event in enumerate(events):
        done = 0
        for turn in range(len(names)):
            name = names[(number * each + turn) % len(names)]
            rows = kinds[name](log.rows, event - 1)
            if rows is None:
                continue
            first = event + 1 if name.startswith("put in twice") else event
            yield Mutation(name, first, log.changed(rows))
            done += 1
            if done == each:
                break
