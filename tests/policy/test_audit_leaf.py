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
    encode_leaf,
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
DETAIL_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
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
        DETAIL_TEXTS
        | st.integers(-(2**53), 2**53)
        | st.booleans()
        | st.lists(DETAIL_TEXTS, max_size=3),
        max_size=5,
    ),
    correlation=st.none() | st.just("a.b-c_1"),
    subject=PEOPLE,
    actor=PEOPLE,
    recipient=PEOPLE,
)


def expected_leaf(event: AuditEvent, origin: Origin) -> tuple[bytes, bytes]:
    """Body and people by the plain encoder, field by field as the log's format has them."""
    people = event.people()
    salts = {
        part: SALTS[at * SALT_BYTES :][:SALT_BYTES].hex()
        for at, part in enumerate(("actor", "recipient", "subject"))
    }
    kept = {part: {"salt": salts[part], "value": people[part]} for part in people}
    fields = {
        "blind": "" if people else salts["actor"],
        "contest": event.contest,
        "correlation": event.correlation,
        "datasets": event.datasets,
        "details": event.details,
        "emitter": origin.emitter,
        "emitterSequence": origin.emitter_sequence,
        "incarnation": origin.incarnation,
        "late": origin.late,
        "outcome": event.outcome.value,
        "people": {part: commitment_of(one) for part, one in kept.items()},
        "reason": event.reason,
        "schema": 1,
        "sequence": origin.sequence,
        "stored": origin.stored_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "team": event.team,
        "thing": event.thing,
        "time": event.time.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z",
        "verb": event.verb.value,
    }
    return canonical_json({key: value for key, value in fields.items() if value}), (
        canonical_json(kept) if kept else b""
    )


@given(event=EVENTS, is_late=st.booleans())
def test_texts_are_byte_by_byte_those_of_the_plain_encoder(
    event: AuditEvent, is_late: bool
) -> None:
    origin = ORIGIN._replace(late=is_late)
    stored = "2027-03-01T10:00:00.123456Z"
    body, people = encode_leaf(event, SALTS, 7, stored, "hub", "0" * 32, 3, is_late)
    assert (body, people.encode()) == expected_leaf(event, origin)
    leaf = make_leaf(event, origin, SALTS)
    assert leaf.body == body
    assert {part: kept["value"] for part, kept in leaf.people.items()} == event.people()
    assert len({kept["salt"] for kept in leaf.people.values()}) == len(leaf.people)
    read = json.loads(body)
    wire = event.model_dump(mode="json", exclude_none=True)
    for field in ("verb", "outcome", "reason", "contest", "team", "thing", "correlation"):
        assert read.get(field) == wire.get(field)
    assert read.get("datasets", []) == wire["datasets"]
    assert read.get("details", {}) == wire["details"]
    assert read.get("late", False) is is_late
    assert AuditEvent.model_validate({**wire, "time": read["time"]}).time == event.time


def test_every_character_is_written_as_the_plain_encoder_writes_it() -> None:
    every = "".join(chr(code) for code in range(1, 0x110000) if not 0xD800 <= code < 0xE000)
    event = AuditEvent(time=AT, verb=Verb.LOGIN, details={"every": every, "all": (every,)})
    who = Person.model_construct(None, name=every, roles=(every, ""))
    event = event.model_copy(update={"actor": who})
    leaf = make_leaf(event, ORIGIN, SALTS)
    assert (leaf.body, canonical_json(leaf.people)) == expected_leaf(event, ORIGIN)


class Word(str):
    """A text of another class."""


@pytest.mark.parametrize(
    "details",
    [
        {"b": 2**53, "a": -(2**53), "c": 0, "a_": True, "a1": False},
        {"outcome": Outcome.FAILED, "verb": Verb.LOGIN},
        {"word": Word("x"), "words": (Word("y"), "z"), "none": ()},
    ],
)
def test_values_of_all_kinds_are_written_as_the_plain_encoder_writes_them(
    details: dict[str, Any],
) -> None:
    event = AuditEvent(time=AT, verb=Verb.LOGIN).model_copy(update={"details": details})
    assert make_leaf(event, ORIGIN, SALTS).body == expected_leaf(event, ORIGIN)[0]


def test_a_leaf_takes_no_other_values() -> None:
    event = AuditEvent(time=AT, verb=Verb.LOGIN).model_copy(update={"details": {"x": object()}})
    with pytest.raises(TypeError, match="a leaf has no object"):
        make_leaf(event, ORIGIN, SALTS)


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (AT, "2027-03-01T10:00:00.123456Z"),
        (AT.replace(microsecond=0), "2027-03-01T10:00:00.000000Z"),
        (AT.replace(microsecond=120000), "2027-03-01T10:00:00.120000Z"),
        (AT.replace(microsecond=1), "2027-03-01T10:00:00.000001Z"),
        (AT.replace(year=1), "0001-03-01T10:00:00.123456Z"),
    ],
)
def test_times_have_six_digits_of_a_second(at: datetime, text: str) -> None:
    event = AuditEvent(time=at, verb=Verb.LOGIN)
    assert json.loads(make_leaf(event, ORIGIN, SALTS).body)["time"] == text


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
