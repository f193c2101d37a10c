"""Every event to a SIEM as a line of JSON, in order, each at least once.

It reads the log behind the writer's back and so holds up nothing. How far it is stands in a file,
written now and then: after a crash some lines come again.

It must not: send what is personal unless it was asked to. What was sent cannot be erased.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..anchors.files import write_whole
from ..anchors.syslog import LineSink
from ..errors import CollabError, PermanentError
from ..models.audit import StoredEvent
from ..models.audit_query import EventQuery, Scope
from ..reconcile.backoff import Backoff
from ..storage.audit_log import AuditLog

log = logging.getLogger(__name__)

_ALL: Final = EventQuery(Scope(everything=True))
_PAGE: Final = 500
_LOOK_S: Final = 1.0
_FILE: Final = "streamed"


class AuditStream:
    """One stream of a log.

    Parameters
    ----------
    folder
        Where it is written how far it is.
    with_people
        Names, addresses and so on are sent too.
    on_sent
        Told of the last event that was sent.

    Raises
    ------
    PermanentError
        What is written there cannot be read.
    """

    def __init__(
        self,
        audit_log: AuditLog,
        sink: LineSink,
        folder: Path,
        *,
        with_people: bool = False,
        on_sent: Callable[[int], None] = lambda _sequence: None,
        look_s: float = _LOOK_S,
        backoff: Backoff | None = None,
    ) -> None:
        self._log, self._sink, self._with_people = audit_log, sink, with_people
        self._file, self._on_sent, self._look_s = folder / _FILE, on_sent, look_s
        self._backoff = backoff or Backoff(first_s=0.5, longest_s=60.0)
        try:
            self._sent = int(self._file.read_text()) if self._file.exists() else 0
        except (OSError, ValueError) as e:
            raise PermanentError(
                f"How far events were streamed cannot be read from {self._file}. Write the number"
                " of the last one there, or remove it to begin anew."
            ) from e

    async def run(self) -> None:
        """Send until cancelled."""
        failures = 0
        try:
            while True:
                try:
                    if not await self._send_some():
                        await asyncio.sleep(self._look_s)
                except (CollabError, OSError) as error:
                    failures += 1
                    if failures == 1:
                        log.error("Events cannot be streamed: %s", error)
                    await asyncio.sleep(self._backoff.delay_s(failures))
                else:
                    if failures:
                        log.info("Events are streamed again")
                    failures = 0
        finally:
            await self._sink.close()

    async def _send_some(self) -> bool:
        if self._sent > self._log.size:  # an admin accepted an earlier state of the log
            self._sent = self._log.size
        page = await self._log.read(_ALL, after=self._sent, limit=_PAGE)
        for event in page:
            at, line = self._to_line(event)
            await self._sink.send(at, line)
        if page:
            self._sent = page[-1].sequence
            await asyncio.to_thread(write_whole, self._file, b"%d\n" % self._sent)
            self._on_sent(self._sent)
        return bool(page)

    def _to_line(self, event: StoredEvent) -> tuple[str, bytes]:
        """Its time and its JSON; commitments are of no use there."""
        body = json.loads(event.body)
        body.pop("people", None)
        if self._with_people:
            body |= {part: kept["value"] for part, kept in event.people.items()}
        return body["stored"], json.dumps(body, separators=(",", ":")).encode()
