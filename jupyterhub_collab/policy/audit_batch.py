"""What an emitter posted, as the batch that is stored.

An event that is none, or that this emitter may not tell, never stops those beside it: in its place
stands `audit.reject` with the emitter's number, so that its numbers have no gap and nothing is
dropped in silence. What it was is not repeated: it may hold anything.

It must not: tell the time (an argument), or store anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from ..models.audit import (
    EVENT_BYTES_MAX,
    PROTECTED,
    PROTECTED_DETAIL,
    AuditEvent,
    Outcome,
    SentBatch,
    SentEvent,
    Verb,
)
from .audit_emitters import Emitter

BODY_BYTES_MAX: Final = 1 << 20  # emitters send 256 KiB and, where one event is large, a bit more

NOT_AN_EVENT: Final = "not-an-event"
NOT_ALLOWED: Final = "verb-not-allowed"
TOO_LARGE: Final = "too-large"
NOT_ANCHORED: Final = "log-not-anchored"


class BatchError(ValueError):
    """Nothing in it can be given a place. `field` says what is wrong."""

    def __init__(self, field: str, expected: str) -> None:
        super().__init__(f"{field} is not {expected}")
        self.field, self.expected = field, expected


@dataclass(frozen=True)
class ReadBatch:
    """A batch that can be stored as it is.

    Attributes
    ----------
    rejected
        Numbers of the emitter whose events are not stored as they were told, with the reason.
    """

    batch: SentBatch
    rejected: Mapping[int, str]


def read_batch(body: bytes, emitter: Emitter, now: datetime) -> ReadBatch:
    """The batch to store.

    Raises
    ------
    BatchError
        It is none: no JSON, no incarnation, or numbers that are none or do not rise.
    """
    try:
        batch = SentBatch.model_validate_json(body)
    except ValidationError:
        batch, rejected = _read_each(body, now)
    else:
        rejected = {}
    _check_order(batch)
    events = []
    for sent in batch.events:
        reason = "" if sent.sequence in rejected else _refusal(sent, emitter, len(body))
        if reason:
            rejected[sent.sequence] = reason
            details: dict[str, Any] = {}
            if reason == NOT_ALLOWED:
                details["verb"] = sent.event.verb.value
            sent = _in_its_place(sent.sequence, now, reason, details, is_late=sent.late)
        events.append(sent)
    if rejected:
        batch = batch.model_copy(update={"events": tuple(events)})
    return ReadBatch(batch, rejected)


def refuse_protected(read: ReadBatch, is_refused: Callable[[int], bool]) -> ReadBatch:
    """The batch to store where some of what is protected may not be done.

    An event that says that something protected is allowed says in the log that it was refused, and
    why. Its emitter is told, and does not do it.

    Parameters
    ----------
    is_refused
        Whether this may not be done, by the emitter's number.
    """
    rejected = dict(read.rejected)
    events = []
    for sent in read.batch.events:
        if is_protected(sent.event) and is_refused(sent.sequence):
            rejected[sent.sequence] = NOT_ANCHORED
            change = {"outcome": Outcome.REFUSED, "reason": NOT_ANCHORED}
            sent = sent.model_copy(update={"event": sent.event.model_copy(update=change)})
        events.append(sent)
    if len(rejected) == len(read.rejected):
        return read
    return ReadBatch(read.batch.model_copy(update={"events": tuple(events)}), rejected)


def is_protected(event: AuditEvent) -> bool:
    """Whether it says that something protected may be done now."""
    if event.outcome is not Outcome.ALLOWED:
        return False
    is_start = event.verb is Verb.SERVER_START
    return event.verb in PROTECTED or (is_start and bool(event.details.get(PROTECTED_DETAIL)))


def _refusal(sent: SentEvent, emitter: Emitter, body_bytes: int) -> str:
    if not emitter.may_tell(sent.event.verb):
        return NOT_ALLOWED
    if body_bytes > EVENT_BYTES_MAX and len(sent.event.model_dump_json()) > EVENT_BYTES_MAX:
        return TOO_LARGE
    return ""


def _check_order(batch: SentBatch) -> None:
    last = 0
    for sent in batch.events:
        if sent.sequence <= last:
            raise BatchError("events", "a list in the order of its numbers")
        last = sent.sequence


def _read_each(body: bytes, now: datetime) -> tuple[SentBatch, dict[int, str]]:
    """Event by event, since not all of them are."""
    try:
        value = from_json(body)
    except ValueError as e:
        raise BatchError("the body", "JSON") from e
    if not isinstance(value, dict) or set(value) != {"incarnation", "events"}:
        raise BatchError("the body", "an object with incarnation and events")
    found = value["events"]
    if not isinstance(found, list) or not 1 <= len(found) <= 500:
        raise BatchError("events", "a list of 1 to 500 events")
    events, rejected = [], {}
    for number, item in enumerate(found):
        try:
            sent = SentEvent.model_validate_json(to_json(item))
        except ValidationError as e:
            sequence = item.get("sequence") if isinstance(item, dict) else None
            if type(sequence) is not int or not 1 <= sequence <= 2**53:
                raise BatchError(f"events[{number}].sequence", "a number from 1 to 2^53") from e
            details = {"fields": _fields_of(e)}
            is_late = item.get("late") is True
            sent = _in_its_place(sequence, now, NOT_AN_EVENT, details, is_late=is_late)
            rejected[sequence] = NOT_AN_EVENT
        events.append(sent)
    try:
        batch = SentBatch(incarnation=value["incarnation"], events=tuple(events))
    except ValidationError as e:
        raise BatchError("incarnation", "32 hexadecimal digits") from e
    return batch, rejected


def _in_its_place(
    sequence: int, now: datetime, reason: str, details: dict[str, Any], *, is_late: bool
) -> SentEvent:
    event = AuditEvent(
        time=now,
        verb=Verb.AUDIT_REJECT,
        outcome=Outcome.REFUSED,
        reason=reason,
        details=details,
    )
    return SentEvent(sequence=sequence, late=is_late, event=event)


def _fields_of(error: ValidationError) -> tuple[str, ...]:
    """Which fields are wrong, of those that an event has: other names were chosen by the sender."""
    known = {*AuditEvent.model_fields, *SentEvent.model_fields}
    found = set()
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        names = [str(part) for part in problem["loc"] if part in known]
        found.add(".".join(names[:2]) or "unknown")
    return tuple(sorted(found)[:20])
