"""Reading one thing of a stored event: when it got its place."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime

from ..storage.audit_log import AuditLog


async def stored_at_of(audit_log: AuditLog, sequence: int) -> datetime | None:
    """The log's time of an event, aware; None if it is retired. Raises DatabaseError."""

    def read() -> datetime | None:
        for event in audit_log.leaves(sequence - 1, sequence):
            return stored_at(event.body)
        return None

    return await asyncio.to_thread(read)


def stored_at(body: bytes) -> datetime:
    """The log's time in an event's body."""
    text = json.loads(body)["stored"]
    return datetime.strptime(text + "+0000", "%Y-%m-%dT%H:%M:%S.%fZ%z")
