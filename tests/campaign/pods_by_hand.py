"""Plays the kubelet where there is no node: every pod runs, and answers over HTTP as itself.

Each pod has an address of its own on this machine (127/8), and what listens there knows no path but
its server's, and says which pod it is. A pod that is gone answers no more.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from jupyterhub_collab import constants
from jupyterhub_collab.models import Platform
from tests.cluster.cluster import Cluster

_LOOK_EVERY_S: Final = 0.3


@dataclass(frozen=True)
class Served:
    """What stands for the server in one pod."""

    pod: str
    uid: str
    username: str
    prefix: str

    @classmethod
    def of(cls, pod: dict[str, Any]) -> Served:
        meta, (container,) = pod["metadata"], pod["spec"]["containers"]
        environ = {entry["name"]: entry.get("value", "") for entry in container["env"]}
        return cls(
            meta["name"],
            meta["uid"],
            meta["annotations"][constants.ANNOTATION_USERNAME],
            environ["JUPYTERHUB_SERVICE_PREFIX"],
        )

    @property
    def address(self) -> str:
        """The pod's own."""
        first, second, third = hashlib.sha256(self.uid.encode()).digest()[:3]
        return f"127.{first % 200 + 20}.{second}.{third % 200 + 20}"

    def to_wire(self) -> dict[str, str]:
        return asdict(self)

    def status(self) -> dict[str, Any]:
        """The pod's, as a kubelet reports it."""
        running = {"running": {"startedAt": "2027-01-01T00:00:00Z"}}
        container = {
            "name": "notebook",
            "ready": True,
            "started": True,
            "restartCount": 0,
            "image": "x",
            "imageID": "x",
            "state": running,
        }
        return {
            "phase": "Running",
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "containerStatuses": [container],
        }


def _listen(served: Served, port: int) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(served.to_wire()).encode()
            self.send_response(200 if self.path.startswith(served.prefix) else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((served.address, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    return server


class Hand(threading.Thread):
    """Has every pod of a hub that is not deleted run."""

    def __init__(self, cluster: Cluster, platform: Platform) -> None:
        super().__init__(daemon=True)
        self._cluster, self._port = cluster, platform.server_port
        self._selector = f"{constants.LABEL_HUB}={platform.hub_id}"
        self._end = threading.Event()
        self._listening: dict[str, ThreadingHTTPServer] = {}

    def run(self) -> None:
        while not self._end.wait(_LOOK_EVERY_S):
            found = self._cluster.kubectl(
                "get", "pods", "-A", "-l", self._selector, "-o", "json", check=False
            )
            if found.returncode == 0:  # else the API is away: servers go on
                self._play(json.loads(found.stdout)["items"])

    def _play(self, pods: list[dict[str, Any]]) -> None:
        there = {pod["metadata"]["uid"] for pod in pods}
        for uid in self._listening.keys() - there:
            self._close(uid)
        for pod in pods:
            served = Served.of(pod)
            if served.uid not in self._listening:
                self._listening[served.uid] = _listen(served, self._port)
            if (pod.get("status") or {}).get("phase") != "Running":
                patch = json.dumps({"status": served.status()})
                options = ("--subresource=status", "--type=merge", "-p", patch)
                where = ("-n", pod["metadata"]["namespace"])
                self._cluster.kubectl("patch", "pod", served.pod, *where, *options, check=False)

    def silence(self, uid: str) -> None:
        """Have a pod answer no more, though it runs."""
        self._listening[uid].shutdown()
        self._listening[uid].server_close()

    def _close(self, uid: str) -> None:
        server = self._listening.pop(uid)
        server.shutdown()
        server.server_close()

    def end(self) -> None:
        self._end.set()
        self.join(20)
        for uid in list(self._listening):
            self._close(uid)
