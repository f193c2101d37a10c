"""Leaves: one text for one event, and nothing personal in it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from jupyterhub_collab.models.audit import AuditEvent, Outcome, Verb
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


def test_the_shortest_event_says_only_what_it_has() -> None:
    event = AuditEvent(time=AT, verb=Verb.LOGOUT, outcome=Outcome.SUCCEEDED)
    leaf = make_leaf(event, ORIGIN, b"")
    assert leaf.people == {}
    assert "people" not in json.loads(leaf.body)


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
