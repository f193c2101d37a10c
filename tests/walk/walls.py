"""What must not be reached from a member's terminal on a real node, each beside what must."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Error

from tests.cluster.cluster import Cluster
from tests.walk.ground import Site
from tests.walk.people import Person

PROBE = Path(__file__).with_name("probe.py")
HEALED_WITHIN_S = 1.0
_HEALING_PROBE = """
import json, socket, time
from pathlib import Path
began = time.monotonic()
def try_once(target, passed):
    try:
        socket.create_connection(target, 0.1).close()
        passed.append(time.monotonic() - began)
    except OSError:
        pass
closed, allowed = [], []
Path("begun").touch()
while time.monotonic() - began < {seconds}:
    try_once({closed!r}, closed)
    try_once({allowed!r}, allowed)
    time.sleep(0.1)
Path("passed.new").write_text(json.dumps([closed, allowed]))
Path("passed.new").rename("passed.json")
"""
_MEMORY_PROBE = """
import json, subprocess, sys
from pathlib import Path
def take(mebibytes):
    script = f"x = bytearray(b'1') * ({mebibytes} << 20)"
    return subprocess.run([sys.executable, "-c", script]).returncode
Path("memory.new").write_text(json.dumps([take(200), take(1500)]))
Path("memory.new").rename("memory.json")
"""


def check_walls(person: Person, *, cluster: Cluster, run: Site) -> None:
    """Probe from a JupyterLab terminal of the person's server."""
    hub = run.hub
    with listening(cluster.host_address) as other:
        closed = _closed_targets(cluster) | {"another port of the hub's machine": other}
        for name in closed.keys() - {"cloud metadata", "outside"}:
            assert run.connects(closed[name]), f"{name} must answer somebody"
        closed |= run.closed
        dataset = person.list_folder("data")[0]
        found = _run_probe(
            person,
            {
                "login_page": [*hub, urlsplit(run.url).netloc],
                "reach": {"hub": hub, "itself": ("127.0.0.1", 8888), **closed},
                "names": ["example.org", "kubernetes.default.svc.cluster.local"],
                "file": "summary.txt",
                "dataset": dataset,
            },
        )
    reach = found["reach"]
    assert reach.pop("hub") == "open"
    assert reach.pop("itself") == "open"
    assert set(reach) == set(closed)
    assert "open" not in reach.values(), reach
    assert not any(found["resolves"].values()), found["resolves"]
    assert "username_input" in found["login_page"]
    assert "demo-accounts-title" not in found["login_page"], "passwords are for this machine only"
    assert (found["uid"], found["gid"]) == (1000, 100)
    assert int(found["status"]["CapEff"], 16) == 0
    assert int(found["status"]["CapBnd"], 16) == 0
    assert found["status"]["NoNewPrivs"] == "1"
    assert found["status"]["Seccomp"] == "2"  # a filter
    assert found["files"] == []  # ocean's result, in no corner of this pod
    assert found["service_account"] is False
    assert found["devices"] == []
    assert found["data_is_writable"] is False
    assert found["memory_limit_bytes"] == 1 << 30


def check_healing(person: Person, *, cluster: Cluster, run: Site) -> None:
    """Policies that an admin deletes by hand are back before more than a second gets through."""
    closed = (_find_server(cluster, "team-ocean")["status"]["podIP"], 8888)
    script = _HEALING_PROBE.format(closed=closed, allowed=run.hub, seconds=8)
    person.write_file("healing.py", script)
    names = {name: _policy_names(cluster, name) for name in ("team-forest", "team-ocean")}
    assert all(names.values())

    def is_probing() -> bool:
        return _has_file(person, "begun")

    person.type_in_terminal("python3 healing.py", until=is_probing, timeout_s=30)
    for namespace, policies in names.items():
        cluster.kubectl("delete", "networkpolicy", "-n", namespace, "--wait=false", *policies)
    deadline = time.monotonic() + 90
    while not _has_file(person, "passed.json"):
        assert time.monotonic() < deadline, "the probe of the policies never ended"
        person.page.wait_for_timeout(300)
    passed, to_hub = json.loads(person.read_file("passed.json"))
    assert not passed or passed[-1] - passed[0] <= HEALED_WITHIN_S, passed
    assert len(to_hub) > 10, "the probe itself must get through where it may"
    for namespace, policies in names.items():
        assert _policy_names(cluster, namespace) == policies


