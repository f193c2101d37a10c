"""A program that emits until it is killed: prints each number once `emit` has returned."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import datetime, timezone
from pathlib import Path

from jupyterhub_collab.auditapi import Emitter
from jupyterhub_collab.auditapi.spool import Spool
from jupyterhub_collab.models.audit import AuditEvent, Verb


async def emit_for_ever(folder: Path, url: str, token: str, number: int) -> None:
    def now() -> datetime:
        return datetime.now(timezone.utc)

    spool = Spool(folder, segment_bytes=20_000)
    async with Emitter(folder, url, token, now=now, spool=spool) as emitter:
        os.write(1, b"started\n")
        while True:
            emitter.emit(AuditEvent(time=now(), verb=Verb.LOGIN, thing=str(number)))
            os.write(1, b"%d\n" % number)
            number += 1
            if number % 20 == 0:
                await asyncio.sleep(0.001)


if __name__ == "__main__":
    _, folder, url, token, number = sys.argv
    asyncio.run(emit_for_ever(Path(folder), url, token, int(number)))
