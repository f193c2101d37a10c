"""A team is destroyed: real hub, provisioner and API server, under the accounts and policies that
we ship. Two people have to say so, and nothing but that team goes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from jupyterhub_collab.constants import (
    ANNOTATION_DESTROY,
    DOMAIN,
    LABEL_MANAGED_BY,
    MANAGED_BY,
    POLICY_DENY_ALL,
)
from jupyterhub_collab.hubapi.client import HubClient
from tests.cluster.cluster import Cluster
from tests.services.running import CONTEST, READER_TOKEN, Provisioner, team, wait_until

pytestmark = pytest.mark.api

SEA = {
    "title": "Sea",
    "everyTeam": True,
    "size": "1Gi",
    "csi": {"driver": "files.example.org", "volumeHandle": "sea"},
}
CSI = {"dataset_csi_drivers": ["files.example.org"]}


@pytest.fixture(scope="module")
def provisioner(make_provisioner: Callable[..., Provisioner]) -> Provisioner:
    made = make_provisioner(platform=CSI)
    made.start()
    made.wait_healthy()
    return made


@pytest.fixture
async def hub(provisioner: Provisioner) -> Any:
    async with HubClient(provisioner.hub.api_url, provisioner.hub.token) as client:
        await client.create_group("contest.reef")
        await client.put_properties("contest.reef", {"collab": {**CONTEST, "datasets": {"s": SEA}}})
        yield client


def release(cluster: Cluster, provisioner: Provisioner, **labels: str) -> None:
    """An administrator's word on all that bears these labels."""
    wanted = {"hub": provisioner.platform.hub_id, **labels}
    theirs = ",".join(f"{DOMAIN}/{key}={value}" for key, value in wanted.items())
    kinds = "namespace,persistentvolume"
    cluster.kubectl("annotate", "--overwrite", kinds, "-l", theirs, f"{ANNOTATION_DESTROY}=reef")


def there(cluster: Cluster, kind: str, name: str, *where: str) -> bool:
    return cluster.kubectl("get", kind, name, *where, check=False).returncode == 0


async def test_a_team_is_destroyed_once_both_have_said_so(
    provisioner: Provisioner, hub: HubClient, api_cluster: Cluster
) -> None:
    prefix = provisioner.platform.namespace_prefix
    for name in ("kelp", "tide"):
        await hub.create_group(name)
        await hub.put_properties(name, team())
        provisioner.wait_state(name, "ready")
    space, volume = f"{prefix}kelp", f"{prefix}kelp.s"
    before = {
        kind: api_cluster.get(kind, f"{prefix}tide{end}")["metadata"]["uid"]
        for kind, end in (("namespace", ""), ("persistentvolume", ".s"))
    }
    doomed = team(retention="destroy", generation=2)

    # What it would do, before anybody has decided.
    body = {"team": "kelp", "properties": doomed}
    plan = provisioner.request("POST", "plan", json=body).json()["plans"]["kelp"]
    assert plan["steps"] == []
    assert [issue["type"] for issue in plan["issues"]] == ["NotReleased"]
    await hub.put_properties("kelp", {"collab": {**team()["collab"], "retention": "destory"}})
    provisioner.request("POST", "nudge", json={"groups": ["kelp"]})
    provisioner.wait_state("kelp", "failed")

    # The hub alone: it is told what is missing, and its walls stand.
    await hub.put_properties("kelp", doomed)
    provisioner.request("POST", "nudge", json={"groups": ["kelp"]})
    status = provisioner.wait_state("kelp", "destroying")
    (told,) = [c for c in status["conditions"] if c["type"] == "NotReleased"]
    said = re.search(rf"kubectl (annotate .*? {ANNOTATION_DESTROY}=reef) ", told["message"])
    assert said is not None, told
    assert provisioner.request("POST", "teams/kelp/provision").status_code == 409
    api_cluster.kubectl("delete", "networkpolicy", POLICY_DENY_ALL, "-n", space)
    wait_until(
        lambda: there(api_cluster, "networkpolicy", POLICY_DENY_ALL, "-n", space),
        timeout_s=5,
        what=lambda: provisioner.log[-2000:],
    )
    assert (
        json.loads(
            api_cluster.get("namespace", space)["metadata"]["annotations"][
                "jupyterhub-collab.org/spec"
            ]
        )["gate"]
        == "closed"
    )

    # Both: all of it goes, the volume of the data set last; nobody else's.
    api_cluster.kubectl(*said.group(1).split())
    provisioner.wait_state("kelp", "destroyed")
    assert not there(api_cluster, "namespace", space)
    assert not there(api_cluster, "persistentvolume", volume)
    after = {
        kind: api_cluster.get(kind, f"{prefix}tide{end}")["metadata"]["uid"]
        for kind, end in (("namespace", ""), ("persistentvolume", ".s"))
    }
    assert after == before
    assert provisioner.states()["tide"] == "ready"
    answer = provisioner.request("POST", "plan", json={"teams": ["kelp"]}).json()
    assert answer["plans"]["kelp"] == {"steps": [], "issues": []}

    # Undecided again, it begins anew; the administrator's word went with what it was said of.
    await hub.put_properties("kelp", team(generation=3))
    provisioner.request("POST", "nudge", json={"groups": ["kelp"]})
    provisioner.wait_state("kelp", "ready")
    await hub.put_properties("kelp", team(retention="destroy", generation=4))
    provisioner.request("POST", "nudge", json={"groups": ["kelp"]})
    status = provisioner.wait_state("kelp", "destroying")
    assert "NotReleased" in [c["type"] for c in status["conditions"]]


