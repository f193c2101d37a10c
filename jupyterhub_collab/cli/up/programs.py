"""Which programs make up a run, in the order they start.

What: turns settings into command lines, environments and readiness questions.
It must not: put a token on a command line; everybody on the machine can read those.
"""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

from ...embedded import Paths, stop_all
from ...embedded.ingress import PROXY_TOKEN
from ...hub.demo_settings import ENVIRONMENT_VARIABLE, DemoSettings
from .audit import audit_environment, make_audit_program
from .data_folder import DataFolder
from .ground import Ground
from .probes import all_of, http_probe, node_probe, routes_probe
from .program import Program
from .proxy import proxy_command
from .service_environment import service_environment

_HUB_CONFIG = Path(__file__).parents[2] / "hub" / "demo_jupyterhub_config.py"


def make_programs(
    folder: DataFolder,
    settings: DemoSettings,
    ground: Ground,
    *,
    proxy_script: Path,
    archives_url: str = "",
) -> list[Program]:
    """All programs of a run, in the order they start. `archives_url`: as `find_archives_url`."""
    programs = make_cluster_programs(folder) if ground.embedded else []
    return [
        make_audit_program(folder, settings),
        _make_contests(folder, settings, archives_url),
        *programs,
        _make_proxy(folder, settings, proxy_script),
        _make_hub(folder, settings, ground),
        _make_provisioner(folder, settings, ground),
    ]


def make_cluster_programs(folder: DataFolder) -> list[Program]:
    """The embedded cluster: API server and node."""
    paths = Paths(folder.cluster)
    where = ("--dir", str(folder.cluster))
    return [
        Program(
            name="cluster-api",
            title="Embedded cluster",
            command=_python("jupyterhub_collab.embedded.api", *where),
            is_ready=http_probe(f"{paths.server}/readyz", ca_file=paths.ca_certificate),
            env={PROXY_TOKEN: folder.read_token("proxy")},
            cwd=folder.cluster,
        ),
        Program(
            name="cluster-node",
            title="Embedded node",
            command=_python("jupyterhub_collab.embedded.node", *where),
            is_ready=node_probe(paths.server, paths.token, paths.ca_certificate),
            cwd=folder.cluster,
            after_stop=lambda: stop_all(folder.cluster),
        ),
    ]


def _make_proxy(folder: DataFolder, settings: DemoSettings, script: Path) -> Program:
    token = folder.read_token("proxy")
    return Program(
        name="proxy",
        title="Proxy",
        command=tuple(
            proxy_command(
                script,
                address=settings.bind_address,
                port=settings.port,
                api_port=settings.proxy_api_port,
                hub_url=settings.hub_url,
            )
        ),
        env={"CONFIGPROXY_AUTH_TOKEN": token},
        is_ready=http_probe(f"http://127.0.0.1:{settings.proxy_api_port}/api/routes", token=token),
        cwd=folder.hub,
    )


def _make_hub(folder: DataFolder, settings: DemoSettings, ground: Ground) -> Program:
    through_proxy = f"http://{settings.bind_address}:{settings.port}/hub/health"
    host = urlsplit(settings.public_url).netloc
    return Program(
        name="hub",
        title="Hub",
        command=_python("jupyterhub", "-f", str(_HUB_CONFIG), "--upgrade-db"),
        env={
            ENVIRONMENT_VARIABLE: str(folder.settings),
            "CONFIGPROXY_AUTH_TOKEN": folder.read_token("proxy"),
            "KUBECONFIG": str(ground.kubeconfig),
            **audit_environment(folder, settings, "hub"),
        },
        is_ready=all_of(
            http_probe(f"{settings.hub_url}/hub/health"),
            http_probe(through_proxy, host=host),
        ),
        cwd=folder.hub,
        start_timeout_s=90,
        stop_timeout_s=15,
    )


def _make_provisioner(folder: DataFolder, settings: DemoSettings, ground: Ground) -> Program:
    return Program(
        name="provisioner",
        title="Provisioner",
        command=_python("jupyterhub_collab.services.provisioner"),
        env={
            "COLLAB_PLATFORM_FILE": str(folder.platform),
            "KUBECONFIG": str(ground.provisioner_kubeconfig),
            **audit_environment(folder, settings, "provisioner"),
            **service_environment(
                folder,
                settings,
                "provisioner",
                port=settings.provisioner_port,
                page=settings.provisioner_page,
            ),
        },
        # The hub waits for its services before it writes the routes of servers that outlived it.
        is_ready=all_of(
            http_probe(f"{settings.provisioner_url}health"),
            routes_probe(
                f"http://127.0.0.1:{settings.proxy_api_port}/api/routes",
                token=folder.read_token("proxy"),
            ),
        ),
        cwd=folder.root,
    )


def _make_contests(folder: DataFolder, settings: DemoSettings, archives_url: str) -> Program:
    return Program(
        name="contests",
        title="Contests service",
        command=_python("jupyterhub_collab.services.contests"),
        env={
            "COLLAB_CONTESTS_STATE": str(folder.registry),
            "COLLAB_CONTESTS_ARCHIVES": f"file://{folder.registry / 'archives'}",
            "COLLAB_CONTESTS_ARCHIVES_URL": archives_url,
            "COLLAB_PLATFORM_FILE": str(folder.platform),
            "COLLAB_PROVISIONER_URL": settings.provisioner_url,
            **audit_environment(folder, settings, "contests"),
            **service_environment(
                folder,
                settings,
                "contests",
                port=settings.contests_port,
                page=settings.contests_page,
            ),
        },
        is_ready=http_probe(f"{settings.contests_url}health"),
        cwd=folder.registry,
        # The hub, as it starts, waits for every service that it knows.
        is_beside=True,
    )


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)
