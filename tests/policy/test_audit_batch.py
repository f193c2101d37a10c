"""What an emitter posted: each of its numbers gets a place, whatever stands there."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_collab.models.audit import AuditEvent, Outcome, Verb
from jupyterhub_collab.policy.audit_batch import (
    NOT_ANCHORED,
    BatchError,
    is_protected,
    read_batch,
    refuse_protected,
)
from jupyterhub_collab.policy.audit_emitters import Emitter, hash_token

NOW = datetime(2027, 3, 1, 12, tzinfo=timezone.utc)
ALL = Emitter(name="all", token_sha256=hash_token("t"), verbs=("*",))
GOOD: dict[str, Any] = {"time": "2027-03-01T11:00:00Z", "verb": "login"}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
FIELDS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys((*AuditEvent.model_fields, "secret-name"), JSON)
)
EVENTS = st.lists(st.just(GOOD) | FIELDS | JSON, min_size=1, max_size=8)


def post(events: list[Any]) -> bytes:
    sent = [{"sequence": n, "event": e} for n, e in enumerate(events, 1)]
    return json.dumps({"incarnation": "0" * 32, "events": sent}).encode()


@given(EVENTS)
def test_no_number_is_lost_whatever_was_sent(events: list[Any]) -> None:
    read = read_batch(post(events), ALL, NOW)
    assert [sent.sequence for sent in read.batch.events] == list(range(1, len(events) + 1))
    for sent, told in zip(read.batch.events, events, strict=True):
        is_rejected = sent.event.verb is Verb.AUDIT_REJECT
        assert is_rejected == (sent.sequence in read.rejected)
        if told == GOOD:
            assert not is_rejected
        if is_rejected:
            assert "secret-name" not in sent.event.model_dump_json()


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_a_batch_or_refused(body: bytes) -> None:
    with pytest.raises(BatchError):
        read_batch(body, ALL, NOW)


def test_only_what_would_be_allowed_is_refused() -> None:
    allowed = {**GOOD, "outcome": "allowed"}
    events = [
        {**allowed, "verb": "dataset.grant"},
        {**GOOD, "verb": "dataset.read"},  # was done already
        {**allowed, "verb": "server.start", "datasets": ["corals"]},  # nothing protected
        {
            **allowed,
            "verb": "server.start",
            "contest": "reef",
            "datasets": ["corals"],
            "details": {"protected": True},
        },
        {**GOOD, "verb": "dataset.read", "outcome": "refused"},
    ]
    read = read_batch(post(events), ALL, NOW)
    assert [is_protected(sent.event) for sent in read.batch.events] == [
        True,
        False,
        False,
        True,
        False,
    ]
    found = refuse_protected(read, lambda _sequence: True)
    assert found.rejected == {1: NOT_ANCHORED, 4: NOT_ANCHORED}
    outcomes = [sent.event.outcome for sent in found.batch.events]
    assert outcomes == [
        Outcome.REFUSED,
        Outcome.SUCCEEDED,
        Outcome.ALLOWED,
        Outcome.REFUSED,
        Outcome.REFUSED,
    ]
    assert found.batch.events[3].event.datasets == ("corals",)
    assert refuse_protected(read, lambda _sequence: False) is read
