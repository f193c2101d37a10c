"""What the cluster refuses provisioner and administrators' decisions, on a real API server.

Each refusal stands beside what is accepted, and is asked for with the provisioner's own token.
"""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from jupyterhub_collab import constants, names
from jupyterhub_collab.cli.doctor import (
    DoctorOptions,
    Finding,
    Verdict,
    check_admission_policies,
    check_retention,
)
from jupyterhub_collab.kube.client import KubeClient
from jupyterhub_collab.kube.errors import PermanentKubeError, is_policy_refusal
from jupyterhub_collab.kube.kinds import (
    NAMESPACE,
    PERSISTENT_VOLUME,
)
from jupyterhub_collab.manifests.guard import make_guard
from jupyterhub_collab.manifests.home import make_platform_config
from jupyterhub_collab.manifests.network_policy import make_deny_all, make_network_policies
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.models import TeamSpec
from jupyterhub_collab.reconcile.plan import bearer_of
from tests.cluster.cluster import Cluster

from .acting import Actor, Ground, delete, until
from .conftest import SECRET_PLACES, to_team

pytestmark = pytest.mark.api
PODS = "jupyterhub-collab-pods."


def test_the_provisioner_has_nothing_deleted_by_an_owner_nor_held_by_a_finalizer(
    ground: Ground, ocean: tuple[TeamSpec, str]
) -> None:
    """The cluster's garbage collector asks no second key."""
    spec, namespace = ocean
    owner = {"apiVersion": "v1", "kind": "PersistentVolume", "name": "gone", "uid": "0"}
    made = {(m["kind"], m["metadata"]["name"]): m for m in make_tenancy(spec, ground.platform)}
    things = [
        made["Namespace", namespace],
        made["PersistentVolumeClaim", constants.TEAM_CLAIM_NAME],
        made["PersistentVolume", names.dataset_volume(namespace, "sst")],
        made["NetworkPolicy", constants.POLICY_DENY_ALL],
        made["ResourceQuota", next(name for kind, name in made if kind == "ResourceQuota")],
    ]
    patch = ground.provisioner.patch
    owned = {"metadata": {"ownerReferences": [owner]}}
    until(lambda: all("gives nothing an owner" in patch(thing, owned) for thing in things))
    for thing in things:
        held = patch(thing, {"metadata": {"finalizers": ["example.org/forever"]}})
        assert "sets no finalizers" in held
        assert patch(thing, {"metadata": {"annotations": {"note": "x"}}}) == ""
    for volume in things[1:3]:
        assert "takes none away" in patch(volume, {"metadata": {"finalizers": None}})
    metadata = {**things[3]["metadata"], "name": "another"}
    policy = {**things[3], "metadata": metadata}
    assert ground.provisioner.create(policy) == ""
    for key, value, words in (
        ("ownerReferences", owner, "gives nothing an owner"),
        ("finalizers", "example.org/forever", "sets no finalizers"),
    ):
        another = {**policy, "metadata": {**metadata, key: [value]}}
        assert words in ground.provisioner.create(another)


def test_only_the_provisioner_says_that_a_team_is_ready(
    ground: Ground, ocean: tuple[TeamSpec, str], api_cluster: Cluster, tmp_path: Path
) -> None:
    """The hub believes the mark on the binding that gives it its rights."""
    spec, _ = ocean
    home = ground.platform.hub_namespace
    binding = bearer_of(make_tenancy(spec, ground.platform))
    account, role, bound = make_auditor(home)
    group = "rbac.authorization.k8s.io"
    role["rules"] = [
        {"apiGroups": [group], "resources": ["rolebindings"], "verbs": ["patch", "get"]},
        {"apiGroups": [group], "resources": ["clusterroles"], "verbs": ["bind"]},
    ]
    api_cluster.apply(account, role, bound)
    kubeconfig = api_cluster.service_account_kubeconfig(home, "auditor", tmp_path / "other")
    other = Actor(api_cluster, kubeconfig)
    note: dict[str, Any] = {"metadata": {"annotations": {"note": "x"}}}
    mark = {"metadata": {"annotations": {constants.ANNOTATION_READY_HASH: spec.hash()}}}
    with other.http:
        until(lambda: other.patch(binding, note) == "")
        assert "only the provisioner says what a team may have" in other.patch(binding, mark)
    assert ground.provisioner.patch(binding, mark) == ""
    delete(api_cluster, account, role, bound)


