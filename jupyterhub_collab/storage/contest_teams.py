"""How teams come together: registration, rosters, invitations. Pure transactions.

Sizes hold because the team's row is locked before its members are counted, and the contest's row
before its teams are. What the contest allows at all (its state, a freeze, times, sizes) is asked of
these locked rows as well. An invitation is used in the transaction of what it allows, so what is
refused leaves it as it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)

from ..models import RosterEntry
from ..models.contest_life import MemberRecord, TeamRecord, TeamState, Transition
from ..policy.roster import to_text
from ..policy.team_assembly import team_size_max, why_not_join, why_not_merge, why_not_register
from . import contest_tables as tables
from .contest_changes import (
    DESTROYED,
    change_teams,
    differing,
    insert_new,
    lock_contest,
    lock_team,
    lock_team_in_contest,
    lock_teams,
    mark_captain,
    note_transitions,
)
from .contest_errors import AlreadyInError, FullError, InvitationError, StaleError, TakenError
from .contest_records import Merger, TeamInvitation, UnreadableTeam
from .contest_rows import (
    first_readable,
    from_us,
    from_us_or_none,
    hash_entry,
    in_chunks,
    member_columns,
    readable,
    team_columns,
    to_contest,
    to_course,
    to_member,
    to_team,
    to_team_columns,
    to_us,
    to_us_or_none,
)

_NAMED: Final = 6  # members that a sentence names
_NO_INVITATION: Final = (
    "This invitation cannot be used: it was used already, withdrawn, or its time is over. "
    "Ask the team's captain for a new one."
)
_NO_MERGE: Final = (
    "To merge takes an invitation of the team {team}: it was used or withdrawn, its time is over, "
    "or it is none. Ask their captain for a new one."
)


def list_teams(
    connection: Connection,
    contest: str,
    states: frozenset[TeamState],
    after: str,
    limit: int | None,
) -> tuple[TeamRecord, ...]:
    """By id."""
    t = tables.teams.c
    wanted = select(tables.teams).where(t.contest == contest, t.id > after)
    if states:
        wanted = wanted.where(t.state.in_(sorted(s.value for s in states)))
    return tuple(first_readable(connection, wanted.order_by(t.id), to_team, limit)[0])


def list_unreadable(connection: Connection, contest: str) -> tuple[UnreadableTeam, ...]:
    """Teams of a contest of which a row cannot be read, by id, each once."""
    t, c = tables.teams.c, tables.courses.c
    _, teams = readable(
        connection.execute(select(tables.teams).where(t.contest == contest)), to_team
    )
    _, courses = readable(
        connection.execute(select(tables.courses).where(c.contest == contest)), to_course
    )
    found = {row.team: why for row, why in courses} | {row.id: why for row, why in teams}
    return tuple(UnreadableTeam(contest, team, why) for team, why in sorted(found.items()))


def count_teams(connection: Connection, contest: str) -> dict[TeamState, int]:
    """By state; those of a state that this version does not know are left out."""
    t = tables.teams.c
    wanted = select(t.state, func.count()).where(t.contest == contest).group_by(t.state)
    known = {state.value: state for state in TeamState}
    return {known[s]: count for s, count in connection.execute(wanted) if s in known}


def find_team(connection: Connection, team: str) -> TeamRecord | None:
    """One."""
    row = connection.execute(select(tables.teams).where(tables.teams.c.id == team)).first()
    return None if row is None else to_team(row)


def find_teams(connection: Connection, teams: Iterable[str]) -> dict[str, TeamRecord]:
    """By id; one that is not there is left out."""
    found: dict[str, TeamRecord] = {}
    for chunk in in_chunks(teams):
        rows = connection.execute(select(tables.teams).where(tables.teams.c.id.in_(chunk)))
        found.update((team.id, team) for team in readable(rows, to_team)[0])
    return found


def _read_team(connection: Connection, team: str) -> TeamRecord:
    """One that is there: rows of teams stay."""
    found = find_team(connection, team)
    if found is None:
        raise AssertionError(f"the row of {team} is gone")
    return found


def list_members(
    connection: Connection, teams: Iterable[str]
) -> dict[str, tuple[MemberRecord, ...]]:
    """By team."""
    found: dict[str, list[MemberRecord]] = {team: [] for team in teams}
    m = tables.members.c
    for chunk in in_chunks(found):
        wanted = select(tables.members).where(m.team.in_(chunk)).order_by(m.joined_us, m.number)
        for row in connection.execute(wanted):
            found[row.team].append(to_member(row))
    return {team: tuple(members) for team, members in found.items()}


def teams_of(connection: Connection, entry: RosterEntry) -> tuple[str, ...]:
    """Their ids, destroyed ones left out: whatever else stands in their rows."""
    t, m = tables.teams.c, tables.members.c
    joined = tables.teams.join(tables.members, m.team == t.id)
    mine = select(t.id).select_from(joined)
    mine = mine.where(m.entry_key == hash_entry(entry), t.state != DESTROYED)
    return tuple(connection.execute(mine.order_by(t.id)).scalars())


def teams_of_any(
    connection: Connection, entries: Iterable[RosterEntry]
) -> tuple[tuple[TeamRecord, RosterEntry], ...]:
    """By id, destroyed ones left out, each with which of these stands in its roster."""
    by_key = {hash_entry(entry): entry for entry in entries}
    t, m = tables.teams.c, tables.members.c
    joined = tables.teams.join(tables.members, m.team == t.id)
    found = []
    for keys in in_chunks(by_key):
        wanted = select(tables.teams, m.entry_key).select_from(joined)
        mine = wanted.where(m.entry_key.in_(keys), t.state != DESTROYED)
        rows = connection.execute(mine.order_by(t.id, m.number))
        found += readable(rows, lambda row: (to_team(row), by_key[row.entry_key]))[0]
    return tuple(found)


def insert_teams(connection: Connection, teams: Iterable[TeamRecord], *, key: str = "") -> None:
    """New ones, at their first generation. Raises TakenError."""
    rows = [
        {
            **team_columns(team),
            "id": team.id,
            "contest": team.contest,
            "generation": 1,
            "projected": 0,
            "register_key": key or None,
        }
        for team in sorted(teams, key=lambda team: team.id)
    ]
    made = {row.id for row in insert_new(connection, tables.teams, rows)}
    for row in rows:
        if row["id"] not in made:
            raise TakenError(
                f"There is, or was, a team {row['id']} on this hub. A team's id is never used "
                "again: choose another."
            )


def has_registration(manifest: str) -> bool:
    """Whether teams of a contest with this manifest (a column) register themselves.

    There a person is in one team at most. A host who lists all teams may list somebody twice.
    """
    return json.loads(manifest).get("registration") is not None


def insert_members(
    connection: Connection, contest: str, members: Iterable[MemberRecord], *, is_in_one: bool
) -> None:
    """More entries of rosters; the same person twice in a team is one.

    Parameters
    ----------
    is_in_one
        A person is in one team of the contest at most.

    Raises
    ------
    AlreadyInError
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    texts = {}
    for member in members:
        columns = member_columns(member)
        columns |= {"team": member.team, "only_in": contest if is_in_one else None}
        where = (member.team, columns["entry_key"])
        rows.setdefault(where, columns)
        texts[where] = to_text(member.entry)
    made = insert_new(connection, tables.members, list(rows.values()))
    if len(made) == len(rows):
        return
    m = tables.members.c
    there: set[tuple[str, str]] = set()
    for keys in in_chunks({key for _, key in rows}):
        theirs = select(m.team, m.entry_key).where(m.only_in == contest, m.entry_key.in_(keys))
        there.update((row.team, row.entry_key) for row in connection.execute(theirs))
    refused = sorted({texts[where] for where in rows.keys() - there})
    raise AlreadyInError(
        f"In a team of the contest {contest} already: {', '.join(refused[:_NAMED])}. A person is "
        "in one team of a contest at most: leave that one first."
    )


