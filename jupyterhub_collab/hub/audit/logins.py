"""Log-ins as audit events: what our authenticators say of them, and of others' what the hub knows.

It must not: keep what somebody typed. A name is told only if there is such a hub user.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from tornado import web

from ...models import Granted
from ...models.audit import Outcome, Person, Verb
from ...models.entitlement import HUB_ADMIN, Entitlement
from .origin import Origin, current_origin
from .telling import ROLES, Happening, tell, to_plain

_NAME_MAX: Final = 255


def tell_login(
    outcome: Outcome,
    *,
    reason: str = "",
    username: str = "",
    issuer: str = "",
    subject: str = "",
    address: str = "",
    because: str = "",
    origin: Origin | None = None,
) -> None:
    """How a try to log in ended.

    Parameters
    ----------
    username
        Of a hub user that there is, or that this log-in makes; else empty.
    issuer, subject
        The source, and its own key of the person.
    because
        More about it. The sources say it in words of their own, not in those that were typed.
    """
    origin = origin or current_origin()
    if origin is not None:
        origin.has_told_login = True
        address = address or origin.address
    person = Person(
        name=to_plain(username),
        roles=tuple(ROLES.of(username) or ()) if username else (),
        issuer=to_plain(issuer),
        subject=to_plain(subject),
        address=to_plain(address),
        agent=origin.agent if origin is not None else "",
    )
    happening = Happening(
        Verb.LOGIN, outcome, reason=reason, subject=person, note=because, details={"source": issuer}
    )
    tell(happening, origin=_without_asker(origin))


def tell_failure(handler: Any, data: Any, error: BaseException | None, origin: Origin) -> None:
    """A log-in of which no authenticator of ours said how it ended."""
    typed = data.get("username") if isinstance(data, dict) else None
    name = typed if isinstance(typed, str) and _is_user(handler, typed) else ""
    if isinstance(error, web.HTTPError) and error.status_code < 500:
        outcome, reason = Outcome.REFUSED, "refused"
    elif error is not None:
        outcome, reason = Outcome.FAILED, "not-completed"
    else:
        outcome, reason = Outcome.REFUSED, "bad-credentials"
    tell_login(outcome, reason=reason, username=name, origin=origin)


def know_roles(name: str, granted: Iterable[Granted]) -> None:
    """What somebody was last found to be, where nobody has said since the hub started."""
    if ROLES.of(name) is None:
        ROLES.put(name, [str(what) for what in _roles(granted)])


def tell_roles(name: str, granted: Iterable[Granted]) -> None:
    """What somebody is found to be now. Tells what they gained and lost but for memberships.

    Those, and the hub's admin, are rows of the hub's, and told as such.
    """
    now = {str(what): what for what in _roles(granted)}
    before = ROLES.of(name) or ()
    ROLES.put(name, now)
    for word in sorted({*now, *before}):
        if (word in now) == (word in before) or word == str(HUB_ADMIN):
            continue
        what = now.get(word)
        reason = "gained" if what is not None else "lost"
        if word.startswith("member of team "):
            continue
        team, contest, role = _parts(word)
        happening = Happening(
            Verb.ACCESS_CHANGE,
            reason=reason,
            team=team,
            contest=contest,
            subject=name,
            details={"role": role, "entitlement": word},
        )
        tell(happening)


def _roles(granted: Iterable[Granted]) -> list[Entitlement]:
    return sorted({g.what for g in granted}, key=str)


def _parts(word: str) -> tuple[str, str, str]:
    """Team, contest and role of an entitlement's words (`Entitlement.__str__`)."""
    role, _, place = word.partition(" of ")
    kind, _, name = place.rpartition(" ")
    if kind == "team":
        return name, "", role
    return "", name, role


def _without_asker(origin: Origin | None) -> Origin | None:
    """Who logs in is not who asked: the browser may have been somebody else's."""
    if origin is None:
        return None
    return Origin(correlation=origin.correlation, address=origin.address, agent=origin.agent)


def _is_user(handler: Any, name: str) -> bool:
    if not 0 < len(name) <= _NAME_MAX or not name.isprintable():
        return False
    return handler.find_user(name) is not None
