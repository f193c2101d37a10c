"""Settings and command lines of what runs on the node: pure, one function for each program.

Every path lies in the cluster's folder, so that nothing of the host's own containerd or kubelet
can be met.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.cluster import pins
from tests.cluster.address_plan import AddressPlan
from tests.cluster.supervisor import Program

NODE_NAME: Final = "collab-node"
PAUSE_IMAGE: Final = "collab.test/pause:1"
CNI_PROGRAMS: Final = "/usr/lib/cni"
#: CSI driver whose volumes are folders of this machine (volume attribute ``path``): it stands in
#: for what a production cluster mounts data sets with.
CSI_DRIVER: Final = "folder.collab.test"
#: Pods of one node: more than a test ever starts, less than the range has addresses.
MAX_PODS: Final = 250


@dataclass(frozen=True)
class NodePaths:
    """Where the node's things are in the cluster's folder."""

    directory: Path
    binaries: Path

    @property
    def certificates(self) -> Path:
        return self.directory / "certificates"

    @property
    def containerd_root(self) -> Path:
        """Images and snapshots."""
        return self.directory / "containerd"

    @property
    def socket(self) -> Path:
        return Path("/run/collab/containerd.sock")

    @property
    def kubelet_root(self) -> Path:
        """Where the kubelet sees its own folder: sockets below it have at most 108 characters."""
        return Path("/run/collab/kubelet")

    @property
    def volumes(self) -> Path:
        """Where the provisioner keeps volumes: a folder for each namespace and claim."""
        return self.directory / "volumes"

    def write(self, name: str, text: str) -> Path:
        """Write a settings file and return its path."""
        path = self.directory / name
        path.write_text(text)
        return path


def make_cni_settings(plan: AddressPlan, paths: NodePaths) -> dict[str, Any]:
    """Return the pod network: one routed link for each pod, so that every packet between pods
    passes the forward hook where the policies are."""
    ranges = [[{"subnet": plan.pod_range}]]
    ipam = {
        "type": "host-local",
        "dataDir": str(paths.directory / "ipam"),
        "ranges": ranges,
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugin = {"type": "ptp", "ipMasq": False, "ipam": ipam}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [plugin]}


def make_containerd_settings(paths: NodePaths) -> str:
    """Return containerd's settings (TOML)."""
    return f"""\
version = 3
root = "{paths.containerd_root}"
state = "/run/collab/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"]

[grpc]
  address = "{paths.socket}"

[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{PAUSE_IMAGE}"

[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{CNI_PROGRAMS}"]
    conf_dir = "{paths.directory / "cni"}"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
      Root = "/run/collab/runc"
"""


def make_kubelet_settings(plan: AddressPlan, paths: NodePaths) -> dict[str, Any]:
    """Return kubelet's settings (KubeletConfiguration v1beta1)."""
    # A whole machine is never full for a test, and images must not be collected.
    eviction = {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"}
    ca = str(paths.certificates / "ca.crt")
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": plan.node_address,
        "readOnlyPort": 0,
        "healthzPort": 0,
        "tlsCertFile": str(paths.certificates / "kubelet.crt"),
        "tlsPrivateKeyFile": str(paths.certificates / "kubelet.key"),
        "authentication": {
            "anonymous": {"enabled": False},
            "x509": {"clientCAFile": ca},
            "webhook": {"enabled": True},
        },
        "authorization": {"mode": "Webhook"},
        "failCgroupV1": False,
        "failSwapOn": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{plan.cgroup}",
        "enforceNodeAllocatable": [],
        "oomScoreAdj": 0,
        "containerRuntimeEndpoint": f"unix://{paths.socket}",
        "podLogsDir": str(paths.directory / "pod-logs"),
        "makeIPTablesUtilChains": False,
        "maxPods": MAX_PODS,
        # Nobody answers there, and says so at once, unless a test runs a name server.
        "clusterDNS": [plan.dns_address],
        "clusterDomain": "cluster.local",
        "resolvConf": str(paths.directory / "resolv.conf"),
        "evictionHard": eviction,
        "imageGCHighThresholdPercent": 100,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        "volumeStatsAggPeriod": "10m",
    }


def make_dns_service(plan: AddressPlan) -> dict[str, Any]:
    """Return the Service of the cluster's name server. There are no pods behind it at first."""
    ports = [
        {"name": n, "port": 53, "protocol": p} for n, p in (("dns", "UDP"), ("dns-tcp", "TCP"))
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "labels": {"k8s-app": "kube-dns"}},
        "spec": {
            "clusterIP": plan.dns_address,
            "selector": {"k8s-app": "kube-dns"},
            "ports": ports,
        },
    }


def make_proxy_settings(plan: AddressPlan, kubeconfig: Path) -> dict[str, Any]:
    """Return kube-proxy's settings (KubeProxyConfiguration v1alpha1)."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "hostnameOverride": NODE_NAME,
        "clusterCIDR": plan.pod_range,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        # 0 leaves the machine's own limits as they are.
        "conntrack": {"maxPerCore": 0, "min": 0},
    }


def make_node_programs(
    plan: AddressPlan, paths: NodePaths, *, node_kubeconfig: Path, proxy_kubeconfig: Path
) -> tuple[Program, ...]:
    """Write the settings and return kubelet, kube-proxy, the CSI driver and the agent."""
    kubelet_settings = paths.write(
        "kubelet.yaml", json.dumps(make_kubelet_settings(plan, paths), indent=2)
    )
    proxy_settings = paths.write(
        "kube-proxy.yaml", json.dumps(make_proxy_settings(plan, proxy_kubeconfig), indent=2)
    )
    kubelet = (
        str(paths.binaries / "kubelet"),
        f"--config={kubelet_settings}",
        f"--kubeconfig={node_kubeconfig}",
        f"--root-dir={paths.kubelet_root}",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={plan.node_address}",
    )
    proxy = (str(paths.binaries / "kube-proxy"), f"--config={proxy_settings}")
    sockets = paths.kubelet_root / "plugins_registry"
    sockets.mkdir()
    driver = (
        str(paths.binaries / "csi-folder"),
        f"--driver-name={CSI_DRIVER}",
        f"--node-id={NODE_NAME}",
        "--endpoint=/run/collab/csi.sock",
        f"--registration={sockets / 'csi-reg.sock'}",
    )
    agent = (sys.executable, "-m", "tests.cluster.agent", str(paths.directory), str(plan.index))
    return (
        Program("kubelet", kubelet),
        Program("kube-proxy", proxy),
        Program("csi-folder", driver),
        Program("agent", agent, {"PYTHONPATH": str(pins.REPOSITORY)}),
    )


def make_containerd(paths: NodePaths) -> Program:
    """Write containerd's settings and return it."""
    settings = paths.write("containerd.toml", make_containerd_settings(paths))
    argv = (str(paths.binaries / "containerd"), "--config", str(settings))
    # It starts its shim by name.
    return Program("containerd", argv, {"PATH": f"{paths.binaries}:/usr/sbin:/usr/bin:/sbin:/bin"})
