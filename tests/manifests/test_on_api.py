"""The manifests on a real API server, applied under the very accounts that they ship.

The administrator makes the hub's namespace and applies roles and guard, as an installer would; all
else is done by the provisioner's or the hub's own token.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jupyterhub_collab import constants, names, units
from jupyterhub_collab.manifests.guard import make_guard
from jupyterhub_collab.manifests.network_policy import make_deny_all
from jupyterhub_collab.manifests.rbac import make_rbac
from jupyterhub_collab.manifests.retention import make_retention
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.models import Platform, TeamSpec
from jupyterhub_collab.policy.permissions import Holder, permissions_of
from tests.cluster.cluster import Cluster

from .conftest import make_case

pytestmark = pytest.mark.api
HOME = "manifests-hub"
GUARD_WAIT_S = 30  # the API server reads new admission policies every second or so


@dataclass(frozen=True)
class Actor:
    """A service account and its way to the cluster."""

    cluster: Cluster
    kubeconfig: Path

    def kubectl(
        self, *arguments: str, stdin: object = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        text = None if stdin is None else json.dumps(stdin)
        options = ("--kubeconfig", str(self.kubeconfig))
        return self.cluster.kubectl(*options, *arguments, stdin=text, check=check)

    def apply(
        self, *manifests: dict[str, Any], dry_run: bool = False, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        options = ["apply", "--server-side", "--validate=strict", "--force-conflicts"]
        options += [f"--field-manager={constants.FIELD_MANAGER}"]
        options += ["--dry-run=server"] if dry_run else []
        document = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        return self.kubectl(*options, "-f", "-", stdin=document, check=check)

    def refusal(self, *manifests: dict[str, Any]) -> str:
        """Why it is refused; fails the test when it is not."""
        result = self.apply(*manifests, dry_run=True, check=False)
        assert result.returncode != 0, f"was accepted: {result.stdout}"
        return result.stderr

    def rules(self, namespace: str) -> set[tuple[str, str, str, tuple[str, ...]]]:
        """All that the account may do there, of what not everybody may."""
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
        status = json.loads(self.kubectl("create", "--raw", path, "-f", "-", stdin=review).stdout)
        return {
            (group, resource, verb, tuple(rule.get("resourceNames", ())))
            for rule in status["status"]["resourceRules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
            if not resource.startswith("selfsubject")
        }


@dataclass(frozen=True)
class Ground:
    """A platform on the cluster, with its accounts."""

    platform: Platform
    hub: Actor
    provisioner: Actor
    admin: Cluster


@pytest.fixture(scope="module")
def ground(api_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("accounts")
    update = {"hub_namespace": HOME, "namespace_prefix": "manifests-team-"}
    platform = make_case("full")[1].model_copy(update=update)
    api_cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}})
    api_cluster.apply(*make_rbac(platform), *make_guard(platform))
    hub, provisioner = (
        Actor(api_cluster, api_cluster.service_account_kubeconfig(HOME, name, folder / name))
        for name in ("hub", "provisioner")
    )
    yield Ground(platform, hub, provisioner, api_cluster)
    for manifest in reversed(make_guard(platform)):
        where = manifest["metadata"].get("namespace", "default")
        api_cluster.kubectl("delete", manifest["kind"], manifest["metadata"]["name"], "-n", where)
    api_cluster.kubectl("delete", "namespace", HOME, "--wait=false")


def to_team(ground: Ground, team: str, case: str = "full") -> tuple[TeamSpec, str]:
    """The case's spec under another team's name, and its namespace."""
    spec = make_case(case)[0].model_copy(update={"team": team})
    return spec, names.namespace_of(team, prefix=ground.platform.namespace_prefix)


@pytest.fixture(scope="module")
def ocean(ground: Ground) -> Iterator[tuple[TeamSpec, str]]:
    """A tenancy that stands, made by the provisioner."""
    spec, namespace = to_team(ground, "ocean")
    manifests = make_tenancy(spec, ground.platform)
    ground.provisioner.apply(*manifests)
    yield spec, namespace
    ground.admin.kubectl("delete", "namespace", namespace, "--wait=false")
    for key in spec.datasets:
        volume = names.dataset_volume(namespace, key)
        ground.admin.kubectl("delete", "pv", volume, "--wait=false")


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
    give(ground, namespace, "another")
    ground.provisioner.apply(*make_tenancy(changed, ground.platform))
    after = ground.admin.get("pv", volume)
    assert after["metadata"]["labels"][constants.LABEL_CONTEST] == "another"
    assert after["spec"]["claimRef"] == before
    give(ground, namespace, spec.contest)
    ground.provisioner.apply(*make_tenancy(spec, ground.platform))


def give(ground: Ground, namespace: str, contest: str) -> None:
    """The administrator's decision that another contest may have a namespace."""
    decision = f"{constants.ANNOTATION_GIVE_TO_CONTEST}={contest}"
    ground.admin.kubectl("annotate", "--overwrite", "namespace", namespace, decision)


