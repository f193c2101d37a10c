"""Words to teams, copies of their volumes, agreements, certificates: kept, and given back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, or_, select

from ..models import RosterEntry
from ..models.contest_life import Archive, Notice
from . import contest_tables as tables
from .contest_changes import DESTROYED, change_teams, insert_new, lock_contest, lock_teams
from .contest_rows import from_us, from_us_or_none, hash_entry, in_chunks, to_us, to_us_or_none


def accept_agreement(
    connection: Connection,
    contest: str,
    version: str,
    user: str,
    *,
    at: datetime,
    entry: RosterEntry,
) -> None:
    """The first time counts; who accepts comes into what the hub is told of their team."""
    lock_contest(connection, contest)
    row = {"contest": contest, "version": version, "user": user, "accepted_us": to_us(at)}
    if not insert_new(connection, tables.acceptances, [row]):
        return
    m, t = tables.members.c, tables.teams.c
    joined = tables.members.join(tables.teams, m.team == t.id)
    mine = select(m.team).select_from(joined)
    mine = mine.where(t.contest == contest, t.state != DESTROYED, m.entry_key == hash_entry(entry))
    teams = lock_teams(connection, connection.execute(mine).scalars())
    change_teams(connection, {team: {} for team in teams})


def list_acceptances(
    connection: Connection, contest: str, version: str, users: Iterable[str] | None
) -> dict[str, datetime]:
    """By hub user; of these alone if any are named."""
    a = tables.acceptances.c
    of_it = select(a.user, a.accepted_us).where(a.contest == contest, a.version == version)
    all_ = of_it.order_by(a.user)
    parts = [all_] if users is None else [all_.where(a.user.in_(some)) for some in in_chunks(users)]
    return {user: from_us(us) for wanted in parts for user, us in connection.execute(wanted)}


def put_notice(connection: Connection, notice: Notice) -> bool:
    """Whether it is new."""
    row = {
        "contest": notice.contest,
        "team": notice.team,
        "text": notice.text,
        "at_us": to_us(notice.at),
        "until_us": to_us_or_none(notice.until),
        "key": notice.key or None,
        "is_delivered": False,
    }
    return bool(insert_new(connection, tables.notices, [row]))


def put_notice_once(connection: Connection, notice: Notice) -> tuple[Notice, bool]:
    """Keep a notice with a key of somebody's own, over all teams; or the one that is there. Whether
    it is new."""
    lock_contest(connection, notice.contest)
    n = tables.notices.c
    same = select(tables.notices).where(n.contest == notice.contest, n.key == notice.key)
    row = connection.execute(same.order_by(n.number)).first()
    if row is not None:
        return to_notice(row), False
    put_notice(connection, notice)
    return notice, True


def list_notices(
    connection: Connection, contest: str | None, teams: Iterable[str], now: datetime
) -> tuple[Notice, ...]:
    """The newest first."""
    n, t = tables.notices.c, tables.teams.c
    ended = or_(n.until_us.is_(None), n.until_us > to_us(now))
    in_force = select(tables.notices).where(n.at_us <= to_us(now), ended)
    found = {}
    if contest is not None:
        for row in connection.execute(in_force.where(n.contest == contest)):
            found[row.number] = row
    for chunk in in_chunks(sorted(set(teams))):
        theirs = select(t.contest).where(t.id.in_(chunk))
        for_all = n.contest.in_(theirs) & (n.team == "")
        for row in connection.execute(in_force.where(or_(n.team.in_(chunk), for_all))):
            found[row.number] = row
    newest = sorted(found.values(), key=lambda row: (row.at_us, row.number), reverse=True)
    return tuple(map(to_notice, newest))


def to_notice(row: Row[Any]) -> Notice:
    """Of a whole row."""
    return Notice(
        contest=row.contest,
        team=row.team,
        text=row.text,
        at=from_us(row.at_us),
        until=from_us_or_none(row.until_us),
        key=row.key or "",
    )


def list_undelivered(
    connection: Connection, after: int, limit: int
) -> tuple[tuple[int, Notice], ...]:
    """The oldest first, from a number on."""
    n = tables.notices.c
    wanted = select(tables.notices).where(~n.is_delivered, n.number > after)
    rows = connection.execute(wanted.order_by(n.number).limit(limit))
    return tuple((row.number, to_notice(row)) for row in rows)


def put_archive(connection: Connection, archive: Archive) -> None:
    """In place of the one before."""
    lock_contest(connection, archive.contest)
    a = tables.archives.c
    connection.execute(
        delete(tables.archives).where(
            a.contest == archive.contest, a.team == archive.team, a.volume == archive.volume
        )
    )
    row = {
        "contest": archive.contest,
        "team": archive.team,
        "volume": archive.volume,
        "place": archive.place,
        "key": archive.key,
        "bytes": archive.bytes,
        "sha256": archive.sha256,
        "at_us": to_us(archive.at),
        "keep_until_us": to_us_or_none(archive.keep_until),
    }
    connection.execute(insert(tables.archives), [row])


def list_archives(connection: Connection, contest: str, team: str | None) -> tuple[Archive, ...]:
    """By team and volume."""
    a = tables.archives.c
    wanted = select(tables.archives).where(a.contest == contest)
    if team is not None:
        wanted = wanted.where(a.team == team)
    return tuple(
        Archive(
            contest=row.contest,
            team=row.team,
            volume=row.volume,
            place=row.place,
            key=row.key,
            bytes=row.bytes,
            sha256=row.sha256,
            at=from_us(row.at_us),
            keep_until=from_us_or_none(row.keep_until_us),
        )
        for row in connection.execute(wanted.order_by(a.team, a.volume))
    )


def put_certificate(connection: Connection, contest: str, text: str, *, at: datetime) -> None:
    """The first one stays."""
    row = {"contest": contest, "text": text, "at_us": to_us(at)}
    insert_new(connection, tables.certificates, [row])


def find_certificate(connection: Connection, contest: str) -> str | None:
    """It, if there is one."""
    c = tables.certificates.c
    found = connection.execute(select(c.text).where(c.contest == contest)).scalar()
    return None if found is None else str(found)
