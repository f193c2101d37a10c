"""What the audit log is told of contests: who changed what.

Words of people (reasons, titles) are personal and stand with the person, never in the details.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from ..auditapi import Recorder
from ..models.audit import AuditEvent, Detail, Person, Verb


class ContestTeller:
    """Tells of changes that were made."""

    def __init__(self, recorder: Recorder, now: Callable[[], datetime]) -> None:
        self._recorder, self._now = recorder, now

    def tell(
        self,
        what: str,
        contest: str,
        *,
        by: str,
        team: str = "",
        details: Mapping[str, Detail] | None = None,
        note: str = "",
        about: str = "",
    ) -> None:
        """A change of a contest, or of a team of it.

        Parameters
        ----------
        what
            A word for programs: ``team-registered``.
        by
            Who did it: a hub user, ``service:`` and a program's name, or who asked for what happens
            now by itself.
        note
            Free words.
        about
            Somebody else whom it concerns: a hub user.
        """
        actor = Person(name=by, note=note[:1024])
        self._recorder.emit(
            AuditEvent(
                time=self._now(),
                verb=Verb.CONTEST_CHANGE,
                contest=contest,
                team=team or None,
                details={"what": what, **(details or {})},
                actor=actor,
                subject=Person(name=about) if about else actor,
            )
        )
