"""What runs inside JupyterHub: TeamSpawner, its spawn page, and who may ask about a server.

`configure` is the one line for a hub's configuration file. This module imports nothing heavy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..constants import (
    SCOPE_AUDIT_MANAGE,
    SCOPE_AUDIT_READ,
    SCOPE_CONTESTS_MANAGE,
    SCOPE_CONTESTS_NOTICES,
    SCOPE_CONTESTS_REGISTER,
)

TEMPLATES = Path(__file__).parent / "templates" / "pages"
INTROSPECT_SCOPE = "custom:collab:introspect"
PROVISION_SCOPE = "custom:collab:provision"
SERVERS_SCOPE = "custom:collab:servers"
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
    contests_url: str = "",
    contests_token: str = "",
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
    contests_url, contests_token
        Address of the contests service, and a service token with the scopes
        ``access:services!service=contests`` and ``custom:collab:contests:notices``. They may come
        from the environment (COLLAB_CONTESTS_URL, COLLAB_CONTESTS_TOKEN) instead. Without them
        notices are shown neither in the hub's pages nor in JupyterLab.

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
    c.JupyterHub.concurrent_spawn_limit = 0  # contests take turns: c.TeamSpawner.concurrent_starts
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
    if contests_url:
        c.NoticeSettings.contests_url = contests_url
    if contests_token:
        c.NoticeSettings.contests_token = contests_token
    _add_templates(c, str(TEMPLATES))
    install()
    c.JupyterHub.custom_scopes.update(
        {
            INTROSPECT_SCOPE: {"description": "Ask which server a server credential belongs to."},
            PROVISION_SCOPE: {"description": "Have the provisioner prepare a team's space."},
            SCOPE_AUDIT_MANAGE: {"description": "Erase people and old events from the audit log."},
            SERVERS_SCOPE: {"description": "Ask which servers run for a team or a contest."},
            STANDING_SCOPE: {"description": "Ask which teams and roles somebody has now."},
            SCOPE_AUDIT_READ: {
                "description": "Read in the audit log all that its owner may, not only oneself."
            },
            SCOPE_CONTESTS_NOTICES: {"description": "Read the notices of contests to anybody."},
            SCOPE_CONTESTS_MANAGE: {"description": "Do with contests what their hosts may."},
            SCOPE_CONTESTS_REGISTER: {"description": "Register teams and members of contests."},
        }
    )


def _add_templates(c: Any, folder: str) -> None:
    """After an admin's own templates, before JupyterHub's."""
    given = c.JupyterHub.template_paths
    if isinstance(given, list):
        given.append(folder)  # JupyterHub puts its own behind these
    else:  # nobody said anything yet: the value is JupyterHub's own, later
        given.prepend([folder])
