"""What the contests service says, as tables for people.

Names and reasons come from files and from others: they are shown as text, never as markup.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from rich.table import Table
from rich.text import Text

Json = dict[str, Any]
_SHOWN = 20  # teams in a list


def make_contests_table(contests: Iterable[Json]) -> Table:
    """One row a contest."""
    table = _table("contest", "title", "state", "round")
    for c in contests:
        rounds = f"{c['round']} of {len(c['rounds'])}" if c["rounds"] else "none"
        state = f"{c['state']}, frozen" if c["frozen"] else c["state"]
        _add(table, c["id"], c["title"], state, rounds)
    return table


def make_archives_table(archives: Iterable[Json]) -> Table:
    """One row a copy."""
    table = _table("team", "volume", "bytes", "kept until", "place", "archive", "sha256")
    for a in archives:
        until = a["keepUntil"] or "for ever"
        _add(
            *(table, a["team"], a["volume"], a["bytes"], until, a["place"], a["archive"]),
            a["sha256"][:16],
        )
    return table


def make_team_tables(team: Json) -> list[Table]:
    """One team: itself, who is in it, what is under way, what could be done."""
    found = [make_teams_table([team])]
    members = _table("member", "captain", "joined (UTC)", "agreed")
    for m in team["members"]:
        _add(members, _who(m["entry"]), m["captain"], _moment(m["joinedAt"]), m["agreed"])
    if team["members"]:
        found.append(members)
    course = team.get("course")
    if course is not None:
        way = _table("under way", "at step", "due (UTC)", "tried", "why it waits")
        _add(
            *(way, course["kind"], course["step"], _moment(course["dueAt"]), course["attempts"]),
            course["why"],
        )
        found.append(way)
    if team.get("possible"):
        possible = _table("could be done")
        _add(possible, ", ".join(team["possible"]))
        found.append(possible)
    return found


def make_history_table(transitions: Iterable[Json]) -> Table:
    """One row a transition."""
    table = _table("when (UTC)", "what", "was", "is", "by", "why")
    for t in transitions:
        what = t["team"] or "the contest"
        _add(table, _moment(t["at"]), what, t["before"], t["after"], t["by"], t["reason"])
    return table


def make_operations_table(operations: Iterable[Json]) -> Table:
    """One row an operation."""
    table = _table("number", "asked (UTC)", "what", "team", "state", "asked by", "approved by")
    for o in operations:
        what = o["request"]
        _add(
            *(table, o["number"], _moment(o["askedAt"]), what["action"], what.get("team")),
            *(o["state"], o["askedBy"], o["approvedBy"]),
        )
    return table


def make_notices_table(notices: Iterable[Json]) -> Table:
    """One row a notice."""
    table = _table("since (UTC)", "until (UTC)", "to", "text", "could not be brought")
    for n in notices:
        failed = Counter(f"{u['channel']}: {u['why']}" for u in n["undelivered"] if u["why"])
        why = "; ".join(f"{text} ({count})" for text, count in failed.most_common(_SHOWN))
        _add(
            *(table, _moment(n["at"]), _moment(n["until"]), n["team"] or "all"),
            *(_one_line(n["text"]), why),
        )
    return table


def make_notice_line(notice: Json) -> str:
    """One notice that was written."""
    return f"Told {notice['team'] or 'all teams'}, until {_moment(notice['until'])} (UTC)."


def make_job_line(job: Json) -> str:
    """One archive Job."""
    said = f": {job['message']}" if job["message"] else ""
    return f"{job['work']} {job['archive']} of volume {job['volume']}: {job['state']}{said}"


def make_teams_table(teams: Iterable[Json]) -> Table:
    """One row a team."""
    table = _table("team", "title", "state", "round", "gate", "captain")
    for t in teams:
        _add(
            table, t["id"], t["title"] or "", t["state"], t["round"], t["gate"], t["captain"] or ""
        )
    return table


def make_status_tables(progress: Json) -> list[Table]:
    """Where a contest is: teams by state, what is under way, what is stuck, what comes when."""
    counts = _table("teams", "state")
    for state, count in progress["teams"].items():
        _add(counts, count, state)
    found = [counts]
    if progress["courses"]:
        courses = _table("under way", "at step", "how many")
        for course in progress["courses"]:
            _add(courses, course["kind"], course["step"], course["count"])
        found.append(courses)
    if progress["stuck"] or progress["problems"]:
        stuck = _table("waits", "at step", "tried", "why")
        for course in progress["stuck"][:_SHOWN]:
            _add(
                stuck,
                course["team"] or "the contest",
                course["step"],
                course["attempts"],
                course["why"],
            )
        for problem in progress["problems"][:_SHOWN]:
            _add(stuck, problem["group"], "hub group", "", problem["why"])
        found.append(stuck)
    if progress["calendar"] or progress["deadlines"]:
        comes = _table("when (UTC)", "what", "teams")
        for entry in progress["calendar"]:
            _add(comes, entry["at"], entry["what"], "")
        for entry in progress["deadlines"][:_SHOWN]:
            _add(comes, entry["at"], f"{entry['kind']}: {entry['step']}", entry["teams"])
        found.append(comes)
    return found


def make_action_tables(plan: Json) -> list[Table]:
    """What an action would change: how many teams go from where to where, and which."""
    moves: Counter[tuple[str, str, str]] = Counter()
    teams: dict[tuple[str, str, str], list[str]] = {}
    for t in plan["transitions"]:
        key = ("team" if t["team"] else "contest", t["before"], t["after"])
        moves[key] += 1
        teams.setdefault(key, []).append(t["team"] or plan["contest"])
    table = _table("what", "is", "will be", "how many", "which")
    for (what, before, after), count in moves.items():
        _add(table, what, before, after, count, _some(teams[(what, before, after)]))
    found = [table] if moves else []
    if plan["contestChanges"]:
        changes = _table("of the contest", "will be")
        for name, value in plan["contestChanges"].items():
            _add(changes, name.replace("_", " "), _plain(value))
        found.append(changes)
    kinds: Counter[tuple[str, str]] = Counter()
    for course in plan["courses"]:
        kinds[(course["kind"], "the contest" if course["team"] is None else "teams")] += 1
    if kinds:
        courses = _table("begins", "for", "how many")
        for (kind, who), count in kinds.items():
            _add(courses, kind, who, count)
        found.append(courses)
    times: Counter[tuple[str, str]] = Counter()
    for course in plan["courses"]:
        times.update((at, f"{course['kind']}: {step}") for step, at in course["times"].items())
    if times:
        comes = _table("when (UTC)", "what", "how many")
        for (at, what), count in sorted(times.items())[:_SHOWN]:
            _add(comes, at, what, count)
        found.append(comes)
    return found


def make_action_notes(plan: Json) -> list[str]:
    """What to know before it is done."""
    notes = []
    if plan["irreversible"]:
        notes.append(
            f"FOR GOOD, sooner or later: what these {len(plan['irreversible'])} teams have is"
            f" deleted: {_some(plan['irreversible'])}. It can be undone until their time is over."
        )
    if plan["needsSecond"]:
        notes.append("Another host has to approve this before anything is done.")
    return notes


def make_operation_line(operation: Json) -> str:
    """One line on what was asked for."""
    request = operation["request"]
    team = f" {request['team']}" if request.get("team") else ""
    said = f"Operation {operation['number']}: {request['action']}{team} {operation['contest']}"
    line = f"{said} is {operation['state']}, asked for by {operation['askedBy']}"
    if operation["approvedBy"]:
        line += f", approved by {operation['approvedBy']}"
    return f"{line}."


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _add(table: Table, *cells: object) -> None:
    table.add_row(*(Text(_printable(_plain(cell))) for cell in cells))


def _who(entry: object) -> str:
    """Somebody on a roster: a user's name, or what an identity is known by."""
    if isinstance(entry, dict):
        return " ".join(f"{key}={value}" for key, value in entry.items())
    return str(entry)


def _moment(text: str | None) -> str:
    """To the second, and short enough for a column."""
    return "" if text is None else text[:19].replace("T", " ")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _some(teams: list[str]) -> str:
    more = len(teams) - _SHOWN
    text = ", ".join(teams[:_SHOWN])
    return f"{text} and {more} more" if more > 0 else text


def _printable(text: str) -> str:
    """Without control characters, which could rewrite what the terminal shows."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
