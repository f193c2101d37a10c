"""The provisioner's process: settings, one at a time by lease, orderly end.

A second provisioner of the same hub serves /health and waits for the lease; it works when the first
one ends, or has not renewed its lease for the whole of its duration.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
from contextlib import AsyncExitStack
from datetime import datetime, timezone
from pathlib import Path

from traitlets import Float, Integer, Unicode, default

from ... import __version__, factory, tenancy_factory
from ...auditapi import NoRecorder, Recorder
from ...constants import PROVISIONER_LEASE_NAME
from ...errors import PermanentError
from ...kube.lease import Lease
from ...managers.leftovers import Leftovers
from ...managers.team_archives import AT_ONCE_IN_ALL, TeamArchives
from ...managers.tenancy import TenancySettings
from ...models.audit import AuditEvent, Detail, Verb
from ...platform_file import make_platform
from ..application import ServiceApplication, env
from .handlers import Work
from .metrics import Metrics
from .routes import make_routes
from .webhook import Webhook

# New objects after which Python looks for cycles. What comes from Kubernetes are trees of very many
# small objects, in no cycle; at Python's own 700 a tenth of the processor time went there.
_COLLECT_AFTER = 10_000


class ProvisionerApp(ServiceApplication):
    """Settings and life of the service."""

    name = "jupyterhub-collab-provisioner"
    title = "provisioner"
    default_port = 8081
    description = "Keeps teams' namespaces as the hub's groups say."

    platform_file = Unicode(
        help="JSON of the platform, the same that the hub is given ($COLLAB_PLATFORM_FILE)."
    ).tag(config=True)
    kubeconfig = Unicode(
        help="Which cluster, and as whom ($KUBECONFIG); empty: the pod's service account."
    ).tag(config=True)
    poll_seconds = Float(
        10.0, min=0.1, help="Seconds between two reads of all hub groups; a nudge does not wait."
    ).tag(config=True)
    concurrency = Integer(16, min=2, max=256, help="Teams worked on at once.").tag(config=True)
    urgent_concurrency = Integer(
        4, min=1, help="How many of these places are kept for drift and for people who wait."
    ).tag(config=True)
    archives_at_once = Integer(
        AT_ONCE_IN_ALL, min=1, max=1000, help="Archive Jobs of all teams that run at once."
    ).tag(config=True)
    lease_seconds = Float(
        15.0, min=3.0, help="Seconds after which a provisioner that is gone is replaced."
    ).tag(config=True)
    webhook_url = Unicode(
        help="Told by POST once a team is ready for the first time ($COLLAB_WEBHOOK_URL)."
    ).tag(config=True)
    webhook_secret_file = Unicode(
        help="File with the secret that signs these ($COLLAB_WEBHOOK_SECRET_FILE)."
    ).tag(config=True)

    audit_url = Unicode(
        help="The audit service, which is told what is done to namespaces ($COLLAB_AUDIT_URL)."
    ).tag(config=True)
    audit_token_file = Unicode(
        help="File with the provisioner's own token for it ($COLLAB_AUDIT_TOKEN_FILE)."
    ).tag(config=True)
    audit_spool = Unicode(
        help="Folder in which events wait for it ($COLLAB_AUDIT_SPOOL); one process at a time."
    ).tag(config=True)
    audit_ca_file = Unicode(
        help="Certificates that the audit service's is checked against ($COLLAB_AUDIT_CA_FILE)."
    ).tag(config=True)

    aliases = {  # noqa: RUF012 - as traitlets has it
        "config": "ProvisionerApp.config_file",
        "log-level": "ProvisionerApp.log_level",
        "platform": "ProvisionerApp.platform_file",
        "kubeconfig": "ProvisionerApp.kubeconfig",
    }

    @default("platform_file")
    def _default_platform_file(self) -> str:
        return env("COLLAB_PLATFORM_FILE")

    @default("kubeconfig")
    def _default_kubeconfig(self) -> str:
        return env("KUBECONFIG")

    @default("webhook_url")
    def _default_webhook_url(self) -> str:
        return env("COLLAB_WEBHOOK_URL")

    @default("audit_url")
    def _default_audit_url(self) -> str:
        return env("COLLAB_AUDIT_URL")

    @default("audit_token_file")
    def _default_audit_token_file(self) -> str:
        return env("COLLAB_AUDIT_TOKEN_FILE")

    @default("audit_spool")
    def _default_audit_spool(self) -> str:
        return env("COLLAB_AUDIT_SPOOL") or "audit-spool"

    @default("audit_ca_file")
    def _default_audit_ca_file(self) -> str:
        return env("COLLAB_AUDIT_CA_FILE")

    @default("webhook_secret_file")
    def _default_webhook_secret_file(self) -> str:
        return env("COLLAB_WEBHOOK_SECRET_FILE")

    def start(self) -> None:
        gc.set_threshold(_COLLECT_AFTER, 20, 20)
        super().start()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises
        ------
        PermanentError
            A setting is missing or wrong, or the port is taken.
        """
        token = self.read_hub_token()
        if not self.platform_file:
            raise PermanentError("Set COLLAB_PLATFORM_FILE to the platform's JSON file.")
        platform = make_platform(self.platform_file)
        metrics = Metrics()
        async with AsyncExitStack() as stack:
            kube = await stack.enter_async_context(
                await tenancy_factory.make_kube_client(
                    self.kubeconfig or None, on_request=metrics.on_request
                )
            )
            groups = await stack.enter_async_context(
                factory.make_hub_client(self.hub_api_url, token)
            )
            recorder = await self._open_recorder(stack)
            webhook: Webhook | None = None
            tenancy = tenancy_factory.make_tenancy(
                kube,
                groups,
                platform,
                settings=TenancySettings(
                    poll_s=self.poll_seconds,
                    concurrency=self.concurrency,
                    urgent_concurrency=min(self.urgent_concurrency, self.concurrency - 1),
                ),
                on_ready=lambda status, ns: webhook.offer(status, ns) if webhook else None,
                on_pass=metrics.on_pass,
                recorder=recorder,
            )
            if self.webhook_url:
                webhook = Webhook(
                    self.webhook_url,
                    self._read_webhook_secret(),
                    kube,
                    note=tenancy.view.note,
                    on_try=metrics.on_webhook,
                )
            lease = Lease(
                kube,
                PROVISIONER_LEASE_NAME,
                platform.hub_namespace,
                duration_s=self.lease_seconds,
            )
            metrics.observe_teams(tenancy.manager.statuses, lambda: tenancy.manager.queue_length)
            work = Work(
                tenancy.manager,
                metrics,
                self.prefix,
                TeamArchives(kube, platform, at_once_in_all=self.archives_at_once),
                Leftovers(kube, platform),
                asked=tenancy.teller.asked,
            )
            server = self.listen(make_routes(work), work)
            try:
                await self._work_until_stopped(lease, work, webhook)
            finally:
                server.stop()
                await server.close_all_connections()

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
        emitter.emit(self._to_configuration())
        return emitter

    def _to_configuration(self) -> AuditEvent:
        platform = hashlib.sha256(Path(self.platform_file).read_bytes()).hexdigest()
        details: dict[str, Detail] = {"collab_version": __version__, "platform_sha256": platform}
        return AuditEvent(
            time=datetime.now(timezone.utc),
            verb=Verb.CONFIGURATION_LOAD,
            thing="provisioner",
            details=details,
        )

    def _read_webhook_secret(self) -> bytes:
        try:
            secret = Path(self.webhook_secret_file).read_bytes().strip()
        except OSError as error:
            raise PermanentError(
                f"The webhook's secret cannot be read: {error}. Set COLLAB_WEBHOOK_SECRET_FILE."
            ) from error
        if len(secret) < 16:
            raise PermanentError(
                "The webhook's secret is shorter than 16 bytes. Make a longer one."
            )
        return secret

    async def _work_until_stopped(self, lease: Lease, work: Work, webhook: Webhook | None) -> None:
        leading = asyncio.create_task(self._lead_forever(lease, work, webhook))
        try:
            await self.until_stopped([leading])
        finally:
            leading.cancel()
            await asyncio.gather(leading, return_exceptions=True)
            await lease.release()

    async def _lead_forever(self, lease: Lease, work: Work, webhook: Webhook | None) -> None:
        while True:
            work.waiting_for = "another provisioner of this hub holds the lease"
            await lease.acquire()
            self.log.info("Lease %s taken; working", PROVISIONER_LEASE_NAME)
            work.waiting_for = None
            work.metrics.leader.set(1)
            tasks = [asyncio.create_task(work.manager.run()), asyncio.create_task(lease.hold())]
            if webhook is not None:
                tasks.append(asyncio.create_task(webhook.run()))
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                work.metrics.leader.set(0)
                work.waiting_for = "the lease was lost"
                for task in tasks:
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
            for result in results:
                if isinstance(result, Exception):
                    raise result
