"""What a source answers: about one person, about many at once, about itself; or that it cannot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...errors import PermanentError
from ...models import Facts


@dataclass(frozen=True)
class Asked:
    """What a source says about somebody it let in before.

    Attributes
    ----------
    facts
        None: it knows them no more, or lets them in no more.
    auth_state
        To keep in the place of what was kept; None: keep that.
    because
        Where they are let in no more: why, for the log and the record of events.
    """

    facts: Facts | None
    auth_state: dict[str, Any] | None = field(default=None, repr=False)
    because: str = ""


@dataclass(frozen=True)
class Overview:
    """What a source said of many at once.

    Attributes
    ----------
    confirmed
        Hub users of whom it says what it said before.
    doubtful
        Hub users of whom it may not: they are asked about one by one.
    """

    confirmed: frozenset[str] = frozenset()
    doubtful: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Finding:
    """One thing that was tried, and how it went. `text` is for an admin.

    Attributes
    ----------
    is_fine
        None: nothing is wrong, and it should be known.
    """

    step: str
    is_fine: bool | None
    text: str


@dataclass(frozen=True)
class Findings:
    """All that was tried at a source.

    Attributes
    ----------
    facts
        What the source says of the person that was asked about; None: nobody, or nobody to be
        found.
    """

    found: tuple[Finding, ...] = ()
    facts: Facts | None = None

    @property
    def is_fine(self) -> bool:
        """Whether nothing is wrong."""
        return all(finding.is_fine is not False for finding in self.found)


class CannotAskError(PermanentError):
    """This source can be asked about nobody who is not at the door."""


class SessionOverError(PermanentError):
    """What this source gave to ask by is used up: the person has to log in anew.

    It says nothing about their teams; but nobody can go on unasked, so all they have open ends.
    """
