"""Certificates, files and command lines of etcd, the API server and the controllers.

The same for both levels: `prepare` writes everything into the cluster's folder and returns the
programs to start. It starts nothing and knows nothing of namespaces or interfaces.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import shlex
import socket
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.certificates import Authority, KeyPair, make_token_keys, write_kubeconfig
from tests.cluster.supervisor import Program

#: Documentation address (RFC 5737) for the API server to advertise where no pod can call it:
#: it insists on one that is not loopback.
NOWHERE = "198.51.100.1"
#: Further options of the controllers, for benchmarks.
CONTROLLER_OPTIONS = "COLLAB_TEST_CONTROLLER_OPTIONS"


@dataclass(frozen=True)
class Endpoints:
    """Where the control plane listens.

    `advertise` is the address under which pods reach the API server, None where there are none.
    """

    address: str
    port: int
    etcd_port: int
    etcd_peer_port: int
    service_range: str
    advertise: str | None = None

    @property
    def server(self) -> str:
        return f"https://{self.address}:{self.port}"

    @property
    def service_address(self) -> str:
        """Address of the Service ``kubernetes``: the first of the range."""
        return str(ipaddress.ip_network(self.service_range)[1])


@dataclass(frozen=True)
class ControlPlane:
    """The prepared control plane: what to start first, what once the API is ready."""

    endpoints: Endpoints
    authority: Authority
    admin: KeyPair
    kubeconfig: Path
    first: tuple[Program, ...]
    then: tuple[Program, ...]


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that are free now (all held open until all are found)."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]
    finally:
        for item in sockets:
            item.close()


def prepare(
    directory: Path, binaries: Path, endpoints: Endpoints, *, now: datetime.datetime
) -> ControlPlane:
    """Write certificates and kubeconfigs into `directory` and return what to start."""
    certificates = directory / "certificates"
    certificates.mkdir(parents=True, exist_ok=True)
    authority = Authority(certificates, now=now)
    admin = authority.issue("admin", "admin", organizations=["system:masters"])
    kubeconfig = write_kubeconfig(
        directory / "kubeconfig", server=endpoints.server, ca_pem=authority.pem, pair=admin
    )
    for name in ("kube-controller-manager", "kube-scheduler"):
        write_kubeconfig(
            certificates / f"{name}.kubeconfig",
            server=endpoints.server,
            ca_pem=authority.pem,
            pair=authority.issue(name, f"system:{name}"),
        )
    token_keys = make_token_keys(certificates)
    return ControlPlane(
        endpoints=endpoints,
        authority=authority,
        admin=admin,
        kubeconfig=kubeconfig,
        first=(
            make_etcd(directory, binaries, endpoints),
            make_api_server(directory, binaries, endpoints, authority, token_keys),
        ),
        then=(
            make_controller_manager(binaries, certificates, endpoints, token_keys),
            make_scheduler(binaries, certificates),
        ),
    )


def make_etcd(directory: Path, binaries: Path, endpoints: Endpoints) -> Program:
    """Return etcd on loopback, without fsync: its data are thrown away with the cluster."""
    client = f"http://127.0.0.1:{endpoints.etcd_port}"
    peer = f"http://127.0.0.1:{endpoints.etcd_peer_port}"
    arguments = (
        f"--data-dir={directory / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
        f"--quota-backend-bytes={8 << 30}",
    )
    return Program("etcd", (str(binaries / "etcd"), *arguments))


def make_api_server(
    directory: Path,
    binaries: Path,
    endpoints: Endpoints,
    authority: Authority,
    token_keys: KeyPair,
) -> Program:
    """Return the API server: RBAC and Node authorisation, Pod Security and NodeRestriction."""
    serving = authority.issue(
        "kube-apiserver",
        "kube-apiserver",
        addresses=sorted({endpoints.address, "127.0.0.1", endpoints.service_address}),
        host_names=["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"],
    )
    # Lets `logs` and `exec` through to the kubelet; the role is bound by the group.
    kubelet_client = authority.issue(
        "kubelet-client", "kube-apiserver-kubelet-client", organizations=["system:masters"]
    )
    arguments = (
        f"--etcd-servers=http://127.0.0.1:{endpoints.etcd_port}",
        f"--bind-address={endpoints.address}",
        f"--secure-port={endpoints.port}",
        f"--advertise-address={endpoints.advertise or NOWHERE}",
        f"--endpoint-reconciler-type={'lease' if endpoints.advertise else 'none'}",
        f"--cert-dir={directory / 'certificates'}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        f"--client-ca-file={authority.certificate_file}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        # So that Pod Security, not this switch, is what refuses a privileged pod.
        "--allow-privileged=true",
        f"--service-account-key-file={token_keys.certificate}",
        f"--service-account-signing-key-file={token_keys.key}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-cluster-ip-range={endpoints.service_range}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-certificate-authority={authority.certificate_file}",
        f"--kubelet-client-certificate={kubelet_client.certificate}",
        f"--kubelet-client-key={kubelet_client.key}",
    )
    return Program("kube-apiserver", (str(binaries / "kube-apiserver"), *arguments))


def make_controller_manager(
    binaries: Path, certificates: Path, endpoints: Endpoints, token_keys: KeyPair
) -> Program:
    """Return the controllers: quota, namespaces, garbage collection, volumes and the rest."""
    kubeconfig = certificates / "kube-controller-manager.kubeconfig"
    arguments = (
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--secure-port=0",
        f"--root-ca-file={certificates / 'ca.crt'}",
        f"--service-account-private-key-file={token_keys.key}",
        f"--service-cluster-ip-range={endpoints.service_range}",
        "--use-service-account-credentials=true",
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
    )
    program = str(binaries / "kube-controller-manager")
    more = shlex.split(os.environ.get(CONTROLLER_OPTIONS, ""))
    return Program("kube-controller-manager", (program, *arguments, *more))


def make_scheduler(binaries: Path, certificates: Path) -> Program:
    """Return the scheduler."""
    kubeconfig = certificates / "kube-scheduler.kubeconfig"
    arguments = (
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--secure-port=0",
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
    )
    return Program("kube-scheduler", (str(binaries / "kube-scheduler"), *arguments))
