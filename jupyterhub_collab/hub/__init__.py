"""What runs inside JupyterHub: TeamSpawner, its spawn page, and who may ask about a server.

`configure` is the one line for a hub's configuration file. This module imports nothing heavy.
"""

from __future__ import annotations

from typing import Any

from ..constants import SCOPE_AUDIT_MANAGE, SCOPE_AUDIT_READ

INTROSPECT_SCOPE = "custom:collab:introspect"
PROVISION_SCOPE = "custom:collab:provision"
STANDING_SCOPE = "custom:collab:standing"


def configure(
    c: Any,
    *,
    platform_file: str,
    provisioner_url: str = "",
    provisioner_token: str = "",
    credential_key_file: str = "server-credential.key",
    sessions: str = "workday",
    audit_url: str = "",
    audit_token_file: str = "",
) -> None:
    """Set all that a hub with teams needs. Call it early; what you set after it counts.

    Parameters
    ----------
    c
        JupyterHub's configuration object.
    platform_file
        JSON of the platform's settings, the same that the provisioner is given.
    provisioner_url, provisioner_token
        The provisioner's service URL, and a service token with the scopes
        ``access:services!service=provisioner`` and ``custom:collab:provision``. The token may come
        from the environment variable COLLAB_PROVISIONER_TOKEN instead.
    credential_key_file
        Private key of the server credential; made at the first start.
    sessions
        How long log-ins and tokens last: ``protected`` (6 h and 1 h), ``workday`` (12 h both) or
        ``long`` (14 days and 90). See `hub.auth.sessions`.
    audit_url, audit_token_file
        Address of the audit service, and the file with this hub's token for it. They may come from
        the environment (COLLAB_AUDIT_URL, COLLAB_AUDIT_TOKEN_FILE) instead. Without an audit
        service nothing is recorded, and protected data stays closed.

    Raises
    ------
    ValueError
        No such kind of session.

    Notes
    -----
    JupyterHub logs that ``extra_handlers`` is deprecated: it would have these two be a service.
    They say which servers run at this moment, and only the hub itself knows.
    """
    c.JupyterHub.spawner_class = "collab"
    c.JupyterHub.allow_named_servers = True
    c.JupyterHub.cleanup_servers = False  # servers outlive the hub, and it finds them again
    c.TeamSpawner.platform_file = platform_file
    c.TeamSpawner.provisioner_url = provisioner_url
    if provisioner_token:
        c.TeamSpawner.provisioner_token = provisioner_token
    c.TeamSpawner.credential_key_file = credential_key_file
    from .audit.installing import install
    from .auth.sessions import configure_sessions
    from .handlers import HANDLERS  # needs JupyterHub, which whoever configures it has

    configure_sessions(c, sessions)
    c.JupyterHub.extra_handlers.extend(HANDLERS)
    if audit_url:
        c.AuditSettings.url = audit_url
    if audit_token_file:
        c.AuditSettings.token_file = audit_token_file
    install()
    c.JupyterHub.custom_scopes.update(
        {
            INTROSPECT_SCOPE: {"description": "Ask which server a server credential belongs to."},
            PROVISION_SCOPE: {"description": "Have the provisioner prepare a team's space."},
            SCOPE_AUDIT_MANAGE: {"description": "Erase people and old events from the audit log."},
            STANDING_SCOPE: {"description": "Ask which teams and roles somebody has now."},
            SCOPE_AUDIT_READ: {
                "description": "Read in the audit log all that its owner may, not only oneself."
            },
        }
    )
