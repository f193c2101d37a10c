"""A cluster as tests see it, whichever way it came to be."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tests.cluster import cgroups, pins
from tests.cluster.address_plan import AddressPlan
from tests.cluster.certificates import write_kubeconfig
from tests.cluster.errors import CannotHave, ClusterError
from tests.cluster.record import Level, read_record

#: Points all tests at a cluster that is there already.
KUBECONFIG_VARIABLE: Final = "COLLAB_TEST_KUBECONFIG"
#: For such a cluster: the address of this machine as its pods see it.
HOST_ADDRESS_VARIABLE: Final = "COLLAB_TEST_HOST_ADDRESS"
#: Longer than a session may last; the API server caps what it does not like.
TOKEN_LIFETIME: Final = "24h"


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes
    ----------
    kubeconfig
        File with the administrator's credentials. For the arrangements of a test only: code of
        ours gets `service_account_kubeconfig`.
    server
        URL of the API server.
    ca
        File with the authority that signed the server's certificate (PEM).
    host_address
        Address by which pods reach this machine.
    directory
        The cluster's own folder, None for a foreign cluster.
    """

    level: Level
    kubeconfig: Path
    server: str
    ca: Path
    host_address: str
    kubectl_program: Path
    directory: Path | None = None

    @property
    def is_ours(self) -> bool:
        """Whether programs of this cluster may be killed and its folder read."""
        return self.directory is not None

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as administrator and return its output as text.

        Raises
        ------
        ClusterError
            If `check` and it fails; with what it wrote to standard error.
        """
        result = subprocess.run(
            [str(self.kubectl_program), *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
        )
        if check and result.returncode != 0:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {result.stderr.strip()}")
        return result

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Apply manifests server-side, as administrator."""
        document = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(document))

    def get(self, *arguments: str) -> Any:
        """Return what ``kubectl get ARGUMENTS -o json`` prints."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)

    def exec(
        self,
        namespace: str,
        pod: str,
        *command: str,
        container: str | None = None,
        stdin: str | None = None,
        check: bool = True,
        timeout_s: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a pod (level `node`)."""
        options = ["exec", "-n", namespace, pod]
        options += ["-c", container] if container else []
        options += ["-i"] if stdin is not None else []
        return self.kubectl(*options, "--", *command, stdin=stdin, check=check, timeout_s=timeout_s)

    def in_node(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of this machine in the node's namespaces (level `node`, ours only).

        Raises
        ------
        ClusterError
            If this is no node of ours, or if `check` and the command fails.
        """
        record = read_record(self.directory) if self.directory is not None else None
        if record is None or record.init is None:
            raise ClusterError("only a node that was started here can be entered")
        enter = ["nsenter", f"--target={record.init}", "--net", "--mount", "--pid"]
        result = subprocess.run(
            [*enter, "--", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and result.returncode != 0:
            raise ClusterError(f"{' '.join(command)} in the node: {result.stderr.strip()}")
        return result

    def load_images(self, archives: Iterable[Path]) -> None:
        """Import image archives into a running node of ours."""
        ctr = str(self.kubectl_program.with_name("ctr"))
        for archive in archives:
            options = ["-a", "/run/collab/containerd.sock", "-n", "k8s.io"]
            self.in_node(ctr, *options, "images", "import", "--local", str(archive))

    def kill(self, program: str) -> None:
        """Kill one program of ours (``kube-apiserver``, ``kubelet``, ...) with SIGKILL.

        It is started again after 0.3 s; wait for what you need of it.
        """
        self.signal(program, "KILL")

    def has_program(self, program: str) -> bool:
        """Whether this cluster of ours runs that program."""
        return self.directory is not None and (self.directory / "pid" / program).exists()

    def signal(self, program: str, name: str) -> None:
        """Send a signal (``KILL``, ``STOP``, ``CONT``) to one program of ours."""
        if self.directory is None:
            raise ClusterError("programs of a foreign cluster are not ours to kill")
        pid = (self.directory / "pid" / program).read_text().strip()
        if self.level is Level.NODE:
            self.in_node("kill", f"-{name}", pid)
        else:
            os.kill(int(pid), signal.Signals[f"SIG{name}"])

    def crash_containers(self) -> None:
        """End every container, its shim, containerd and kubelet at once, as a power cut does.

        The control plane goes on, as it would on machines of its own; containerd and kubelet are
        started again.
        """
        record = read_record(self.directory) if self.directory is not None else None
        if record is None or record.index is None:
            raise ClusterError("only a node that was started here can be crashed")
        inside = self.in_node("pidof", "containerd-shim-runc-v2", check=False).stdout.split()
        self.kill("kubelet")
        self.kill("containerd")
        if inside:
            self.in_node("kill", "-KILL", *inside, check=False)
        for pid in cgroups.list_processes(f"{AddressPlan(record.index).cgroup}/kubepods"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def service_account_kubeconfig(self, namespace: str, name: str, path: Path) -> Path:
        """Write a kubeconfig of service account `name`, with a token from TokenRequest."""
        options = ["create", "token", name, "-n", namespace, f"--duration={TOKEN_LIFETIME}"]
        token = self.kubectl(*options).stdout.strip()
        return write_kubeconfig(
            path,
            server=self.server,
            ca_pem=self.ca.read_bytes(),
            token=token,
            namespace=namespace,
        )


def find_kubectl(binaries: Path | None) -> Path:
    """Return kubectl from `binaries` or the PATH."""
    if binaries is not None and (binaries / "kubectl").exists():
        return binaries / "kubectl"
    found = shutil.which("kubectl")
    if found is None:
        raise CannotHave("kubectl is not on the PATH; install it or build the test cluster's")
    return Path(found)


def open_cluster(directory: Path, binaries: Path) -> Cluster:
    """Return the running cluster of ours in `directory`.

    Raises
    ------
    ClusterError
        If none runs there.
    """
    record = read_record(directory)
    if record is None or not record.is_ready or not record.is_alive():
        raise ClusterError(f"no cluster runs in {directory}")
    return Cluster(
        level=record.level,
        kubeconfig=directory / "kubeconfig",
        server=record.server,
        ca=directory / "certificates" / "ca.crt",
        host_address=record.host_address,
        kubectl_program=find_kubectl(binaries),
        directory=directory,
    )


def open_foreign_cluster(kubeconfig: Path, scratch: Path) -> Cluster:
    """Return the cluster that `kubeconfig` names; its authority is written into `scratch`.

    Raises
    ------
    CannotHave
        If the file is missing or has no embedded or named authority.
    """
    if not kubeconfig.is_file():
        raise CannotHave(f"{KUBECONFIG_VARIABLE} names {kubeconfig}, which is not a file")
    built = pins.program_folder()
    kubectl = find_kubectl(built if built.is_dir() else None)
    command = [str(kubectl), "config", "view", "--raw", "--minify", "--flatten", "-o", "json"]
    result = subprocess.run(
        [*command, "--kubeconfig", str(kubeconfig)], capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise CannotHave(f"{kubeconfig} cannot be read: {result.stderr.strip()}")
    cluster = json.loads(result.stdout)["clusters"][0]["cluster"]
    if "certificate-authority-data" not in cluster:
        raise CannotHave(f"{kubeconfig} names no certificate authority")
    ca = scratch / "ca.crt"
    ca.write_bytes(b64decode(cluster["certificate-authority-data"]))
    host = os.environ.get(HOST_ADDRESS_VARIABLE) or find_source_address(cluster["server"])
    return Cluster(Level.NODE, kubeconfig, cluster["server"], ca, host, kubectl)


def find_source_address(server: str) -> str:
    """Return the address from which this machine talks to `server` (nothing is sent)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((urlsplit(server).hostname, 9))
        return str(probe.getsockname()[0])
