"""What the cluster refuses provisioner and administrators' decisions, on a real API server.

Each refusal stands beside what is accepted, and is asked for with the provisioner's own token.
"""

from __future__ import annotations

import json
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
from jupyterhub_collab.kube.kinds import (
    CONFIG_MAP,
    NAMESPACE,
    PERSISTENT_VOLUME,
    Kind,
)
from jupyterhub_collab.manifests.guard import make_guard
from jupyterhub_collab.manifests.home import make_platform_config
from jupyterhub_collab.manifests.network_policy import make_deny_all, make_network_policies
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.models import TeamSpec
from tests.cluster.cluster import Cluster

from .acting import Ground, delete, until
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
    until(lambda: patch(things[0], {"metadata": {"ownerReferences": [owner]}}) != "")
    for thing in things:
        assert "gives nothing an owner" in patch(thing, {"metadata": {"ownerReferences": [owner]}})
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

    until(lambda: changed(web, egress=[{}]) != "")
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
    name, home = constants.RETENTION_CONFIG_MAP, ground.platform.hub_namespace
    things = ((NAMESPACE, namespace), (PERSISTENT_VOLUME, names.dataset_volume(namespace, "sst")))
    foreign = tuple((NAMESPACE, name) for name in ("default", "kube-system", home))
    others = ["retained-0", "retained-1", "retained-2", "retained-3"]
    for team in others:
        ground.provisioner.apply(make_tenancy(to_team(ground, team)[0], ground.platform)[0])

    def refusals(which: tuple[tuple[Kind, str], ...] = things) -> list[str]:
        return [said for said in (ground.provisioner.deletion(*t) for t in which) if said]

    def decide(seen_by: str, data: dict[str, str]) -> None:
        """Write the decisions, and wait until the API server knows them: it releases a team."""
        meta = {"name": name, "namespace": home}
        data = {**data, f"team.{seen_by}": "destroy"}
        document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}
        ground.admin.kubectl("replace", "-f", "-", stdin=json.dumps(document))
        until(lambda: not ground.provisioner.deletion(NAMESPACE, ground.space(seen_by)))

    def refused_twice() -> None:
        found = refusals()
        assert len(found) == len(things), "something was released"
        assert all("does not release this" in text for text in found), found

    refused_twice()
    for other, wrong in (
        ("retained-0", {f"team.{spec.team}": "keep"}),
        ("retained-1", {f"contest.{spec.team}": "destroy"}),
        ("retained-2", {f"team.{spec.contest}": "destroy"}),
    ):
        decide(other, wrong)
        refused_twice()
    for right in ({f"team.{spec.team}": "destroy"}, {f"contest.{spec.contest}": "destroy"}):
        decide("retained-3", right)
        until(lambda: not refusals())
        assert len(refusals(foreign)) == len(foreign), "whatever is decided"
        assert "forbidden" in ground.hub.deletion(NAMESPACE, namespace)
    for actor in (ground.hub, ground.provisioner):
        data = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
        data["metadata"]["namespace"] = home
        assert "forbidden" in actor.create(data)
        assert "forbidden" in actor.patch(data, {"data": {"team.ocean": "destroy"}})
        assert "forbidden" in actor.deletion(CONFIG_MAP, name, home)
    by_admin = ("delete", "namespace", namespace, "--dry-run=server")
    ground.admin.kubectl("delete", "configmap", name, "-n", home)
    until(lambda: ground.admin.kubectl(*by_admin, check=False).returncode != 0)
    assert len(refusals()) == len(things), "without the ConfigMap nobody deletes what is ours"
    ground.admin.kubectl("create", "namespace", "not-ours")
    ground.admin.kubectl("delete", "namespace", "not-ours")  # and everybody else's goes as ever
    ground.admin.apply(*make_guard(ground.platform))
    # An administrator needs no second word.
    until(lambda: ground.admin.kubectl(*by_admin, check=False).returncode == 0)
    refused_twice()
    for team in others:
        ground.admin.kubectl("delete", "namespace", ground.space(team), "--wait=false")


def test_a_uid_releases_one_namespace_and_no_later_one_of_that_name(
    ground: Ground, ocean: tuple[TeamSpec, str]
) -> None:
    """Of volumes, which bear no namespace's uid, those that nobody uses."""
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
    home = ground.platform.hub_namespace
    uid, spent = (
        ground.admin.get("namespace", name)["metadata"]["uid"] for name in (namespace, home)
    )

    def decide(**words: str | None) -> None:
        text = json.dumps({"data": {f"team.{team}": word for team, word in words.items()}})
        where = (constants.RETENTION_CONFIG_MAP, "-n", home, "--type=merge")
        ground.admin.kubectl("patch", "configmap", *where, "-p", text)

    def released() -> set[str]:
        return {name for name, thing in things.items() if not ground.provisioner.deletion(*thing)}

    until(lambda: ground.admin.get("persistentvolume", volume)["status"]["phase"] == "Bound")
    for word, expected in (
        (uid, {"namespace", "free"}),
        (spent, {"free"}),
        ("destroy", set(things)),
        (f"{uid}0", set()),
    ):
        decide(ocean=word)
        until(lambda expected=expected: released() == expected)
    decide(ocean=None)
    delete(ground.admin, free)


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
    def ask() -> Finding:
        return check_retention(DoctorOptions(Path("data"), 0, api_cluster.kubeconfig))

    assert ask().verdict is Verdict.GOOD
    home, name = ground.platform.hub_namespace, constants.RETENTION_CONFIG_MAP

    def decide(**data: str | None) -> None:
        text = json.dumps({"data": {f"team.{team}": word for team, word in data.items()}})
        api_cluster.kubectl("patch", "configmap", name, "-n", home, "--type=merge", "-p", text)

    uid = api_cluster.get("namespace", home)["metadata"]["uid"]
    decide(ocean="destroy", longgone="destroy", other="keep", spent=uid)
    found = ask()
    assert found.verdict is Verdict.NOTE
    assert f"team.ocean of {home} (is still there)" in found.text
    assert f"team.longgone of {home} (nothing of it is left)" in found.text
    assert f"team.spent of {home} (for one namespace, which is gone)" in found.text
    assert "team.other" not in found.text
    decide(ocean=api_cluster.get("namespace", ocean[1])["metadata"]["uid"])
    assert f"team.ocean of {home} (for one namespace, which is still there)" in ask().text
    decide(ocean=None, longgone=None, other=None, spent=None)
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
    policies = [m for m in make_guard(ground.platform) if m["kind"] != "ConfigMap"]
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
