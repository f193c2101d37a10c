"""A host's manifest in the registry, and what the hub's groups were brought after."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, exists, select, update

from ..models import RosterEntry
from ..models.contest_life import ContestRecord, ContestState, MemberRecord, TeamRecord, Transition
from . import contest_tables as tables
from .contest_changes import (
    DESTROYED,
    change_contest,
    change_teams,
    differing,
    insert_new,
    lock_all,
    lock_contest,
    lock_teams,
    note_transitions,
)
from .contest_errors import StaleError, TakenError
from .contest_records import UnreadableContest, UnreadableTeam
from .contest_rows import (
    contest_columns,
    first_readable,
    hash_entry,
    in_chunks,
    readable,
    team_columns,
    to_contest,
    to_team,
)
from .contest_teams import claim_members, has_registration, insert_members, insert_teams


def list_contests(
    connection: Connection,
) -> tuple[tuple[ContestRecord, ...], tuple[UnreadableContest, ...]]:
    """By id: those that can be read, and the others."""
    wanted = select(tables.contests).order_by(tables.contests.c.id)
    found, others = readable(connection.execute(wanted), to_contest)
    return tuple(found), tuple(UnreadableContest(row.id, why) for row, why in others)


def is_registering(connection: Connection, contest: str) -> bool:
    """Whether there is such a contest, in its state of registration. Nothing else of it is read."""
    c = tables.contests.c
    there = exists().where(c.id == contest, c.state == ContestState.REGISTRATION.value)
    return bool(connection.execute(select(there)).scalar())


def find_contest(connection: Connection, contest: str) -> ContestRecord | None:
    """One."""
    wanted = select(tables.contests).where(tables.contests.c.id == contest)
    row = connection.execute(wanted).first()
    return None if row is None else to_contest(row)


def put_contest(
    connection: Connection,
    contest: ContestRecord,
    teams: Iterable[TeamRecord],
    rosters: Mapping[str, tuple[RosterEntry, ...]],
    *,
    expected_generation: int | None,
    by: str,
    at: datetime,
) -> ContestRecord:
    """Make or change a contest, these of its teams, and these rosters."""
    there = _lock_or_insert(connection, contest, expected_generation)
    listed = {team.id: team for team in teams}
    if there is not None and _concerns_all(contest, there.manifest):
        lock_all(connection, contest.id)
    rows = lock_teams(connection, {*listed, *rosters})
    _refuse_strangers(contest.id, rows, rosters.keys() - listed.keys())
    new = [team for team in listed.values() if team.id not in rows]
    insert_teams(connection, new)
    changes = {
        id_: changed
        for id_, row in rows.items()
        if id_ in listed and (changed := _changed_columns(row, listed[id_]))
    }
    captains = {id_: row.captain for id_, row in rows.items()}
    captains |= {team.id: team.captain for team in listed.values()}
    for team in _put_rosters(connection, contest, rosters, captains, at):
        if team in rows:
            changes.setdefault(team, {})
    for team in changes:
        if rows[team].state == DESTROYED:
            raise TakenError(
                f"The team {team} is destroyed, and its id is never used again: choose another."
            )
    change_teams(connection, changes)
    transitions = [Transition(contest.id, team.id, "", team.state.value) for team in new]
    transitions += [
        Transition(contest.id, team, rows[team].state, changed["state"])
        for team, changed in changes.items()
        if "state" in changed
    ]
    before = "" if there is None else there.state
    if before != contest.state.value:
        transitions.insert(0, Transition(contest.id, "", before, contest.state.value))
    if there is not None:
        is_counted = bool(new or changes)
        change_contest(connection, there, contest_columns(contest), is_counted=is_counted)
        _follow_manifest(connection, contest, there.manifest)
    note_transitions(connection, transitions, by=by, operation=0, at=at)
    return to_contest(lock_contest(connection, contest.id))


def _lock_or_insert(
    connection: Connection, contest: ContestRecord, expected_generation: int | None
) -> Row[Any] | None:
    """The contest's row as it was; None: it is new. Raises StaleError."""
    if expected_generation is None:
        row = {**contest_columns(contest), "id": contest.id, "generation": 1, "projected": 0}
        if not insert_new(connection, tables.contests, [row]):
            raise StaleError(f"There is a contest {contest.id} already. Look at it again.")
        return None
    there = lock_contest(connection, contest.id)
    if there.generation != expected_generation:
        raise StaleError(f"The contest {contest.id} was changed meanwhile. Look at it again.")
    return there


def _concerns_all(contest: ContestRecord, before: str) -> bool:
    """Whether the manifest says something else of registration that all teams are another by."""
    return _changes_registration(contest, before) or _changes_agreement(contest, before)


def _changes_registration(contest: ContestRecord, before: str) -> bool:
    return (contest.manifest.registration is not None) != has_registration(before)


