"""The audit service's process: settings, one writer, orderly end.

A second service on the same database is refused at its start. An orderly end stores what was begun,
signs a last checkpoint and brings it outside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from traitlets import Bool, Float, Integer, List, Unicode, default

from ... import __version__, audit_factory, factory
from ...anchors.memory import AnchorMemory
from ...anchors.syslog import make_sink
from ...errors import PermanentError
from ...managers.audit import AuditKeeper, KeeperSettings
from ...managers.audit_anchoring import Anchoring
from ...managers.audit_reading import AuditReading
from ...managers.audit_retention import AuditRetention, RetentionSettings
from ...managers.audit_stream import AuditStream
from ...models.audit import Detail
from ...storage.audit_log import AuditLog
from ..application import ServiceApplication, env
from . import ingest, managing, reading, reading_export, reading_live, reading_pages, watching
from .emitters_file import EmittersFile
from .handlers import Route, make_routes
from .metrics import Metrics
from .work import Work

ROUTES: Final[list[Iterable[Route]]] = [
    ingest.ROUTES,
    watching.ROUTES,
    reading_live.ROUTES,  # before the events by number
    reading.ROUTES,
    reading_export.ROUTES,
    reading_pages.ROUTES,
    managing.ROUTES,
]
"""A list a module of handlers: whoever adds a module adds its list here."""


def _now() -> datetime:
    return datetime.now(timezone.utc)


class AuditApp(ServiceApplication):
    """Settings and life of the service."""

    name = "jupyterhub-collab-audit"
    title = "audit service"
    default_port = 8086
    description = "Keeps the audit log."

    state_folder = Unicode(
        help="Folder for what this service keeps besides the log ($COLLAB_AUDIT_STATE)."
    ).tag(config=True)
    database_url = Unicode(
        help="The log: sqlite:////path, or postgresql+psycopg://user@host/name "
        "($COLLAB_AUDIT_DATABASE_URL); empty: audit.sqlite in the state folder."
    ).tag(config=True)
    key_file = Unicode(
        help="The log's private key, as `audit keygen` makes it ($COLLAB_AUDIT_KEY_FILE)."
    ).tag(config=True)
    emitters_file = Unicode(
        help="Who may tell events ($COLLAB_AUDIT_EMITTERS_FILE). Read anew when it changes."
    ).tag(config=True)
    anchors_file = Unicode(
        help="Where checkpoints go outside ($COLLAB_AUDIT_ANCHORS_FILE); empty: nowhere."
    ).tag(config=True)
    checkpoint_events = Integer(
        1000, min=1, help="A checkpoint is made after so many new events."
    ).tag(config=True)
    checkpoint_seconds = Float(
        60.0, min=0.05, help="Seconds after a new event until there is a checkpoint over it."
    ).tag(config=True)
    max_unanchored_events = Integer(
        100_000,
        min=0,
        help="While more events than this are held by no anchor, nothing protected is stored. 0: "
        "no bound.",
    ).tag(config=True)
    max_unanchored_seconds = Float(
        3600.0, min=0.0, help="The same for the age of the oldest of them. 0: no bound."
    ).tag(config=True)
    require_anchor = Bool(False, help="These bounds hold although no anchor is configured.").tag(
        config=True
    )
    retention_days = Integer(
        0,
        min=0,
        help="The oldest events are deleted after so many days, their hashes kept. 0: never.",
    ).tag(config=True)
    retention_hold = List(
        Unicode(), help="Contests of which nothing is deleted, nor anything that came after it."
    ).tag(config=True)
    stream_to = Unicode(
        help="Where each event goes as a line of JSON ($COLLAB_AUDIT_STREAM): stdout, "
        "tcp://host:601, tls://host:6514, udp://host:514. Empty: nowhere."
    ).tag(config=True)
    stream_ca_file = Unicode(
        "", help="Certificates that the syslog server's is checked against."
    ).tag(config=True)
    stream_people = Bool(
        False, help="Names and addresses are streamed too. They cannot be erased there."
    ).tag(config=True)
    accept_rollback = Integer(
        None,
        allow_none=True,
        help="You looked at a log that lacks what an anchor holds, and it shall go on from so many "
        "events. For one start; what the anchors hold is moved aside.",
    ).tag(config=True)
    aliases = {  # noqa: RUF012 - as traitlets has it
        "config": "AuditApp.config_file",
        "log-level": "AuditApp.log_level",
        "accept-rollback": "AuditApp.accept_rollback",
    }

    @default("state_folder")
    def _default_state_folder(self) -> str:
        return env("COLLAB_AUDIT_STATE")

    @default("database_url")
    def _default_database_url(self) -> str:
        return env("COLLAB_AUDIT_DATABASE_URL")

    @default("key_file")
    def _default_key_file(self) -> str:
        return env("COLLAB_AUDIT_KEY_FILE")

    @default("emitters_file")
    def _default_emitters_file(self) -> str:
        return env("COLLAB_AUDIT_EMITTERS_FILE")

    @default("anchors_file")
    def _default_anchors_file(self) -> str:
        return env("COLLAB_AUDIT_ANCHORS_FILE")

    @default("stream_to")
    def _default_stream_to(self) -> str:
        return env("COLLAB_AUDIT_STREAM")

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises
        ------
        PermanentError
            A setting is missing or wrong, the port is taken, or another service has the log.
        DatabaseError
            The database does not answer.
        """
        token = self.read_hub_token()
        state = self._check_settings()
        signer = audit_factory.read_signer(Path(self.key_file))
        emitters = EmittersFile(Path(self.emitters_file))
        memory = AnchorMemory(state)
        metrics = Metrics()
        anchors = (
            audit_factory.make_anchors(Path(self.anchors_file), now=_now)
            if self.anchors_file
            else []
        )
        url = self.database_url or f"sqlite:///{state / 'audit.sqlite'}"
        engine = factory.make_database_engine(url, what="the audit log's")
        audit_log = AuditLog(engine, now=_now)
        try:
            await asyncio.to_thread(audit_log.open)
            anchoring = Anchoring(
                audit_log, signer.verifier, anchors, memory, on_try=metrics.on_anchor
            )
            keeper = AuditKeeper(
                audit_log, signer, anchoring, self._make_keeper_settings(), now=_now
            )
            metrics.observe(keeper)
            work = Work(keeper, emitters, metrics, _now, self.prefix)
            retention = RetentionSettings(self.retention_days, frozenset(self.retention_hold))
            work.more[managing.MORE] = AuditRetention(keeper, retention, now=_now)
            async with factory.make_hub_client(self.hub_api_url, token) as hub:
                work.more[reading.MORE] = AuditReading(
                    audit_log,
                    record=keeper.store_own,
                    ask_standing=hub.read_standing,
                    verifier=signer.verifier,
                    now=_now,
                )
                await self._serve(work, engine.dialect.name)
        finally:
            await asyncio.to_thread(audit_log.close)
            engine.dispose()

    def _check_settings(self) -> Path:
        """The state folder, if all that is needed is said. Raises PermanentError."""
        wanted = {
            "COLLAB_AUDIT_STATE": self.state_folder,
            "COLLAB_AUDIT_KEY_FILE": self.key_file,
            "COLLAB_AUDIT_EMITTERS_FILE": self.emitters_file,
        }
        missing = [name for name, value in wanted.items() if not value]
        if missing:
            raise PermanentError(f"Set {' and '.join(missing)}; docs/audit.md says to what.")
        return Path(self.state_folder).absolute()

    def _make_keeper_settings(self) -> KeeperSettings:
        return KeeperSettings(
            checkpoint_events=self.checkpoint_events,
            checkpoint_s=self.checkpoint_seconds,
            unanchored_events_max=self.max_unanchored_events,
            unanchored_s_max=self.max_unanchored_seconds,
            is_anchor_required=self.require_anchor,
        )

    def _describe(self, work: Work, database: str) -> dict[str, Detail]:
        """The configuration in force, for the log. Nothing secret: no addresses with passwords."""
        return {
            "version": __version__,
            "database": database,
            "log": work.keeper.signer.origin,
            "key": work.keeper.signer.verifier.to_text(),
            "anchors": work.keeper.anchoring.names,
            "emitters": tuple(f"{e.name}: {' '.join(e.verbs)}" for e in work.emitters.current.all),
            "checkpoint_events": self.checkpoint_events,
            "checkpoint_seconds": str(self.checkpoint_seconds),
            "max_unanchored_events": self.max_unanchored_events,
            "max_unanchored_seconds": str(self.max_unanchored_seconds),
            "require_anchor": self.require_anchor,
            "retention_days": self.retention_days,
            "retention_hold": tuple(self.retention_hold),
            "streamed": bool(self.stream_to),
            "streamed_people": self.stream_people,
        }

    def _make_stream(self, work: Work) -> AuditStream | None:
        if not self.stream_to:
            return None
        return AuditStream(
            work.log,
            make_sink(self.stream_to, self.stream_ca_file or None),
            Path(self.state_folder).absolute(),
            with_people=self.stream_people,
            on_sent=work.metrics.streamed.set,
        )

    async def _serve(self, work: Work, database: str) -> None:
        keeper, stream = work.keeper, self._make_stream(work)
        tasks: list[asyncio.Task[Any]] = []
        try:
            await keeper.start(self._describe(work, database), accepted_size=self.accept_rollback)
            server = self.listen(make_routes(work, ROUTES), work)
            try:
                tasks += [
                    asyncio.create_task(keeper.run()),
                    asyncio.create_task(work.emitters.run()),
                    asyncio.create_task(work.more[managing.MORE].run()),
                ]
                if stream is not None:
                    tasks.append(asyncio.create_task(stream.run()))
                await self.until_stopped(tasks)
            finally:
                server.stop()
                await server.close_all_connections()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await keeper.end()