def test_the_provisioner_opens_no_team_to_everybody_nor_the_cluster_to_a_team(
    ground: Ground, ocean: tuple[TeamSpec, str]
) -> None:
    spec, _ = ocean
    policies = {p["metadata"]["name"]: p for p in make_network_policies(spec, ground.platform)}
    platform, web = policies["platform"], policies["egress-web"]
    ports = [{"protocol": "TCP", "port": 443}]
    (block,) = (p["ipBlock"] for p in web["spec"]["egress"][0]["to"])
    hub = platform["spec"]["egress"][0]["to"][0]

    def changed(policy: dict[str, Any], **spec: Any) -> str:
        meta = {**policy["metadata"], "name": "another"}
        changed = {**policy, "metadata": meta, "spec": {**policy["spec"], **spec}}
        return ground.provisioner.create(changed)

    def out(*peers: dict[str, Any]) -> str:
        return changed(web, egress=[{"to": list(peers), "ports": ports}])

    def network(cidr: str, *excepted: str) -> dict[str, Any]:
        return {"ipBlock": {"cidr": cidr, "except": list(excepted)}}

    until(lambda: "names peers and ports" in changed(web, egress=[{}]))
    for policy in policies.values():
        assert "already exists" in ground.provisioner.create(policy), "as they are they may be"
    assert changed(platform) == changed(web) == ""
    for opened in (
        changed(web, egress=[{}]),
        changed(web, egress=[{"to": [hub]}]),
        changed(web, egress=[{"ports": ports}]),
        changed(platform, ingress=[{}]),
        changed(platform, ingress=[{"ports": ports}]),
    ):
        assert "names peers and ports" in opened
    anybody = {"podSelector": {}, "namespaceSelector": {}}
    selector = {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}
    pods, spaces = {"podSelector": {}}, {"namespaceSelector": selector}
    for peer in (anybody, pods, spaces, network("0.0.0.0/0")):
        refusal = changed(platform, ingress=[{"from": [peer], "ports": ports}])
        assert "only the platform's hub and proxy" in refusal
    for peer in (anybody, pods, spaces):
        assert "only the platform's services" in out(peer)
    assert out(hub) == out(network("151.101.0.0/16")) == out(network("10.20.7.0/24")) == ""
    assert out(network("2606:4700::/32")) == ""
    for cidr in SECRET_PLACES:
        refusal = out(network(str(ip_network(cidr))))
        # Some that mean an IPv4 address the API server refuses by itself.
        assert "only the platform's services" in refusal or "IPv4-mapped" in refusal, cidr
    without = [n for n in block["except"] if n != "169.254.0.0/16"]
    assert out(network("0.0.0.0/0", *block["except"])) == ""
    for excepted in ([], without, [*without, "169.254.169.0/24"]):
        assert "only the platform's services" in out(network("0.0.0.0/0", *excepted))


def test_what_is_destroyed_needs_an_administrators_word(
    ground: Ground, ocean: tuple[TeamSpec, str]
) -> None:
    """The second key: no group, no token and no code of ours can turn it."""
    spec, namespace = ocean
    volume = names.dataset_volume(namespace, "sst")
    bound = next(m for m in make_tenancy(spec, ground.platform) if m["metadata"]["name"] == volume)
    claim = {"claimRef": {**bound["spec"]["claimRef"], "name": "nobodys"}}
    free = {
        **bound,
        "metadata": {**bound["metadata"], "name": names.dataset_volume(namespace, "nobodys")},
        "spec": {**bound["spec"], **claim},
    }
    ground.provisioner.apply(free)
    things = {
        "namespace": (NAMESPACE, namespace),
        "bound": (PERSISTENT_VOLUME, volume),
        "free": (PERSISTENT_VOLUME, free["metadata"]["name"]),
    }
    key = constants.ANNOTATION_DESTROY
    theirs = f"{constants.LABEL_HUB}={ground.platform.hub_id},{constants.LABEL_TEAM}={spec.team}"

    def say(word: str) -> None:
        where = ("--overwrite", "namespace,persistentvolume", "-l", theirs)
        ground.admin.kubectl("annotate", *where, word)

    def refusals() -> dict[str, str]:
        found = {name: ground.provisioner.deletion(*thing) for name, thing in things.items()}
        return {name: said for name, said in found.items() if said}

    until(lambda: ground.admin.get("persistentvolume", volume)["status"]["phase"] == "Bound")
    for word in (None, "destroy", spec.team, f"{spec.contest}-2", ""):
        if word is not None:
            say(f"{key}={word}")
        found = refusals()
        assert set(found) == set(things), f"{word!r} released something"
        assert all("this is not released" in said for said in found.values()), found
    asyncio.run(is_known_as_a_policys(ground, namespace))
    say(f"{key}={spec.contest}")
    found = refusals()
    assert set(found) == {"bound"}
    assert "bound to its claim" in found["bound"]
    assert "forbidden" in ground.hub.deletion(NAMESPACE, namespace)
    for other in ("default", "kube-system", ground.platform.hub_namespace):
        ground.admin.kubectl("annotate", "namespace", other, f"{key}={spec.contest}")
        assert ground.provisioner.deletion(NAMESPACE, other), "whatever is said"
        ground.admin.kubectl("annotate", "namespace", other, f"{key}-")
    # What the provisioner writes afterwards leaves the word where it is.
    ground.provisioner.apply(*make_tenancy(spec, ground.platform)[:1])
    assert set(refusals()) == {"bound"}
    gone = {"metadata": {"annotations": {key: None}}}
    assert "does not set" in ground.provisioner.patch(make_tenancy(spec, ground.platform)[0], gone)
    say(f"{key}-")
    assert set(refusals()) == set(things), "taken back"
    # An administrator needs no second word.
    ground.admin.kubectl("delete", "namespace", namespace, "--dry-run=server")
    delete(ground.admin, free)