def claim_members(connection: Connection, contest: str, *, is_in_one: bool) -> None:
    """From now on a person is in one team of the contest at most, or may be in several.

    Raises
    ------
    AlreadyInError
        Somebody is in two by now.
    """
    m, t = tables.members, tables.teams.c
    present = select(t.id).where(t.contest == contest, t.state != DESTROYED)
    theirs = m.c.team.in_(present)
    if is_in_one:
        several = select(m.c.entry_key).where(theirs).group_by(m.c.entry_key)
        several = several.having(func.count() > 1)
        wanted = select(m).where(theirs, m.c.entry_key.in_(several)).order_by(m.c.entry_key)
        found = [to_member(row) for row in connection.execute(wanted.limit(_NAMED))]
        if found:
            named = ", ".join(f"{to_text(member.entry)} in {member.team}" for member in found)
            raise AlreadyInError(
                f"In several teams of the contest {contest}: {named}. Where teams register "
                "themselves a person is in one at most: take them out of the others first."
            )
    claimed = update(m).where(theirs).values(only_in=contest if is_in_one else None)
    connection.execute(claimed)


def register_team(
    connection: Connection,
    team: TeamRecord,
    members: Iterable[MemberRecord],
    *,
    key: str,
    wish: str,
    by: str,
    at: datetime,
) -> tuple[TeamRecord, bool]:
    """A new team, or the one that was registered with this key; whether it is new."""
    row = lock_contest(connection, team.contest)
    kept_key = f"{key}\n{wish}" if key else ""
    if key:
        found = _find_registered(connection, team.contest, key)
        if found is not None and found.register_key != kept_key:
            raise TakenError(
                f"With this Idempotency-Key the team {found.id} was registered, and otherwise than"
                " this one. Use another key for another wish."
            )
        if found is not None:
            return to_team(found), False
    contest = to_contest(row)
    why = why_not_register(contest, at)
    rules = contest.manifest.registration
    if why or rules is None:
        raise StaleError(why)
    theirs = [replace(member, team=team.id) for member in members]
    if len({hash_entry(member.entry) for member in theirs}) > rules.team_size_max:
        raise FullError(f"A team of {contest.id} has at most {rules.team_size_max} members.")
    t = tables.teams.c
    there = select(func.count()).where(t.contest == team.contest, t.state != DESTROYED)
    if connection.execute(there).scalar_one() >= rules.teams_max:
        raise FullError(
            f"The contest {team.contest} has its {rules.teams_max} teams: no more can register."
        )
    insert_teams(connection, [team], key=kept_key)
    insert_members(connection, team.contest, theirs, is_in_one=True)
    begun = Transition(team.contest, team.id, "", team.state.value)
    note_transitions(connection, [begun], by=by, operation=0, at=at)
    return _read_team(connection, team.id), True


