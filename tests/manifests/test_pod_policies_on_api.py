"""What the cluster refuses in team namespaces though the hub asks for it, on a real API server.

Each case is a pod, claim or Secret that the hub really makes, with one thing changed: the change is
refused by the policy's own sentence, and what the hub makes is accepted beside it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jupyterhub_collab import constants, names
from jupyterhub_collab.hub.server_objects import make_personal_claim, make_server_secret
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.models import Gate, TeamSpec
from jupyterhub_collab.policy.pod import PodRules, ServerIdentity, enforce_pod
from jupyterhub_collab.policy.spawning import ServerChoice

from .acting import HOME, Actor, Ground, delete, until
from .conftest import DOMAIN, make_case

pytestmark = pytest.mark.api
Manifest = dict[str, Any]
Change = Callable[[Manifest], None]
SIDECAR = "registry.example.org/sidecar:1"
POD = names.server_pod("ada", "")


def make_spec(team: str, **changes: Any) -> TeamSpec:
    """A team with a profile that says all that a profile can say."""
    wire = make_case("full")[0].to_wire()
    profiles = {
        **wire["profiles"],
        "graphics": {
            "title": "Graphics",
            "cpu": "1",
            "memory": "1Gi",
            "gpu": 1,
            "priorityClass": "contest",
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        },
    }
    return TeamSpec.model_validate(
        {**wire, "team": team, "host": f"{team}.{DOMAIN}", "profiles": profiles, **changes}
    )


def make_server(ground: Ground, team: str) -> ServerIdentity:
    return ServerIdentity(
        username="ada",
        server_name="",
        server_id="id-1",
        pod_name=POD,
        namespace=ground.space(team),
        secret_name=f"{POD}-0123abcd",
        secret_env={"JUPYTERHUB_API_TOKEN": "api-token"},
        secret_values=frozenset({"t0k3n-of-the-hub"}),
    )


def make_pod(ground: Ground, spec: TeamSpec, profile: str = "medium") -> Manifest:
    """As the hub makes it, with an administrator's sidecar, init container and Secret."""
    notebook = {"name": "notebook", "args": ["start"]}
    shared = {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "shared", "key": "k"}}}
    amounts = {"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "64Mi"}
    limits = {"limits": amounts, "requests": amounts}
    sidecar = {"name": "sidecar", "image": SIDECAR, "env": [shared], "resources": limits}
    first = {"name": "first", "image": SIDECAR, "resources": limits}
    pod = {
        "metadata": {"name": "x"},
        "spec": {
            "containers": [notebook, sidecar],
            "initContainers": [first],
            "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}}],
        },
    }
    choice = ServerChoice(spec.team, "basic", profile)
    rules = PodRules(spec, choice, ground.platform, frozenset({SIDECAR}))
    made = enforce_pod(pod, make_server(ground, spec.team), rules)
    return {**made, "apiVersion": "v1", "kind": "Pod"}


@pytest.fixture(scope="module")
def reef(ground: Ground) -> Iterator[TeamSpec]:
    """A tenancy whose quota is in force; the policies speak."""
    spec = make_spec("reef")
    ground.provisioner.apply(*make_tenancy(spec, ground.platform))
    pod = make_pod(ground, spec)
    until(lambda: ground.hub.create(pod) == "")
    pod["spec"]["containers"][0]["image"] = "registry.example.org/other:1"
    until(lambda: "ValidatingAdmissionPolicy" in ground.hub.create(pod))
    yield spec
    ground.forget(spec)


def at(path: str, value: Any) -> Change:
    """Set one field; a path's numbers are places in lists, and "+" is one more."""

    def change(manifest: Manifest) -> None:
        *way, last = path.split(".")
        node: Any = manifest
        for part in way:
            node = node[int(part)] if part.isdigit() else node.setdefault(part, {})
        if last == "+":
            node.append(value)
        elif last.isdigit():
            node[int(last)] = value
        elif value is None:
            node.pop(last, None)
        else:
            node[last] = value

    return change


def label(key: str, value: str | None) -> Change:
    def change(manifest: Manifest) -> None:
        labels = manifest["metadata"]["labels"]
        labels.pop(key) if value is None else labels.update({key: value})

    return change


def volume_of(claim: str) -> Change:
    """One more claim is mounted."""
    return at("spec.volumes.+", {"name": "more", "persistentVolumeClaim": {"claimName": claim}})


def writable(part: str) -> Change:
    def change(manifest: Manifest) -> None:
        if part == "volume":
            named = {v["name"]: v for v in manifest["spec"]["volumes"]}
            del named["collab-data-sst"]["persistentVolumeClaim"]["readOnly"]
        else:
            mounts = {m["name"]: m for m in manifest["spec"]["containers"][0]["volumeMounts"]}
            del mounts["collab-data-sst"]["readOnly"]

    return change


FOREVER = ["example.org/forever"]
OWNER = {"apiVersion": "v1", "kind": "PersistentVolume", "name": "gone", "uid": "0"}
SECRET_OF_BOB = "server-bob-0123abcd"
IMAGE = "registry.example.org/other:1"
VOLUMES, NOTEBOOK, SIDE = "spec.volumes", "spec.containers.0", "spec.containers.1"
SECRET_VOLUME = {"name": "more", "secret": {"secretName": SECRET_OF_BOB}}
LABELS = (
    constants.LABEL_MANAGED_BY,
    constants.LABEL_HUB,
    constants.LABEL_TEAM,
    constants.LABEL_CONTEST,
    constants.LABEL_COMPONENT,
)
REFUSED: tuple[tuple[str, str, Change], ...] = (
    ("another image", "every image", at(f"{NOTEBOOK}.image", IMAGE)),
    ("another sidecar", "every image", at(f"{SIDE}.image", IMAGE)),
    ("another init image", "every image", at("spec.initContainers.0.image", IMAGE)),
    ("a longer image", "every image", at(f"{NOTEBOOK}.image", "registry.example.org/basic:1.01")),
    ("a priority", "must be one of the team's", at("spec.priorityClassName", "urgent")),
    ("the cluster's", "priority class", at("spec.priorityClassName", "system-node-critical")),
    (
        "a toleration",
        "every toleration",
        at("spec.tolerations", [{"key": "gpu", "operator": "Exists"}]),
    ),
    ("all tolerations", "every toleration", at("spec.tolerations", [{"operator": "Exists"}])),
    ("a node", "the scheduler chooses", at("spec.nodeName", "node-1")),
    *((f"no {k}", "must bear its namespace's labels", label(k, None)) for k in LABELS),
    *((f"other {k}", "must bear its namespace's labels", label(k, "x")) for k in LABELS),
    ("an account", "runs as member", at("spec.serviceAccountName", "default")),
    ("a token", "without a token", at("spec.automountServiceAccountToken", True)),
    ("perhaps a token", "without a token", at("spec.automountServiceAccountToken", None)),
    ("a user", "runs as user", at("spec.securityContext.runAsUser", 1001)),
    ("a group", "runs as user", at("spec.securityContext.runAsGroup", 5)),
    ("a group of files", "runs as user", at("spec.securityContext.fsGroup", 5)),
    ("more groups", "runs as user", at("spec.securityContext.supplementalGroups", [5])),
    ("a container's user", "container runs as", at(f"{NOTEBOOK}.securityContext.runAsUser", 1001)),
    ("a container's group", "container runs as user", at(f"{SIDE}.securityContext.runAsGroup", 0)),
    ("a finalizer", "no finalizers", at("metadata.finalizers", FOREVER)),
    ("an owner", "no owner", at("metadata.ownerReferences", [OWNER])),
    ("no end", "stops within 300 s", at("spec.terminationGracePeriodSeconds", 301)),
    # Its Secrets would begin as the real ones do.
    ("the beginning of a name", "reads its own Secret", at("metadata.name", "server")),
    ("a pattern for a name", "reads its own Secret", at("metadata.name", POD.replace("-", "."))),
    (
        "the Secret of somebody whose name begins alike",
        "reads its own Secret",
        at(f"{SIDE}.envFrom", [{"secretRef": {"name": f"{POD}-bob-0123abcd"}}]),
    ),
    (
        "a token by a volume",
        "volumes are of these kinds",
        at(f"{VOLUMES}.+", {"name": "more", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token"}}]}}),
    ),
    (
        "a driver",
        "volumes are of these kinds",
        at(f"{VOLUMES}.+", {"name": "more", "csi": {"driver": "files.csi.example.org"}}),
    ),
    (
        "a volume of its own",
        "volumes are of these kinds",
        at(f"{VOLUMES}.+", {"name": "more", "ephemeral": {"volumeClaimTemplate": {"spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}}}),
    ),
    ("any claim", "claims are the team's", volume_of("backup")),
    ("somebody's claim", "one member's own", volume_of("personal-bob")),
    ("a data set to write", "mounted read-only", writable("volume")),
    ("a mount to write", "mounted read-only", writable("mount")),
    ("a Secret", "reads its own Secret", at(f"{VOLUMES}.+", SECRET_VOLUME)),
    (
        "a Secret's value",
        "reads its own Secret",
        at(f"{SIDE}.env.+", {"name": "X", "valueFrom": {"secretKeyRef": {
            "name": SECRET_OF_BOB, "key": "k"}}}),
    ),
    (
        "a whole Secret",
        "reads its own Secret",
        at(f"{SIDE}.envFrom", [{"secretRef": {"name": SECRET_OF_BOB}}]),
    ),
    (
        "a name of its own making",
        "reads its own Secret",
        at("metadata", {"generateName": "x-", "namespace": "", "labels": {}}),
    ),
    ("a host alias", "host aliases", at("spec.hostAliases.0.hostnames.+", "example.org")),
    (
        "an alias elsewhere",
        "host aliases",
        at("spec.hostAliases.+", {"ip": "192.0.2.9", "hostnames": ["hub"]}),
    ),
    ("DNS", "has no DNS", at("spec.dnsPolicy", "ClusterFirst")),
    ("a resolver", "has no DNS", at("spec.dnsConfig.nameservers", ["192.0.2.53"])),
    ("no sandbox", "runtime class must be sandboxed", at("spec.runtimeClassName", None)),
    ("the node's users", "users of its own", at("spec.hostUsers", None)),
)  # fmt: skip


@pytest.mark.parametrize(
    ("message", "change"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_a_hub_that_was_taken_over_makes_no_other_pod(
    ground: Ground, reef: TeamSpec, message: str, change: Change
) -> None:
    pod = make_pod(ground, reef)
    good = copy.deepcopy(pod)
    change(pod)
    if not pod["metadata"].get("namespace"):
        meta = {k: v for k, v in good["metadata"].items() if k != "name"}
        pod["metadata"] = {**meta, "generateName": "server-"}
    refusal = ground.hub.create(pod)
    assert "ValidatingAdmissionPolicy" in refusal, refusal or "was accepted"
    assert message in refusal
    assert ground.hub.create(good) == ""


@pytest.mark.parametrize("profile", ["medium", "graphics"])
def test_what_the_hub_makes_is_accepted(ground: Ground, reef: TeamSpec, profile: str) -> None:
    assert ground.hub.create(make_pod(ground, reef, profile)) == ""


def test_an_administrator_is_not_held(ground: Ground, reef: TeamSpec) -> None:
    pod = make_pod(ground, reef)
    pod["spec"]["containers"][0]["image"] = IMAGE
    assert ground.hub.create(pod)
    options = ("create", "--dry-run=server", "-f", "-")
    ground.admin.kubectl(*options, stdin=json.dumps(pod))


@pytest.mark.parametrize("gate", [Gate.FROZEN, Gate.CLOSED])
def test_the_gate_is_the_clusters_too(ground: Ground, reef: TeamSpec, gate: Gate) -> None:
    team = f"gate-{gate.value}"
    spec = make_spec(team, gate=gate.value)
    ground.provisioner.apply(*make_tenancy(spec, ground.platform))
    try:
        there = make_pod(ground, spec)
        as_if_open = make_pod(ground, make_spec(team))
        if gate is Gate.CLOSED:
            for pod in (there, as_if_open):
                until(lambda pod=pod: "gate is closed" in ground.hub.create(pod))  # type: ignore[misc]
        else:
            until(lambda: ground.hub.create(there) == "")
            assert "every volume is mounted read-only" in ground.hub.create(as_if_open)
    finally:
        ground.forget(spec)


def test_what_the_platform_says_holds_a_provisioner_that_was_taken_over(
    ground: Ground, reef: TeamSpec
) -> None:
    """It lists what it likes on a namespace; the policy has the platform's word in itself."""
    spec = make_spec("loose")
    manifests = copy.deepcopy(make_tenancy(spec, ground.platform))
    annotations = manifests[0]["metadata"]["annotations"]
    plane = "node-role.kubernetes.io/control-plane|Exists||NoSchedule"
    annotations[constants.ANNOTATION_IMAGES] += "\nelsewhere.example.org/basic:1.0"
    annotations[constants.ANNOTATION_PRIORITY_CLASSES] += "\nurgent\nsystem-node-critical"
    annotations[constants.ANNOTATION_PRIORITY_CLASSES] += f"\n{constants.HOME_PRIORITY_CLASS}"
    annotations[constants.ANNOTATION_TOLERATIONS] += f"\n{plane}\nspot|Exists||NoSchedule"
    ground.provisioner.apply(*manifests)
    pod = make_pod(ground, spec)
    until(lambda: ground.hub.create(pod) == "")
    toleration = {"operator": "Exists", "effect": "NoSchedule"}
    cases: tuple[tuple[str, Change], ...] = (
        ("(image_prefixes)", at(f"{NOTEBOOK}.image", "elsewhere.example.org/basic:1.0")),
        ("(priority_classes)", at("spec.priorityClassName", "urgent")),
        ("the cluster's own", at("spec.priorityClassName", "system-node-critical")),
        ("nor the hub's", at("spec.priorityClassName", constants.HOME_PRIORITY_CLASS)),
        ("(toleration_keys)", at("spec.tolerations", [{**toleration, "key": "spot"}])),
        (
            "control plane",
            at("spec.tolerations", [{**toleration, "key": plane.partition("|")[0]}]),
        ),
    )
    for message, change in cases:
        wrong = copy.deepcopy(pod)
        change(wrong)
        assert message in ground.hub.create(wrong)
    ground.forget(spec)


# -- Claims and Secrets of the hub's ----------------------------------------------------------


def make_claim(ground: Ground, spec: TeamSpec) -> Manifest:
    choice = ServerChoice(spec.team, "basic", "medium")
    rules = PodRules(spec, choice, ground.platform)
    server = make_server(ground, spec.team)
    return make_personal_claim(server, rules, access_modes=["ReadWriteOnce"])


def make_secret(ground: Ground, spec: TeamSpec) -> Manifest:
    rules = PodRules(spec, ServerChoice(spec.team, "basic", "medium"), ground.platform)
    values = {"api-token": "x"}
    return make_server_secret(make_server(ground, spec.team), rules, pod_uid="u-1", values=values)


OURS_OF_CLAIMS = tuple(k for k in LABELS if k != constants.LABEL_COMPONENT)
CLAIMS: tuple[tuple[str, str, Change], ...] = (
    *((f"no {k}", "must bear its namespace's labels", label(k, None)) for k in OURS_OF_CLAIMS),
    ("not a member's", "the hub makes members' own", label(constants.LABEL_COMPONENT, "x")),
    ("any name", "the provisioner the team's", at("metadata.name", "backup")),
    ("the team's", "the provisioner the team's", at("metadata.name", "team")),
    ("a data set", "the provisioner the team's", at("metadata.name", "dataset-sst")),
    ("another class", "storage class must be the team's", at("spec.storageClassName", "slow")),
    ("no class", "never the empty one", at("spec.storageClassName", "")),
    ("a volume", "only its own", at("spec.volumeName", "somebodys")),
    ("an owner", "no owner and no finalizers", at("metadata.ownerReferences", [OWNER])),
    ("a finalizer", "no owner and no finalizers", at("metadata.finalizers", FOREVER)),
    (
        "a selector",
        "starts empty and chooses no volume",
        at("spec.selector", {"matchLabels": {"a": "b"}}),
    ),
    (
        "a copy",
        "starts empty and chooses no volume",
        at("spec.dataSource", {"kind": "PersistentVolumeClaim", "name": "team"}),
    ),
)
SECRETS: tuple[tuple[str, str, Change], ...] = (
    *((f"no {k}", "must bear its namespace's labels", label(k, None)) for k in LABELS),
    ("no owner", "belongs to one pod", at("metadata.ownerReferences", [])),
    ("another owner", "belongs to one pod", at("metadata.ownerReferences.0.kind", "Node")),
    ("another name", "belongs to one pod", at("metadata.name", SECRET_OF_BOB)),
    ("a longer name", "belongs to one pod", at("metadata.name", f"{POD}-bob-0123abcd")),
    ("a finalizer", "a Secret has no finalizers", at("metadata.finalizers", FOREVER)),
    ("a filled one", "is Opaque", at("type", "kubernetes.io/basic-auth")),
)


@pytest.mark.parametrize(("message", "change"), [c[1:] for c in CLAIMS], ids=[c[0] for c in CLAIMS])
def test_a_hub_that_was_taken_over_makes_no_other_claim(
    ground: Ground, reef: TeamSpec, message: str, change: Change
) -> None:
    claim = make_claim(ground, reef)
    assert ground.hub.create(claim) == ""
    change(claim)
    refusal = ground.hub.create(claim)
    assert "ValidatingAdmissionPolicy" in refusal, refusal or "was accepted"
    assert message in refusal


@pytest.mark.parametrize(
    ("message", "change"), [s[1:] for s in SECRETS], ids=[s[0] for s in SECRETS]
)
def test_a_hub_that_was_taken_over_makes_no_other_secret(
    ground: Ground, reef: TeamSpec, message: str, change: Change
) -> None:
    secret = make_secret(ground, reef)
    assert ground.hub.create(secret) == ""
    change(secret)
    if secret["type"] != "Opaque":
        secret["data"] = {"username": "eA=="}
    refusal = ground.hub.create(secret)
    assert "ValidatingAdmissionPolicy" in refusal, refusal or "was accepted"
    assert message in refusal


def test_where_no_storage_class_is_said_a_claim_still_asks_for_one_or_none(ground: Ground) -> None:
    """Not for the empty one: that binds whatever volume of no class lies ready."""
    volumes = {**make_spec("classless").to_wire()["volumes"]}
    volumes.pop("storageClass")
    spec = make_spec("classless", volumes=volumes)
    ground.provisioner.apply(*make_tenancy(spec, ground.platform))
    try:
        claim = make_claim(ground, spec)
        until(lambda: ground.hub.create(claim) == "")
        claim["spec"]["storageClassName"] = ""
        assert "never the empty one" in ground.hub.create(claim)
    finally:
        ground.forget(spec)


def test_the_provisioner_makes_no_members_volume(ground: Ground, reef: TeamSpec) -> None:
    """And its own claims as they are."""
    claims = [m for m in make_tenancy(reef, ground.platform) if m["kind"].endswith("Claim")]
    assert len(claims) == 3
    for claim in claims:
        again = copy.deepcopy(claim)
        again["metadata"]["name"] = "personal-ada"
        assert "the hub makes members' own" in ground.provisioner.create(again)
        # Quota speaks after the policies, and there is the claim already.
        refusal = ground.provisioner.create(claim)
        assert "already exists" in refusal or "exceeded quota" in refusal
    data = copy.deepcopy(claims[1])
    data["metadata"]["name"] += "-2"
    assert "only its own" in ground.provisioner.create(data)


# -- What is there already, and somebody with rights that RBAC gives --------------------------


@pytest.fixture(scope="module")
def meddler(
    ground: Ground, reef: TeamSpec, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Actor]:
    """An account with every right on such objects, but no administrator."""
    name = "manifests-meddler"
    core = ["namespaces", "persistentvolumes", "pods", "pods/ephemeralcontainers", "secrets"]
    rules = [
        {"apiGroups": [""], "resources": core, "verbs": ["*"]},
        {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["*"]},
    ]
    account = {"kind": "ServiceAccount", "name": name, "namespace": HOME}
    group = "rbac.authorization.k8s.io"
    role = {"apiGroup": group, "kind": "ClusterRole", "name": name}
    made: list[Manifest] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
        {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "roleRef": role,
            "subjects": [account],
        },
    ]
    made[0]["metadata"]["namespace"] = HOME
    for manifest in made:
        manifest.setdefault("metadata", {})["name"] = name
    ground.admin.apply(*made)
    kubeconfig = tmp_path_factory.mktemp("meddler") / "kubeconfig"
    ground.admin.service_account_kubeconfig(HOME, name, kubeconfig)
    actor = Actor(ground.admin, kubeconfig)
    pod = make_pod(ground, reef)
    assert ground.hub.create(pod, dry_run=False) == ""
    until(lambda: actor.patch(pod, {"metadata": {"annotations": {"note": "x"}}}) == "")
    yield actor
    actor.http.close()
    delete(ground.admin, *made)


def test_a_running_pod_stays_what_and_whose_it_is(
    ground: Ground, reef: TeamSpec, meddler: Actor
) -> None:
    pod = make_pod(ground, reef)
    live = ground.admin.get("pod", POD, "-n", ground.space("reef"))["spec"]
    for change in (
        {"containers": [{**c, "image": SIDECAR} for c in pod["spec"]["containers"]]},
        {"activeDeadlineSeconds": 1},
        {"tolerations": [*live["tolerations"], {"key": "spot", "operator": "Exists"}]},
    ):
        assert "does not change while it runs" in meddler.patch(pod, {"spec": change})
    for key in LABELS[:4]:
        for value in ("x", None):
            change = {"metadata": {"labels": {key: value}}}
            assert "ValidatingAdmissionPolicy" in meddler.patch(pod, change)
    assert meddler.patch(pod, {"metadata": {"labels": {"example.org/mine": "x"}}}) == ""


def test_a_container_for_debugging_is_held_like_the_others(
    ground: Ground, reef: TeamSpec, meddler: Actor
) -> None:
    pod = make_pod(ground, reef)
    secure = pod["spec"]["containers"][0]["securityContext"]
    good = {"name": "debug", "image": SIDECAR, "securityContext": secure}

    def add(**changes: Any) -> str:
        change = {"spec": {"ephemeralContainers": [{**good, **changes}]}}
        return meddler.patch(pod, change, "/ephemeralcontainers")

    assert add() == ""
    assert "every image" in add(image=IMAGE)
    for key in ("runAsUser", "runAsGroup"):
        assert "a container runs as user" in add(securityContext={**secure, key: 5})
    assert "its own Secret" in add(envFrom=[{"secretRef": {"name": SECRET_OF_BOB}}])


def test_whose_an_object_is_only_the_provisioner_says(
    ground: Ground, reef: TeamSpec, meddler: Actor
) -> None:
    manifests = {m["kind"]: m for m in make_tenancy(reef, ground.platform)}
    for kind in ("Namespace", "NetworkPolicy", "PersistentVolume"):
        manifest = manifests[kind]
        for key in LABELS[:4]:
            for value in ("x", None):
                refusal = meddler.patch(manifest, {"metadata": {"labels": {key: value}}})
                assert "only the provisioner changes whose" in refusal, (kind, key, refusal)
        assert meddler.patch(manifest, {"metadata": {"labels": {"example.org/x": "x"}}}) == ""
    space = manifests["Namespace"]
    for key in space["metadata"]["annotations"]:
        if key == constants.ANNOTATION_OBJECT_HASH:
            continue
        refusal = meddler.patch(space, {"metadata": {"annotations": {key: "x"}}})
        assert "only the provisioner says what" in refusal, key
    false = copy.deepcopy(space)
    false["metadata"] |= {"name": "false-friend"}
    assert "only the hub and the provisioner make" in meddler.create(false)
    false["metadata"].pop("labels")
    assert meddler.create(false) == ""
    policy = copy.deepcopy(manifests["NetworkPolicy"])
    policy["metadata"] |= {"name": "open"}
    assert "only the hub and the provisioner make" in meddler.create(policy)