async def is_known_as_a_policys(ground: Ground, namespace: str) -> None:
    """The provisioner tells such a refusal from others: it is told as missing a release."""
    async with await KubeClient.from_kubeconfig(ground.provisioner.kubeconfig) as client:
        with pytest.raises(PermanentKubeError) as refusal:
            await client.delete(NAMESPACE, namespace, dry_run=True)
    assert is_policy_refusal(refusal.value), refusal.value


def forget_other_hubs(cluster: Cluster, hub: str) -> None:
    """Doctor looks at all hubs of a cluster; other tests may have left some half removed."""
    others = f"{constants.LABEL_MANAGED_BY}={constants.MANAGED_BY},{constants.LABEL_HUB}!={hub}"
    kinds = "validatingadmissionpolicies,validatingadmissionpolicybindings"
    cluster.kubectl("delete", kinds, "-l", others)


def test_doctor_compares_the_rules_with_the_hubs_own_settings(
    ground: Ground, api_cluster: Cluster
) -> None:
    def ask() -> Finding:
        return check_admission_policies(DoctorOptions(Path("data"), 0, api_cluster.kubeconfig))

    platform, hub = ground.platform, ground.platform.hub_id
    forget_other_hubs(api_cluster, hub)
    config = make_platform_config(platform)
    api_cluster.apply(config)
    assert f"Admission policies hold {hub}. {hub} names no storage_class" in ask().text
    assert ask().verdict is Verdict.NOTE
    with_class = platform.model_copy(update={"storage_class": "fast"})
    api_cluster.apply(make_platform_config(with_class))
    assert ask() == Finding(Verdict.GOOD, f"Admission policies hold {hub}")
    (policy,) = (
        m
        for m in make_guard(platform)
        if m["metadata"]["name"].startswith(PODS) and m["kind"] == "ValidatingAdmissionPolicy"
    )
    never = {"name": "never", "expression": "false"}
    api_cluster.apply({**policy, "spec": {**policy["spec"], "matchConditions": [never]}})
    words = "say other than this hub's settings: jupyterhub-collab-pods; let"
    assert words in ask().text, "its label says the right version"
    assert ask().verdict is Verdict.BAD
    api_cluster.apply(policy)
    assert ask().verdict is Verdict.GOOD
    api_cluster.apply(make_platform_config(platform.model_copy(update={"image_prefixes": ("x/",)})))
    assert "say other than this hub's settings" in ask().text
    delete(api_cluster, config)


def make_auditor(home: str) -> tuple[dict[str, Any], ...]:
    """An account that may read policies, and nothing else."""
    group = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": "auditor", "namespace": home}
    rule = {
        "apiGroups": ["admissionregistration.k8s.io"],
        "resources": ["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
        "verbs": ["list"],
    }
    meta = {"name": "manifests-auditor"}
    role = {"kind": "ClusterRole", "name": meta["name"], "apiGroup": group}
    return (
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "auditor", "namespace": home},
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRole",
            "metadata": meta,
            "rules": [rule],
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": meta,
            "roleRef": role,
            "subjects": [subject],
        },
    )