def test_each_account_may_do_what_the_table_says_and_nothing_more(
    ground: Ground, ocean: tuple[TeamSpec, str]
) -> None:
    _, namespace = ocean

    def table(*holders: Holder) -> set[tuple[str, str, str, tuple[str, ...]]]:
        return {
            (p.api_group, p.resource, verb, p.names)
            for holder in holders
            for p in permissions_of(holder)
            for verb in p.verbs
        }

    everywhere, team = Holder.HUB_EVERYWHERE, Holder.HUB_IN_TEAM
    assert ground.hub.rules(namespace) == table(everywhere, team)
    for elsewhere in (HOME, "default", "kube-system"):
        assert ground.hub.rules(elsewhere) == table(everywhere)
    home = table(Holder.PROVISIONER, Holder.PROVISIONER_AT_HOME)
    assert ground.provisioner.rules(HOME) == home
    assert ground.provisioner.rules(namespace) == table(Holder.PROVISIONER)


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

    def create(claim: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        return ground.hub.kubectl("create", "-f", "-", stdin=claim, check=False)

    wait_for_quota(ground, namespace, "requests.storage", 50 + 125)
    large = create(make_claim(namespace, "large", "121Gi", storageClassName="fast"))
    assert "maximum storage usage per PersistentVolumeClaim is 120Gi" in large.stderr
    data = make_claim(namespace, "x", "1Gi", storageClassName=constants.DATASET_STORAGE_CLASS)
    assert "exceeded quota" in create(data).stderr
    claims = ground.admin.get("pvc", "-n", namespace)["items"]
    assert len(claims) == 3
    for i in range(15):
        storage_class = "fast" if i % 2 else "slow"
        claim = make_claim(namespace, f"personal-{i}", "10Gi", storageClassName=storage_class)
        assert create(claim).returncode == 0
    for storage_class in ("fast", "slow"):
        claim = make_claim(namespace, "personal-15", "1Gi", storageClassName=storage_class)
        assert "exceeded quota: team" in create(claim).stderr
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
        return ground.hub.kubectl(
            "create", "--dry-run=server", "-o", "json", "-f", "-", stdin=pod, check=False
        )

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


def test_the_guard_holds_the_provisioner_to_the_teams(
    ground: Ground, ocean: tuple[TeamSpec, str]
) -> None:
    spec, namespace = ocean
    provisioner, platform = ground.provisioner, ground.platform
    foreign = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "manifests-foreign"}}
    taken = make_tenancy(to_team(ground, "taken")[0], platform)[0]
    plain = {**taken, "metadata": {"name": taken["metadata"]["name"]}}
    deny_all = make_deny_all(spec, platform)
    bare = {**deny_all, "metadata": {"name": "bare", "namespace": namespace}}
    ground.admin.apply(foreign, plain, bare)

    def moved(manifest: dict[str, Any], **metadata: Any) -> dict[str, Any]:
        return {**manifest, "metadata": {**manifest["metadata"], **metadata}}

    tenancy = {(m["kind"], m["metadata"]["name"]): m for m in make_tenancy(spec, platform)}
    binding = tenancy["RoleBinding", "hub"]
    volume = tenancy["PersistentVolume", names.dataset_volume(namespace, "sst")]
    own = tenancy["Namespace", namespace]

    def with_source(**source: Any) -> dict[str, Any]:
        rest = {k: v for k, v in volume["spec"].items() if k not in ("csi", "mountOptions")}
        return {**moved(volume, name=f"{namespace}.y"), "spec": {**rest, **source}}

    secret = {"name": "x", "namespace": "kube-system"}

    def labelled(manifest: dict[str, Any], **values: str) -> dict[str, Any]:
        mine = {f"{constants.DOMAIN}/{key}": value for key, value in values.items()}
        return moved(manifest, labels={**manifest["metadata"]["labels"], **mine})

    def annotated(manifest: dict[str, Any], key: str, value: str) -> dict[str, Any]:
        return moved(manifest, annotations={**manifest["metadata"]["annotations"], key: value})

    def relabelled(key: str, value: str | None) -> dict[str, Any]:
        label = f"pod-security.kubernetes.io/{key}"
        labels = {k: v for k, v in own["metadata"]["labels"].items() if k != label}
        return moved(own, labels=labels if value is None else {**labels, label: value})

    wait_for_guard(provisioner, moved(deny_all, namespace="manifests-foreign"))
    cases = {
        "only in this hub's team namespaces": [
            moved(deny_all, namespace="manifests-foreign"),
            moved(deny_all, namespace="kube-system"),
            moved(binding, namespace="kube-system"),
        ],
        "changes and deletes only what bears": [taken],
        "start with the hub's prefix": [
            moved(taken, name="elsewhere"),
            moved(volume, name="elsewhere"),
        ],
        "named after their teams": [moved(own, name=platform.namespace_prefix + "x")],
        "nothing of one team to another": [labelled(own, team="x"), labelled(volume, team="x")],
        "must bear its namespace's team": [labelled(moved(deny_all, name="x"), team="x")],
        "an administrator gives a namespace": [labelled(own, contest="doomed")],
        "does not set": [annotated(own, constants.ANNOTATION_GIVE_TO_CONTEST, "doomed")],
        "are their team's alone": [
            moved(volume, name=f"{platform.namespace_prefix}x.y"),
            with_source(**{**volume["spec"], "claimRef": {"namespace": "x", "name": "y"}}),
        ],
        "are read-only, and what they hold stays": [
            with_source(**{**volume["spec"], "persistentVolumeReclaimPolicy": "Delete"}),
            with_source(**{**volume["spec"], "accessModes": ["ReadWriteMany"]}),
            with_source(csi={**volume["spec"]["csi"], "readOnly": False}),
            with_source(nfs={"server": "nfs.example.org", "path": "/"}),
        ],
        "name no Secret": [
            with_source(csi={**volume["spec"]["csi"], f"{step}SecretRef": secret})
            for step in (
                "controllerExpand",
                "controllerPublish",
                "nodeExpand",
                "nodePublish",
                "nodeStage",
            )
        ],
        "closes all pods, both ways": [
            {**deny_all, "spec": {**deny_all["spec"], **looser}}
            for looser in (
                {"egress": [{}]},
                {"ingress": [{}]},
                {"policyTypes": ["Ingress"]},
                {"podSelector": {"matchLabels": {"a": "b"}}},
            )
        ],
        "must bear this hub's labels": [
            moved(deny_all, name="bare", labels={}),
            moved(taken, name=platform.namespace_prefix + "bare", labels={}),
        ],
        "binds the hub's role to the hub alone": [
            moved({**binding, "subjects": [{**binding["subjects"][0], "name": "x"}]}, name="x")
        ],
        "are data sets": [
            {
                **moved(volume, name=f"{namespace}.x"),
                "spec": {**volume["spec"], "storageClassName": "fast"},
            }
        ],
        "where this platform's settings allow": [
            with_source(hostPath={"path": "/"}),
            with_source(csi={"driver": "elsewhere.example.org", "volumeHandle": "x"}),
        ],
        "enforce Pod Security restricted": [
            relabelled("enforce", None),
            relabelled("enforce", "privileged"),
            relabelled("enforce-version", "v1.0"),
        ],
    }
    nfs = {"server": "nfs.example.org", "path": "/", "readOnly": True}
    provisioner.apply(with_source(nfs=nfs), dry_run=True)
    provisioner.apply(own, volume, deny_all, dry_run=True)
    for message, manifests in cases.items():
        for manifest in manifests:
            refusal = provisioner.refusal(manifest)
            assert message in refusal, f"{manifest['metadata']}: {refusal}"
    deletion = ("delete", "networkpolicy", "-n", namespace, "--dry-run=server")
    deleted = provisioner.kubectl(*deletion, "bare", check=False)
    assert "changes and deletes only what bears" in deleted.stderr
    provisioner.kubectl(*deletion, constants.POLICY_PLATFORM)  # its own, it may
    deleted = provisioner.kubectl(*deletion, constants.POLICY_DENY_ALL, check=False)
    assert "stays for as long as its namespace does" in deleted.stderr
    ground.admin.kubectl("delete", "networkpolicy", "bare", "-n", namespace)
    other = moved({**binding, "roleRef": {**binding["roleRef"], "name": "cluster-admin"}}, name="x")
    assert "forbidden" in provisioner.refusal(other)
    for name in ("manifests-foreign", taken["metadata"]["name"]):
        ground.admin.kubectl("delete", "namespace", name, "--wait=false")


