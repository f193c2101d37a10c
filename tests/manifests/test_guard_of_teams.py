"""The guard holds the provisioner to the teams: a table of what it may not make of their objects.

Each refusal is asked for with the provisioner's own token, on a real API server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from jupyterhub_collab import constants, names
from jupyterhub_collab.kube.kinds import NETWORK_POLICY
from jupyterhub_collab.manifests.network_policy import make_deny_all
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.models import TeamSpec

from .acting import Ground, until
from .conftest import to_team

pytestmark = pytest.mark.api
Manifest = dict[str, Any]
FOREIGN = "manifests-foreign"  # a namespace that is none of ours
BARE = "bare"  # a policy in the team's namespace, and a namespace, that bear no label of ours
NFS = {"server": "nfs.example.org", "path": "/"}
SECRET = {"name": "x", "namespace": "kube-system"}
SECRET_STEPS = (
    *("controllerExpand", "controllerPublish"),
    *("nodeExpand", "nodePublish", "nodeStage"),
)


def moved(manifest: Manifest, **metadata: Any) -> Manifest:
    """The manifest with other metadata: a name, a namespace, labels."""
    return {**manifest, "metadata": {**manifest["metadata"], **metadata}}


def labelled(manifest: Manifest, **values: str) -> Manifest:
    """With other labels of ours."""
    mine = {f"{constants.DOMAIN}/{key}": value for key, value in values.items()}
    return moved(manifest, labels={**manifest["metadata"]["labels"], **mine})


def decided(manifest: Manifest, key: str, contest: str) -> Manifest:
    """With an annotation that is an administrator's to set."""
    return moved(manifest, annotations={**manifest["metadata"]["annotations"], key: contest})


def specified(manifest: Manifest, **fields: Any) -> Manifest:
    """With other fields of its spec."""
    return {**manifest, "spec": {**manifest["spec"], **fields}}


@dataclass(frozen=True)
class Made:
    """What stands of team ocean; `taken` has the name of a team's namespace and no labels."""

    prefix: str
    own: Manifest
    binding: Manifest
    volume: Manifest
    deny_all: Manifest
    taken: Manifest

    @property
    def name(self) -> str:
        return str(self.own["metadata"]["name"])

    def with_source(self, **source: Any) -> Manifest:
        """Another volume of the team that holds something else."""
        rest = {k: v for k, v in self.volume["spec"].items() if k not in ("csi", "mountOptions")}
        return {**moved(self.volume, name=f"{self.name}.y"), "spec": {**rest, **source}}

    def decided(self, key: str) -> list[Manifest]:
        """What stands, and what is to be, with a word of an administrator on it."""
        things = (self.own, self.volume, self.with_more())
        return [
            decided(thing, key, thing["metadata"]["labels"][constants.LABEL_CONTEST])
            for thing in things
        ]

    def with_more(self, **fields: Any) -> Manifest:
        """Another volume of the team, as it is but for these fields."""
        return self.with_source(**{**self.volume["spec"], **fields})

    def with_pod_security(self, key: str, value: str | None) -> Manifest:
        """The team's namespace with another label of Pod Security, or without it."""
        label = f"pod-security.kubernetes.io/{key}"
        labels = {k: v for k, v in self.own["metadata"]["labels"].items() if k != label}
        return moved(self.own, labels=labels if value is None else {**labels, label: value})


@pytest.fixture(scope="module")
def made(ground: Ground, ocean: tuple[TeamSpec, str]) -> Iterator[Made]:
    """Once the guard is in force."""
    spec, namespace = ocean
    tenancy = {(m["kind"], m["metadata"]["name"]): m for m in make_tenancy(spec, ground.platform)}
    deny_all = make_deny_all(spec, ground.platform)
    taken = make_tenancy(to_team(ground, "taken")[0], ground.platform)[0]
    name = taken["metadata"]["name"]
    ground.admin.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": FOREIGN}},
        {**taken, "metadata": {"name": name}},
        {**deny_all, "metadata": {"name": BARE, "namespace": namespace}},
    )
    foreign = moved(deny_all, namespace=FOREIGN)
    until(lambda: "ValidatingAdmissionPolicy" in ground.provisioner.create(foreign))
    yield Made(
        ground.platform.namespace_prefix,
        own=tenancy["Namespace", namespace],
        binding=tenancy["RoleBinding", "hub"],
        volume=tenancy["PersistentVolume", names.dataset_volume(namespace, "sst")],
        deny_all=deny_all,
        taken=taken,
    )
    ground.admin.kubectl("delete", "networkpolicy", BARE, "-n", namespace)
    for space in (FOREIGN, name):
        ground.admin.kubectl("delete", "namespace", space, "--wait=false")


