"""Why something that was asked of the registry is not done, in words for the person who asked.

The database decides races by constraints, and pure rules say what may follow what; both say it in
sentences. Here these are told from what an admin has to look at.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import UserError
from ..policy.contest_actions import RefusedError
from ..storage.contests import (
    AlreadyInError,
    FullError,
    InvitationError,
    StaleError,
    TakenError,
    UnreadableError,
)


class NotNowError(UserError):
    """Not as things stand. The text says why, and what would be possible."""


class ChangedError(NotNowError):
    """What it was decided from has changed meanwhile: decide anew."""


class NotThereError(UserError):
    """There is no such thing."""


@contextmanager
def in_words() -> Iterator[None]:
    """Have refusals of store and rules raised as `NotNowError`."""
    try:
        yield
    except StaleError as e:
        raise ChangedError(str(e)) from e
    except (AlreadyInError, FullError, InvitationError, RefusedError, TakenError) as e:
        raise NotNowError(str(e)) from e


@contextmanager
def in_words_for_hosts() -> Iterator[None]:
    """The same; and they are told why a row cannot be read."""
    with in_words():
        try:
            yield
        except UnreadableError as e:
            raise NotNowError(str(e)) from e
