"""Real connections between real pods, for tests of what is reachable.

`make_pod` is a pod under Pod Security `restricted` that answers on all ports of the cases.
`Prober` runs in such a pod, through ``kubectl exec`` (which no NetworkPolicy concerns), and tries
one connection after the other; a whole table of cases costs milliseconds a probe.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError
from tests.cluster.images import BASE_IMAGE

#: Seconds for one try: a refusal comes at once, silence takes all of it.
PROBE_TIMEOUT_S: Final = 1.0

#: In the pod: echoes on TCP and UDP ports given as arguments (tN, uN).
SERVER_PROGRAM: Final = """
import selectors, socket, sys
loop = selectors.DefaultSelector()
for item in sys.argv[1:]:
    kind = socket.SOCK_STREAM if item[0] == "t" else socket.SOCK_DGRAM
    server = socket.socket(socket.AF_INET, kind)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("0.0.0.0", int(item[1:])))
    if item[0] == "t":
        server.listen(64)
    loop.register(server, selectors.EVENT_READ, item[0])
while True:
    for key, _ in loop.select():
        if key.data == "t":
            loop.register(key.fileobj.accept()[0], selectors.EVENT_READ, "c")
        elif key.data == "u":
            data, address = key.fileobj.recvfrom(512)
            key.fileobj.sendto(data, address)
        else:
            try:
                data = key.fileobj.recv(4096)
            except OSError:
                data = b""
            if data:
                key.fileobj.sendall(data)
            else:
                loop.unregister(key.fileobj)
                key.fileobj.close()
"""

#: In the pod: tries what each line says (PROTOCOL ADDRESS PORT) and answers with one line.
PROBE_PROGRAM: Final = """
import socket, sys
def attempt(protocol, address, port):
    kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as client:
        client.settimeout(float(sys.argv[1]))
        client.connect((address, port))
        client.sendall(b"hello")
        return client.recv(16) == b"hello"
print("ready", flush=True)
for line in sys.stdin:
    protocol, address, port = line.split()
    try:
        answer = "yes" if attempt(protocol, address, int(port)) else "no (closed)"
    except OSError as error:
        answer = "no (%s)" % (error.strerror or "silence")
    print(answer, flush=True)
"""


def make_pod(
    namespace: str,
    name: str,
    *,
    labels: Mapping[str, str] | None = None,
    tcp_ports: Sequence[int] = (),
    udp_ports: Sequence[int] = (),
    port_names: Mapping[int, str] | None = None,
) -> dict[str, Any]:
    """Return a pod that echoes on the ports given; TCP ports may have names."""
    ports = [{"name": text, "containerPort": port} for port, text in (port_names or {}).items()]
    listening = [*(f"t{port}" for port in tcp_ports), *(f"u{port}" for port in udp_ports)]
    container = {
        "name": "echo",
        "image": BASE_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", SERVER_PROGRAM, *listening],
        "ports": ports,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    if tcp_ports:
        probe = {"tcpSocket": {"port": tcp_ports[0]}, "periodSeconds": 1}
        container["readinessProbe"] = probe
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels or {})},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
        },
    }


def make_namespace(name: str, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return a namespace under Pod Security `restricted`."""
    enforced = {"pod-security.kubernetes.io/enforce": "restricted", **(labels or {})}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": enforced},
    }


class Prober:
    """Tries connections from inside one pod."""

    def __init__(self, cluster: Cluster, namespace: str, pod: str) -> None:
        command = [str(cluster.kubectl_program), "exec", "-i", "-n", namespace, pod, "--"]
        self._name = f"{namespace}/{pod}"
        self._process = subprocess.Popen(
            [*command, "python3", "-c", PROBE_PROGRAM, str(PROBE_TIMEOUT_S)],
            env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read("ready")

    def _read(self, wanted: str = "") -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line or (wanted and line != wanted):
            raise ClusterError(f"the prober in {self._name} ended")
        return line

    def attempt(self, protocol: str, address: str, port: int) -> str:
        """Return ``yes``, or ``no`` with the reason in parentheses."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{protocol} {address} {port}\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the prober."""
        with self._process:
            self._process.kill()


class HostProber:
    """Tries connections from this machine."""

    def attempt(self, protocol: str, address: str, port: int) -> str:
        """Return ``yes``, or ``no`` with the reason in parentheses."""
        kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
        with socket.socket(socket.AF_INET, kind) as client:
            client.settimeout(PROBE_TIMEOUT_S)
            try:
                client.connect((address, port))
                client.sendall(b"hello")
                return "yes" if client.recv(16) == b"hello" else "no (closed)"
            except OSError as error:
                return f"no ({error.strerror or 'silence'})"

    def close(self) -> None:
        """Nothing to end."""


@contextlib.contextmanager
def echo_on_host(address: str, port: int) -> Iterator[int]:
    """Echo on a TCP port of this machine (0 for a free one) and give its number."""
    with socket.create_server((address, port)) as server:
        server.settimeout(0.2)
        is_over = threading.Event()

        def serve() -> None:
            while not is_over.is_set():
                try:
                    client, _ = server.accept()
                except TimeoutError:
                    continue
                with client, contextlib.suppress(OSError):
                    client.settimeout(PROBE_TIMEOUT_S)
                    client.sendall(client.recv(16))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            is_over.set()
            thread.join()