def _find_registered(connection: Connection, contest: str, key: str) -> Row[Any] | None:
    """The team that was registered with this key. Kept behind it is what was wished: no caller's
    key has a line's end in it."""
    t = tables.teams.c
    begins = (t.register_key >= f"{key}\n", t.register_key < f"{key}\x0b")
    return connection.execute(select(tables.teams).where(t.contest == contest, *begins)).first()


def _count_members(connection: Connection, team: str) -> int:
    mine = select(func.count()).where(tables.members.c.team == team)
    return connection.execute(mine).scalar_one()


def is_member(connection: Connection, team: str, entry: RosterEntry) -> bool:
    """Whether exactly this entry stands in a team's roster."""
    m = tables.members.c
    there = exists().where(m.team == team, m.entry_key == hash_entry(entry))
    return bool(connection.execute(select(there)).scalar())


def add_member(connection: Connection, member: MemberRecord) -> None:
    """One more."""
    contest, row = lock_team_in_contest(connection, member.team)
    if not is_member(connection, member.team, member.entry):
        _let_join(connection, contest, row, member)


def _let_join(
    connection: Connection, contest_row: Row[Any], row: Row[Any], member: MemberRecord
) -> None:
    """Somebody new, if the locked contest and team have room for them. Raises StaleError,
    FullError, AlreadyInError."""
    contest = to_contest(contest_row)
    why = why_not_join(contest, to_team(row))
    if why:
        raise StaleError(why)
    size_max = team_size_max(contest)
    if _count_members(connection, row.id) >= size_max:
        raise FullError(f"The team {row.id} has its {size_max} members: nobody can join it.")
    is_in_one = contest.manifest.registration is not None
    joins = replace(member, team=row.id)
    insert_members(connection, row.contest, [joins], is_in_one=is_in_one)
    change_teams(connection, {row.id: {}})


