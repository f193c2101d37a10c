"""What the clock wants of a contest: when registration and rounds open and close. Pure.

A time without an offset is a wall clock's, in the contest's time zone. A time that this clock
never shows (it is put forward over it) or shows twice is refused where it is written, since whoever
reads it again later would guess. Rules of time zones are data of the system, or of `tzdata`; like
everything here they say the same each time they are asked.

The clock never undoes what a host did by hand: it wants something only if the moment came while the
contest was in the state that it is in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone, tzinfo
from enum import Enum
from typing import Final
from zoneinfo import ZoneInfo

from ..models import ContestManifest
from ..models.contest_life import Action, ActionRequest, ContestRecord, ContestState
from .problems import FieldProblem, Path, to_field, to_found

_OFFSET_RULE: Final = "with an offset, such as {example}, that says which is meant"
_THIS_MACHINE_S: Final = frozenset({"localtime", "posixrules", "Factory"})  # other ones elsewhere
_ZONE_RULE: Final = "a time zone such as Europe/Berlin, America/New_York or UTC"
_TIME_RULE: Final = "a date and time that exist, such as 2027-01-31T18:00 or 2027-01-31T18:00+01:00"


class WallTimeError(ValueError):
    """Text that is no moment; `found` and `expected` say why, for a person."""

    def __init__(self, found: str, expected: str) -> None:
        self.found, self.expected = found, expected
        super().__init__(f"found {found}; expected {expected}")


class Occasion(str, Enum):
    """What happens at a moment of a contest's calendar."""

    REGISTRATION_OPENS = "registration-opens"
    MERGE_ENDS = "merge-ends"
    REGISTRATION_CLOSES = "registration-closes"
    ROUND_OPENS = "round-opens"
    ROUND_CLOSES = "round-closes"
    ENDS = "ends"


@dataclass(frozen=True)
class CalendarEntry:
    """A moment of a contest's calendar.

    Attributes
    ----------
    at
        In UTC.
    round
        Its number; 0 where it is no round's.
    words
        For a person, such as "Round 2 (Finals) closes".
    """

    at: datetime
    occasion: Occasion
    round: int
    words: str


@dataclass(frozen=True)
class DueAction:
    """What the clock wants done.

    Attributes
    ----------
    key
        The same for the same wish, so that it is done once whoever asks how often.
    due_at
        The moment that came, in UTC.
    """

    request: ActionRequest
    key: str
    due_at: datetime