def _changes_agreement(contest: ContestRecord, before: str) -> bool:
    registration = contest.manifest.registration
    agreement = registration.agreement if registration is not None else None
    was = (json.loads(before).get("registration") or {}).get("agreement")
    return bool(was != (None if agreement is None else agreement.to_wire()))


def _follow_manifest(connection: Connection, contest: ContestRecord, before: str) -> None:
    """What of teams and members is another by what the manifest says of registration. Where
    something is (`_concerns_all`), all teams are locked."""
    if _changes_registration(contest, before):
        has_one = contest.manifest.registration is not None
        claim_members(connection, contest.id, is_in_one=has_one)
    if _changes_agreement(contest, before):
        # Who is in the hub's groups are those who accepted it: each team's is another now.
        t = tables.teams
        mine = update(t).where(t.c.contest == contest.id)
        connection.execute(mine.values(generation=t.c.generation + 1))


def _refuse_strangers(contest: str, rows: Mapping[str, Row[Any]], named: AbstractSet[str]) -> None:
    """Teams of other contests, and rosters of teams that are nowhere."""
    for team, row in rows.items():
        if row.contest != contest:
            raise TakenError(
                f"There is, or was, a team {team} on this hub. A team's id is never used again: "
                "choose another."
            )
    unknown = sorted(named - rows.keys())
    if unknown:
        raise StaleError(f"There is no team {', '.join(unknown)} in the contest {contest}.")


def _changed_columns(row: Row[Any], team: TeamRecord) -> dict[str, Any]:
    """What of a team differs. Raises StaleError where it was changed since it was read."""
    changed = differing(row, team_columns(team))
    if changed and row.generation != team.generation:
        raise StaleError(f"The team {team.id} was changed meanwhile. Look at it again.")
    return changed


def _put_rosters(
    connection: Connection,
    contest: ContestRecord,
    rosters: Mapping[str, tuple[RosterEntry, ...]],
    captains: Mapping[str, str],
    at: datetime,
) -> set[str]:
    """Make rosters as given. Teams in whose roster somebody came or went."""
    m = tables.members.c
    there: dict[str, set[str]] = {team: set() for team in rosters}
    for chunk in in_chunks(rosters):
        for row in connection.execute(select(m.team, m.entry_key).where(m.team.in_(chunk))):
            there[row.team].add(row.entry_key)
    wanted = {team: {hash_entry(e): e for e in entries} for team, entries in rosters.items()}
    changed = {team for team in rosters if there[team] != wanted[team].keys()}
    is_in_one = contest.manifest.registration is not None
    # First who goes: somebody who changes teams comes to the other one then.
    for team in sorted(changed):
        for keys in in_chunks(there[team] - wanted[team].keys()):
            gone = delete(tables.members).where(m.team == team, m.entry_key.in_(keys))
            connection.execute(gone)
    new = [
        MemberRecord(team, entry, at, is_captain=entry == captains[team])
        for team in sorted(changed)
        for key, entry in wanted[team].items()
        if key not in there[team]
    ]
    insert_members(connection, contest.id, new, is_in_one=is_in_one)
    return changed


def unprojected(
    connection: Connection, limit: int
) -> tuple[tuple[ContestRecord, ...], tuple[TeamRecord, ...], tuple[UnreadableTeam, ...]]:
    """What the hub's groups are behind; and teams of which that cannot be read."""
    c, t = tables.contests.c, tables.teams.c
    contests = select(tables.contests).where(c.generation != c.projected).order_by(c.id)
    teams = select(tables.teams).where(t.generation != t.projected).order_by(t.id)
    found, _ = first_readable(connection, contests, to_contest, limit)
    behind, others = first_readable(connection, teams, to_team, limit)
    unreadable = (UnreadableTeam(row.contest, row.id, why) for row, why in others)
    return tuple(found), tuple(behind), tuple(unreadable)


def list_behind(connection: Connection) -> dict[str, bool]:
    """Teams that the hub's groups are behind, and whether each was brought there before."""
    t = tables.teams.c
    wanted = select(t.id, t.projected).where(t.generation != t.projected).order_by(t.id)
    return {row.id: row.projected > 0 for row in connection.execute(wanted)}


def mark_projected(
    connection: Connection, contests: Mapping[str, int], teams: Mapping[str, int]
) -> None:
    """By id, the generation that the group was brought after."""
    for table, generations in ((tables.contests, contests), (tables.teams, teams)):
        rows = [{"b_id": id_, "b_done": n} for id_, n in sorted(generations.items())]
        if rows:
            mine = update(table).where(table.c.id == bindparam("b_id"))
            connection.execute(mine.values(projected=bindparam("b_done")), rows)


def forget_projection(connection: Connection, contest: str | None) -> None:
    """Of one contest with its teams, or of all."""
    lock_all(connection, contest)
    contests, teams = update(tables.contests), update(tables.teams)
    if contest is not None:
        contests = contests.where(tables.contests.c.id == contest)
        teams = teams.where(tables.teams.c.contest == contest)
    connection.execute(contests.values(projected=0))
    connection.execute(teams.values(projected=0))
