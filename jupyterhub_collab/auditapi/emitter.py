"""Tells audit events to the service by way of a spool."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final

from ..models.audit import AuditEvent

TIMEOUT_S: Final = 5.0  # of `record`; what a person waits without wondering


class Emitter:
    """A Recorder with a spool. An async context manager: opens the spool, starts the sender.

    Parameters
    ----------
    folder
        Of the spool; made if it is not there. One process at a time.
    url
        The audit service's address, such as ``https://audit.example.org/services/audit``.
    token
        This emitter's own.
    now
        Clock for the events that the emitter makes itself.
    timeout_s
        How long `record` waits for the service at most.
    ca_file
        Certificates that the service's is checked against, in place of the system's.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        token: str,
        *,
        now: Callable[[], datetime],
        timeout_s: float = TIMEOUT_S,
        ca_file: Path | None = None,
    ) -> None:
        self.folder = folder

    async def __aenter__(self) -> Emitter:
        raise NotImplementedError

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        raise NotImplementedError

    def emit(self, event: AuditEvent) -> None:
        """Tell of something. Never raises, never waits."""
        raise NotImplementedError

    async def record(self, event: AuditEvent) -> None:
        """Tell of something that must not happen untold.

        Raises
        ------
        AuditUnavailableError
            Nobody said in time that it is recorded.
        """
        raise NotImplementedError
