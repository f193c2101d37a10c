"""What `jupyterhub-collab up` tells the hub it starts: one JSON file, no secrets in it.

Written by the command line at every start, read by the hub's demo configuration and by `doctor`.
It must not hold tokens: those lie in files of their own, of which it says where.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

DOMAIN = "hub.localhost"
ENVIRONMENT_VARIABLE = "COLLAB_DEMO_SETTINGS"  # names the file


@dataclass(frozen=True)
class DemoDirectorySettings:
    """The directory of a run with ``--auth ldap``: where it is, and how the hub reads it."""

    name: str
    port: int
    ca_file: str
    password_file: str
    rules_file: str
    bind_dn: str
    people: str
    groups: str


@dataclass(frozen=True)
class DemoSettings:
    """Addresses, ports and files of one run.

    Attributes
    ----------
    data
        The data folder.
    bind_address, port
        Where the proxy listens for browsers.
    hub_address, hub_port
        Where the hub's API listens for pods and services.
    kubeconfig
        The cluster that the spawner talks to.
    warning
        What people must know of the cluster, None when there is nothing.
    audit_port
        Where the audit service listens.
    contests_port
        Where the contests service listens.
    directory
        None: the demo accounts are the hub's own.
    names_port
        Where the embedded cluster answers to teams' names; None: teams have none.
    """

    data: str
    bind_address: str
    port: int
    hub_address: str
    hub_port: int
    proxy_api_port: int
    provisioner_port: int
    audit_port: int
    contests_port: int
    kubeconfig: str
    platform_file: str
    embedded: bool
    warning: str | None = None
    directory: DemoDirectorySettings | None = None
    names_port: int | None = None

    @property
    def domain(self) -> str:
        """The hub's host name. Browsers resolve ``*.localhost`` to this machine (RFC 6761)."""
        return DOMAIN

    @property
    def public_url(self) -> str:
        """What a person types; each person's servers are on ``NAME.hub.localhost``."""
        return f"http://{self.domain}:{self.port}"

    @property
    def hub_url(self) -> str:
        """What services and pods use; without the trailing path."""
        return f"http://{self.hub_address}:{self.hub_port}"

    @property
    def provisioner_url(self) -> str:
        """The provisioner's own address, with its prefix."""
        return f"http://127.0.0.1:{self.provisioner_port}/services/provisioner/"

    @property
    def provisioner_page(self) -> str:
        """Where an admin sees it in a browser: a name of its own, as JupyterHub gives services."""
        return f"http://provisioner--service.{self.domain}:{self.port}/services/provisioner/"

    @property
    def audit_url(self) -> str:
        """The audit service's own address, with its prefix."""
        return f"http://127.0.0.1:{self.audit_port}/services/audit/"

    @property
    def audit_page(self) -> str:
        """Where people read the log in a browser."""
        return f"http://audit--service.{self.domain}:{self.port}/services/audit/"

    @property
    def contests_url(self) -> str:
        """The contests service's own address, with its prefix."""
        return f"http://127.0.0.1:{self.contests_port}/services/contests/"

    @property
    def contests_page(self) -> str:
        """Where hosts and members see their contests in a browser."""
        return f"http://contests--service.{self.domain}:{self.port}/services/contests/"

    def to_json(self) -> str:
        """Text of the file."""
        return json.dumps(asdict(self), indent=1) + "\n"


def read_demo_settings(path: Path) -> DemoSettings:
    """Settings of the run that wrote ``path``."""
    said = json.loads(path.read_text())
    directory = said.pop("directory")
    found = None if directory is None else DemoDirectorySettings(**directory)
    return DemoSettings(**said, directory=found)