def test_doctor_says_why_it_did_not_compare_the_rules_with_the_settings(
    ground: Ground, api_cluster: Cluster, tmp_path: Path
) -> None:
    def look(kubeconfig: Path) -> Finding:
        return check_admission_policies(DoctorOptions(Path("data"), 0, kubeconfig))

    def ask() -> str:
        found = look(api_cluster.kubeconfig)
        assert found.verdict is Verdict.GOOD
        assert f"of {hub} the version alone was compared: " in found.text
        return found.text

    platform, hub, home = ground.platform, ground.platform.hub_id, ground.platform.hub_namespace
    where = f"the ConfigMap {constants.PLATFORM_CONFIG_MAP} in {home}"
    forget_other_hubs(api_cluster, hub)
    assert f"no ConfigMap {constants.PLATFORM_CONFIG_MAP} says its settings" in ask()
    config, auditor = make_platform_config(platform), make_auditor(home)
    api_cluster.apply(config, *auditor)
    kubeconfig = api_cluster.service_account_kubeconfig(home, "auditor", tmp_path / "auditor")
    until(lambda: f"this kubeconfig may not read {where}" in look(kubeconfig).text)
    other = make_platform_config(platform.model_copy(update={"hub_id": "another"}))
    api_cluster.apply(other)
    assert f"{where} is of the hub 'another'" in ask()
    api_cluster.apply({**config, "data": {constants.PLATFORM_FILE: "{"}})
    assert f"{where} holds no settings that this program can read" in ask()
    delete(api_cluster, config, *auditor)


def test_doctor_tells_which_decisions_to_destroy_stand(
    ground: Ground, ocean: tuple[TeamSpec, str], api_cluster: Cluster
) -> None:
    spec, namespace = ocean
    volume = names.dataset_volume(namespace, "sst")

    def ask() -> Finding:
        return check_retention(DoctorOptions(Path("data"), 0, api_cluster.kubeconfig))

    def say(kind: str, name: str, word: str) -> None:
        word = f"{constants.ANNOTATION_DESTROY}{word}"
        api_cluster.kubectl("annotate", "--overwrite", kind, name, word)

    # Doctor looks at all hubs of a cluster; other tests may have left a word of theirs.
    ours = f"{constants.LABEL_MANAGED_BY}={constants.MANAGED_BY}"
    taken_back = f"{constants.ANNOTATION_DESTROY}-"
    api_cluster.kubectl("annotate", "namespace,persistentvolume", "-l", ours, taken_back)
    assert ask().verdict is Verdict.GOOD
    say("namespace", namespace, "=another")
    assert ask().verdict is Verdict.GOOD, "it releases nothing"
    for kind, name in (("namespace", namespace), ("persistentvolume", volume)):
        say(kind, name, f"={spec.contest}")
        found = ask()
        assert found.verdict is Verdict.NOTE
        assert f"{ground.platform.hub_id}'s contest {spec.contest}: {spec.team}. " in found.text
        say(kind, name, "-")
        assert ask().verdict is Verdict.GOOD


def test_doctor_says_loudly_when_policies_are_missing_or_of_another_version(
    ground: Ground, api_cluster: Cluster
) -> None:
    def ask(kubeconfig: Path = api_cluster.kubeconfig) -> Finding:
        return check_admission_policies(DoctorOptions(Path("data"), 0, kubeconfig))

    hub = ground.platform.hub_id
    forget_other_hubs(api_cluster, hub)
    assert ask().text.startswith(f"Admission policies hold {hub}; of {hub} the version alone")
    assert ask().verdict is Verdict.GOOD
    assert "may not read them" in ask(ground.hub.kubeconfig).text
    assert (
        "none on the embedded"
        in check_admission_policies(DoctorOptions(Path("data"), 0, None)).text
    )
    policies = make_guard(ground.platform)
    policy, binding = (m for m in policies if m["metadata"]["name"].startswith(PODS))
    label = {constants.LABEL_POLICIES: "0123456789abcdef"}
    metadata = {**policy["metadata"], "labels": {**policy["metadata"]["labels"], **label}}
    weak = {**binding, "spec": {**binding["spec"], "validationActions": ["Audit"]}}
    for change, words in (
        ({**policy, "metadata": metadata}, "of another version than this program: "),
        (weak, "refuse nothing: "),
    ):
        api_cluster.apply(change)
        found = ask()
        assert found.verdict is Verdict.BAD
        assert f"of hub {hub} {words}jupyterhub-collab-pods; let an administrator" in found.text
        api_cluster.apply(policy, binding)
    api_cluster.kubectl("delete", "validatingadmissionpolicybinding", binding["metadata"]["name"])
    assert "missing: jupyterhub-collab-pods" in ask().text
    delete(api_cluster, *policies)
    assert "THERE ARE NONE" in ask().text
    assert ask().verdict is Verdict.BAD
    api_cluster.apply(*policies)
    assert ask().verdict is Verdict.GOOD
    spec = to_team(ground, "anywhere")[0]
    deny_all = make_deny_all(spec, ground.platform)
    deny_all["metadata"]["namespace"] = "kube-system"
    until(lambda: "ValidatingAdmissionPolicy" in ground.provisioner.create(deny_all))