def wait_for_guard(provisioner: Actor, manifest: dict[str, Any]) -> None:
    deadline = time.monotonic() + GUARD_WAIT_S
    while time.monotonic() < deadline:
        result = provisioner.apply(manifest, dry_run=True, check=False)
        if "ValidatingAdmissionPolicy" in result.stderr:
            return
    raise AssertionError(f"the guard never spoke: {result.stdout}{result.stderr}")


def test_what_is_destroyed_needs_an_administrators_word(
    ground: Ground, ocean: tuple[TeamSpec, str]
) -> None:
    """The second key: no group, no token and no code of ours can turn it."""
    spec, namespace = ocean
    name, home = constants.RETENTION_CONFIG_MAP, ground.platform.hub_namespace
    things = (("namespace", namespace), ("pv", names.dataset_volume(namespace, "sst")))
    foreign = (("namespace", "default"), ("namespace", "kube-system"), ("namespace", home))

    def refusals(which: tuple[tuple[str, str], ...] = things) -> list[str]:
        deletion = ("delete", "--dry-run=server")
        tried = [ground.provisioner.kubectl(*deletion, *t, check=False) for t in which]
        return [t.stderr for t in tried if t.returncode != 0]

    def release(**decisions: str) -> None:
        ground.admin.kubectl("delete", "configmap", name, "-n", home, "--ignore-not-found")
        data = {key.replace("_", "."): value for key, value in decisions.items()}
        meta = {"name": name, "namespace": home}
        ground.admin.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}
        )

    def wait_for(count: int) -> None:
        """The API server reads the decision by a watch."""
        deadline = time.monotonic() + GUARD_WAIT_S
        while len(found := refusals()) != count:
            assert time.monotonic() < deadline, found

    assert all("does not release this" in r for r in refusals()), "no decision, no deletion"
    assert len(refusals()) == len(things)
    for wrong in (
        {"team_other": "destroy"},
        {f"team_{spec.team}": "keep"},
        {f"contest_{spec.team}": "destroy"},
    ):
        release(**wrong)
        wait_for(len(things))
        assert all("does not release this" in r for r in refusals()), refusals()
        assert len(refusals()) == len(things)
    for right in ({f"team_{spec.team}": "destroy"}, {f"contest_{spec.contest}": "destroy"}):
        release(**right)
        wait_for(0)
        assert len(refusals(foreign)) == len(foreign), "whatever is decided"
    for actor in (ground.hub, ground.provisioner):
        for verb in ("get", "delete"):
            said = actor.kubectl(verb, "configmap", name, "-n", home, check=False).stderr
            assert "forbidden" in said
        data = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
        data["metadata"]["namespace"] = home
        assert "forbidden" in actor.refusal(data)
    deleted = ground.hub.kubectl("delete", "namespace", namespace, check=False)
    assert "forbidden" in deleted.stderr
    by_admin = ("delete", "namespace", namespace, "--dry-run=server")
    release()
    wait_for(len(things))
    ground.admin.kubectl(*by_admin)  # an administrator needs no second word
    ground.admin.kubectl("delete", "configmap", name, "-n", home)
    deadline = time.monotonic() + GUARD_WAIT_S
    while ground.admin.kubectl(*by_admin, check=False).returncode == 0:
        assert time.monotonic() < deadline, "the API server never noticed"
    assert len(refusals()) == len(things), "without the ConfigMap nobody deletes what is ours"
    ground.admin.kubectl("create", "namespace", "not-ours")
    ground.admin.kubectl("delete", "namespace", "not-ours")  # and everybody else's goes as ever
    ground.admin.apply(*make_retention(ground.platform))
    wait_until_released = time.monotonic() + GUARD_WAIT_S
    while ground.admin.kubectl(*by_admin, check=False).returncode != 0:
        assert time.monotonic() < wait_until_released
