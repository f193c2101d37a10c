"""The leaf that the audit log keeps of an event, and the personal values beside it.

A leaf is canonical JSON: sorted ASCII keys, no white space, no fractions, so that an event has
one text. What is personal is not in it: for each part (subject, actor, recipient) there stands a
commitment, SHA-256 over a random salt and the value's canonical JSON. Salt and value are kept
beside the leaf. With both at hand anybody can check that they belong together; once both are
erased, nothing can be guessed back, and the leaf and the tree above it stay as they were.

It must not: draw salts or tell the time; both are arguments.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from hashlib import sha256
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec

from ..models.audit import SCHEMA_VERSION, AuditEvent, Person

SALT_BYTES: Final = 16  # drawn for each part of each event; a guess has to try 2^128
_encode: Final = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
).encode
COMMITMENT_DOMAIN: Final = b"jupyterhub-collab audit person v1\x00"
_COMMITMENT: Final = sha256(COMMITMENT_DOMAIN)  # to be copied


class _Body(msgspec.Struct, omit_defaults=True, gc=False):
    """A leaf's fields in the order of their names, in which they are encoded."""

    blind: str | None = None
    contest: str | None = None
    correlation: str | None = None
    datasets: tuple[str, ...] = ()
    details: dict[str, Any] = {}
    emitter: str | None = None
    emitterSequence: int | None = None
    incarnation: str | None = None
    late: bool = False
    outcome: str | None = None
    people: dict[str, str] = {}
    reason: str | None = None
    schema: int | None = None
    sequence: int | None = None
    stored: str | None = None
    team: str | None = None
    thing: str | None = None
    time: datetime | str | None = None
    verb: str | None = None


class _Person(msgspec.Struct, omit_defaults=True, gc=False):
    """A person's fields in the order of their names."""

    address: str = ""
    agent: str = ""
    issuer: str = ""
    name: str = ""
    note: str = ""
    roles: tuple[str, ...] = ()
    subject: str = ""


_event_fields: Final = itemgetter(
    *("actor", "recipient", "subject"),
    *("contest", "correlation", "datasets", "details", "outcome", "reason", "team", "thing"),
    *("time", "verb"),
)
_person_fields: Final = itemgetter(*_Person.__struct_fields__)


def _to_plain(value: Any) -> str:
    """A text of another class, which the encoder does not take as it is."""
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"a leaf has no {type(value).__name__}")


# Names of details are sorted; fields stand in their order.
_encode_fields: Final = msgspec.json.Encoder(order="deterministic", enc_hook=_to_plain).encode


class Origin(NamedTuple):
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
    return _encode(value).encode()


def make_leaf(event: AuditEvent, origin: Origin, salts: bytes) -> Leaf:
    """Leaf of an event. Parameters as of `encode_leaf`."""
    sequence, stored_at, emitter, incarnation, number, late = origin
    stored = to_time(stored_at)
    body, people = encode_leaf(event, salts, sequence, stored, emitter, incarnation, number, late)
    return Leaf(body, json.loads(people) if people else {})


def encode_leaf(
    event: AuditEvent,
    salts: bytes,
    sequence: int,
    stored: str,
    emitter: str,
    incarnation: str,
    emitter_sequence: int,
    late: bool,
) -> tuple[bytes, str]:
    """Texts of an event's leaf: the body, and the people as canonical JSON ("" for nobody).

    Parameters
    ----------
    salts
        Random bytes, `SALT_BYTES` for each of the three parts. An event without people has the
        first of them in its body (`blind`).
    stored
        When it got its place, as `to_time` has it; the rest as of `Origin`.
    """
    fields = _event_fields(event.__dict__)
    actor, recipient, subject, contest, correlation, datasets, details = fields[:7]
    outcome, reason, team, thing, at, verb = fields[7:]
    texts: list[str] = []
    people: dict[str, str] = {}
    blind: str | None = None
    if actor is not None:
        people["actor"] = _commit("actor", actor, salts[:SALT_BYTES], texts)
    if recipient is not None:
        salt = salts[SALT_BYTES : 2 * SALT_BYTES]
        people["recipient"] = _commit("recipient", recipient, salt, texts)
    if subject is not None:
        salt = salts[2 * SALT_BYTES : 3 * SALT_BYTES]
        people["subject"] = _commit("subject", subject, salt, texts)
    if not people:
        # Salted too: the hash of this leaf stands in proofs of its neighbours, and what is left of
        # an event without people could be guessed from it.
        if len(salts) < SALT_BYTES:
            raise ValueError("too few random bytes")
        blind = salts[:SALT_BYTES].hex()
    # The encoder writes no fraction of a second where there is none.
    is_as_encoded = at.microsecond and at.tzinfo is timezone.utc
    body = _Body(
        blind,
        contest or None,
        correlation or None,
        datasets or (),
        details,
        emitter,
        emitter_sequence,
        incarnation,
        late,
        outcome._value_,
        people,
        reason or None,
        SCHEMA_VERSION,
        sequence,
        stored,
        team or None,
        thing or None,
        at if is_as_encoded else to_time(at),
        verb._value_,
    )
    return _encode_fields(body), f"{{{','.join(texts)}}}" if texts else ""


def _commit(part: str, who: Person, salt: bytes, texts: list[str]) -> str:
    """What stands in the leaf for a person; salt and value, as canonical JSON, go to `texts`."""
    if len(salt) != SALT_BYTES:
        raise ValueError("too few random bytes")
    value = _encode_fields(_Person(*_person_fields(who.__dict__)))
    texts.append(f'"{part}":{{"salt":"{salt.hex()}","value":{value.decode()}}}')
    commitment = _COMMITMENT.copy()
    commitment.update(salt + value)
    return commitment.hexdigest()


def commitment_of(kept: Mapping[str, Any]) -> str:
    """Commitment to a part, 64 hex digits. Raises ValueError if this is no salt and value."""
    try:
        salt = bytes.fromhex(kept["salt"])
        value = canonical_json(kept["value"])
    except (KeyError, TypeError, ValueError) as e:
        raise ValueError("not a salt and a value") from e
    return sha256(COMMITMENT_DOMAIN + salt + value).hexdigest()


def is_committed(commitment: str, kept: Mapping[str, Any]) -> bool:
    """Whether a part's salt and value are those that the leaf was made with."""
    try:
        return hmac.compare_digest(commitment_of(kept), commitment)
    except ValueError:
        return False


@lru_cache(maxsize=64)  # all events of a group are stored at the same moment
def to_time(at: datetime) -> str:
    """``2026-11-22T10:00:00.123456Z``."""
    if at.tzinfo is not timezone.utc:
        at = at.astimezone(timezone.utc)
    return f"{at.isoformat(timespec='microseconds')[:-6]}Z"
