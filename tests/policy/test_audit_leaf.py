"""Leaves: one text for one event, and nothing personal in it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from jupyterhub_collab.models.audit import AuditEvent, Outcome, Person, Verb, event_schema
from jupyterhub_collab.policy.audit_leaf import (
    SALT_BYTES,
    Origin,
    canonical_json,
    commitment_of,
    is_committed,
    make_leaf,
)

AT = datetime(2027, 3, 1, 10, 0, 0, 123456, tzinfo=timezone.utc)
SALTS = bytes(range(3 * SALT_BYTES))
ORIGIN = Origin(7, AT, "hub", "0" * 32, 3)
EVENT: dict[str, Any] = {
    "time": "2027-03-01T11:00:00.123456+01:00",
    "verb": "server.start",
    "outcome": "allowed",
    "contest": "sea",
    "team": "ocean",
    "thing": "0f3a2b",
    "datasets": ["tides"],
    "details": {"image": "registry/basic@sha256:ab", "mounts": ["tides"], "count": 3, "is": False},
    "subject": {"name": "ada", "roles": ["captain of team ocean"], "address": "10.0.0.1"},
    "actor": {"name": "grace", "note": "ada asked for it"},
}


def test_nothing_personal_is_in_the_leaf_and_all_of_it_is_beside_it() -> None:
    leaf = make_leaf(AuditEvent.model_validate(EVENT), ORIGIN, SALTS)
    for text in (b"ada", b"grace", b"captain", b"10.0.0.1"):
        assert text not in leaf.body
    body = json.loads(leaf.body)
    assert body["time"] == body["stored"] == "2027-03-01T10:00:00.123456Z"
    assert body["details"]["is"] is False
    assert set(body["people"]) == set(leaf.people) == {"subject", "actor"}
    assert leaf.people["actor"]["value"] == EVENT["actor"]
    for part, commitment in body["people"].items():
        assert is_committed(commitment, leaf.people[part])
        other = {**leaf.people[part], "value": {"name": "eve"}}
        assert not is_committed(commitment, other)


def test_equal_people_cannot_be_told_by_their_commitments() -> None:
    event = AuditEvent.model_validate({**EVENT, "actor": EVENT["subject"]})
    people = json.loads(make_leaf(event, ORIGIN, SALTS).body)["people"]
    assert people["actor"] != people["subject"]


def test_one_text_for_one_event() -> None:
    event = AuditEvent.model_validate(EVENT)
    turned = AuditEvent.model_validate(dict(reversed(EVENT.items())))
    leaf = make_leaf(event, ORIGIN, SALTS)
    assert make_leaf(turned, ORIGIN, SALTS) == leaf
    assert canonical_json(json.loads(leaf.body)) == leaf.body


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)
PEOPLE = st.none() | st.builds(
    Person,
    name=TEXTS,
    roles=st.lists(TEXTS, max_size=3),
    issuer=TEXTS,
    subject=TEXTS,
    address=TEXTS,
    agent=TEXTS,
    note=TEXTS,
)
EVENTS = st.builds(
    AuditEvent,
    time=st.datetimes(timezones=st.sampled_from([timezone.utc, timezone(timedelta(hours=7))])),
    verb=st.sampled_from(Verb),
    outcome=st.sampled_from(Outcome),
    reason=st.none() | st.just("gate-closed"),
    contest=st.none() | st.just("sea"),
    team=st.none() | st.just("ocean"),
    thing=st.none() | st.just('"\\/é'),
    datasets=st.lists(st.sampled_from(["tides", "winds"]), max_size=3),
    details=st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True),
        st.text() | st.integers(-(2**53), 2**53) | st.booleans() | st.lists(st.text(), max_size=3),
        max_size=5,
    ),
    correlation=st.none() | st.just("a.b-c_1"),
    subject=PEOPLE,
    actor=PEOPLE,
    recipient=PEOPLE,
)


@given(event=EVENTS, is_late=st.booleans())
def test_texts_put_together_by_hand_are_those_of_an_encoder(
    event: AuditEvent, is_late: bool
) -> None:
    leaf = make_leaf(event, ORIGIN._replace(late=is_late), SALTS)
    body = json.loads(leaf.body)
    assert canonical_json(body) == leaf.body
    people = event.people()
    assert {part: kept["value"] for part, kept in leaf.people.items()} == people
    assert body.get("people", {}) == {p: commitment_of(kept) for p, kept in leaf.people.items()}
    assert len({kept["salt"] for kept in leaf.people.values()}) == len(people)
    wire = event.model_dump(mode="json", exclude_none=True)
    for field in ("verb", "outcome", "reason", "contest", "team", "thing", "correlation"):
        assert body.get(field) == wire.get(field)
    assert body.get("datasets", []) == wire["datasets"]
    assert body.get("details", {}) == wire["details"]
    assert body.get("late", False) is is_late
    assert AuditEvent.model_validate({**wire, "time": body["time"]}).time == event.time


def test_the_shortest_event_says_only_what_it_has() -> None:
    event = AuditEvent(time=AT, verb=Verb.LOGOUT, outcome=Outcome.SUCCEEDED)
    leaf = make_leaf(event, ORIGIN, SALTS)
    assert leaf.people == {}
    assert "people" not in json.loads(leaf.body)


def test_an_event_without_people_cannot_be_guessed_from_its_hash() -> None:
    event = AuditEvent(time=AT, verb=Verb.TENANCY_DRIFT, outcome=Outcome.SUCCEEDED)
    one, other = make_leaf(event, ORIGIN, SALTS), make_leaf(event, ORIGIN, SALTS[::-1])
    assert one.body != other.body
    body, other_body = json.loads(one.body), json.loads(other.body)
    assert body.pop("blind") == SALTS[:SALT_BYTES].hex() != other_body.pop("blind")
    assert body == other_body
    assert canonical_json(json.loads(one.body)) == one.body
    whole = make_leaf(AuditEvent.model_validate(EVENT), ORIGIN, SALTS)
    assert "blind" not in json.loads(whole.body)
    with pytest.raises(ValueError, match="random"):
        make_leaf(event, ORIGIN, b"")


def test_salts_that_are_too_short_are_refused() -> None:
    with pytest.raises(ValueError, match="random"):
        make_leaf(AuditEvent.model_validate(EVENT), ORIGIN, SALTS[: 2 * SALT_BYTES - 1])


@pytest.mark.parametrize(
    "kept", [{}, {"salt": "zz", "value": 1}, {"salt": None, "value": 1}, {"salt": "00"}]
)
def test_what_is_kept_and_is_none(kept: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a salt"):
        commitment_of(kept)
    assert not is_committed("0" * 64, kept)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("time", "2027-03-01T11:00:00"),  # no zone
        ("verb", "server.fly"),
        ("contest", "Sea/../x"),
        ("team", "a" * 31),
        ("thing", "two words"),
        ("thing", "line\nbreak"),
        ("details", {"Key": "x"}),
        ("details", {"x": 0.5}),
        ("details", {"x": 2**60}),
        ("details", {"x": {"y": 1}}),
        ("details", {f"k{n}": 1 for n in range(33)}),
        ("subject", {"name": "a\x00b"}),
        ("subject", {"name": "a", "password": "x"}),
        ("correlation", "has space"),
        ("reason", "Not A Word"),
        ("unknown", 1),
    ],
)
def test_hostile_events_are_refused_by_field(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        AuditEvent.model_validate({**EVENT, field: value})
    assert refused.value.errors()[0]["loc"][0] == field


def test_any_zone_is_told_in_utc() -> None:
    at = AT.astimezone(timezone(timedelta(hours=-11)))
    assert AuditEvent(time=at, verb=Verb.LOGIN).time == AT


def test_the_published_schema_is_that_of_the_model() -> None:
    path = Path(__file__).parents[2] / "docs/schema/audit-event-v1.schema.json"
    schema = json.loads(path.read_text())
    assert schema == event_schema()
    validator = Draft202012Validator(schema)
    validator.validate(EVENT)
    assert not validator.is_valid({**EVENT, "verb": "server.fly"})
    assert not validator.is_valid({**EVENT, "password": "x"})
