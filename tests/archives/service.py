"""The contests service's archives on a port of this machine, with a registry of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from sqlalchemy import create_engine
from tornado.testing import bind_unused_port

from jupyterhub_collab.managers.contest_archives import ArchiveLimits, ContestArchives
from jupyterhub_collab.models.audit import AuditEvent
from jupyterhub_collab.services.application import make_server
from jupyterhub_collab.services.contests.archives import ARCHIVES, ROUTES
from jupyterhub_collab.services.routing import make_routes
from jupyterhub_collab.storage.archives import ArchiveFolder, ArchivePlace
from jupyterhub_collab.storage.contests import ContestStore
from tests.storage.contest_samples import put

PREFIX: Final = "/services/contests/"
NOW: Final = datetime(2027, 7, 1, 12, tzinfo=timezone.utc)


@dataclass
class Told:
    """A recorder that keeps what it is told, and refuses where a test says so."""

    events: list[AuditEvent] = field(default_factory=list)
    refuse: Exception | None = None

    def emit(self, event: AuditEvent) -> None:
        self.events.append(event)

    async def record(self, event: AuditEvent) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.events.append(event)


@dataclass
class ArchiveService:
    """It, and what it works with."""

    archives: ContestArchives
    store: ContestStore
    place: ArchivePlace
    recorder: Told
    port: int = 0
    now: list[datetime] = field(default_factory=lambda: [NOW])

    def url(self, archive: str) -> str:
        return f"http://127.0.0.1:{self.port}{self.archives.path(archive)}"


@asynccontextmanager
async def open_registry(folder: Path) -> AsyncIterator[ContestStore]:
    """A registry in SQLite with the contest sea and its teams ocean and river."""
    engine = create_engine(f"sqlite:///{folder}/contests.sqlite")
    store = ContestStore(engine)
    store.upgrade()
    try:
        await put(store, teams=["ocean", "river"], members={"ocean": ("ada", "grace")})
        yield store
    finally:
        store.close()
        engine.dispose()


@asynccontextmanager
async def archive_service(
    folder: Path,
    *,
    place: ArchivePlace | None = None,
    bytes_max: int = 1 << 30,
    address: str = "127.0.0.1",
    more: Callable[[ContestArchives], dict[str, Any]] | None = None,
) -> AsyncIterator[ArchiveService]:
    """Serve archives below `PREFIX`, as the contests service does."""
    kept = place or ArchiveFolder(folder / "archives")
    recorder, now = Told(), [NOW]
    async with open_registry(folder) as store:
        archives = ContestArchives(
            kept,
            store,
            recorder,
            key=b"k" * 32,
            prefix=PREFIX,
            now=lambda: now[0],
            limits=ArchiveLimits(bytes_max=bytes_max),
        )
        work = SimpleNamespace(more={ARCHIVES: archives})
        socket, port = bind_unused_port(address=address)
        server = make_server(make_routes(PREFIX, work, [ROUTES]), work)
        server.add_socket(socket)
        try:
            yield ArchiveService(archives, store, kept, recorder, port, now)
        finally:
            server.stop()
            await server.close_all_connections()
            await kept.close()
