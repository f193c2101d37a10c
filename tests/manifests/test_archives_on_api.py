"""What the cluster lets an archive Job be, on a real API server: this, and no other pod.

Pods are asked for as the cluster's own Job controller would: each case is the pod of a Job that the
provisioner really makes, with one thing changed, and is refused by the policy's own sentence.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from jupyterhub_collab import constants
from jupyterhub_collab.manifests.archive_job import (
    ArchiveOrder,
    ArchiveWork,
    make_archive_job,
    make_archive_secret,
)
from jupyterhub_collab.manifests.manifest import ownership_labels
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.models import Gate, TeamSpec

from .acting import HOME, Ground, until
from .conftest import to_team
from .test_pod_policies_on_api import Change, at, label

pytestmark = pytest.mark.api
Manifest = dict[str, Any]
CONTROLLER = "system:serviceaccount:kube-system:job-controller"
TOKEN = "t" * 64


@pytest.fixture(scope="module")
def lagoon(ground: Ground) -> Iterator[TeamSpec]:
    """A tenancy whose gate is closed, as it is while its volumes are copied."""
    spec = to_team(ground, "lagoon")[0].model_copy(update={"gate": Gate.CLOSED})
    ground.provisioner.apply(*make_tenancy(spec, ground.platform))
    job = make_job(ground, spec)
    until(lambda: ground.provisioner.create(job) == "")
    pod = pod_of(job)
    pod["spec"]["containers"][0]["image"] = "registry.example.org/other:1"
    until(lambda: "ValidatingAdmissionPolicy" in refusal(ground, pod))
    yield spec
    ground.forget(spec)


def make_job(
    ground: Ground, spec: TeamSpec, work: ArchiveWork = ArchiveWork.SAVE, claim: str = "team"
) -> Manifest:
    order = ArchiveOrder(work, claim, f"{spec.team}.0123456789abcdef.7", "/services/contests/api/x")
    return make_archive_job(
        order,
        namespace=ground.space(spec.team),
        labels=ownership_labels(spec, ground.platform),
        platform=ground.platform,
    )


def pod_of(job: Manifest) -> Manifest:
    """As the Job controller makes it."""
    meta, template = job["metadata"], copy.deepcopy(job["spec"]["template"])
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": "u-1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{meta['name']}-abcde",
            "namespace": meta["namespace"],
            "labels": {**template["metadata"]["labels"], "job-name": meta["name"]},
            "ownerReferences": [owner | {"controller": True, "blockOwnerDeletion": True}],
            "finalizers": ["batch.kubernetes.io/job-tracking"],
        },
        "spec": template["spec"],
    }


def refusal(ground: Ground, pod: Manifest, *, user: str = CONTROLLER) -> str:
    """Why a pod is refused; empty when it is accepted."""
    groups = ("--as-group=system:serviceaccounts", "--as-group=system:authenticated")
    options = ("--dry-run=server", "--validate=false", f"--as={user}", *groups)
    done = ground.admin.kubectl("create", "-f", "-", *options, stdin=json.dumps(pod), check=False)
    return "" if done.returncode == 0 else done.stderr


@pytest.mark.parametrize("work", ArchiveWork)
@pytest.mark.parametrize("claim", ["team", "personal-ada-0123456789abcdef"])
def test_a_jobs_pod_is_accepted_though_the_gate_is_closed(
    work: ArchiveWork, claim: str, ground: Ground, lagoon: TeamSpec
) -> None:
    job = make_job(ground, lagoon, work, claim)
    assert ground.provisioner.create(job) == ""
    assert refusal(ground, pod_of(job)) == ""


def test_the_job_controller_really_makes_it(ground: Ground, lagoon: TeamSpec) -> None:
    job = make_job(ground, lagoon)
    assert ground.provisioner.create(job, dry_run=False) == ""
    space = ground.space("lagoon")
    select = ("-n", space, "-l", f"{constants.LABEL_COMPONENT}=archive", "-o", "json")

    def pods() -> list[Manifest]:
        found: list[Manifest] = json.loads(ground.admin.kubectl("get", "pods", *select).stdout)[
            "items"
        ]
        return found

    until(pods)
    [pod] = pods()
    assert pod["metadata"]["ownerReferences"][0]["name"] == job["metadata"]["name"]
    [found] = json.loads(ground.admin.kubectl("get", "jobs", *select).stdout)["items"]
    assert ground.provisioner.create(make_archive_secret(found, TOKEN)) == ""


def second_container(where: str) -> Change:
    def change(manifest: Manifest) -> None:
        other = {**copy.deepcopy(manifest["spec"]["containers"][0]), "name": "other"}
        manifest["spec"].setdefault(where, []).append(other)

    return change


FIRST = "spec.containers.0"
CLAIM = "spec.volumes.0.persistentVolumeClaim"
CASES: list[tuple[str, Change, str]] = [
    ("image", at(f"{FIRST}.image", "registry.example.org/other:1"), "archive_image"),
    ("command", at(f"{FIRST}.command", ["sh"]), "copies a volume"),
    ("no command", at(f"{FIRST}.command", None), "copies a volume"),
    ("elsewhere", at(f"{FIRST}.args.1", "http://evil:80/services"), "copies a volume"),
    ("near", at(f"{FIRST}.args.1", "http://contests:8087.evil/x"), "copies a volume"),
    ("what", at(f"{FIRST}.args.0", "both"), "copies a volume"),
    ("more", at(f"{FIRST}.args.+", "-v"), "copies a volume"),
    ("token file", at(f"{FIRST}.args.3", "/volume/token"), "copies a volume"),
    ("env", at(f"{FIRST}.env", [{"name": "PYTHONPATH", "value": "/volume"}]), "has none of"),
    (
        "hook",
        at(f"{FIRST}.lifecycle", {"preStop": {"exec": {"command": ["sh"]}}}),
        "has none of",
    ),
    ("folder", at(f"{FIRST}.workingDir", "/volume"), "has none of"),
    ("sidecar", second_container("containers"), "one container"),
    ("init", second_container("initContainers"), "one container"),
    ("data set", at(f"{CLAIM}.claimName", "dataset-sst"), "one volume"),
    ("other", at(f"{CLAIM}.claimName", "other"), "one volume"),
    ("writable", at(f"{CLAIM}.readOnly", False), "one volume"),
    (
        "second",
        at(
            "spec.volumes.+",
            {"name": "more", "persistentVolumeClaim": {"claimName": "team", "readOnly": True}},
        ),
        "one volume",
    ),
    ("scratch", at("spec.volumes.0", {"name": "volume", "emptyDir": {}}), "one volume"),
    ("another's Secret", at("spec.volumes.1.secret.secretName", "other"), "one volume"),
    ("writable mount", at(f"{FIRST}.volumeMounts.0.readOnly", False), "mounts its volume"),
    ("part", at(f"{FIRST}.volumeMounts.0.subPath", "x"), "mounts its volume"),
    ("at code", at(f"{FIRST}.volumeMounts.0.mountPath", "/usr/lib"), "mounts its volume"),
    ("user", at("spec.securityContext.runAsUser", 1001), "runs as user"),
    ("account", at("spec.serviceAccountName", "default"), "runs as member"),
    ("token", at("spec.automountServiceAccountToken", True), "one volume"),
    ("alias", at("spec.hostAliases.0.ip", "192.0.2.7"), "knows the contests service"),
    ("DNS", at("spec.dnsPolicy", "ClusterFirst"), "no DNS"),
    ("runtime", at("spec.runtimeClassName", None), "runtime class"),
    ("node", at("spec.nodeName", "control-plane"), "scheduler chooses"),
    ("finalizer", at("metadata.finalizers.+", "example.org/mine"), "finalizers"),
    ("no Job", at("metadata.ownerReferences", []), "belongs to its Job"),
    ("other owner", at("metadata.ownerReferences.0.kind", "CronJob"), "belongs to its Job"),
    ("label", label(constants.LABEL_CONTEST, "other"), "namespace's labels"),
    (
        "a server after all",
        label(constants.LABEL_COMPONENT, "singleuser-server"),
        "only the hub|gate is closed",
    ),
]


@pytest.mark.parametrize(("change", "sentence"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_pod_that_is_anything_else_is_refused(
    change: Change, sentence: str, ground: Ground, lagoon: TeamSpec
) -> None:
    pod = pod_of(make_job(ground, lagoon))
    change(pod)
    said = refusal(ground, pod)  # of several policies that refuse, the cluster names any
    assert re.search(sentence, said), said
    assert "ValidatingAdmissionPolicy" in said


def test_what_is_brought_back_is_written_and_what_is_copied_is_not(
    ground: Ground, lagoon: TeamSpec
) -> None:
    pod = pod_of(make_job(ground, lagoon, ArchiveWork.RESTORE))
    at(f"{CLAIM}.readOnly", True)(pod)
    assert "one volume" in refusal(ground, pod)


def test_nobody_but_the_controller_makes_such_a_pod(ground: Ground, lagoon: TeamSpec) -> None:
    pod = pod_of(make_job(ground, lagoon))
    assert "by nobody else" in ground.hub.create(pod)
    assert "forbidden" in ground.provisioner.create(pod)


def test_nobody_but_the_provisioner_makes_jobs_there(ground: Ground, lagoon: TeamSpec) -> None:
    job = make_job(ground, lagoon)
    assert "forbidden" in ground.hub.create(job)
    other = copy.deepcopy(job)
    other["metadata"]["labels"][constants.LABEL_COMPONENT] = "miner"
    other["metadata"]["name"] = "miner"
    assert "for an archive" in ground.provisioner.create(other)
    user = "system:serviceaccount:kube-system:cronjob-controller"
    job["metadata"]["name"] = "save-other"
    said = refusal(ground, job, user=user)
    assert re.search("only the hub and the provisioner make|is the provisioner's", said), said


@pytest.mark.parametrize("space", ["kube-system", HOME, "default"])
def test_the_provisioners_jobs_and_secrets_stay_in_team_namespaces(
    space: str, ground: Ground, lagoon: TeamSpec
) -> None:
    job = make_job(ground, lagoon)
    job["metadata"]["namespace"] = space
    assert "only in this hub's team namespaces" in ground.provisioner.create(job)
    job["metadata"]["uid"] = "u-1"
    secret = make_archive_secret(job, TOKEN)
    assert "in this hub's team namespaces" in ground.provisioner.create(secret)
    secret["metadata"]["labels"] = {}
    assert "in this hub's team namespaces" in ground.provisioner.create(secret)


SECRET_CASES: list[tuple[str, Change, str]] = [
    ("a token of the cluster", at("type", "example.org/other"), "Opaque"),
    ("no owner", at("metadata.ownerReferences", []), "belongs to the Job"),
    ("another owner", at("metadata.ownerReferences.0.name", "other"), "belongs to the Job"),
    ("a pod's", at("metadata.ownerReferences.0.kind", "Pod"), "belongs to the Job"),
    ("a server's", label(constants.LABEL_COMPONENT, "singleuser-server"), "archive Jobs'"),
    ("finalizer", at("metadata.finalizers", ["example.org/mine"]), "finalizers"),
]


@pytest.mark.parametrize(
    ("change", "sentence"), [c[1:] for c in SECRET_CASES], ids=[c[0] for c in SECRET_CASES]
)
def test_a_secret_of_the_provisioner_is_a_jobs(
    change: Change, sentence: str, ground: Ground, lagoon: TeamSpec
) -> None:
    job = make_job(ground, lagoon)
    job["metadata"]["uid"] = "u-1"
    secret = make_archive_secret(job, TOKEN)
    assert ground.provisioner.create(secret) == ""
    change(secret)
    assert sentence in ground.provisioner.create(secret)


def test_only_archives_reach_the_contests_service(ground: Ground, lagoon: TeamSpec) -> None:
    made = {m["metadata"]["name"]: m for m in make_tenancy(lagoon, ground.platform)}
    archive = made["archive"]
    assert archive["spec"]["podSelector"] == {"matchLabels": {constants.LABEL_COMPONENT: "archive"}}
    archive["spec"]["podSelector"] = {}
    assert "by archive Jobs alone" in ground.provisioner.refusal(archive)


def test_without_an_archive_image_no_such_pod_is_accepted(ground: Ground, lagoon: TeamSpec) -> None:
    from jupyterhub_collab.manifests.guard import make_guard

    platform = ground.platform.model_copy(update={"archive_image": None})
    pod = pod_of(make_job(ground, lagoon))
    installed = make_guard(ground.platform)
    try:
        ground.admin.apply(*make_guard(platform))
        until(lambda: "archive_image" in refusal(ground, pod))
    finally:
        ground.admin.apply(*installed)
        until(lambda: refusal(ground, pod) == "")
