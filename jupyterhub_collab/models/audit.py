"""Audit events: who did what to which team's or contest's things, as an emitter tells it.

An event has a public part and people. What is personal (names, roles, addresses, free words)
stands in `Person` and nowhere else: the log commits to it with a salt, so that it can be erased
and the log still be verified. Ids of things (servers, data sets, tokens) must not name a person.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import Annotated, Any, Final

from pydantic import AwareDatetime, Field, StringConstraints, field_validator

from .document import Document, Id

SCHEMA_VERSION: Final = 1
EVENT_BYTES_MAX: Final = 32 * 1024  # of one event's JSON; a spawn with 100 data sets has 8 KiB
DETAILS_MAX: Final = 32
NAME_BYTES_MAX: Final = 2048  # of a person's name; PostgreSQL finds nobody by more than 2,704

Code = Annotated[
    str, StringConstraints(strict=True, pattern=r"^[a-z0-9]+([.-][a-z0-9]+)*$", max_length=100)
]
"""A word for programs: ``gate-closed``."""

Plain = Annotated[
    str, StringConstraints(strict=True, pattern=r"^[^\x00-\x1f\x7f]*$", max_length=1024)
]
"""One line of text."""

Thing = Annotated[
    str, StringConstraints(strict=True, pattern=r"^[^\x00-\x20\x7f]+$", max_length=300)
]
"""Id of something. It names no person."""

Correlation = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Sequence = Annotated[int, Field(strict=True, ge=1, le=2**53)]
Incarnation = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{32}$")]


class Verb(str, Enum):
    """What was done. The first word is what it was done to."""

    LOGIN = "login"
    LOGOUT = "logout"
    ACCESS_CHANGE = "access.change"  # teams and roles that a person gained or lost
    ROLE_CHANGE = "role.change"  # of the hub: admin
    USER_CHANGE = "user.change"  # made, renamed, deleted
    GROUP_CHANGE = "group.change"
    TOKEN_CREATE = "token.create"  # noqa: S105 - a verb
    TOKEN_DELETE = "token.delete"  # noqa: S105
    SHARE_CREATE = "share.create"
    SHARE_DELETE = "share.delete"
    IMPERSONATE = "impersonate"  # an admin or a sharer's guest goes to another's server
    SERVER_START = "server.start"
    SERVER_STOP = "server.stop"
    TENANCY_CREATE = "tenancy.create"
    TENANCY_CHANGE = "tenancy.change"
    TENANCY_DRIFT = "tenancy.drift"  # something was put back as it should be
    TENANCY_DELETE = "tenancy.delete"
    EGRESS_CONNECT = "egress.connect"
    DATASET_READ = "dataset.read"
    DATASET_GRANT = "dataset.grant"
    DATASET_REVOKE = "dataset.revoke"
    AIRLOCK_REQUEST = "airlock.request"
    AIRLOCK_DECIDE = "airlock.decide"
    JOB_SUBMIT = "job.submit"
    JOB_END = "job.end"
    CONTEST_CHANGE = "contest.change"
    CONFIGURATION_LOAD = "configuration.load"
    HUB_STOP = "hub.stop"
    # What the audit service itself records.
    AUDIT_READ = "audit.read"
    AUDIT_EXPORT = "audit.export"
    AUDIT_ERASE = "audit.erase"
    AUDIT_RETIRE = "audit.retire"
    AUDIT_GAP = "audit.gap"
    AUDIT_REJECT = "audit.reject"  # an emitter sent what is no event
    AUDIT_START = "audit.start"


class Outcome(str, Enum):
    """How it ended."""

    ALLOWED = "allowed"  # recorded before it happens, because it must not happen unrecorded
    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    FAILED = "failed"


class Person(Document):
    """Somebody, or a program with a name of its own. All of it is personal and can be erased.

    Attributes
    ----------
    name
        Hub user or service; empty for somebody unknown. Never what a stranger typed: people type
        passwords there.
    roles
        As whom: ``captain of team ocean``, ``admin of the hub``.
    address
        Where from.
    note
        Free words: reasons in which names may stand.
    """

    name: Plain = ""
    roles: tuple[Plain, ...] = Field((), max_length=100)
    issuer: Plain = ""
    subject: Plain = ""
    address: Plain = ""
    agent: Plain = ""
    note: Plain = ""

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if len(value.encode()) > NAME_BYTES_MAX:
            raise ValueError(f"longer than {NAME_BYTES_MAX} bytes")
        return value


Detail = str | int | bool | tuple[str, ...]
_KEY: Final = re.compile(r"[a-z][a-z0-9_]{0,49}")


class AuditEvent(Document):
    """One event, as an emitter tells it.

    Attributes
    ----------
    time
        When it happened by the emitter's clock, to the microsecond.
    reason
        Why it ended so, as a word.
    thing
        What it was done to: a server's id, a namespace, a token's id, ``connect-host:443``.
    datasets
        Data sets of `contest` that it was about.
    details
        More, by name: texts, whole numbers, yes or no, lists of texts. Nothing personal.
    correlation
        Shared by all events of one request or start, over programs.
    subject, actor, recipient
        Whom it is about; who really did it, where that is somebody else; whom something was given.
    """

    time: AwareDatetime
    verb: Verb
    outcome: Outcome = Outcome.SUCCEEDED
    reason: Code | None = None
    contest: Id | None = None
    team: Id | None = None
    thing: Thing | None = None
    datasets: tuple[Id, ...] = Field((), max_length=1000)
    details: dict[str, Detail] = Field(default_factory=dict, max_length=DETAILS_MAX)
    correlation: Correlation | None = None
    subject: Person | None = None
    actor: Person | None = None
    recipient: Person | None = None

    @field_validator("time")
    @classmethod
    def _to_utc(cls, value: datetime) -> datetime:
        return value.astimezone(timezone.utc)

    @field_validator("details")
    @classmethod
    def _check_details(cls, value: dict[str, Detail]) -> dict[str, Detail]:
        for key, detail in value.items():
            if not _KEY.fullmatch(key):
                raise ValueError(f"{key[:60]!r} is not a name of lower-case letters, digits and _")
            if isinstance(detail, int) and abs(detail) > 2**53:
                raise ValueError(f"{key} is larger than JSON's whole numbers")
            if _has_nul(detail):
                raise ValueError(f"{key} has the character U+0000, which databases do not take")
        return value

    def people(self) -> dict[str, dict[str, Any]]:
        """The personal part: who, by `PARTS`, as plain values without empty ones."""
        found = {part: getattr(self, part) for part in PARTS}
        return {part: _without_empty(who) for part, who in found.items() if who is not None}


def event_schema() -> dict[str, Any]:
    """JSON Schema of what an emitter may tell; a change of it that others would notice is another
    version."""
    schema = AuditEvent.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"https://jupyterhub-collab.org/schema/audit-event-v{SCHEMA_VERSION}.schema.json",
        **schema,
    }


def _has_nul(detail: Detail) -> bool:
    return not isinstance(detail, int) and any("\0" in text for text in detail)


PARTS: Final = ("subject", "actor", "recipient")

PROTECTED: Final = frozenset(
    {Verb.DATASET_READ, Verb.DATASET_GRANT, Verb.AIRLOCK_REQUEST, Verb.AIRLOCK_DECIDE}
)
"""What never happens unrecorded; besides, a start of a server that mounts protected data."""

PROTECTED_DETAIL: Final = "protected"
"""In the details of a server's start: which of its data sets are protected."""


def _without_empty(who: Person) -> dict[str, Any]:
    return {key: value for key, value in who.model_dump(mode="json").items() if value}


class SentEvent(Document):
    """An event as an emitter sends it.

    Attributes
    ----------
    sequence
        The emitter's own count, from 1 and without gaps.
    late
        It waited in the spool because nobody took it.
    """

    sequence: Sequence
    late: bool = False
    event: AuditEvent


class SentBatch(Document):
    """What an emitter sends at once.

    Attributes
    ----------
    incarnation
        Of the emitter's spool: a lost spool begins to count again, under another.
    """

    incarnation: Incarnation
    events: tuple[SentEvent, ...] = Field(min_length=1, max_length=500)


@dataclass(frozen=True)
class StoredEvent:
    """An event in the log, as `policy.audit_leaf.Leaf` has it.

    Attributes
    ----------
    sequence
        Its place in the log, from 1.
    body
        Canonical JSON, the bytes that are hashed into the tree.
    people
        By part: salt and value. What is erased is not there.
    """

    sequence: int
    body: bytes
    people: Mapping[str, Mapping[str, Any]]
