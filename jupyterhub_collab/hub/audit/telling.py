"""From what happened in the hub to audit events: who asked, as what, from where.

`tell` never raises and never waits. What comes from outside (names, reasons, sentences) is cut to
what an event can hold, never left out.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Final

from ... import names
from ...models.audit import AuditEvent, Detail, Outcome, Person, Verb
from .origin import Origin, Who, current_origin
from .recorder import RECORDER

_TEXT_MAX: Final = 1024
_LIST_MAX: Final = 100
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]+")
_NO_CODE: Final = re.compile(r"[^a-z0-9]+")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Happening:
    """What happened, before it is known who asked. Fields as `AuditEvent`'s.

    Attributes
    ----------
    subject, recipient
        Names of hub users or services, or persons.
    note
        Words about it in which names may stand.
    """

    verb: Verb
    outcome: Outcome = Outcome.SUCCEEDED
    reason: str = ""
    contest: str = ""
    team: str = ""
    thing: str = ""
    datasets: tuple[str, ...] = ()
    details: Mapping[str, Detail | None] = field(default_factory=dict)
    subject: str | Person = ""
    recipient: str | Person = ""
    note: str = ""


class KnownRoles:
    """What people were last found to be, besides members: for the people in events."""

    def __init__(self) -> None:
        self._roles: dict[str, tuple[str, ...]] = {}

    def put(self, name: str, roles: Iterable[str]) -> None:
        """Somebody is this now."""
        self._roles[name] = tuple(roles)

    def of(self, name: str) -> tuple[str, ...] | None:
        """None: nobody has said yet."""
        return self._roles.get(name)

    def forget(self, name: str) -> None:
        """There is no such person any more."""
        self._roles.pop(name, None)


ROLES: Final = KnownRoles()
_NOW: Final = object()


def tell(happening: Happening, *, origin: Any = _NOW) -> None:
    """Tell of what happened. `origin`: why, if it is not what is current."""
    if not RECORDER.is_on:
        return
    try:
        RECORDER.emit(to_event(happening, origin=origin))
    except Exception:  # a fault of ours must cost nobody their request
        log.exception("An audit event could not be made: %s", happening.verb.value)


async def record(happening: Happening) -> None:
    """Tell of what must not happen untold. Raises AuditUnavailableError."""
    await RECORDER.record(to_event(happening))


def to_event(happening: Happening, *, origin: Any = _NOW) -> AuditEvent:
    """The event, with who asked."""
    why: Origin | None = current_origin() if origin is _NOW else origin
    details = {key: value for key, value in happening.details.items() if value not in (None, "")}
    reason = happening.reason
    if why is not None and why.cause and why.cause != reason:
        details.setdefault("cause", why.cause)
    subject, actor = _people(happening, why)
    known = happening.recipient
    recipient = known if isinstance(known, Person) else _to_person(known)
    return AuditEvent(
        time=datetime.now(timezone.utc),
        verb=happening.verb,
        outcome=happening.outcome,
        reason=_to_code(reason),
        contest=_to_id(happening.contest),
        team=_to_id(happening.team),
        thing=happening.thing or None,
        datasets=happening.datasets,
        details={key: _to_detail(value) for key, value in details.items() if value is not None},
        correlation=why.correlation if why is not None else None,
        subject=subject,
        actor=actor,
        recipient=recipient,
    )


def _people(happening: Happening, why: Origin | None) -> tuple[Person | None, Person | None]:
    """Whom it is about, and who did it if that is somebody else."""
    said = happening.subject
    name = said.name if isinstance(said, Person) else said
    subject = said if isinstance(said, Person) else _to_person(said)
    note = to_plain(happening.note or (why.note if why is not None else ""))
    asker = why.asker() if why is not None else None
    actor: Person | None = None
    if why is not None and asker is not None:
        found = _to_asker(asker, why)
        if name == asker.name and asker.kind == "user":
            kept = subject.model_dump(exclude_defaults=True) if subject is not None else {}
            subject = found.model_copy(update=kept)
        else:
            actor = found
    elif why is not None and why.address and subject is not None and not subject.address:
        # Nobody is known yet: a log-in.
        subject = subject.model_copy(update={"address": why.address, "agent": why.agent})
    if note:
        if subject is not None:
            subject = subject.model_copy(update={"note": note})
        else:
            actor = (actor or Person()).model_copy(update={"note": note})
    return subject, actor


def _to_asker(who: Who, why: Origin) -> Person:
    person = _to_person(who.name, kind=who.kind, is_admin=who.is_admin) or Person()
    return person.model_copy(update={"address": why.address, "agent": why.agent})


def _to_person(name: str, *, kind: str = "user", is_admin: bool = False) -> Person | None:
    if not name:
        return None
    if kind == "service":
        return Person(name=to_plain(name), roles=("service of the hub",))
    roles = ROLES.of(name) or ()
    if is_admin:
        roles = ("admin of the hub", *(role for role in roles if role != "admin of the hub"))
    return Person(name=to_plain(name), roles=tuple(map(to_plain, roles[:_LIST_MAX])))


def to_plain(text: str) -> str:
    """One line of text, as an event can hold it."""
    line = _CONTROL.sub(" ", text).encode(errors="replace").decode()
    return line if len(line) <= _TEXT_MAX else f"{line[: _TEXT_MAX - 3]}..."


def _to_code(text: str) -> str | None:
    code = _NO_CODE.sub("-", text.lower()).strip("-")[:100].strip("-")
    return code or None


def _to_id(text: str) -> str | None:
    return text if names.is_team_id(text) else None


def _to_detail(value: Detail) -> Detail:
    if isinstance(value, str):
        return to_plain(value)
    if isinstance(value, tuple):
        kept = tuple(map(to_plain, value[:_LIST_MAX]))
        more = len(value) - len(kept)
        return (*kept, f"and {more} more") if more else kept
    return value
