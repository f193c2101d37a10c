"""A program under audit, until it is killed: tells what it does, and does nothing protected untold.

Lines on files say what it knows: ``told`` once `emit` has returned, ``done`` when a protected
operation happens, which is after `record` has returned, ``refused`` where it raised.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from jupyterhub_collab.auditapi import Emitter
from jupyterhub_collab.auditapi.spool import Spool
from jupyterhub_collab.errors import AuditUnavailableError
from jupyterhub_collab.models.audit import AuditEvent, Outcome, Person, Verb

OPERATORS: Final = 4


def now() -> datetime:
    return datetime.now(timezone.utc)


class Program:
    """One life of it."""

    def __init__(self, emitter: Emitter, folder: Path, life: str) -> None:
        self._emitter, self._life = emitter, life
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._files = {
            name: os.open(folder / name, flags, 0o600) for name in ("told", "done", "refused")
        }

    def _note(self, file: str, thing: str) -> None:
        os.write(self._files[file], f"{thing}\n".encode())

    async def tell(self) -> None:
        number = 0
        while True:
            thing = f"{self._life}:told:{number:06d}"
            who = Person(name=f"user-{number % 50}", address="192.0.2.1")
            self._emitter.emit(AuditEvent(time=now(), verb=Verb.LOGIN, thing=thing, subject=who))
            self._note("told", thing)
            number += 1
            await asyncio.sleep(0.02)

    async def operate(self, operator: int) -> None:
        number = 0
        while True:
            thing = f"{self._life}:done:{operator}-{number:06d}"
            event = AuditEvent(
                time=now(),
                verb=Verb.DATASET_READ,
                outcome=Outcome.ALLOWED,
                contest="sea",
                datasets=("buoys",),
                thing=thing,
                subject=Person(name="ada"),
            )
            number += 1
            try:
                await self._emitter.record(event)
            except AuditUnavailableError:
                self._note("refused", thing)
            else:
                self._note("done", thing)  # it happens
            await asyncio.sleep(0.02)


async def run(folder: Path, url: str, token: str, life: str, *, only_deliver: bool) -> None:
    spool = Spool(folder / "spool", segment_bytes=50_000)
    flush_s = 60.0 if only_deliver else 2.0
    emitter = Emitter(
        folder / "spool", url, token, now=now, timeout_s=2, flush_s=flush_s, spool=spool
    )
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with emitter:
        if only_deliver:
            return
        program = Program(emitter, folder, life)
        tasks = [asyncio.create_task(program.tell())]
        tasks += [asyncio.create_task(program.operate(number)) for number in range(OPERATORS)]
        await ended.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    _, folder, url, token, life = sys.argv
    asyncio.run(run(Path(folder), url, token, life, only_deliver=life == "deliver"))
