"""The portal is told once, signed, through its own faults and our restarts."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from jupyterhub_collab.constants import ANNOTATION_TOLD
from jupyterhub_collab.errors import RetryableError
from jupyterhub_collab.hubapi.client import HubClient
from jupyterhub_collab.managers.tenancy_status import TeamStatus
from jupyterhub_collab.policy.webhook_signature import DELIVERY_HEADER, SIGNATURE_HEADER
from jupyterhub_collab.reconcile.conditions import State
from jupyterhub_collab.services.provisioner.webhook import Webhook
from tests.cluster.cluster import Cluster
from tests.services.running import CONTEST, Provisioner, team, wait_until

pytestmark = pytest.mark.api

SECRET = b"a-secret-of-at-least-16-bytes"


class Portal:
    """Refuses the first tries, then listens."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.heard: list[tuple[dict[str, str], bytes]] = []
        portal = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                portal.refusals -= 1
                is_refused = portal.refusals >= 0
                if not is_refused:
                    portal.heard.append((dict(self.headers), body))
                self.send_response(503 if is_refused else 204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def end(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def portal() -> Iterator[Portal]:
    found = Portal(refusals=2)
    yield found
    found.end()


async def test_the_portal_is_told_once(
    make_provisioner: Callable[..., Provisioner],
    api_cluster: Cluster,
    portal: Portal,
    tmp_path: Path,
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET + b"\n")
    provisioner = make_provisioner(
        more={"COLLAB_WEBHOOK_URL": portal.url, "COLLAB_WEBHOOK_SECRET_FILE": str(secret)}
    )
    async with HubClient(provisioner.hub.api_url, provisioner.hub.token) as hub:
        await hub.create_group("contest.reef")
        await hub.put_properties("contest.reef", {"collab": CONTEST})
        await hub.create_group("ocean")
        await hub.put_properties("ocean", team())
    provisioner.start()
    provisioner.wait_healthy()
    # The team does not wait for the portal, which refuses twice.
    status = provisioner.wait_state("ocean", "ready")
    wait_until(lambda: portal.heard, timeout_s=20, what=lambda: provisioner.log[-2000:])
    ((headers, body),) = portal.heard
    expected = "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    assert headers[SIGNATURE_HEADER] == expected
    news = json.loads(body)
    assert news["event"] == "team.ready"
    assert (news["team"], news["contest"], news["specHash"]) == (
        "ocean",
        "reef",
        status["specHash"],
    )
    there = provisioner.platform.namespace_prefix + "ocean"

    def space() -> dict[str, str]:
        return api_cluster.get("namespace", there)["metadata"]

    wait_until(
        lambda: ANNOTATION_TOLD in space()["annotations"],
        timeout_s=10,
        what=lambda: provisioner.log[-2000:],
    )
    assert headers[DELIVERY_HEADER] == news["delivery"] == space()["uid"]
    # A change of tier and a crash later nobody is told again; a new team is.
    provisioner.kill()
    async with HubClient(provisioner.hub.api_url, provisioner.hub.token) as hub:
        await hub.put_properties("ocean", team(tier="large", generation=2))
        await hub.create_group("tide")
        await hub.put_properties("tide", team())
    provisioner.start()
    provisioner.wait_healthy()
    wait_until(lambda: len(portal.heard) > 1, timeout_s=20, what=lambda: provisioner.log[-2000:])
    assert provisioner.wait_state("ocean", "ready")["specHash"] != status["specHash"]
    assert [json.loads(body)["team"] for _, body in portal.heard] == ["ocean", "tide"]
    assert ANNOTATION_TOLD in space()["annotations"]
    assert SECRET.decode() not in provisioner.log


class _Kube:
    """Refuses the first marks."""

    def __init__(self, *refusals: Exception) -> None:
        self.refusals = list(refusals)

    async def apply(self, manifest: dict[str, Any], **_: object) -> dict[str, Any]:
        if self.refusals:
            raise self.refusals.pop(0)
        return manifest


async def test_a_mark_that_fails_is_tried_again_and_the_portal_is_told_once(portal: Portal) -> None:
    """Nothing else would: a team that stands has no further pass made of it."""
    portal.refusals = 0
    noted: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    kube: Any = _Kube(RetryableError("away"), RetryableError("away"))
    webhook = Webhook(portal.url, SECRET, kube, note=noted.put_nowait, sleep=sleep)
    status = TeamStatus("ocean", "reef", "hub-ocean", State.READY)
    webhook.offer(status, {"metadata": {"name": "hub-ocean", "uid": "1"}})
    work = asyncio.create_task(webhook.run())
    marked = await noted.get()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    assert ANNOTATION_TOLD in marked["metadata"]["annotations"]
    assert len(portal.heard) == 1
    assert len(waits) == 2