async def test_a_namespace_that_lost_our_labels_is_not_called_destroyed(
    provisioner: Provisioner, hub: HubClient, api_cluster: Cluster
) -> None:
    """A watch by labels would say the same as of one that is gone."""
    space = f"{provisioner.platform.namespace_prefix}bare"
    await hub.create_group("bare")
    await hub.put_properties("bare", team())
    provisioner.wait_state("bare", "ready")
    await hub.put_properties("bare", team(retention="destroy", generation=2))
    provisioner.request("POST", "nudge", json={"groups": ["bare"]})
    provisioner.wait_state("bare", "destroying")
    api_cluster.kubectl("label", "namespace", space, f"{LABEL_MANAGED_BY}-")
    release(api_cluster, provisioner, team="bare")
    status = provisioner.wait_state("bare", "failed")
    assert "NotOurs" in {condition["type"] for condition in status["conditions"]}
    assert "deletionTimestamp" not in api_cluster.get("namespace", space)["metadata"]
    api_cluster.kubectl("label", "namespace", space, f"{LABEL_MANAGED_BY}={MANAGED_BY}")
    provisioner.wait_state("bare", "destroyed", 60)
    assert not there(api_cluster, "namespace", space)


async def test_one_that_is_stuck_is_told_of_and_holds_nobody_up(
    provisioner: Provisioner, hub: HubClient, api_cluster: Cluster
) -> None:
    prefix = provisioner.platform.namespace_prefix
    teams = ["stuck", "go"]
    for name in teams:
        await hub.create_group(name)
        await hub.put_properties(name, team())
    for name in teams:
        provisioner.wait_state(name, "ready")
    held = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "held",
            "namespace": f"{prefix}stuck",
            "finalizers": ["example.org/held"],
        },
    }
    api_cluster.apply(held)
    release(api_cluster, provisioner, contest="reef")
    for name in teams:
        await hub.put_properties(name, team(retention="destroy", generation=2))
    provisioner.request("POST", "nudge", json={"groups": teams})
    for name in teams[1:]:
        provisioner.wait_state(name, "destroyed", 60)

    def is_told() -> bool:
        found = provisioner.request("GET", "teams/stuck", token=READER_TOKEN).json()
        said = [c["message"] for c in found["conditions"] if c["type"] == "Terminating"]
        return bool(said) and "example.org/held" in said[0]

    wait_until(is_told, timeout_s=20, what=lambda: provisioner.request("GET", "teams/stuck").text)
    assert there(api_cluster, "persistentvolume", f"{prefix}stuck.s"), "its claim may be there yet"
    free = '{"metadata": {"finalizers": null}}'
    where = ("-n", f"{prefix}stuck")
    api_cluster.kubectl("patch", "configmap", "held", *where, "--type=merge", "-p", free)
    provisioner.wait_state("stuck", "destroyed", 60)
    assert not there(api_cluster, "persistentvolume", f"{prefix}stuck.s")
