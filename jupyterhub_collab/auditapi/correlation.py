"""One id for all that happens for one request, over programs: events bear it, and so do calls.

It goes along with the task that serves the request (a context variable), so that what is called
on the way need not be handed it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

HEADER: Final = "X-Collab-Correlation"  # on calls between our own programs
_CURRENT: ContextVar[str | None] = ContextVar("collab_correlation", default=None)
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def is_correlation(text: str) -> bool:
    """Whether this may be an id; what comes from outside may be anything."""
    return bool(_ID.fullmatch(text))


def correlation() -> str:
    """The current id; a new one, which stays for the rest of this task, where there is none."""
    found = _CURRENT.get()
    if found is None:
        found = secrets.token_hex(16)
        _CURRENT.set(found)
    return found


def current_correlation() -> str | None:
    """The current id; None where there is none."""
    return _CURRENT.get()


@contextmanager
def correlated(known: str | None = None) -> Iterator[str]:
    """Have all in this block bear one id: a new one, or one that another program sent.

    What is no id (it comes from outside) is not taken over.
    """
    chosen = known if known and _ID.fullmatch(known) else secrets.token_hex(16)
    token = _CURRENT.set(chosen)
    try:
        yield chosen
    finally:
        _CURRENT.reset(token)
