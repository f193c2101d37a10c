"""A log that the log itself wrote, in its database, with an anchor folder; and exports of it."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from jupyterhub_collab.managers.audit_verification import verify_database
from jupyterhub_collab.models.audit import SentBatch, SentEvent
from jupyterhub_collab.policy import audit_bundle
from jupyterhub_collab.policy.audit_bundle import Manifest
from jupyterhub_collab.policy.audit_verify import Evidence, Note, Verdict
from jupyterhub_collab.policy.tiles import tiles_of
from jupyterhub_collab.storage.audit_files import TileFiles
from jupyterhub_collab.storage.audit_log import AuditLog
from tests.policy.audit_logs import SIGNER, SPOOL, make_event

START = datetime(2027, 3, 1, 10, tzinfo=timezone.utc)
SIZE, ANCHORED = 1300, 1200


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(microseconds=7)
        return self.now


def append(log: AuditLog, first: int, last: int) -> None:
    async def run() -> None:
        for at in range(first, last + 1, 200):
            numbers = range(at, min(at + 200, last + 1))
            events = tuple(SentEvent(sequence=n, event=make_event(n)) for n in numbers)
            await log.append("hub", SentBatch(incarnation=SPOOL, events=events))

    asyncio.run(run())


def sign(log: AuditLog) -> Note:
    note = SIGNER.sign(log.size, log.frontier().root(), START)
    asyncio.run(log.add_checkpoint(log.size, note))
    return Note(f"outside/{log.size}", note)


def anchor(log: AuditLog, folder: Path, notes: list[Note]) -> None:
    """An anchor folder, as a service writes it."""
    for tile in tiles_of(log.size):
        path = folder / tile.path
        path.parent.mkdir(parents=True, exist_ok=True)
        data = log.fetch(tile)
        assert data is not None
        path.write_bytes(data)
    (folder / "checkpoints").mkdir(exist_ok=True)
    for note in notes:
        (folder / "checkpoints" / note.place.rpartition("/")[2]).write_text(note.text)
        (folder / "checkpoint").write_text(note.text)


class Written:
    """A log that was written, closed, and has an anchor folder."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.anchor = url, folder / "anchor"
        self.engine = create_engine(url)
        self.clock = Clock()
        with self.log() as log:
            append(log, 1, 600)
            notes = [sign(log)]
            append(log, 601, ANCHORED)
            notes.append(sign(log))
            anchor(log, self.anchor, notes)
            append(log, ANCHORED + 1, SIZE)
            sign(log)
        self.notes = notes

    @contextmanager
    def log(self) -> Iterator[AuditLog]:
        log = AuditLog(self.engine, now=self.clock)
        log.open()
        try:
            yield log
        finally:
            log.close()

    def verify(self, *, with_tiles: bool = True, processes: int = 1) -> Verdict:
        with TileFiles(self.anchor) as files:
            evidence = Evidence(SIGNER.verifier, files.notes(), [files.fetch] if with_tiles else [])
            return verify_database(self.url, evidence, processes=processes)

    def execute(self, *statements: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement), values)


def export(written: Written, folder: Path) -> Path:
    """A bundle of the whole log."""
    bundle = folder / "bundle"
    with written.log() as log:
        anchor(log, bundle, [sign(log), *written.notes][::-1])
        lines = [
            audit_bundle.event_line(event.body, event.people) for event in log.leaves(0, log.size)
        ]
        (bundle / "events.jsonl").write_bytes(b"".join(lines))
        manifest = Manifest("log", SIGNER.origin, log.size)
        (bundle / "bundle.json").write_bytes(audit_bundle.manifest_file(manifest))
    return bundle


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return path