def remove_member(connection: Connection, team: str, entry: RosterEntry) -> bool:
    """Whether it was there."""
    lock_team_in_contest(connection, team)
    m = tables.members.c
    mine = (m.team == team, m.entry_key == hash_entry(entry))
    is_captain = connection.execute(select(m.is_captain).where(*mine)).scalar()
    if is_captain is None:
        return False
    if is_captain:
        raise StaleError(
            f"{to_text(entry)} is the captain of {team} and cannot leave it. Hand the captaincy "
            "to another member first."
        )
    connection.execute(delete(tables.members).where(*mine))
    change_teams(connection, {team: {}})
    return True


def update_team(
    connection: Connection,
    team: str,
    values: Mapping[str, Any],
    *,
    expected_generation: int | None,
    captain_entry: RosterEntry | None,
) -> TeamRecord:
    """New values of the row; what is equal is left alone."""
    if "state" in values:
        raise ValueError("a team's state changes by an action alone")
    row = lock_team(connection, team)
    if expected_generation is not None and row.generation != expected_generation:
        raise StaleError(f"The team {team} was changed meanwhile. Look at it again.")
    if captain_entry is not None and not is_member(connection, team, captain_entry):
        raise StaleError(f"{to_text(captain_entry)} is not in {team}: only a member can lead it.")
    changed = differing(row, to_team_columns(values))
    if changed:
        change_teams(connection, {team: changed})
    if captain_entry is not None:
        mark_captain(connection, team, captain_entry)
    return _read_team(connection, team)


def merge_teams(
    connection: Connection,
    source: str,
    into: str,
    *,
    token_sha256: str | None,
    by: str,
    at: datetime,
    is_dry: bool,
) -> Merger:
    """All of one team join another. `is_dry`: it is only looked whether they could."""
    first = find_team(connection, source)
    if first is None or source == into:
        raise StaleError(f"{source} cannot be merged with {into}: two teams are needed.")
    contest = to_contest(lock_contest(connection, first.contest))
    rows = lock_teams(connection, [source, into])
    why = why_not_merge(contest, at)
    if why:
        raise StaleError(why)
    # Before anything is said of the other team, or whether there is one.
    if token_sha256 is not None and not _is_usable(connection, token_sha256, into, at):
        raise InvitationError(_NO_MERGE.format(team=into))
    for team in (source, into):
        _check_merges(rows.get(team), team, first.contest)
    m = tables.members.c
    both = select(func.count(m.entry_key.distinct())).where(m.team.in_([source, into]))
    together = connection.execute(both).scalar_one()
    size_max = team_size_max(contest)
    if together > size_max:
        raise FullError(
            f"{source} and {into} would be {together} members together; a team has at most "
            f"{size_max}."
        )
    found = Merger(source, into, _count_members(connection, source), together, size_max)
    if is_dry:
        return found
    if token_sha256 is not None and not _use(connection, token_sha256, into, by=by, at=at):
        raise InvitationError(_NO_MERGE.format(team=into))
    in_both = select(m.entry_key).where(m.team == into)
    connection.execute(delete(tables.members).where(m.team == source, m.entry_key.in_(in_both)))
    mine = update(tables.members).where(m.team == source)
    connection.execute(mine.values(team=into, is_captain=False))
    change_teams(connection, {source: {"state": DESTROYED, "captain": ""}, into: {}})
    ended = Transition(first.contest, source, rows[source].state, DESTROYED, f"merged into {into}")
    note_transitions(connection, [ended], by=by, operation=0, at=at)
    return found