Row = tuple[str, Callable[[Made], list[Manifest]]]
REFUSED: tuple[Row, ...] = (
    (
        "only in this hub's team namespaces",
        lambda m: [
            moved(m.deny_all, namespace=FOREIGN),
            moved(m.deny_all, namespace="kube-system"),
            moved(m.binding, namespace="kube-system"),
        ],
    ),
    ("changes and deletes only what bears", lambda m: [m.taken]),
    (
        "start with the hub's prefix",
        lambda m: [moved(m.taken, name="elsewhere"), moved(m.volume, name="elsewhere")],
    ),
    ("named after their teams", lambda m: [moved(m.own, name=f"{m.prefix}x")]),
    (
        "nothing of one team to another",
        lambda m: [labelled(m.own, team="x"), labelled(m.volume, team="x")],
    ),
    (
        "must bear its namespace's team",
        lambda m: [labelled(moved(m.deny_all, name="x"), team="x")],
    ),
    (
        "an administrator gives a namespace",
        lambda m: [labelled(m.own, contest="doomed"), labelled(m.own, contest="")],
    ),
    (
        "an administrator gives a volume",
        lambda m: [labelled(m.volume, contest="doomed"), labelled(m.volume, contest="")],
    ),
    *(
        (f"does not set {key} on a", lambda m, key=key: m.decided(key))
        for key in (constants.ANNOTATION_GIVE_TO_CONTEST, constants.ANNOTATION_DESTROY)
    ),
    (
        "are their team's alone",
        lambda m: [
            moved(m.volume, name=f"{m.prefix}x.y"),
            m.with_more(claimRef={"namespace": "x", "name": "y"}),
        ],
    ),
    (
        "are read-only, and what they hold stays",
        lambda m: [
            m.with_more(persistentVolumeReclaimPolicy="Delete"),
            m.with_more(accessModes=["ReadWriteMany"]),
            m.with_source(csi={**m.volume["spec"]["csi"], "readOnly": False}),
            m.with_source(nfs=NFS),
        ],
    ),
    (
        "name no Secret",
        lambda m: [
            m.with_source(csi={**m.volume["spec"]["csi"], f"{step}SecretRef": SECRET})
            for step in SECRET_STEPS
        ],
    ),
    (
        "closes all pods, both ways",
        lambda m: [
            specified(m.deny_all, egress=[{}]),
            specified(m.deny_all, ingress=[{}]),
            specified(m.deny_all, policyTypes=["Ingress"]),
            specified(m.deny_all, podSelector={"matchLabels": {"a": "b"}}),
        ],
    ),
    (
        "must bear this hub's labels",
        lambda m: [
            moved(m.deny_all, name=BARE, labels={}),
            moved(m.taken, name=f"{m.prefix}bare", labels={}),
        ],
    ),
    (
        "binds the hub's role to the hub alone",
        lambda m: [
            moved({**m.binding, "subjects": [{**m.binding["subjects"][0], "name": "x"}]}, name="x")
        ],
    ),
    (
        "are data sets",
        lambda m: [specified(moved(m.volume, name=f"{m.name}.x"), storageClassName="fast")],
    ),
    (
        "where this platform's settings allow",
        lambda m: [
            m.with_source(hostPath={"path": "/"}),
            m.with_source(csi={"driver": "elsewhere.example.org", "volumeHandle": "x"}),
        ],
    ),
    (
        "enforce Pod Security restricted",
        lambda m: [
            m.with_pod_security("enforce", None),
            m.with_pod_security("enforce", "privileged"),
            m.with_pod_security("enforce-version", "v1.0"),
        ],
    ),
)


@pytest.mark.parametrize(("message", "make"), REFUSED, ids=[message for message, _ in REFUSED])
def test_the_guard_holds_the_provisioner_to_the_teams(
    ground: Ground, made: Made, message: str, make: Callable[[Made], list[Manifest]]
) -> None:
    for manifest in make(made):
        refusal = ground.provisioner.refusal(manifest)
        assert message in refusal, f"{manifest['metadata']}: {refusal}"


def test_the_guard_lets_the_provisioner_do_its_work(ground: Ground, made: Made) -> None:
    volume = made.with_source(nfs={**NFS, "readOnly": True})
    ground.provisioner.apply(volume, dry_run=True)
    ground.provisioner.apply(made.own, made.volume, made.deny_all, dry_run=True)


def test_the_guard_holds_what_the_provisioner_deletes(ground: Ground, made: Made) -> None:
    def removal(name: str) -> str:
        return ground.provisioner.deletion(NETWORK_POLICY, name, made.name)

    assert "changes and deletes only what bears" in removal(BARE)
    assert removal(constants.POLICY_PLATFORM) == "", "its own, it may"
    assert "stays for as long as its namespace does" in removal(constants.POLICY_DENY_ALL)


def test_the_provisioner_binds_no_other_role(ground: Ground, made: Made) -> None:
    role = {**made.binding["roleRef"], "name": "cluster-admin"}
    other = moved({**made.binding, "roleRef": role}, name="x")
    assert "forbidden" in ground.provisioner.refusal(other)
