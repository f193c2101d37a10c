"""The manifests on a real API server, applied under the very accounts that they ship.

The administrator makes the hub's namespace and applies roles and guard, as an installer would; all
else is done by the provisioner's or the hub's own token.
"""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

import pytest

from jupyterhub_collab import constants, names, units
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.models import TeamSpec

from .acting import GUARD_WAIT_S, Ground
from .conftest import to_team

pytestmark = pytest.mark.api


@pytest.mark.parametrize("case", ["full", "least"])
def test_every_manifest_is_accepted_strictly(ground: Ground, case: str) -> None:
    spec, namespace = to_team(ground, f"strict-{case}", case)
    first, *rest = make_tenancy(spec, ground.platform)
    try:
        ground.provisioner.apply(first)
        said = ground.provisioner.apply(first, *rest, dry_run=True).stdout
        assert said.count("(server dry run)") == 1 + len(rest)
    finally:
        ground.admin.kubectl("delete", "namespace", namespace, "--wait=false")


def test_strict_validation_shows_a_misspelt_field(ground: Ground) -> None:
    """The test above can fail."""
    namespace = make_tenancy(to_team(ground, "misspelt")[0], ground.platform)[0]
    namespace["metadata"]["lables"] = {"a": "b"}
    assert "lables" in ground.provisioner.refusal(namespace)


def test_applying_again_changes_nothing(ground: Ground, ocean: tuple[TeamSpec, str]) -> None:
    spec, namespace = ocean
    kinds = "quota,limits,networkpolicies,serviceaccounts,rolebindings"

    def versions() -> dict[str, str]:
        items = ground.admin.get(kinds, "-n", namespace)["items"]
        # The quota's status is the controller's and moves by itself.
        return {
            f"{i['kind']}/{i['metadata']['name']}": i["metadata"].get(
                "generation", i["metadata"]["resourceVersion"]
            )
            for i in items
            if i["kind"] != "ResourceQuota"
        }

    before = versions()
    ground.provisioner.apply(*make_tenancy(spec, ground.platform))
    assert versions() == before
    assert "NetworkPolicy/deny-all" in before


def test_a_bound_dataset_survives_another_apply(
    ground: Ground, ocean: tuple[TeamSpec, str]
) -> None:
    """The binding controller completes claimRef; our apply must leave its part alone."""
    spec, namespace = ocean
    ground.admin.kubectl(
        "wait", "-n", namespace, "--for=jsonpath={.status.phase}=Bound", "pvc/dataset-sst"
    )
    volume = names.dataset_volume(namespace, "sst")
    before = ground.admin.get("pv", volume)["spec"]["claimRef"]
    assert before["uid"]
    changed = spec.model_copy(update={"contest": "another"})  # changes every object's labels
    ground.give(spec.team, "another")
    ground.provisioner.apply(*make_tenancy(changed, ground.platform))
    after = ground.admin.get("pv", volume)
    assert after["metadata"]["labels"][constants.LABEL_CONTEST] == "another"
    assert after["spec"]["claimRef"] == before
    ground.give(spec.team, spec.contest)
    ground.provisioner.apply(*make_tenancy(spec, ground.platform))


def test_the_hub_reads_its_team_namespace_and_no_secret(
    ground: Ground, ocean: tuple[TeamSpec, str]
) -> None:
    _, namespace = ocean
    ground.hub.kubectl("get", "namespace", namespace)
    ground.hub.kubectl("get", "networkpolicy", constants.POLICY_DENY_ALL, "-n", namespace)
    for refused in (("get", "secrets"), ("get", "quota"), ("delete", "pvc", "team")):
        result = ground.hub.kubectl(*refused, "-n", namespace, check=False)
        assert "forbidden" in result.stderr


def make_claim(namespace: str, name: str, size: str, **spec: Any) -> dict[str, Any]:
    requests = {"requests": {"storage": size}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": requests, **spec},
    }


def test_storage_is_the_tier_whatever_class_is_named(
    ground: Ground, ocean: tuple[TeamSpec, str]
) -> None:
    """200Gi: 50Gi team, 15 personal volumes of 10Gi. 125Gi of data sets take nothing of it."""
    spec, namespace = ocean

    def create(name: str, size: str, storage_class: str) -> str:
        """As an administrator: policies hold the hub to one class; quota is for all of them."""
        claim = make_claim(namespace, name, size, storageClassName=storage_class)
        command = ("create", "-f", "-")
        return ground.admin.kubectl(*command, stdin=json.dumps(claim), check=False).stderr

    wait_for_quota(ground, namespace, "requests.storage", 50 + 125)
    large = create("large", "121Gi", "fast")
    assert "maximum storage usage per PersistentVolumeClaim is 120Gi" in large
    assert "exceeded quota" in create("x", "1Gi", constants.DATASET_STORAGE_CLASS)
    claims = ground.admin.get("pvc", "-n", namespace)["items"]
    assert len(claims) == 3
    for i in range(15):
        storage_class = "fast" if i % 2 else "slow"
        assert create(f"personal-{i}", "10Gi", storage_class) == ""
    for storage_class in ("fast", "slow"):
        assert "exceeded quota: team" in create("personal-15", "1Gi", storage_class)
    ground.admin.kubectl(
        "delete", "pvc", "-n", namespace, "--wait=false", *(f"personal-{i}" for i in range(15))
    )
    assert units.to_bytes("200Gi") == spec.tier.storage_bytes


def wait_for_quota(ground: Ground, namespace: str, key: str, gibibytes: int) -> None:
    """Wait until the quota controller has counted what was there before it."""
    deadline = time.monotonic() + GUARD_WAIT_S
    while time.monotonic() < deadline:
        status = ground.admin.get("quota", "team", "-n", namespace).get("status", {})
        if units.to_bytes(status.get("used", {}).get(key, "0")) == gibibytes << 30:
            return
    raise AssertionError(f"quota never counted {gibibytes}Gi of {key}: {status}")


def make_pod(namespace: str, **security: Any) -> dict[str, Any]:
    hardened = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {"name": "c", "image": "example", "securityContext": {**hardened, **security}}
    spec = {"serviceAccountName": constants.SERVICE_ACCOUNT_NAME, "containers": [container]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": namespace},
        "spec": spec,
    }


def test_pods_get_defaults_no_token_and_no_privileges(
    ground: Ground, ocean: tuple[TeamSpec, str]
) -> None:
    _, namespace = ocean

    def create(pod: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        """As an administrator, whom no policy of ours holds: Kubernetes itself does this."""
        options = ("create", "--dry-run=server", "-o", "json", "-f", "-")
        return ground.admin.kubectl(*options, stdin=json.dumps(pod), check=False)

    made = create(make_pod(namespace))
    assert made.returncode == 0, made.stderr
    spec = json.loads(made.stdout)["spec"]
    assert spec["containers"][0]["resources"]["limits"]["ephemeral-storage"] == "256Mi"
    assert not spec.get("volumes"), "a token was mounted"
    assert (
        "violates PodSecurity" in create(make_pod(namespace, allowPrivilegeEscalation=True)).stderr
    )
    assert "violates PodSecurity" in create(make_pod(namespace, runAsUser=0)).stderr
    large = make_pod(namespace)
    large["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "9", "memory": "33Gi"}}
    assert "maximum memory usage per Container is 32Gi" in create(large).stderr