def _check_merges(row: Row[Any] | None, team: str, contest: str) -> None:
    """That a team can still be merged. Raises StaleError."""
    if row is None or row.contest != contest:
        raise StaleError(f"There is no team {team} in the contest {contest}.")
    if row.state != TeamState.INVITED.value:
        raise StaleError(
            f"The team {team} is {row.state}. Teams can be merged only before they are admitted."
        )


def put_invitation(connection: Connection, invitation: TeamInvitation) -> None:
    """Keep it."""
    lock_team(connection, invitation.team)
    row = {
        "id": invitation.id,
        "team": invitation.team,
        "token_sha256": invitation.token_sha256,
        "made_by": invitation.made_by,
        "expires_us": to_us(invitation.expires_at),
        "used_by": invitation.used_by,
        "used_us": to_us_or_none(invitation.used_at),
    }
    connection.execute(insert(tables.invitations), [row])


def list_invitations(connection: Connection, team: str) -> tuple[TeamInvitation, ...]:
    """By the end of their time."""
    i = tables.invitations.c
    wanted = select(tables.invitations).where(i.team == team, i.used_us.is_(None))
    return tuple(
        TeamInvitation(
            id=row.id,
            team=row.team,
            token_sha256=row.token_sha256,
            made_by=row.made_by,
            expires_at=from_us(row.expires_us),
            used_by=row.used_by,
            used_at=from_us_or_none(row.used_us),
        )
        for row in connection.execute(wanted.order_by(i.expires_us, i.id))
    )


def withdraw_invitation(connection: Connection, team: str, invitation: str) -> bool:
    """Whether it was there, unused.

    The row stays: who sends the wish for it once more must not bring the same word back to life.
    """
    i = tables.invitations.c
    mine = (i.team == team, i.id == invitation, i.used_us.is_(None))
    gone = update(tables.invitations).where(*mine).values(used_us=i.expires_us)  # by nobody
    return connection.execute(gone).rowcount > 0


def take_invitation(
    connection: Connection, token_sha256: str, member: MemberRecord, *, by: str, at: datetime
) -> TeamRecord:
    """Use an invitation; the same person twice is once.

    Nothing of a team or contest is looked at, or said, before the token's hash is known.
    """
    i = tables.invitations.c
    team = connection.execute(select(i.team).where(i.token_sha256 == token_sha256)).scalar()
    if team is None:
        raise InvitationError(_NO_INVITATION)
    try:
        contest, row = lock_team_in_contest(connection, team)
    except StaleError as e:
        raise InvitationError(_NO_INVITATION) from e
    if is_member(connection, row.id, member.entry):
        return to_team(row)  # the invitation stays for another, or was this person's own
    if not _use(connection, token_sha256, row.id, by=by, at=at):
        raise InvitationError(_NO_INVITATION)
    _let_join(connection, contest, row, member)
    return _read_team(connection, row.id)


def _use(connection: Connection, token_sha256: str, team: str, *, by: str, at: datetime) -> bool:
    """Use an invitation of this team: once, in time. Whether it could be. Of two, one is first."""
    usable = update(tables.invitations).where(*_usable(token_sha256, team, at))
    used = usable.values(used_by=by, used_us=to_us(at))
    return connection.execute(used).rowcount > 0


def _is_usable(connection: Connection, token_sha256: str, team: str, at: datetime) -> bool:
    there = exists().where(*_usable(token_sha256, team, at))
    return bool(connection.execute(select(there)).scalar())


def _usable(token_sha256: str, team: str, at: datetime) -> tuple[ColumnElement[bool], ...]:
    """That a row is this invitation, of this team, unused and in time."""
    i = tables.invitations.c
    is_it = (i.token_sha256 == token_sha256, i.team == team)
    return (*is_it, i.used_us.is_(None), i.expires_us > to_us(at))
