"""Process 1 of the node's own namespaces: prepares them and runs every program of the node.

Started by the keeper through ``unshare``; when it dies, the kernel ends all that ever ran in the
node: programs, shims, containers, mounts, interfaces. It writes nothing outside the cluster's
folder: where Kubernetes' programs insist on places of their own, a private tmpfs covers them.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.cluster import netpol, nftables
from tests.cluster.address_plan import AddressPlan
from tests.cluster.api_client import ApiClient
from tests.cluster.api_level import (
    DEFAULT_SERVICE_ACCOUNT,
    START_TIMEOUT_S,
    start_control_plane,
)
from tests.cluster.certificates import write_kubeconfig
from tests.cluster.control_plane import ControlPlane, Endpoints, prepare
from tests.cluster.errors import CannotHave, ClusterError
from tests.cluster.host_network import UPLINK, ip
from tests.cluster.node_files import (
    NODE_NAME,
    NodePaths,
    make_cni_settings,
    make_containerd,
    make_dns_service,
    make_node_programs,
)
from tests.cluster.node_level import BEGUN, READY
from tests.cluster.pins import REPOSITORY
from tests.cluster.supervisor import Supervisor

#: containerd, kubelet, CNI and runc write here, whatever they are told.
COVERED: Final = ("/run", "/var/lib", "/var/log")

#: kubelet insists on these values, which are the whole machine's. It is shown files that hold
#: them; the machine keeps its own.
TUNABLES: Final = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}

#: Settings of the node's own network namespace.
NETWORK_SETTINGS: Final = {
    "net/ipv4/ip_forward": "1",
    # A pod sends from its own address only.
    "net/ipv4/conf/all/rp_filter": "1",
    "net/ipv4/conf/default/rp_filter": "1",
    "net/ipv6/conf/all/disable_ipv6": "1",
    "net/ipv6/conf/default/disable_ipv6": "1",
    # Every refusal is told, not one a second to each sender.
    "net/ipv4/icmp_ratelimit": "0",
    "net/ipv4/icmp_msgs_per_sec": "100000",
    "net/ipv4/icmp_msgs_burst": "10000",
    # A connection that was cut must not be taken up again in the middle.
    "net/netfilter/nf_conntrack_tcp_loose": "0",
}


def mount(*arguments: str) -> None:
    """Run mount in the node's own mount namespace."""
    result = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ClusterError(f"mount {' '.join(arguments)}: {result.stderr.strip()}")


def check_places(needed: list[Path]) -> None:
    """Refuse to start where a covered place holds something that the node needs.

    Raises
    ------
    CannotHave
        Names the folder.
    """
    for path in needed:
        for covered in COVERED:
            if path.resolve().is_relative_to(covered):
                raise CannotHave(
                    f"{path} lies below {covered}, which the node covers with a folder of its "
                    "own; use a clone, cache and temporary folder elsewhere"
                )


def prepare_mounts(directory: Path) -> None:
    """Cover what the programs would write to, and let containers' mounts be shared."""
    mount("--make-rshared", "/")
    for place in COVERED:
        mount("-t", "tmpfs", "-o", "mode=755", "collab", place)
    for folder in ("/run/netns", "/run/collab", "/run/lock"):
        Path(folder).mkdir()
    # The kubelet's folder lies with the cluster's, where there is room, under a short name.
    for folder in (directory / "kubelet", NodePaths(directory, directory).kubelet_root):
        folder.mkdir()
    mount("--bind", str(directory / "kubelet"), str(NodePaths(directory, directory).kubelet_root))
    shown = directory / "tunables"
    for name, value in TUNABLES.items():
        file = shown / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
        if Path("/proc/sys", name).exists():
            mount("--bind", str(file), f"/proc/sys/{name}")


def prepare_network(plan: AddressPlan) -> None:
    """Set up the node's end of the link and its settings. There is no default route."""
    ip("link", "set", "lo", "up")
    for name, value in NETWORK_SETTINGS.items():
        path = Path("/proc/sys", name)
        if path.exists():
            path.write_text(value)
    ip("addr", "add", f"{plan.node_address}/30", "dev", UPLINK)
    ip("link", "set", UPLINK, "up")
    # Programs of the node reach Services too: the kernel wants a route before it looks at the
    # address translation.
    ip("route", "add", plan.service_range, "dev", "lo", "src", plan.node_address)


