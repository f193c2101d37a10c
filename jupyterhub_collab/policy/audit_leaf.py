"""The leaf that the audit log keeps of an event, and the personal values beside it.

A leaf is canonical JSON: sorted ASCII keys, no white space, no fractions, so that an event has
one text. What is personal is not in it: for each part (subject, actor, recipient) there stands a
commitment, SHA-256 over a random salt and the value's canonical JSON. Salt and value are kept
beside the leaf. With both at hand anybody can check that they belong together; once both are
erased, nothing can be guessed back, and the leaf and the tree above it stay as they were.

It must not: draw salts or tell the time; both are arguments.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from ..models.audit import SCHEMA_VERSION, AuditEvent

SALT_BYTES: Final = 16  # drawn for each part of each event; a guess has to try 2^128
_DOMAIN: Final = b"jupyterhub-collab audit person v1\x00"


@dataclass(frozen=True)
class Origin:
    """Where an event came from, and when it got its place in the log.

    Attributes
    ----------
    sequence
        Its place in the log, from 1: leaf `sequence` - 1 of the tree.
    stored_at
        The service's clock, which for the log never goes back.
    emitter, incarnation, emitter_sequence
        Who sent it, from which spool, and its number there.
    late
        It waited in the emitter's spool because nobody took it.
    """

    sequence: int
    stored_at: datetime
    emitter: str
    incarnation: str
    emitter_sequence: int
    late: bool = False


@dataclass(frozen=True)
class Leaf:
    """What the log keeps of an event.

    Attributes
    ----------
    body
        The bytes that are hashed into the tree.
    people
        By part: ``{"salt": hex, "value": {...}}``. What is erased is not there.
    """

    body: bytes
    people: Mapping[str, Mapping[str, Any]]


def canonical_json(value: Any) -> bytes:
    """One text for one value: RFC 8785 for what has ASCII keys and no fractions."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def make_leaf(event: AuditEvent, origin: Origin, salts: bytes) -> Leaf:
    """Leaf of an event.

    Parameters
    ----------
    salts
        Random bytes, `SALT_BYTES` for each of the three parts.
    """
    body: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "sequence": origin.sequence,
        "stored": to_time(origin.stored_at),
        "emitter": origin.emitter,
        "incarnation": origin.incarnation,
        "emitterSequence": origin.emitter_sequence,
        "time": to_time(event.time),
        "verb": event.verb.value,
        "outcome": event.outcome.value,
    }
    more = {
        "late": origin.late,
        "reason": event.reason,
        "contest": event.contest,
        "team": event.team,
        "thing": event.thing,
        "datasets": event.datasets,
        "details": event.details,
        "correlation": event.correlation,
    }
    body.update({key: value for key, value in more.items() if value})
    people = {}
    for number, (part, value) in enumerate(event.people().items()):
        salt = salts[number * SALT_BYTES : (number + 1) * SALT_BYTES]
        if len(salt) != SALT_BYTES:
            raise ValueError("too few random bytes")
        people[part] = {"salt": salt.hex(), "value": value}
    if people:
        body["people"] = {part: commitment_of(kept) for part, kept in people.items()}
    return Leaf(canonical_json(body), people)


def commitment_of(kept: Mapping[str, Any]) -> str:
    """Commitment to a part, 64 hex digits. Raises ValueError if this is no salt and value."""
    try:
        salt = bytes.fromhex(kept["salt"])
        value = canonical_json(kept["value"])
    except (KeyError, TypeError, ValueError) as e:
        raise ValueError("not a salt and a value") from e
    return hashlib.sha256(_DOMAIN + salt + value).hexdigest()


def is_committed(commitment: str, kept: Mapping[str, Any]) -> bool:
    """Whether a part's salt and value are those that the leaf was made with."""
    try:
        return hmac.compare_digest(commitment_of(kept), commitment)
    except ValueError:
        return False


def to_time(at: datetime) -> str:
    """``2026-11-22T10:00:00.123456Z``."""
    return at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
