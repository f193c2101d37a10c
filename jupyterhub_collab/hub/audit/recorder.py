"""The one Recorder of a hub's process, and its settings.

Without settings nothing is recorded, nothing protected is done, and the log says so once. A spool
that cannot be opened ends the start of the hub: it would work unrecorded.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any, Final

from traitlets import Unicode, default
from traitlets.config import Configurable

from ...auditapi import Emitter, NoRecorder, Recorder
from ...factory import make_emitter
from ...models.audit import AuditEvent

log = logging.getLogger(__name__)


class AuditSettings(Configurable):
    """Where the audit log is: ``c.AuditSettings.<name>``."""

    url = Unicode(
        config=True,
        help="""
        Address of the audit service, such as ``http://127.0.0.1:8083/services/audit/``. Without it
        nothing is recorded, and protected data stays closed.

        Default: the environment variable COLLAB_AUDIT_URL.
        """,
    )

    token_file = Unicode(
        config=True,
        help="""
        File with this hub's own token for the audit service (`jupyterhub-collab audit emitter`
        makes one). Default: the environment variable COLLAB_AUDIT_TOKEN_FILE.
        """,
    )

    spool = Unicode(
        config=True,
        help="""
        Folder in which events wait until the service has them on disk. It must outlive the hub's
        process. Default: the environment variable COLLAB_AUDIT_SPOOL, else `audit-spool`.
        """,
    )

    ca_file = Unicode(
        config=True,
        help="""
        Certificates that the service's is checked against, in place of the system's. Default: the
        environment variable COLLAB_AUDIT_CA_FILE.
        """,
    )

    @default("url")
    def _url_default(self) -> str:
        return os.environ.get("COLLAB_AUDIT_URL", "")

    @default("token_file")
    def _token_file_default(self) -> str:
        return os.environ.get("COLLAB_AUDIT_TOKEN_FILE", "")

    @default("spool")
    def _spool_default(self) -> str:
        return os.environ.get("COLLAB_AUDIT_SPOOL", "audit-spool")

    @default("ca_file")
    def _ca_file_default(self) -> str:
        return os.environ.get("COLLAB_AUDIT_CA_FILE", "")

    def make_emitter(self) -> Emitter | None:
        """What sends events; None: no audit service is configured.

        Raises
        ------
        PermanentError
            The token cannot be read.
        """
        return make_emitter(
            self.url, token_file=self.token_file, spool=self.spool, ca_file=self.ca_file
        )


class HubRecorder:
    """Stands in for the Recorder until the hub has opened it, and after the hub has closed it."""

    def __init__(self) -> None:
        self._recorder: Recorder = NoRecorder()
        self._emitter: Emitter | None = None
        self.is_on = False  # whether anything is kept of what is told

    async def open(self, settings: AuditSettings) -> None:
        """Open the spool, if an audit service is configured.

        Raises
        ------
        PermanentError
            The token or the spool cannot be used.
        """
        emitter = settings.make_emitter()
        if emitter is None:
            log.warning(
                "No audit service is configured (COLLAB_AUDIT_URL): nothing is recorded, and"
                " protected data stays closed"
            )
            return
        self._recorder = self._emitter = await emitter.__aenter__()
        self.is_on = True

    async def close(self) -> None:
        """Leave what was not taken yet in the spool, for the hub's next start."""
        emitter, self._emitter = self._emitter, None
        self._recorder, self.is_on = NoRecorder(), False
        if emitter is not None:
            await emitter.__aexit__(None, None, None)

    def use(self, recorder: Recorder) -> None:
        """Have all told to this one."""
        self._recorder, self.is_on = recorder, True

    def emit(self, event: AuditEvent) -> None:
        """As `Recorder.emit`."""
        self._recorder.emit(event)

    async def record(self, event: AuditEvent) -> None:
        """As `Recorder.record`."""
        await self._recorder.record(event)

    async def keep(self, events: Sequence[AuditEvent]) -> int:
        """As `Recorder.keep`."""
        return await self._recorder.keep(events)


RECORDER: Final = HubRecorder()
"""The one of this process. Row listeners and spawners are made by JupyterHub, which hands nothing
of ours on."""


def settings_from(config: Any) -> AuditSettings:
    """The settings, from a JupyterHub configuration."""
    return AuditSettings(config=config)