def write_node_credentials(
    plan: AddressPlan, plane: ControlPlane, paths: NodePaths
) -> tuple[Path, Path]:
    """Issue what kubelet and kube-proxy need; returns their kubeconfigs."""
    authority, server = plane.authority, plane.endpoints.server
    authority.issue("kubelet", NODE_NAME, addresses=[plan.node_address], host_names=[NODE_NAME])
    node = authority.issue("node", f"system:node:{NODE_NAME}", organizations=["system:nodes"])
    proxy = authority.issue("kube-proxy", "system:kube-proxy")
    return (
        write_kubeconfig(
            paths.certificates / "node.kubeconfig",
            server=server,
            ca_pem=authority.pem,
            pair=node,
        ),
        write_kubeconfig(
            paths.certificates / "kube-proxy.kubeconfig",
            server=server,
            ca_pem=authority.pem,
            pair=proxy,
        ),
    )


def is_node_ready(client: ApiClient) -> bool:
    """Say whether the node takes pods and the storage class is there."""
    if not client.is_found(f"/api/v1/nodes/{NODE_NAME}"):
        return False
    node = client.get(f"/api/v1/nodes/{NODE_NAME}")
    conditions = {item["type"]: item["status"] for item in node["status"].get("conditions", [])}
    is_tainted = bool(node["spec"].get("taints"))
    return (
        conditions.get("Ready") == "True"
        and not is_tainted
        and client.is_found("/apis/storage.k8s.io/v1/storageclasses/folder")
    )


def run_node(plan: AddressPlan, paths: NodePaths) -> None:
    """Start everything in order, say so, and keep it running until the keeper is gone."""
    begun = time.monotonic()
    directory = paths.directory
    endpoints = Endpoints(
        plan.node_address,
        6443,
        2379,
        2380,
        service_range=plan.service_range,
        advertise=plan.node_address,
    )
    supervisor = Supervisor(directory)
    try:
        # Closed before there is anything that could send.
        nftables.load(netpol.render(netpol.CLOSED, pod_range=plan.pod_range))
        (directory / "cni").mkdir()
        paths.write("cni/10-pods.conflist", json.dumps(make_cni_settings(plan, paths)))
        paths.write("resolv.conf", "")
        supervisor.start(make_containerd(paths))
        now = datetime.datetime.now(datetime.timezone.utc)
        plane = prepare(directory, paths.binaries, endpoints, now=now)
        node_kubeconfig, proxy_kubeconfig = write_node_credentials(plan, plane, paths)
        client = start_control_plane(supervisor, plane)
        supervisor.wait_until(
            lambda: client.is_found("/api/v1/namespaces/kube-system"),
            what="namespace kube-system",
            timeout_s=START_TIMEOUT_S,
        )
        client.create("/api/v1/namespaces/kube-system/services", make_dns_service(plan))
        print(f"API ready after {time.monotonic() - begun:.1f} s", file=sys.stderr, flush=True)
        supervisor.wait_until(paths.socket.exists, what="containerd", timeout_s=START_TIMEOUT_S)
        for program in make_node_programs(
            plan, paths, node_kubeconfig=node_kubeconfig, proxy_kubeconfig=proxy_kubeconfig
        ):
            supervisor.start(program)
        supervisor.wait_until(
            lambda: is_node_ready(client) and client.is_found(DEFAULT_SERVICE_ACCOUNT),
            what="the node",
            timeout_s=START_TIMEOUT_S,
        )
        print(f"node ready after {time.monotonic() - begun:.1f} s", file=sys.stderr, flush=True)
        print(READY, flush=True)
        supervisor.run(until_closed=0)
    finally:
        supervisor.kill_all()


def main() -> int:
    """Take folder, programs and plan index from the command line."""
    directory, binaries, plan = Path(sys.argv[1]), Path(sys.argv[2]), AddressPlan(int(sys.argv[3]))
    try:
        check_places([directory, binaries, REPOSITORY, Path(sys.prefix), Path(sys.base_prefix)])
        prepare_mounts(directory)
        print(BEGUN, flush=True)
        os.read(0, 64)  # the keeper has made the link
        prepare_network(plan)
        run_node(plan, NodePaths(directory, binaries))
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
