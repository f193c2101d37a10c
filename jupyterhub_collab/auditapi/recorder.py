"""What a program tells its audit events to, and what stands there when no audit is configured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from ..errors import AuditUnavailableError
from ..models.audit import AuditEvent

_NOT_CONFIGURED: Final = (
    "This is protected and has to be recorded, but this hub has no audit service."
    " Ask an admin to set one up: what is protected stays closed until then."
)


class Recorder(Protocol):
    """Takes audit events."""

    def emit(self, event: AuditEvent) -> None:
        """Tell of something. Never raises and never waits; the event is in the spool after it."""

    async def record(self, event: AuditEvent) -> None:
        """Tell of something that must not happen untold: returns once the log has it on disk.

        Raises
        ------
        AuditUnavailableError
            Nobody said in time that it is recorded. Do not do what it tells of.
        """

    async def keep(self, events: Sequence[AuditEvent]) -> int:
        """Tell of what is kept elsewhere too, until this says that it need not be any more.

        Returns
        -------
        How many, from the first on, cannot be lost now: they are on this machine's disk, or in the
        log. The others are to be told again, later.
        """


class NoRecorder:
    """No audit service is configured: nothing is kept, and nothing protected is done."""

    def emit(self, event: AuditEvent) -> None:
        """Keep nothing."""

    async def record(self, event: AuditEvent) -> None:
        """Refuse: nothing can be recorded."""
        raise AuditUnavailableError(_NOT_CONFIGURED)

    async def keep(self, events: Sequence[AuditEvent]) -> int:
        """Keep nothing; nobody will ever ask for it."""
        return len(events)
