"""What the provisioner does to namespaces, as the audit log is told: on a real API server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jupyterhub_collab.auditapi.correlation import HEADER
from jupyterhub_collab.constants import POLICY_DENY_ALL
from jupyterhub_collab.hubapi.client import HubClient
from tests.cluster.cluster import Cluster
from tests.hub.audit_service import RecordingService
from tests.services.running import CONTEST, Provisioner, team
from tests.services.test_provisioner import add_team, namespace

pytestmark = pytest.mark.api


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordingService]:
    found = RecordingService(tmp_path_factory.mktemp("audit"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def provisioner(
    make_provisioner: Callable[..., Provisioner],
    service: RecordingService,
    tmp_path_factory: pytest.TempPathFactory,
) -> Provisioner:
    folder = tmp_path_factory.mktemp("emitter")
    (folder / "token").write_text(service.token)
    made = make_provisioner(
        more={
            "COLLAB_AUDIT_URL": service.url,
            "COLLAB_AUDIT_TOKEN_FILE": str(folder / "token"),
            "COLLAB_AUDIT_SPOOL": str(folder / "spool"),
        }
    )
    made.start()
    made.wait_healthy()
    return made


async def test_the_life_of_a_team(
    provisioner: Provisioner, hub: HubClient, service: RecordingService, api_cluster: Cluster
) -> None:
    configured = service.one("configuration.load")
    assert configured["thing"] == "provisioner"
    assert len(configured["details"]["platform_sha256"]) == 64

    await add_team(hub, "ocean")
    answer = provisioner.request("POST", "teams/ocean/provision", headers={HEADER: "start-4711"})
    assert answer.status_code in (200, 202)
    status = provisioner.wait_state("ocean", "ready")
    made = service.some("tenancy.create", team="ocean")[0]  # another one if it took two passes
    there = namespace(provisioner, "ocean")
    assert (made["thing"], made["contest"], made["outcome"]) == (there, "reef", "succeeded")
    assert made["details"]["spec_hash"] == status["specHash"]
    assert "spec_hash_before" not in made["details"]
    assert f"create NetworkPolicy {POLICY_DENY_ALL}" in made["details"]["objects"]
    # Whoever was quicker, the poll or the one who waits: the id is told if it was the latter.
    assert made.get("correlation") in ("start-4711", None)
    assert "actor" not in made

    # Somebody opens the wall; it is put back, and that is told with its name.
    api_cluster.kubectl("delete", "networkpolicy", POLICY_DENY_ALL, "-n", there)
    drift = service.one("tenancy.drift", team="ocean")
    assert f"create NetworkPolicy {POLICY_DENY_ALL}" in drift["details"]["objects"]
    assert drift["details"]["spec_hash"] == drift["details"]["spec_hash_before"]

    # The host closes the team.
    await hub.put_properties("ocean", team(gate="closed"))
    changed = service.one("tenancy.change", team="ocean", outcome="succeeded")
    assert changed["details"]["spec_hash_before"] == status["specHash"]
    assert changed["details"]["spec_hash"] != status["specHash"]

    # It is to be destroyed, and the cluster's administrator has not said so.
    await hub.put_properties("ocean", team(gate="closed", retention="destroy"))
    refused = service.one("tenancy.delete", team="ocean", outcome="refused")
    assert refused["reason"] == "not-released"
    assert not service.find("tenancy.delete", outcome="succeeded")


async def test_what_cannot_be_made_is_told_once(
    provisioner: Provisioner, hub: HubClient, service: RecordingService
) -> None:
    patients = {
        "title": "Patients",
        "everyTeam": True,
        "protected": True,
        "nfs": {"server": "192.0.2.7", "path": "/patients"},
    }
    await hub.create_group("contest.clinic")
    guarded: dict[str, Any] = {**CONTEST, "datasets": {"patients": patients}}
    await hub.put_properties("contest.clinic", {"collab": guarded})
    await add_team(hub, "ward", contest="clinic")
    provisioner.wait_state("ward", "failed")
    refused = service.one("tenancy.change", team="ward")
    assert (refused["outcome"], refused["reason"]) == ("refused", "spec-invalid")
    for _ in range(3):  # looked at again and again
        provisioner.request("POST", "teams/ward/provision")
    await add_team(hub, "next")
    service.some("tenancy.create", team="next")
    assert len(service.find("tenancy.change", team="ward")) == 1
    assert "192.0.2.7" not in json.dumps(service.events)