def check_memory_limit(person: Person, *, cluster: Cluster) -> None:
    """200 MiB can be had, 1.5 GiB not: the kernel ends whoever takes it.

    With cgroup v2 the kernel may end the whole container with it.
    """
    person.write_file("memory.py", _MEMORY_PROBE)
    namespace = "team-payrolls"

    def is_over() -> bool:
        pod = _find_server(cluster, namespace)
        states = pod["status"].get("containerStatuses", [{}])[0]
        ended = states.get("state", {}).get("terminated") or states.get("lastState", {}).get(
            "terminated"
        )
        if ended:
            assert ended["reason"] == "OOMKilled", ended
            return True
        return _has_file(person, "memory.json")

    person.type_in_terminal("python3 memory.py", until=is_over, timeout_s=60)
    if _find_server(cluster, namespace)["status"]["phase"] == "Running":
        assert json.loads(person.read_file("memory.json")) == [0, -9]


def _closed_targets(cluster: Cluster) -> dict[str, tuple[str, int]]:
    api = urlsplit(cluster.server)
    assert api.hostname is not None
    service = cluster.get("service", "kubernetes", "-n", "default")["spec"]
    ocean = _find_server(cluster, "team-ocean")
    return {
        "server of another team": (ocean["status"]["podIP"], 8888),
        "API server": (api.hostname, api.port or 443),
        "API server's Service": (service["clusterIP"], 443),
        "kubelet": (ocean["status"]["hostIP"], 10250),
        "cloud metadata": ("169.254.169.254", 80),
        "outside": ("198.51.100.7", 443),  # RFC 5737: an address for documentation
    }


def _has_file(person: Person, name: str) -> bool:
    """Whether a file is there; False too while the server does not answer.

    While the policy that lets the proxy in is away, the node cuts open connections for good; memory
    that is short makes the answer late; where the proxy has no answer from the server it says 503.
    """
    try:
        status, text = person.fetch(f"{person.server}/api/contents/", timeout_ms=3_000)
    except Error:
        return False
    assert status in (200, 503), text
    return status == 200 and name in [entry["name"] for entry in json.loads(text)["content"]]


def wait_until_reached(person: Person) -> None:
    """Until the proxy has given up connections that the node cut (`_has_file`)."""
    deadline = time.monotonic() + 60
    while not _has_file(person, "team"):
        assert time.monotonic() < deadline, f"{person.name}'s server does not answer"
        person.page.wait_for_timeout(300)


def _find_server(cluster: Cluster, namespace: str) -> dict[str, Any]:
    pods = cluster.get("pods", "-n", namespace)["items"]
    assert len(pods) == 1, [pod["metadata"]["name"] for pod in pods]
    return dict(pods[0])


def _policy_names(cluster: Cluster, namespace: str) -> list[str]:
    items = cluster.get("networkpolicies", "-n", namespace)["items"]
    return sorted(item["metadata"]["name"] for item in items)


def _run_probe(person: Person, targets: dict[str, Any]) -> dict[str, Any]:
    person.write_file("targets.json", json.dumps(targets))
    person.write_file("probe.py", PROBE.read_text())

    def is_done() -> bool:
        return _has_file(person, "found.json")

    person.type_in_terminal("python3 probe.py", until=is_done, timeout_s=90)
    person.shoot(f"terminal-{person.name}")
    return dict(json.loads(person.read_file("found.json")))


@contextmanager
def listening(address: str) -> Iterator[tuple[str, int]]:
    """Something that listens on this machine and is none of the platform's."""
    with closing(socket.socket()) as listener:
        listener.bind((address, 0))
        listener.listen(8)
        yield address, listener.getsockname()[1]
