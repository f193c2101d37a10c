"""What an admin does with a real cluster before `up` runs on it, done here for the test node.

The hub and the provisioner run on this machine under the service accounts and roles that we ship;
only this arrangement uses the administrator's kubeconfig.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jupyterhub_collab.cli.up.ground import Ground, make_platform
from jupyterhub_collab.cli.up.ports import find_free_port
from jupyterhub_collab.manifests.guard import make_guard
from jupyterhub_collab.manifests.rbac import make_rbac
from tests.cluster.cluster import Cluster
from tests.cluster.images import SINGLEUSER_IMAGE
from tests.cluster.node_files import CSI_DRIVER


def arrange(cluster: Cluster, folder: Path) -> tuple[str, ...]:
    """Make namespace, roles and credentials; the options with which `up` runs on the cluster."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    extra = folder / "platform.json"
    extra.write_text(json.dumps(_make_settings(cluster.host_address)))
    ground = Ground(
        kubeconfig=cluster.kubeconfig,
        provisioner_kubeconfig=cluster.kubeconfig,
        hub_address=cluster.host_address,
        embedded=False,
    )
    # These ports do not matter to roles; `up` chooses its own.
    platform = make_platform(ground, hub_port=1, port=1, public_url="http://hub", extra=extra)
    home = platform.hub_namespace
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home}})
    cluster.apply(*make_rbac(platform), *make_guard(platform))
    hub = cluster.service_account_kubeconfig(
        home, platform.hub_service_account, folder / "hub.kubeconfig"
    )
    provisioner = cluster.service_account_kubeconfig(
        home, platform.provisioner_service_account, folder / "provisioner.kubeconfig"
    )
    return (
        f"--kubeconfig={hub}",
        f"--provisioner-kubeconfig={provisioner}",
        f"--hub-address={cluster.host_address}",
        f"--platform={extra}",
        f"--image={SINGLEUSER_IMAGE}",
        f"--sample-driver={CSI_DRIVER}",
    )


def _make_settings(address: str) -> dict[str, Any]:
    """What is special about the cluster, and all that archives of volumes need."""
    contests = {
        "host": "contests.collab.internal",
        "address": address,
        "port": find_free_port(address),
        "peer": {"cidr": f"{address}/32"},
    }
    return {
        "dataset_csi_drivers": [CSI_DRIVER],
        "archive_image": SINGLEUSER_IMAGE,
        "contests": contests,
    }
