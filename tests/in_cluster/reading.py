"""What people and admins read while a fault lasts, and the waiting for it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from tests.campaign.visitor import Visitor
from tests.in_cluster.home import Home


def wait_until(check: Callable[[], bool], *, what: str, timeout_s: float = 60.0) -> None:
    """A program elsewhere gives no other sign."""
    deadline = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def server_pod(home: Home, team: str) -> dict[str, Any]:
    """The one pod of a team."""
    (pod,) = home.cluster.get("pods", "-n", f"team-{team}")["items"]
    return dict(pod)


def claims_of(home: Home, team: str) -> set[str]:
    """Which volumes a team has: uids of its claims."""
    claims = home.cluster.get("persistentvolumeclaims", "-n", f"team-{team}")["items"]
    return {claim["metadata"]["uid"] for claim in claims}


def read_warnings(home: Home, team: str) -> list[str]:
    """Warnings of a team's namespace, as an admin reads them."""
    events = home.cluster.get("events", "-n", f"team-{team}")["items"]
    return [event["message"] for event in events if event["type"] == "Warning"]


def read_end(visitor: Visitor) -> str:
    """What the spawn page says of the last server, once the hub has seen its end."""
    wait_until(lambda: not visitor.server(), what="the hub does not see that the server ended")
    page = visitor.read_page("spawn")
    begun = page.find("The last time: ")
    assert begun >= 0, page
    return " ".join(page[begun:].partition("</p>")[0].removeprefix("The last time: ").split())


def evict(home: Home, namespace: str, pod: str) -> None:
    """Through the eviction API, as a drain does."""
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": namespace},
    }
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    home.cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))

    def is_gone() -> bool:
        return pod not in home.cluster.kubectl("get", "pods", "-n", namespace, "-o", "name").stdout

    wait_until(is_gone, what=f"{pod} does not go")
