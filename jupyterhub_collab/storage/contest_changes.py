"""What all changes of the registry are made of. Each runs in somebody's transaction.

Rows are locked in one order, so that no two transactions wait for one another: the contest, teams
by id, invitations, members, courses by team, operations by number. One UPDATE of many rows takes
them as it finds them, so all are locked in their order before it. Whoever writes a transition, or
into a roster, locks the contest: there is one at a time of those in each contest. Whatever is
counted is counted after the row that it hangs on was locked: on PostgreSQL by FOR UPDATE, on SQLite
the transaction has the whole database from its first statement on (`contests.ContestStore`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Row,
    Table,
    bindparam,
    delete,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from ..models import RosterEntry
from ..models.contest_life import TeamState, Transition
from . import contest_tables as tables
from .contest_errors import StaleError
from .contest_rows import hash_entry, in_chunks, to_us

DESTROYED: Final = TeamState.DESTROYED.value
_NOT_SHOWN: Final = frozenset({"ranking"})  # by the contest's group in the hub


def insert_new(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]
) -> list[Row[Any]]:
    """Insert what no key is taken of. Keys of those that went in.

    Waits for whoever inserts the same at the same moment.
    """
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = make(table).on_conflict_do_nothing().returning(*table.primary_key.columns)
    return list(connection.execute(statement, [dict(row) for row in rows])) if rows else []


def lock_contest(connection: Connection, contest: str) -> Row[Any]:
    """Its row, as it stays until the transaction ends. Raises StaleError: there is none."""
    wanted = select(tables.contests).where(tables.contests.c.id == contest).with_for_update()
    row = connection.execute(wanted).first()
    if row is None:
        raise StaleError(
            f"There is no contest {contest} in the registry. Apply its manifest first."
        )
    return row


def lock_teams(connection: Connection, teams: Iterable[str]) -> dict[str, Row[Any]]:
    """Rows of those that are there, as they stay until the transaction ends."""
    found = {}
    for chunk in in_chunks(sorted(set(teams))):
        wanted = select(tables.teams).where(tables.teams.c.id.in_(chunk))
        ordered = wanted.order_by(tables.teams.c.id).with_for_update()
        found.update({row.id: row for row in connection.execute(ordered)})
    return found


def lock_all(connection: Connection, contest: str | None) -> None:
    """Rows of a contest and all its teams, or of all contests and teams, in their order."""
    c, t = tables.contests.c, tables.teams.c
    contests, teams = select(c.id).order_by(c.id), select(t.id).order_by(t.id)
    if contest is not None:
        contests, teams = contests.where(c.id == contest), teams.where(t.contest == contest)
    for wanted in (contests, teams):
        connection.execute(wanted.with_for_update()).all()


def lock_team(connection: Connection, team: str) -> Row[Any]:
    """The row of one that is not destroyed. Raises StaleError: there is none."""
    row = lock_teams(connection, [team]).get(team)
    if row is None:
        raise StaleError(f"There is no team {team} in the registry.")
    if row.state == DESTROYED:
        raise StaleError(f"The team {team} is destroyed: nothing of it changes any more.")
    return row


def check_state(row: Row[Any], transition: Transition) -> None:
    """That it is where the transition begins. Raises StaleError."""
    if row.state != transition.before:
        raise StaleError(
            f"{row.id} is {row.state} now and not {transition.before}, as it was when this was "
            "planned. Look at the plan anew."
        )


def lock_team_in_contest(connection: Connection, team: str) -> tuple[Row[Any], Row[Any]]:
    """The contest's row and the team's, which is not destroyed. Raises StaleError."""
    t = tables.teams.c
    contest = connection.execute(select(t.contest).where(t.id == team)).scalar()
    if contest is None:
        raise StaleError(f"There is no team {team} in the registry.")
    return lock_contest(connection, contest), lock_team(connection, team)


def differing(row: Row[Any], columns: Mapping[str, Any]) -> dict[str, Any]:
    """Those columns in which the row has something else."""
    return {name: value for name, value in columns.items() if row._mapping[name] != value}


def change_contest(
    connection: Connection, row: Row[Any], columns: Mapping[str, Any], *, is_counted: bool = False
) -> None:
    """Write what differs of a locked contest, and raise its generation.

    `is_counted`: raise it even if nothing differs, because something else in the contest does. So
    of two plans that were made from the same, one is stale.
    """
    changed = differing(row, columns)
    if not changed and not is_counted:
        return
    is_projected = row.projected == row.generation
    if is_projected and not changed.keys() - _NOT_SHOWN:
        changed["projected"] = row.generation + 1  # its group says it still
    changed["generation"] = row.generation + 1
    mine = tables.contests.c.id == row.id
    connection.execute(update(tables.contests).where(mine).values(changed))


def change_teams(connection: Connection, changes: Mapping[str, Mapping[str, Any]]) -> None:
    """Write new columns of locked teams, by id, and raise their generations.

    No columns: the generation alone, for a roster that changed.
    """
    by_names: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for team, columns in sorted(changes.items()):
        values = {f"b_{name}": value for name, value in columns.items()}
        by_names[tuple(sorted(columns))].append({"b_team": team, **values})
    for names, rows in by_names.items():
        statement = (
            update(tables.teams)
            .where(tables.teams.c.id == bindparam("b_team"))
            .values({name: bindparam(f"b_{name}") for name in names})
            .values(generation=tables.teams.c.generation + 1)
        )
        connection.execute(statement, rows)
    for team, columns in changes.items():
        if "captain" in columns:
            mark_captain(connection, team, columns["captain"])
    release_members(connection, [t for t, c in changes.items() if c.get("state") == DESTROYED])


def mark_captain(connection: Connection, team: str, captain: RosterEntry) -> None:
    """This entry of the roster is the captain's; no other is."""
    m = tables.members.c
    is_captain = m.entry_key == hash_entry(captain)
    changed = or_(m.is_captain, is_captain)
    statement = update(tables.members).where(m.team == team, changed)
    connection.execute(statement.values(is_captain=is_captain))


def release_members(connection: Connection, teams: Iterable[str]) -> None:
    """These are destroyed: their members may be in other teams, and nobody joins any more."""
    for chunk in in_chunks(sorted(teams)):
        mine = tables.members.c.team.in_(chunk)
        connection.execute(update(tables.members).where(mine).values(only_in=None))
        unused = tables.invitations.c.used_us.is_(None)
        connection.execute(
            delete(tables.invitations).where(tables.invitations.c.team.in_(chunk), unused)
        )


def note_transitions(
    connection: Connection,
    transitions: Iterable[Transition],
    *,
    by: str,
    operation: int,
    at: datetime,
) -> None:
    """Keep them. The contest is locked: so those of one contest appear in order of their numbers.

    Else whoever reads on from the last one that it saw could miss one that appeared later.

    With each goes a row of the outbox: its event is still to be told.
    """
    rows = [
        {
            "contest": t.contest,
            "team": t.team,
            "before": t.before,
            "after": t.after,
            "reason": t.reason,
            "at_us": to_us(at),
            "by": by,
            "operation": operation,
        }
        for t in transitions
    ]
    if rows:
        made = insert(tables.transitions).returning(tables.transitions.c.number)
        numbers = connection.execute(made, rows).scalars().all()
        untold = [{"transition": number} for number in numbers]
        connection.execute(insert(tables.outbox), untold)
