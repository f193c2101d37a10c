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
from json.encoder import encode_basestring as _quote
from typing import Any, Final, NamedTuple

from ..models.audit import SCHEMA_VERSION, AuditEvent, Person

SALT_BYTES: Final = 16  # drawn for each part of each event; a guess has to try 2^128
_encode: Final = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
).encode
COMMITMENT_DOMAIN: Final = b"jupyterhub-collab audit person v1\x00"


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
    body, people = encode_leaf(event, origin, salts)
    return Leaf(body.encode(), json.loads(people) if people else {})


def encode_leaf(event: AuditEvent, origin: Origin, salts: bytes) -> tuple[str, str]:
    """Texts of an event's leaf: the body, and the people as canonical JSON ("" for nobody).

    Both are put together by hand in the order of their keys, which takes a third of the time that
    an encoder needs.

    Parameters
    ----------
    salts
        Random bytes, `SALT_BYTES` for each of the three parts. An event without people has the
        first of them in its body (`blind`).
    """
    people, commitments = _encode_people(event, salts)
    blind = contest = correlation = datasets = details = late = reason = team = thing = ""
    if commitments:
        commitments = f'"people":{{{commitments}}},'
    else:
        # Salted too: the hash of this leaf stands in proofs of its neighbours, and what is left of
        # an event without people could be guessed from it.
        if len(salts) < SALT_BYTES:
            raise ValueError("too few random bytes")
        blind = f'"blind":"{salts[:SALT_BYTES].hex()}",'
    if event.contest:
        contest = f'"contest":{_quote(event.contest)},'
    if event.correlation:
        correlation = f'"correlation":{_quote(event.correlation)},'
    if event.datasets:
        datasets = f'"datasets":[{",".join(map(_quote, event.datasets))}],'
    if event.details:
        details = f'"details":{_encode_details(event.details)},'
    if origin.late:
        late = '"late":true,'
    if event.reason:
        reason = f'"reason":{_quote(event.reason)},'
    if event.team:
        team = f'"team":{_quote(event.team)},'
    if event.thing:
        thing = f'"thing":{_quote(event.thing)},'
    return (
        f'{{{blind}{contest}{correlation}{datasets}{details}"emitter":{_quote(origin.emitter)},'
        f'"emitterSequence":{origin.emitter_sequence},"incarnation":{_quote(origin.incarnation)},'
        f'{late}"outcome":"{event.outcome._value_}",{commitments}{reason}"schema":{SCHEMA_VERSION},'
        f'"sequence":{origin.sequence},"stored":"{to_time(origin.stored_at)}",{team}{thing}'
        f'"time":"{to_time(event.time)}","verb":"{event.verb._value_}"}}'
    ), people


def _encode_details(details: Mapping[str, Any]) -> str:
    found = []
    for key in sorted(details):
        value = details[key]
        kind = type(value)
        text = _quote(value) if kind is str else str(value) if kind is int else _encode(value)
        found.append(f"{_quote(key)}:{text}")
    return f"{{{','.join(found)}}}"


def _encode_people(event: AuditEvent, salts: bytes) -> tuple[str, str]:
    """Salts and values as canonical JSON, and what stands in the leaf for them."""
    kept = committed = ""
    parts = (("actor", event.actor), ("recipient", event.recipient), ("subject", event.subject))
    for number, (part, who) in enumerate(parts):
        if who is None:
            continue
        salt = salts[number * SALT_BYTES : (number + 1) * SALT_BYTES]
        if len(salt) != SALT_BYTES:
            raise ValueError("too few random bytes")
        value = _encode_person(who)
        commitment = sha256(COMMITMENT_DOMAIN + salt + value.encode()).hexdigest()
        comma = "," if kept else ""
        kept += f'{comma}"{part}":{{"salt":"{salt.hex()}","value":{value}}}'
        committed += f'{comma}"{part}":"{commitment}"'
    return (f"{{{kept}}}", committed) if kept else ("", "")


def _encode_person(who: Person) -> str:
    value = []
    if who.address:
        value.append(f'"address":{_quote(who.address)}')
    if who.agent:
        value.append(f'"agent":{_quote(who.agent)}')
    if who.issuer:
        value.append(f'"issuer":{_quote(who.issuer)}')
    if who.name:
        value.append(f'"name":{_quote(who.name)}')
    if who.note:
        value.append(f'"note":{_quote(who.note)}')
    if who.roles:
        value.append(f'"roles":[{",".join(map(_quote, who.roles))}]')
    if who.subject:
        value.append(f'"subject":{_quote(who.subject)}')
    return f"{{{','.join(value)}}}"


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