def to_moment(text: str, time_zone: str) -> datetime:
    """A written time as a moment in UTC.

    Parameters
    ----------
    text
        ISO 8601; without an offset it is that zone's wall clock.
    time_zone
        IANA name.

    Raises
    ------
    WallTimeError
        There is no such date, zone or time of the wall clock; or the wall clock shows it twice.
    """
    zone = _zone(time_zone)
    try:
        written = datetime.fromisoformat(text.replace("Z", "+00:00"))
        if written.tzinfo is not None:
            return written.astimezone(timezone.utc)
        first, second = (written.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
        moment = first.astimezone(timezone.utc)
        is_one = moment == second.astimezone(timezone.utc)
    except (ValueError, OverflowError) as e:
        raise WallTimeError(to_found(text), _TIME_RULE) from e
    if is_one:
        return moment
    clock = f"the clocks of {time_zone}"
    example = f"{text}{_offset(first)}"
    if moment.astimezone(zone).replace(tzinfo=None) != written:
        found = f"{to_found(text)}, which {clock} never show: they are put forward over it"
        raise WallTimeError(found, f"another time, or one {_OFFSET_RULE.format(example=example)}")
    found = f"{to_found(text)}, which {clock} show twice: they are put back"
    expected = f"the time {_OFFSET_RULE.format(example=example)}"
    raise WallTimeError(found, f"{expected} ({_offset(first)} or {_offset(second)})")


def calendar_of(manifest: ContestManifest) -> tuple[CalendarEntry, ...]:
    """All moments that a contest's manifest names, in order. It must have been checked."""
    found = [
        CalendarEntry(at, place.occasion, place.round, place.words)
        for place in _places(manifest)
        if (at := _read(place, manifest)) is not None
    ]
    return tuple(sorted(found, key=lambda entry: entry.at))


def deadlines(contest: ContestRecord, now: datetime) -> tuple[CalendarEntry, ...]:
    """What is still to come, the next first."""
    return tuple(entry for entry in calendar_of(contest.manifest) if entry.at > now)


def due_actions(
    contest: ContestRecord, now: datetime, *, since: datetime | None = None
) -> tuple[DueAction, ...]:
    """What the clock wants done now; one action at most.

    It opens the registration, starts the first round and closes each round; without rounds it
    closes the contest at its end. Who goes on to the next round only people say.

    Parameters
    ----------
    since
        When the contest came into the state that it is in. None: it is not known, or was always.
    """
    wish = _wish(contest, now, since)
    if wish is None:
        return ()
    action, at = wish
    # Nobody works on after the round, and what comes was to be read in the calendar.
    notice_s = 0 if action is Action.CLOSE_ROUND else None
    request = ActionRequest(action=action, notice_s=notice_s, reason="by the calendar")
    # Of this stay in the state: once it was left by hand and come back to, the wish is another.
    stay = "" if since is None else since.astimezone(timezone.utc).isoformat()
    key = f"clock {action.value} {contest.round} {at.isoformat()} {stay}".rstrip()
    return (DueAction(request, key, at),)


def next_moment(contest: ContestRecord, now: datetime) -> datetime | None:
    """When the clock may want something next, if nothing is done by hand before."""
    return min((at for _, at, _ in _wishes(contest) if at > now), default=None)


def is_registration_open(contest: ContestRecord, now: datetime) -> bool:
    """Whether teams may register now: a host or the clock opened it, and its time is not over.

    Not while the contest is frozen, as one is that is being destroyed.
    """
    rules = contest.manifest.registration
    if rules is None or contest.state is not ContestState.REGISTRATION or contest.is_frozen:
        return False
    return rules.closes is None or now < _moment(rules.closes, contest.manifest)


def may_merge(contest: ContestRecord, now: datetime) -> bool:
    """Whether the time to merge teams is not over."""
    rules = contest.manifest.registration
    if rules is None or rules.merge_until is None:
        return True
    return now < _moment(rules.merge_until, contest.manifest)


def check_calendar(manifest: ContestManifest) -> list[FieldProblem]:
    """Times that do not exist, or come in another order than what they are of."""
    try:
        _zone(manifest.contest.time_zone)
    except WallTimeError as e:
        return [FieldProblem(("contest", "timeZone"), e.found, e.expected)]
    problems: list[FieldProblem] = []
    known: list[tuple[_Place, datetime]] = []
    for place in _places(manifest):
        try:
            at = _read(place, manifest)
        except WallTimeError as e:
            problems.append(FieldProblem(place.path, e.found, e.expected))
        else:
            if at is not None:
                known.append((place, at))
    return [*problems, *_check_order(known)]


@dataclass(frozen=True)
class _Place:
    """A place of the manifest where a moment may stand."""

    path: Path
    written: str | datetime | None
    occasion: Occasion
    words: str
    round: int = 0


def _places(manifest: ContestManifest) -> Iterator[_Place]:
    """In the order in which they should come; the end of merging between two others."""
    rules = manifest.registration
    if rules is not None:
        for word, written, occasion, words in (
            ("opens", rules.opens, Occasion.REGISTRATION_OPENS, "Registration opens"),
            ("mergeUntil", rules.merge_until, Occasion.MERGE_ENDS, "Teams can merge until then"),
            ("closes", rules.closes, Occasion.REGISTRATION_CLOSES, "Registration closes"),
        ):
            yield _Place(("registration", word), written, occasion, words)
    for i, part in enumerate(manifest.rounds):
        name = f"Round {i + 1} ({part.title})"
        for word, written, occasion in (
            ("opens", part.opens, Occasion.ROUND_OPENS),
            ("closes", part.closes, Occasion.ROUND_CLOSES),
        ):
            yield _Place(("rounds", i, word), written, occasion, f"{name} {word}", i + 1)
    yield _Place(("contest", "ends"), manifest.contest.ends, Occasion.ENDS, "The contest ends")


def _read(place: _Place, manifest: ContestManifest) -> datetime | None:
    if isinstance(place.written, datetime):
        try:
            return place.written.astimezone(timezone.utc)
        except OverflowError as e:  # in the year 1 or 9999
            raise WallTimeError(to_found(place.written), _TIME_RULE) from e
    return None if place.written is None else _moment(place.written, manifest)


def _moment(written: str, manifest: ContestManifest) -> datetime:
    return to_moment(written, manifest.contest.time_zone)


def _check_order(known: list[tuple[_Place, datetime]]) -> list[FieldProblem]:
    problems: list[FieldProblem] = []
    before: tuple[_Place, datetime] | None = None
    for place, at in known:
        if before is not None:
            earlier, then = before
            # One may close, and the next open, at one moment; to open and close takes two.
            must_differ = earlier.occasion in (Occasion.REGISTRATION_OPENS, Occasion.ROUND_OPENS)
            if at < then or (at == then and must_differ):
                how = "later than" if must_differ else "not before"
                expected = f"a time {how} {to_field(earlier.path)} ({then.isoformat()} in UTC)"
                problems.append(FieldProblem(place.path, to_found(place.written), expected))
                continue
        # Registration may close before merging ends.
        if place.occasion is not Occasion.MERGE_ENDS:
            before = (place, at)
    return problems


def _wishes(contest: ContestRecord) -> list[tuple[Action, datetime, datetime | None]]:
    """What the clock would want in this state: action, moment, and (if any) until when."""
    manifest, state = contest.manifest, contest.state
    rules, rounds = manifest.registration, manifest.rounds

    def at(written: str | None) -> datetime | None:
        return None if written is None else _moment(written, manifest)

    found: list[tuple[Action, datetime | None, datetime | None]] = []
    first = at(rounds[0].opens) if rounds else None
    if state is ContestState.DRAFT and rules is not None:
        closes = at(rules.closes)
        found.append((Action.OPEN, at(rules.opens), closes if closes is not None else first))
    if state in (ContestState.DRAFT, ContestState.REGISTRATION) and rounds:
        found.append((Action.START, first, at(rounds[0].closes)))
    if state is ContestState.RUNNING and 0 < contest.round <= len(rounds):
        found.append((Action.CLOSE_ROUND, at(rounds[contest.round - 1].closes), None))
    if state is ContestState.RUNNING and not rounds:
        found.append((Action.CLOSE_ROUND, manifest.contest.ends, None))
    return [(action, then, until) for action, then, until in found if then is not None]


def _wish(
    contest: ContestRecord, now: datetime, since: datetime | None
) -> tuple[Action, datetime] | None:
    due = [
        (action, at)
        for action, at, until in _wishes(contest)
        if at <= now
        and (until is None or now < until)
        # A draft is one since its manifest came: what that says of the past is wanted now.
        and (since is None or contest.state is ContestState.DRAFT or since <= at)
    ]
    return max(due, key=lambda wish: wish[1], default=None)


def _zone(name: str) -> tzinfo:
    try:
        if name in _THIS_MACHINE_S:
            raise ValueError(name)
        return ZoneInfo(name)
    # A folder of zones is no zone, and the file system may say so in many ways.
    except (ValueError, KeyError, OSError) as e:
        raise WallTimeError(to_found(name), _ZONE_RULE) from e


def _offset(local: datetime) -> str:
    """As ISO 8601 has it."""
    return local.isoformat(timespec="seconds")[len("2027-01-31T18:00:00") :]
