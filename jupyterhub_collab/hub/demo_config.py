"""The hub's configuration in a run of `jupyterhub-collab up`.

What: sets the options of JupyterHub that the demo needs, in one function.
Why: an admin who moves on to a hub of their own can read here what a whole configuration takes.
It must not: hold a secret, or start a program (the supervisor does both).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..constants import SCOPE_AUDIT_MANAGE, SCOPE_CONTESTS_MANAGE, SCOPE_CONTESTS_NOTICES
from . import PROVISION_SCOPE, SERVERS_SCOPE, STANDING_SCOPE, configure
from .demo_accounts import HOST_ACCOUNT
from .demo_settings import (
    ENVIRONMENT_VARIABLE,
    DemoDirectorySettings,
    DemoSettings,
    read_demo_settings,
)

_TEMPLATES = Path(__file__).parent / "templates" / "demo"


def configure_demo(c: Any) -> None:
    """Configure the hub that `up` starts; the environment names the file of settings."""
    settings = read_demo_settings(Path(os.environ[ENVIRONMENT_VARIABLE]))
    data = Path(settings.data)
    _configure_addresses(c, settings)
    _configure_accounts(c, settings, data)
    _configure_services(c, settings, data)
    c.JupyterHub.template_paths = [*c.JupyterHub.get("template_paths", []), str(_TEMPLATES)]
    configure(
        c,
        platform_file=settings.platform_file,
        provisioner_url=settings.provisioner_url,
        provisioner_token=_read_token(data, "spawner"),
        credential_key_file=str(data / "secrets" / "server-credential.key"),
        contests_url=f"http://127.0.0.1:{settings.contests_port}/services/contests/",
        contests_token=_read_token(data, "spawner"),
    )
    c.JupyterHub.template_vars = {
        "service_pages": {
            "audit": settings.audit_page,
            "contests": settings.contests_page,
            "provisioner": settings.provisioner_page,
        }
    }


def _configure_addresses(c: Any, settings: DemoSettings) -> None:
    c.JupyterHub.bind_url = f"http://{settings.bind_address}:{settings.port}"
    c.JupyterHub.subdomain_host = settings.public_url
    c.JupyterHub.public_url = settings.public_url
    c.JupyterHub.hub_bind_url = settings.hub_url
    # The supervisor runs the proxy; both have its token from the environment.
    c.ConfigurableHTTPProxy.should_start = False
    c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{settings.proxy_api_port}"
    # A proxy that was started again has lost its routes: seconds until the hub writes them anew.
    c.JupyterHub.last_activity_interval = 5
    # Servers and routes outlive the hub: it comes back and finds them.
    c.JupyterHub.cleanup_servers = False
    c.JupyterHub.cleanup_proxy = False


def _configure_accounts(c: Any, settings: DemoSettings, data: Path) -> None:
    c.JupyterHub.db_url = f"sqlite:///{data / 'hub' / 'jupyterhub.sqlite'}"
    c.JupyterHub.cookie_secret_file = str(data / "hub" / "cookie_secret")
    if settings.directory is None:
        _configure_demo_accounts(c)
    else:
        _configure_directory(c, settings.directory)
    c.DemoAccounts.accounts_file = str(data / "demo-accounts.json")
    c.DemoAccounts.public_url = settings.public_url
    c.DemoAccounts.warning = settings.warning or ""


def _configure_demo_accounts(c: Any) -> None:
    from .demo_authenticator import DemoAuthenticator

    c.JupyterHub.authenticator_class = DemoAuthenticator
    c.DemoAuthenticator.admin_users = {HOST_ACCOUNT}
    c.DemoAuthenticator.any_allow_config = True  # check_allowed decides


def _configure_directory(c: Any, directory: DemoDirectorySettings) -> None:
    """As an admin would with a directory of their own."""
    from .demo_ldap_authenticator import DemoLDAPAuthenticator

    c.JupyterHub.authenticator_class = DemoLDAPAuthenticator
    c.TeamAuthenticator.rules_file = directory.rules_file
    c.LDAPTeamAuthenticator.name = directory.name
    c.LDAPTeamAuthenticator.servers = [f"127.0.0.1:{directory.port}"]
    c.LDAPTeamAuthenticator.ca_file = directory.ca_file
    c.LDAPTeamAuthenticator.bind_dn = directory.bind_dn
    c.LDAPTeamAuthenticator.bind_password_file = directory.password_file
    c.LDAPTeamAuthenticator.user_bases = [directory.people]
    c.LDAPTeamAuthenticator.group_bases = [directory.groups]


def _configure_services(c: Any, settings: DemoSettings, data: Path) -> None:
    """Each service with a token of its own and the least scopes; none has a `command`."""
    c.JupyterHub.services = [
        {
            "name": "provisioner",
            "url": f"http://127.0.0.1:{settings.provisioner_port}",
            "api_token": _read_token(data, "provisioner"),
            "oauth_no_confirm": True,
        },
        {
            "name": "audit",
            "url": f"http://127.0.0.1:{settings.audit_port}",
            "api_token": _read_token(data, "audit"),
            "oauth_no_confirm": True,
        },
        {"name": "spawner", "api_token": _read_token(data, "spawner")},
        {
            "name": "contests",
            "url": f"http://127.0.0.1:{settings.contests_port}",
            "api_token": _read_token(data, "contests"),
            "oauth_no_confirm": True,
        },
        {"name": "contest-host", "api_token": _read_token(data, "contest-host")},
    ]
    c.JupyterHub.load_roles = [
        {
            "name": "provisioner",
            "description": "Reads which teams there should be.",
            "services": ["provisioner"],
            "scopes": ["list:groups", "read:groups"],
        },
        {
            "name": "audit",
            "description": "Asks where somebody stands, who wants to read the audit log.",
            "services": ["audit"],
            "scopes": [STANDING_SCOPE],
        },
        {
            "name": "audit-manager",
            "description": "Erases people and old events from the audit log.",
            "users": [HOST_ACCOUNT],
            "scopes": ["access:services!service=audit", SCOPE_AUDIT_MANAGE],
        },
        {
            # The hub's own role of everybody, and the way to what the log says of oneself.
            "name": "user",
            "scopes": [
                "self",
                "access:services!service=audit",
                "access:services!service=contests",
            ],
        },
        {
            "name": "spawner",
            "description": "The hub's own: asks for a team's space, and for notices to show.",
            "services": ["spawner"],
            "scopes": [
                "access:services!service=provisioner",
                PROVISION_SCOPE,
                "access:services!service=contests",
                SCOPE_CONTESTS_NOTICES,
            ],
        },
        {
            "name": "contests",
            "description": "Brings teams and members to the hub, and takes down what ends.",
            "services": ["contests"],
            "scopes": [
                "admin:groups",
                "admin:users",  # makes demo users; deletes users who belong to nothing any more
                "read:servers",  # whom it deletes has none
                "delete:servers",
                SERVERS_SCOPE,
                STANDING_SCOPE,
                "access:services!service=provisioner",
                PROVISION_SCOPE,
            ],
        },
        {
            "name": "contest-host",
            "description": "For plan, apply and contest in a shell: whatever a host may do.",
            "services": ["contest-host"],
            "scopes": ["access:services!service=contests", SCOPE_CONTESTS_MANAGE],
        },
    ]


def _read_token(data: Path, name: str) -> str:
    return (data / "secrets" / f"{name}-token").read_text().strip()
