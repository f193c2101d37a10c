"""Who asked for what happens now, and why: it goes along with the task that does it.

A request sets it; what works without a request (a look at a source, a server that is seen to have
ended) says itself why it works. Tasks take a copy of what was current when they were made, and some
live long: a server is looked after by a task that its start made. So a request's origin counts only
while the request is served, or while somebody has said that the work goes on (`continued`).

It must not: ask the database. What it says of a person was known when the request came.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ...auditapi.correlation import HEADER, is_correlation

_CURRENT: ContextVar[Origin | None] = ContextVar("collab_origin", default=None)
LOGIN: Final = "login"  # the cause
_TRACE: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True)
class Who:
    """Somebody who asks.

    Attributes
    ----------
    kind
        ``user`` or ``service``.
    """

    name: str
    kind: str = "user"
    is_admin: bool = False


@dataclass
class Origin:
    """Why something happens.

    Attributes
    ----------
    cause
        A word, where it is not simply that somebody asked: ``login``, ``refresh``, ``access-lost``.
    note
        More about the cause, in words that may name somebody.
    handler
        Of the request, while it is served: who asks is known only once it was looked into.
    who
        Who asked, for good, once the request is over or where there is none.
    is_over
        The request was answered.
    has_told_login
        How a log-in of this request ended was told already.
    """

    correlation: str = field(default_factory=lambda: secrets.token_hex(16))
    cause: str = ""
    note: str = ""
    address: str = ""
    agent: str = ""
    handler: Any = None
    who: Who | None = None
    is_over: bool = False
    has_told_login: bool = False

    def asker(self) -> Who | None:
        """Who asks, as far as is known now. Who logs in is nobody yet."""
        if self.cause == LOGIN:
            return None
        if self.who is not None or self.handler is None:
            return self.who
        return who_is(getattr(self.handler, "_jupyterhub_user", None))

    def end(self) -> None:
        """The request was answered."""
        self.who, self.handler, self.is_over = self.asker(), None, True


def who_is(user: Any) -> Who | None:
    """A user or service of the hub, as somebody who asks."""
    if user is None:
        return None
    kind = "service" if getattr(user, "kind", "user") == "service" else "user"
    return Who(str(user.name), kind, bool(user.admin))


def current_origin() -> Origin | None:
    """Why what is done now is done; None: of the hub's own accord."""
    found = _CURRENT.get()
    return None if found is None or found.is_over else found


def begin(origin: Origin | None) -> None:
    """From here on, in this task, all happens for this reason."""
    _CURRENT.set(origin)


@contextmanager
def continued(origin: Origin | None) -> Iterator[None]:
    """Have a reason that was kept hold in this block, even after the request was answered."""
    token = _CURRENT.set(origin)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def carry_on() -> None:
    """Have the current reason hold for the rest of this task, which ends with what it is for."""
    _CURRENT.set(kept_origin())


def kept_origin() -> Origin | None:
    """The current reason, to hold longer than the request; None: of the hub's own accord."""
    now = current_origin()
    return None if now is None else replace(now, who=now.asker(), handler=None)


@contextmanager
def caused(cause: str, *, note: str = "") -> Iterator[Origin]:
    """Have all in this block happen for this cause, by nobody's order but the hub's own.

    What belongs together keeps its correlation id.
    """
    now = current_origin()
    own = Origin(cause=cause, note=note)
    if now is not None:
        own.correlation = now.correlation
    token = _CURRENT.set(own)
    try:
        yield own
    finally:
        _CURRENT.reset(token)


def sent_correlation(headers: Any) -> str:
    """The id that a program we trust sent along; empty: none."""
    for name in (HEADER, "X-Request-Id"):
        said = headers.get(name, "")
        if is_correlation(said):
            return str(said)
    trace = _TRACE.fullmatch(headers.get("traceparent", ""))
    return trace.group(1) if trace else ""
