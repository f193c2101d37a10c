"""Errors, split by what can be done about them.

`RetryableError`: try again, later. `PermanentError`: an admin must act. `UserError`: the person
who asked can put it right; its text reaches the browser as it is, so it holds no secret and no
jargon. I/O edges translate into these with ``raise ... from``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class CollabError(Exception):
    """Anything this project raises on purpose."""


class RetryableError(CollabError):
    """What failed may succeed later: a time-out, 429, 5xx, a lost connection, a conflict.

    Parameters
    ----------
    retry_after_s
        Seconds the other side asked to be left alone (Retry-After), if it said so.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class AuditUnavailableError(RetryableError):
    """What is protected was not done, because the audit service did not record it.

    The text is for the person who asked; what was wrong goes to the log.
    """

    def __init__(
        self,
        message: str = (
            "This could not be recorded, and what is protected is never done unrecorded."
            " Try again in a few minutes."
        ),
        *,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class PermanentError(CollabError):
    """Trying again changes nothing until somebody changes something."""


class UserError(CollabError):
    """The person who asked can put it right. The text is for them."""


class NotOursError(PermanentError):
    """An object stands where ours should and does not bear our labels. It is left alone."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a document.

    Attributes
    ----------
    field
        Path of the field, such as ``teams.ocean.tier``.
    found, expected
        What stands there, and what would be right, in words.
    file, line
        Where, when it came from a file. Lines count from 1.
    """

    field: str
    found: str
    expected: str
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.file else ""
        return f"{where}{self.field}: found {self.found}; expected {self.expected}"


class SpecError(UserError):
    """A document (contest manifest, group properties, spawn options) is not valid.

    Attributes
    ----------
    problems
        All that was found, not only the first.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(p) for p in self.problems))


class KubeError(CollabError):
    """Mixin: an answer of the Kubernetes API that is not a success.

    `status` is the HTTP status, 0 when there was no answer; `reason` is the API's own word
    (``AlreadyExists``, ``Forbidden``, ...); `message` its sentence.
    """

    status: int = 0
    reason: str = ""
    message: str = ""
    kind: str = ""
    namespace: str | None = None
    name: str | None = None
