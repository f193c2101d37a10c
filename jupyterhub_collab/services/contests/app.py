"""The contests service's process: settings, the worker, an orderly end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from contextlib import AsyncExitStack
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, Final

from traitlets import Unicode, default

from ... import __version__, contest_ending_factory, contest_factory, factory
from ...anchors.notice_channel import NoticeChannel
from ...auditapi import Emitter, NoRecorder, Recorder
from ...contest_factory import Contests
from ...errors import PermanentError
from ...hubapi.client import HubClient
from ...hubapi.provisioner import ProvisionerClient
from ...managers.contest_archives import ContestArchives
from ...managers.contest_ending import Ending
from ...managers.contest_lease import ContestLease
from ...managers.contest_restores import ContestRestores
from ...managers.notices import NoticeCourier
from ...models.audit import AuditEvent, Detail, Verb
from ...platform_file import make_platform
from ...storage.contest_lease import LeaseStore
from ...storage.contests import ContestStore
from ..application import ServiceApplication, env
from ..binding import check_is_address, log_request
from ..routing import Route, make_routes
from . import (
    actions,
    archives,
    archives_host,
    contests,
    notices,
    pages,
    pages_actions,
    pages_host,
    pages_mergers,
    pages_ranking,
    pages_registration,
    pages_registrations,
    progress,
    teams,
    watching,
)
from .metrics import Metrics
from .work import Work

ROUTES: Final[list[Iterable[Route]]] = [
    watching.ROUTES,
    contests.ROUTES,
    actions.ROUTES,
    progress.ROUTES,
    teams.ROUTES,
    archives.ROUTES,
    archives_host.ROUTES,
    notices.ROUTES,
    pages.ROUTES,
    pages_host.ROUTES,
    pages_actions.ROUTES,
    pages_ranking.ROUTES,
    pages_registrations.ROUTES,
    pages_registration.ROUTES,
    pages_mergers.ROUTES,
]
"""A list a module of handlers: whoever adds a module adds its list here."""


def _now() -> datetime:
    return datetime.now(timezone.utc)


class ContestsApp(ServiceApplication):
    """Settings and life of the service."""

    name = "jupyterhub-collab-contests"
    title = "contests service"
    default_port = 8087
    description = "Keeps contests, teams and members, and brings the hub's groups after them."

    state_folder = Unicode(help="Folder for what this service keeps ($COLLAB_CONTESTS_STATE).").tag(
        config=True
    )
    database_url = Unicode(
        help="The registry: sqlite:////path, or postgresql+psycopg://user@host/name "
        "($COLLAB_CONTESTS_DATABASE_URL); empty: contests.sqlite in the state folder."
    ).tag(config=True)
    provisioner_url = Unicode(
        help="The provisioner's service URL ($COLLAB_PROVISIONER_URL); empty: nobody is asked what"
        " stands in the cluster."
    ).tag(config=True)
    platform_file = Unicode(
        help="JSON of the platform, the same that the hub is given ($COLLAB_PLATFORM_FILE): "
        "manifests are checked for its drivers and private networks; empty: there are none."
    ).tag(config=True)
    archives = Unicode(
        help="Where copies of volumes are kept: file:///srv/archives or s3://bucket/prefix?... "
        "($COLLAB_CONTESTS_ARCHIVES); empty: nothing is archived."
    ).tag(config=True)
    archives_url = Unicode(
        help="Where archive Jobs find this service, if not where all others do: http://ADDRESS:PORT"
        " ($COLLAB_CONTESTS_ARCHIVES_URL). Nothing but copies of volumes is answered there."
    ).tag(config=True)
    certificate_origin = Unicode(
        help="Whose certificates these are: hub.example.org/contests "
        "($COLLAB_CONTESTS_ORIGIN). In the key from its making on."
    ).tag(config=True)
    audit_url = Unicode(
        help="The audit service, which is told of every transition ($COLLAB_AUDIT_URL)."
    ).tag(config=True)
    audit_token_file = Unicode(
        help="File with this service's own token for it ($COLLAB_AUDIT_TOKEN_FILE)."
    ).tag(config=True)
    audit_spool = Unicode(
        help="Folder in which events wait for it ($COLLAB_AUDIT_SPOOL); one process at a time."
    ).tag(config=True)
    audit_ca_file = Unicode(
        help="Certificates that the audit service's is checked against ($COLLAB_AUDIT_CA_FILE)."
    ).tag(config=True)
    aliases = {  # noqa: RUF012 - as traitlets has it
        "config": "ContestsApp.config_file",
        "log-level": "ContestsApp.log_level",
    }

    notices_file = Unicode(
        help="JSON or YAML: webhooks and mail servers by which notices leave the hub"
        " ($COLLAB_CONTESTS_NOTICES_FILE); empty: they are only shown."
    ).tag(config=True)

    @default("notices_file")
    def _default_notices_file(self) -> str:
        return env("COLLAB_CONTESTS_NOTICES_FILE")

    @default("state_folder")
    def _default_state_folder(self) -> str:
        return env("COLLAB_CONTESTS_STATE")

    @default("database_url")
    def _default_database_url(self) -> str:
        return env("COLLAB_CONTESTS_DATABASE_URL")

    @default("provisioner_url")
    def _default_provisioner_url(self) -> str:
        return env("COLLAB_PROVISIONER_URL")

    @default("archives")
    def _default_archives(self) -> str:
        return env("COLLAB_CONTESTS_ARCHIVES")

    @default("archives_url")
    def _default_archives_url(self) -> str:
        return env("COLLAB_CONTESTS_ARCHIVES_URL")

    @default("certificate_origin")
    def _default_certificate_origin(self) -> str:
        return env("COLLAB_CONTESTS_ORIGIN") or "jupyterhub-collab/contests"

    @default("platform_file")
    def _default_platform_file(self) -> str:
        return env("COLLAB_PLATFORM_FILE")

    @default("audit_url")
    def _default_audit_url(self) -> str:
        return env("COLLAB_AUDIT_URL")

    @default("audit_token_file")
    def _default_audit_token_file(self) -> str:
        return env("COLLAB_AUDIT_TOKEN_FILE")

    @default("audit_spool")
    def _default_audit_spool(self) -> str:
        return env("COLLAB_AUDIT_SPOOL") or str(Path(self.state_folder) / "audit-spool")

    @default("audit_ca_file")
    def _default_audit_ca_file(self) -> str:
        return env("COLLAB_AUDIT_CA_FILE")

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises
        ------
        PermanentError
            A setting is missing or wrong, or the port is taken.
        DatabaseError
            The database does not answer.
        """
        token = self.read_hub_token()
        state = self._make_state_folder()
        url = self.database_url or f"sqlite:///{state / 'contests.sqlite'}"
        engine = factory.make_database_engine(url, what="the contests'")
        store, leases = ContestStore(engine), LeaseStore(engine)
        lease = ContestLease(leases)
        try:
            await asyncio.to_thread(store.upgrade)
            async with AsyncExitStack() as stack:
                hub = await stack.enter_async_context(
                    factory.make_hub_client(self.hub_api_url, token, before_change=lease.check)
                )
                provisioner = await stack.enter_async_context(
                    ProvisionerClient(self.provisioner_url, token, before_change=lease.check)
                )
                recorder = await self._open_recorder(stack)
                ending = self._make_ending(store, recorder, state)
                parts = contest_factory.make_contests(
                    store,
                    hub,
                    provisioner,
                    recorder=recorder,
                    invitation_key=contest_factory.read_invitation_key(state / "invitation.key"),
                    now=_now,
                    more_steps=ending.handlers(),
                    term=lambda: lease.term,
                )
                work = self._make_work(parts, hub, lease)
                if (kept := ending.archives) is not None:
                    work.more[archives.ARCHIVES] = kept
                    work.metrics.observe(
                        "collab_contests_archives_unreadable",
                        "Copies of volumes whose notes cannot be read: they are left alone",
                        lambda: len(kept.unreadable),
                    )
                # For what hosts ask of this process, whether it does the work or stands by.
                asked = await stack.enter_async_context(
                    ProvisionerClient(self.provisioner_url, token)
                )
                work.more[archives_host.RESTORES] = ContestRestores(
                    ending.archives, store, asked, recorder, now=_now
                )
                await self._serve(work, parts, ending.archives, lease)
        finally:
            store.close()
            leases.close()
            engine.dispose()

    def _make_work(self, parts: Contests, hub: HubClient, lease: ContestLease) -> Work:
        """What handlers work with."""
        work = Work(
            store=parts.store,
            registry=parts.registry,
            assembly=parts.assembly,
            metrics=Metrics(is_holder=lambda: lease.is_held, term=lambda: lease.term),
            ask_standing=partial(hub.read_standing, with_entries=True),
            now=_now,
            prefix=self.prefix,
        )
        if self.platform_file:
            work.more[contests.PLATFORM] = make_platform(self.platform_file)
        work.more[progress.PROBLEMS] = parts.projection.problems
        return work

    def _make_ending(self, store: ContestStore, recorder: Recorder, state: Path) -> Ending:
        """What the last steps work with."""
        kept = contest_ending_factory.make_contest_archives(
            self.archives, store, recorder, state=state, prefix=self.prefix, now=_now
        )
        signer = contest_ending_factory.read_or_make_signer(
            state / "certificate.key", self.certificate_origin
        )
        # Where the log is told of everything, its head belongs into the certificate.
        read_checkpoint = recorder.read_checkpoint if isinstance(recorder, Emitter) else None
        return Ending(kept, signer, read_checkpoint)

    def _make_state_folder(self) -> Path:
        """Where this service keeps things. Raises PermanentError."""
        if not self.state_folder:
            raise PermanentError("Set COLLAB_CONTESTS_STATE; docs/contests-api.md says to what.")
        state = Path(self.state_folder).absolute()
        try:
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as e:
            raise PermanentError(f"The folder {state} cannot be made: {e.strerror}") from e
        return state

    async def _open_recorder(self, stack: AsyncExitStack) -> Recorder:
        """What audit events are told to; the first says which configuration is in force."""
        emitter = factory.make_emitter(
            self.audit_url,
            token_file=self.audit_token_file,
            spool=self.audit_spool,
            ca_file=self.audit_ca_file,
        )
        if emitter is None:
            self.log.warning("No audit service is configured (COLLAB_AUDIT_URL): nothing is told")
            return NoRecorder()
        await stack.enter_async_context(emitter)
        details: dict[str, Detail] = {
            "collab_version": __version__,
            "provisioner": bool(self.provisioner_url),
        }
        emitter.emit(
            AuditEvent(time=_now(), verb=Verb.CONFIGURATION_LOAD, thing="contests", details=details)
        )
        return emitter

    async def _serve(
        self, work: Work, parts: Contests, kept: ContestArchives | None, lease: ContestLease
    ) -> None:
        def log_function(handler: Any) -> None:
            work.metrics.on_request(handler.request.method or "", handler.get_status())
            log_request(handler)

        fenced = parts.store.fenced(lambda: lease.term)
        courier = NoticeCourier(fenced, self._make_channels(), now=_now)
        work.metrics.observe(
            "collab_contests_notice_channels_away",
            "Webhooks and mail servers that cannot be reached just now",
            lambda: courier.away,
        )
        listen = partial(self.listen, work=work, log_function=log_function)
        servers = [listen(make_routes(work.prefix, work, ROUTES))]
        if kept is not None and self.archives_url:
            check_is_address(self.archives_url)
            routes = make_routes(work.prefix, work, [archives.ROUTES], has_login=False)
            servers.append(listen(routes, url=self.archives_url))

        async def work_on() -> None:
            loops = [
                parts.projection.run(),
                parts.worker.run(),
                parts.clock.run(),
                parts.outbox.run(),
                courier.run(),
            ]
            if kept is not None:
                loops.append(kept.run())
            await _all_of(loops)

        tasks = [asyncio.create_task(lease.run(work_on))]
        if kept is not None:
            tasks.append(asyncio.create_task(kept.run_clearing()))
        try:
            await self.until_stopped(tasks)
        finally:
            for server in servers:
                server.stop()
                await server.close_all_connections()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _make_channels(self) -> list[NoticeChannel]:
        """Ways on which notices leave the hub. Raises PermanentError."""
        if not self.notices_file:
            return []
        return contest_factory.make_notice_channels(Path(self.notices_file))


async def _all_of(loops: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run them until cancelled, or until one ends: then none goes on. Raises what ended it."""
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
