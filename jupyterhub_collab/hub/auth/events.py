"""Log-ins and changes of access as events (JupyterHub's event log) and as metrics.

Log-ins go to the audit log besides. Changes of access are not told there from here: it hears of
them as changed rows (`hub.audit.rows`), through whichever door they came.

Whoever wants to keep events configures handlers of `c.EventLogger`. Metrics are on the hub's own
``/hub/metrics``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any, Final

from prometheus_client import Counter, Gauge

from ...models.audit import Outcome as AuditOutcome
from ..audit.logins import tell_login

LOGIN_SCHEMA: Final = "https://jupyterhub-collab.org/events/login"
ACCESS_SCHEMA: Final = "https://jupyterhub-collab.org/events/access"
_SCHEMAS: Final = Path(__file__).parent / "event_schemas"
log = logging.getLogger(__name__)

LOGINS: Final = Counter(
    "collab_logins_total", "Log-ins by source and outcome.", ["source", "outcome"]
)
LOST: Final = Counter("collab_access_lost_total", "Teams that hub users lost.", ["source"])
SOURCE_UP: Final = Gauge(
    "collab_source_up", "Whether a source of identities answered when last asked.", ["source"]
)
STALENESS: Final = Gauge(
    "collab_source_staleness_seconds",
    "Age of the oldest word of a source about somebody who has a server.",
    ["source"],
)
CLOSED: Final = Gauge(
    "collab_stale_users", "Hub users whose protected access is closed for staleness.", ["source"]
)


class Outcome(str, Enum):
    """How a log-in ended."""

    LET_IN = "let-in"
    REFUSED = "refused"
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    MISCONFIGURED = "misconfigured"


_ENDED: Final = {
    Outcome.LET_IN: AuditOutcome.SUCCEEDED,
    Outcome.REFUSED: AuditOutcome.REFUSED,
    Outcome.THROTTLED: AuditOutcome.REFUSED,
    Outcome.UNAVAILABLE: AuditOutcome.FAILED,
    Outcome.MISCONFIGURED: AuditOutcome.FAILED,
}


class Events:
    """Tells of log-ins and access.

    Parameters
    ----------
    eventlog
        JupyterHub's.
    """

    def __init__(self, eventlog: Any) -> None:
        self._eventlog = eventlog
        for schema in sorted(_SCHEMAS.glob("*.yaml")):
            eventlog.register_event_schema(schema)

    def login(
        self,
        outcome: Outcome,
        *,
        source: str,
        username: str | None = None,
        address: str = "",
        because: str = "",
        subject: str = "",
    ) -> None:
        """A try to log in.

        Parameters
        ----------
        username
            Only of a hub user that there is, or that this log-in makes.
        subject
            The source's own key of somebody who was let in.
        """
        LOGINS.labels(source, outcome.value).inc()
        data = {"outcome": outcome.value, "source": source}
        more = {"username": username, "address": address, "because": because}
        self._emit(LOGIN_SCHEMA, data | {key: value for key, value in more.items() if value})
        tell_login(
            _ENDED[outcome],
            reason="" if outcome is Outcome.LET_IN else outcome.value,
            username=username or "",
            issuer=source,
            subject=subject,
            address=address,
            because=because,
        )

    def access(
        self,
        action: str,
        *,
        username: str,
        source: str = "",
        gained: Iterable[str] = (),
        lost: Iterable[str] = (),
        because: str = "",
    ) -> None:
        """What somebody has changed: `action` as the schema has it."""
        data: dict[str, Any] = {"action": action, "username": username}
        data |= {"gained": sorted(gained), "lost": sorted(lost), "because": because}
        LOST.labels(source).inc(len(data["lost"]))
        self._emit(ACCESS_SCHEMA, {key: value for key, value in data.items() if value})

    def _emit(self, schema: str, data: dict[str, Any]) -> None:
        try:
            self._eventlog.emit(schema_id=schema, data=data)
        except Exception:  # whatever a handler of the admin's raises: nobody's log-in waits for it
            log.exception("An event could not be recorded: %s", schema)
