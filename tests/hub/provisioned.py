"""A hub whose teams a real provisioner looks after, on whatever cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from jupyterhub_collab.models import Platform
from tests.hub.running import RunningHub
from tests.hub.samples import CONTEST
from tests.real_hub import find_free_port
from tests.services.running import PREFIX, READER_TOKEN, TOKEN, Provisioner

_SERVICES: Final = """
c.JupyterHub.services += [
    {"name": "provisioner", "url": "http://127.0.0.1:@PORT@", "api_token": "@TOKEN@",
     "oauth_no_confirm": True},
    {"name": "spawner", "api_token": "p" * 32},
    {"name": "reader", "api_token": "@READER@"},
]
c.JupyterHub.load_roles += [
    {"name": "provisioner", "services": ["provisioner"], "scopes": ["list:groups", "read:groups"]},
    {"name": "spawner", "services": ["spawner"],
     "scopes": ["access:services!service=provisioner", "custom:collab:provision"]},
    {"name": "reader", "services": ["reader"], "scopes": ["access:services!service=provisioner"]},
]
"""


@contextmanager
def provisioned(
    folder: Path,
    platform: dict[str, Any],
    *,
    hub_kubeconfig: Path,
    provisioner_kubeconfig: Path,
    more: str = "",
    poll_s: float = 3600,
    **settings: Any,
) -> Iterator[tuple[RunningHub, Provisioner]]:
    """Run both; the hub holds the contest `sea`.

    Parameters
    ----------
    more, settings
        As `RunningHub` has them.
    poll_s
        Seconds between the provisioner's looks at the groups; so far apart by default that what is
        quick is so because the hub asked.
    """
    port = find_free_port()
    services = _SERVICES
    for word, value in (("@PORT@", str(port)), ("@TOKEN@", TOKEN), ("@READER@", READER_TOKEN)):
        services = services.replace(word, value)
    hub = RunningHub(
        folder=folder / "hub",
        kubeconfig=hub_kubeconfig,
        platform=platform,
        provisioner_url=f"http://127.0.0.1:{port}{PREFIX}",
        more=services + more,
        **settings,
    )
    provisioner = Provisioner(
        hub=hub,
        kubeconfig=provisioner_kubeconfig,
        platform=Platform.model_validate(hub.wire_platform()),
        folder=folder / "provisioner",
        port=port,
        arguments=(f"--ProvisionerApp.poll_seconds={poll_s}",),
    )
    try:
        hub.start()
        provisioner.start()
        provisioner.wait_healthy()
        hub.make_contest("sea", CONTEST)
        yield hub, provisioner
    finally:
        provisioner.kill()
        hub.close()
