"""Wall clocks and what they want of a contest: daylight saving, order, hands and jumping clocks."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyterhub_collab.errors import SpecError
from jupyterhub_collab.models.contest_life import Action, ContestRecord, ContestState
from jupyterhub_collab.policy.contest_calendar import (
    Occasion,
    WallTimeError,
    calendar_of,
    deadlines,
    due_actions,
    is_registration_open,
    may_merge,
    next_moment,
    to_moment,
)
from jupyterhub_collab.policy.contest_manifest import parse_contest_manifest

from .lives import LONG, WITHOUT_TEAMS, Life, contest, manifest
from .manifests import MANIFEST

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
LORD_HOWE, KATHMANDU = "Australia/Lord_Howe", "Asia/Kathmandu"
MINUTE = timedelta(minutes=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


OPENS, REGISTERED = utc("2027-01-10T09:00"), utc("2027-01-25T18:00")
FIRST, FIRST_ENDS = utc("2027-02-01T09:00"), utc("2027-02-20T18:00")
SECOND_ENDS = utc("2027-03-20T18:00")


# Wall clocks.


@pytest.mark.parametrize(
    ("text", "zone", "moment"),
    [
        ("2027-01-31T18:00", "UTC", "2027-01-31T18:00"),
        ("2027-01-31T18:00:30", BERLIN, "2027-01-31T17:00:30"),
        ("2027-07-31T18:00", BERLIN, "2027-07-31T16:00"),
        ("2027-07-31T18:00Z", BERLIN, "2027-07-31T18:00"),
        ("2027-07-31T18:00-05:00", BERLIN, "2027-07-31T23:00"),
        ("2027-03-28T01:59", BERLIN, "2027-03-28T00:59"),
        ("2027-03-28T03:00", BERLIN, "2027-03-28T01:00"),
        ("2027-03-28T02:30+01:00", BERLIN, "2027-03-28T01:30"),
        ("2027-10-31T02:30+01:00", BERLIN, "2027-10-31T01:30"),
        ("2027-10-31T03:00", BERLIN, "2027-10-31T02:00"),
        ("2027-03-14T03:00", NEW_YORK, "2027-03-14T07:00"),
        ("2027-11-07T00:59", NEW_YORK, "2027-11-07T04:59"),
        ("2027-10-03T02:30", LORD_HOWE, "2027-10-02T15:30"),
        ("2027-04-04T01:29", LORD_HOWE, "2027-04-03T14:29"),
        ("2027-06-01T00:00", KATHMANDU, "2027-05-31T18:15"),
        ("2028-02-29T12:00", BERLIN, "2028-02-29T11:00"),
    ],
)
def test_a_wall_clock_s_time_is_a_moment(text: str, zone: str, moment: str) -> None:
    assert to_moment(text, zone) == utc(moment)


@pytest.mark.parametrize(
    ("text", "zone", "said"),
    [
        ("2027-03-28T02:00", BERLIN, "Europe/Berlin never show: they are put forward over it"),
        ("2027-03-28T02:59:59", BERLIN, "2027-03-28T02:59:59+01:00"),
        ("2027-03-14T02:30", NEW_YORK, "2027-03-14T02:30-05:00"),
        ("2027-10-03T02:15", LORD_HOWE, "2027-10-03T02:15+10:30"),
        ("2011-12-30T12:00", "Pacific/Apia", "never show"),
        ("2027-10-31T02:00", BERLIN, "show twice: they are put back; expected the time with an"),
        ("2027-10-31T02:59", BERLIN, "(+02:00 or +01:00)"),
        ("2027-11-07T01:30", NEW_YORK, "(-04:00 or -05:00)"),
        ("2027-04-04T01:30", LORD_HOWE, "(+11:00 or +10:30)"),
        ("2027-02-29T12:00", BERLIN, "expected a date and time that exist"),
        ("2027-13-01T12:00", "UTC", "expected a date and time that exist"),
        ("2027-01-01T24:01", "UTC", "expected a date and time that exist"),
        ("2027-01-01T12:00+25:00", "UTC", "expected a date and time that exist"),
        ("0001-01-01T00:00", KATHMANDU, "expected a date and time that exist"),
        ("0001-01-01T00:00+05:00", "UTC", "expected a date and time that exist"),
        ("2027-01-31T18:00", "Europe/Atlantis", 'found "Europe/Atlantis"; expected a time zone'),
        ("2027-01-31T18:00Z", "Europe", "expected a time zone"),
        ("2027-01-31T18:00", "", "expected a time zone"),
        ("2027-01-31T18:00", "../../etc/passwd", "expected a time zone"),
        ("2027-01-31T18:00", "/etc/localtime", "expected a time zone"),
        ("2027-01-31T18:00", "localtime", "expected a time zone"),
        ("2027-01-31T18:00", "Europe/Ber\0lin", "expected a time zone"),
        ("2027-01-31T18:00", "Europe/Berlín", "expected a time zone"),
    ],
)
def test_what_is_no_moment_is_refused_with_what_would_be(text: str, zone: str, said: str) -> None:
    with pytest.raises(WallTimeError) as error:
        to_moment(text, zone)
    assert said in str(error.value)


@settings(deadline=None)
@given(
    st.integers(631_152_000, 2_114_380_800),  # s since 1970: the years 1990 to 2036
    st.sampled_from([BERLIN, NEW_YORK, LORD_HOWE, KATHMANDU, "Africa/Casablanca", "Pacific/Apia"]),
)
def test_every_moment_can_be_written_with_the_offset_of_its_place(at: int, zone: str) -> None:
    moment = datetime.fromtimestamp(at, tz=timezone.utc)
    local = moment.astimezone(ZoneInfo(zone))
    assert to_moment(local.isoformat(), zone) == moment
    try:
        assert to_moment(local.replace(tzinfo=None).isoformat(), zone) == moment
    except WallTimeError as error:
        assert f"{local:%z}"[:3] in error.expected  # noqa: PT017 - either, or


# In the manifest.

BERLIN_TITLE = "title: Seasonal forecasts\n  timeZone: Europe/Berlin"


def refusals(old: str, new: str) -> list[str]:
    text = LONG.replace("title: Seasonal forecasts", BERLIN_TITLE)
    assert text.count(old) == 1
    with pytest.raises(SpecError) as error:
        parse_contest_manifest(text.replace(old, new), file="contest.yaml")
    return [str(problem) for problem in error.value.problems]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "timeZone: Europe/Berlin",
            "timeZone: Berlin",
            'contest.yaml:6: contest.timeZone: found "Berlin"; expected a time zone such as',
        ),
        (
            "opens: 2027-03-01T09:00",
            "opens: 2027-03-28T02:30",
            'contest.yaml:39: rounds[1].opens: found "2027-03-28T02:30", which the clocks of',
        ),
        (
            "opens: 2027-03-01T09:00",
            "opens: tomorrow",
            'rounds[1].opens: found "tomorrow"; expected a date and time such as 2027-01-31T18:00,',
        ),
        (
            "closes: 2027-02-20T18:00",
            "closes: 2027-02-01T09:00",
            'rounds[0].closes: found "2027-02-01T09:00"; expected a time later than rounds[0]'
            ".opens (2027-02-01T08:00:00+00:00 in UTC)",
        ),
        (
            "opens: 2027-03-01T09:00",
            "opens: 2027-02-20T17:59",
            'rounds[1].opens: found "2027-02-20T17:59"; expected a time not before rounds[0]'
            ".closes",
        ),
        (
            "  closes: 2027-01-25T18:00",
            "  closes: 2027-01-09T18:00",
            'registration.closes: found "2027-01-09T18:00"; expected a time later than'
            " registration.opens",
        ),
        (
            "  closes: 2027-01-25T18:00",
            "  closes: 2027-02-01T10:00",
            'rounds[0].opens: found "2027-02-01T09:00"; expected a time not before'
            " registration.closes",
        ),
        (
            "mergeUntil: 2027-01-20T18:00",
            "mergeUntil: 2027-01-10T09:00",
            'registration.mergeUntil: found "2027-01-10T09:00"; expected a time later than',
        ),
        (
            "closes: 2027-03-20T18:00",
            "closes: 2027-07-01T00:01",
            'contest.yaml:7: contest.ends: found "2027-06-30 22:00:00+00:00"; expected a time not'
            " before rounds[1].closes (2027-06-30T22:01:00+00:00 in UTC)",
        ),
        (
            "    tier: large\n    images: [deep]",
            "    tier: huge\n    images: [deep]",
            'rounds[1].tier: found "huge"; expected one of: large, small',
        ),
        (
            "images: [deep]",
            "images: [deep, shallow, deep]",
            'rounds[1].images[1]: found "shallow"; expected one of: basic, deep',
        ),
        (
            "images: [deep]",
            "images: []",
            "rounds[1].images: found an empty list; expected at least 1 entry",
        ),
        (
            "    datasets: [sst]\nregistration",
            "    datasets: [salt]\nregistration",
            'rounds[1].datasets[0]: found "salt"; expected one of: sst',
        ),
        (
            "title: Medium,",
            "title: Medium, images: [basic],",
            "rounds[1].images: found deep; expected at least one that some profile can be combined",
        ),
        (
            "title: Second",
            "title: First",
            'rounds[1].title: found "First" again; expected each round\'s own',
        ),
        (
            "  tier: small\n  opens: 2027-01-10",
            "  tier: tiny\n  opens: 2027-01-10",
            'registration.tier: found "tiny"; expected one of: large, small',
        ),
    ],
)
def test_a_mistake_in_the_life_of_a_contest_is_told_with_its_place(
    old: str, new: str, said: str
) -> None:
    assert said in refusals(old, new)[0]


def test_one_round_may_follow_another_at_once_and_times_may_be_left_out() -> None:
    manifest(LONG.replace("opens: 2027-03-01T09:00", "opens: 2027-02-20T18:00"))
    left_out = manifest(LONG.replace("    closes: 2027-02-20T18:00\n", ""))
    assert next_moment(contest(ContestState.RUNNING, manifest=left_out), FIRST) is None


def test_times_that_were_left_out_do_not_hide_the_order_of_the_others() -> None:
    text = LONG.replace("    closes: 2027-02-20T18:00\n", "")
    text = text.replace("opens: 2027-03-01T09:00", "opens: 2027-02-01T09:00")
    with pytest.raises(SpecError, match=r"rounds\[1\]\.opens: .* later than rounds\[0\]\.opens"):
        manifest(text)


def test_the_calendar_is_in_order_with_words() -> None:
    entries = calendar_of(manifest())
    assert [(e.occasion, e.round) for e in entries] == [
        (Occasion.REGISTRATION_OPENS, 0),
        (Occasion.MERGE_ENDS, 0),
        (Occasion.REGISTRATION_CLOSES, 0),
        (Occasion.ROUND_OPENS, 1),
        (Occasion.ROUND_CLOSES, 1),
        (Occasion.ROUND_OPENS, 2),
        (Occasion.ROUND_CLOSES, 2),
        (Occasion.ENDS, 0),
    ]
    assert entries[4].words == "Round 1 (First) closes"
    assert [e.at for e in entries] == sorted(e.at for e in entries)
    assert [e.words for e in deadlines(contest(), FIRST_ENDS)] == [
        "Round 2 (Second) opens",
        "Round 2 (Second) closes",
        "The contest ends",
    ]


# What the clock wants.


def wants(found: ContestRecord, now: datetime, since: datetime | None = None) -> list[Action]:
    return [due.request.action for due in due_actions(found, now, since=since)]


DRAFT, REGISTRATION = ContestState.DRAFT, ContestState.REGISTRATION
RUNNING, JUDGING = ContestState.RUNNING, ContestState.JUDGING


@pytest.mark.parametrize(
    ("state", "number", "now", "wanted"),
    [
        (DRAFT, 0, OPENS - MINUTE, []),
        (DRAFT, 0, OPENS, [Action.OPEN]),
        (DRAFT, 0, REGISTERED, []),  # it would close at once
        (DRAFT, 0, FIRST, [Action.START]),
        (REGISTRATION, 0, FIRST - MINUTE, []),
        (REGISTRATION, 0, FIRST, [Action.START]),
        (REGISTRATION, 0, FIRST_ENDS, []),  # a round that is over is not begun
        (RUNNING, 1, FIRST_ENDS - MINUTE, []),
        (RUNNING, 1, FIRST_ENDS, [Action.CLOSE_ROUND]),
        (RUNNING, 2, FIRST_ENDS, []),
        (RUNNING, 2, SECOND_ENDS, [Action.CLOSE_ROUND]),
        (JUDGING, 1, SECOND_ENDS, []),  # who goes on, people say
        (ContestState.FINISHED, 2, SECOND_ENDS, []),
        (ContestState.DESTROYED, 2, SECOND_ENDS, []),
    ],
)
def test_the_clock_wants_one_thing_at_its_time(
    state: ContestState, number: int, now: datetime, wanted: list[Action]
) -> None:
    assert wants(contest(state, round=number), now) == wanted


def test_a_contest_without_rounds_closes_at_its_end() -> None:
    found = contest(RUNNING, round=0, manifest=manifest(MANIFEST))
    ends = utc("2027-06-30T22:00")
    assert next_moment(found, FIRST) == ends
    assert wants(found, ends) == [Action.CLOSE_ROUND]
    assert wants(found, ends + MINUTE, since=ends + MINUTE) == [], "it was over when it came"
    lasting = manifest(MANIFEST.replace("  ends: 2027-06-30T22:00:00Z\n", ""))
    assert next_moment(contest(RUNNING, round=0, manifest=lasting), FIRST) is None


def test_the_clock_undoes_no_hand() -> None:
    early = contest(JUDGING)
    assert wants(early, FIRST + MINUTE, since=FIRST) == [], "closed by hand: it stays so"
    again = contest(RUNNING)
    assert wants(again, FIRST_ENDS + MINUTE, since=FIRST_ENDS + MINUTE) == []
    assert wants(again, FIRST_ENDS, since=FIRST + MINUTE) == [Action.CLOSE_ROUND]
    late = contest(REGISTRATION, round=0)
    assert wants(late, FIRST + MINUTE, since=FIRST + MINUTE) == [], "opened after the start"


def test_a_wish_has_one_key_until_it_is_another_wish() -> None:
    (first,) = due_actions(contest(RUNNING), FIRST_ENDS, since=FIRST)
    (later,) = due_actions(contest(RUNNING), SECOND_ENDS, since=FIRST)
    assert first == later
    assert first.due_at == FIRST_ENDS
    assert first.request.notice_s == 0
    moved = manifest(WITHOUT_TEAMS.replace("2027-02-20T18:00", "2027-02-21T18:00"))
    others = [
        due_actions(contest(RUNNING, manifest=moved), SECOND_ENDS, since=FIRST),
        due_actions(contest(RUNNING), SECOND_ENDS, since=FIRST + MINUTE),
        due_actions(contest(RUNNING, round=2), SECOND_ENDS, since=FIRST),
        due_actions(contest(REGISTRATION, round=0), FIRST, since=OPENS),
    ]
    keys = {first.key, *(due.key for (due,) in others)}
    assert len(keys) == len(others) + 1
    assert max(map(len, keys)) < 128


@settings(deadline=None)
@given(st.lists(st.integers(-60, 90), max_size=25))
def test_jumps_of_the_clock_do_nothing_twice(days: list[int]) -> None:
    """Wherever it goes, each of its wishes is done once, and nothing is ever taken back."""
    life = Life(contest(DRAFT, round=0))
    since: datetime | None = None
    done: list[Any] = []
    for day in days:
        life.now = FIRST + timedelta(days=day)
        for _ in range(2):
            for due in due_actions(life.contest, life.now, since=since):
                assert due.key not in {key for key, _ in done}
                life.act(due.request.action, notice_s=due.request.notice_s)
                done.append((due.key, due.request.action))
                since = life.now
    assert len({action for _, action in done}) == len(done)
    order = [Action.OPEN, Action.START, Action.CLOSE_ROUND]
    assert [action for _, action in done] == [a for a in order if a in {b for _, b in done}]


@settings(deadline=None)
@given(st.integers(0, 300 * 1440), st.floats(0, 1), st.sampled_from(ContestState))
def test_who_sleeps_until_the_next_moment_misses_nothing(
    minutes: int, part: float, state: ContestState
) -> None:
    now = utc("2026-12-01T00:00") + minutes * MINUTE
    found = contest(state, round=1 if state in (RUNNING, JUDGING) else 0)
    following = next_moment(found, now)
    asleep = timedelta(days=1000) if following is None else following - now - timedelta.resolution
    assert asleep >= timedelta(0)
    assert set(wants(found, now + part * asleep)) <= set(wants(found, now))


def test_registration_and_merging_have_their_time() -> None:
    for state in ContestState:
        assert is_registration_open(contest(state), OPENS) is (state is REGISTRATION)
    assert is_registration_open(contest(REGISTRATION), REGISTERED - MINUTE)
    assert not is_registration_open(contest(REGISTRATION), REGISTERED)
    assert not is_registration_open(contest(REGISTRATION, is_frozen=True), OPENS)
    plain = contest(REGISTRATION, manifest=manifest(MANIFEST))
    assert not is_registration_open(plain, OPENS)
    merging = utc("2027-01-20T18:00")
    assert may_merge(contest(REGISTRATION), merging - MINUTE)
    assert not may_merge(contest(REGISTRATION), merging)
    assert may_merge(plain, merging)
