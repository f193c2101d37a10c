"""Tenancy manifests: golden files, typed models, order, ownership, and what must hold in each."""

from __future__ import annotations

import hashlib
import json
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import kubernetes.client
import pytest
import yaml

from jupyterhub_collab import constants, names, units
from jupyterhub_collab.errors import SpecError
from jupyterhub_collab.manifests.guard import make_guard, rules_version
from jupyterhub_collab.manifests.rbac import make_rbac
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.manifests.volumes import make_dataset_claim, make_dataset_volume
from jupyterhub_collab.models import Platform, TeamSpec
from tools import policies_page

from .conftest import SECRET_PLACES, make_case

GOLDEN = Path(__file__).parent / "golden"
Case = tuple[str, TeamSpec, Platform]


def check_golden(name: str, manifests: Any, request: pytest.FixtureRequest) -> None:
    path = GOLDEN / f"{name}.yaml"
    text = yaml.safe_dump_all(manifests, sort_keys=False, width=100)
    if request.config.getoption("--update-golden", default=False):
        path.write_text(text)
    assert path.read_text() == text, f"{path.name} differs; look at it, then --update-golden"


def by_kind(manifests: tuple[dict[str, Any], ...], kind: str) -> dict[str, dict[str, Any]]:
    return {m["metadata"]["name"]: m for m in manifests if m["kind"] == kind}


def check_typed(manifest: dict[str, Any]) -> None:
    """A field that the typed model does not know is lost on the way, so the two differ."""
    model = getattr(kubernetes.client, f"V1{manifest['kind']}")
    typed = model.from_dict(manifest)
    assert typed.model_dump(mode="json", by_alias=True, exclude_none=True) == manifest


def test_tenancy_golden(case: Case, request: pytest.FixtureRequest) -> None:
    name, spec, platform = case
    check_golden(f"tenancy-{name}", make_tenancy(spec, platform), request)


def test_tenancy_in_a_round_golden(request: pytest.FixtureRequest) -> None:
    spec, platform = make_case("round")
    check_golden("tenancy-round", make_tenancy(spec, platform), request)


def test_cluster_golden(request: pytest.FixtureRequest) -> None:
    _, platform = make_case("full")
    check_golden("rbac", make_rbac(platform), request)
    check_golden("guard", make_guard(platform), request)


def test_typed_models_know_every_field(case: Case) -> None:
    _, spec, platform = case
    for manifest in (*make_tenancy(spec, platform), *make_rbac(platform), *make_guard(platform)):
        check_typed(manifest)


def test_typed_models_show_a_misspelt_field() -> None:
    """The check above can fail."""
    manifest = make_tenancy(*make_case("least"))[0]
    manifest["metadata"]["lables"] = {}
    with pytest.raises(AssertionError):
        check_typed(manifest)


def test_order(case: Case) -> None:
    """The namespace, then deny-all, then the rest; volumes before their claims."""
    _, spec, platform = case
    manifests = make_tenancy(spec, platform)
    keys = [(m["kind"], m["metadata"]["name"]) for m in manifests]
    assert keys[0][0] == "Namespace"
    assert keys[1] == ("NetworkPolicy", "deny-all")
    assert len(set(keys)) == len(keys)
    kinds = [kind for kind, _ in keys]
    last_policy = max(i for i, kind in enumerate(kinds) if kind == "NetworkPolicy")
    assert last_policy < kinds.index("ResourceQuota") < kinds.index("PersistentVolumeClaim")
    for key in spec.datasets:
        volume = names.dataset_volume(platform.namespace_prefix + spec.team, key)
        claim = names.dataset_claim(key)
        assert keys.index(("PersistentVolume", volume)) < keys.index(
            ("PersistentVolumeClaim", claim)
        )


def test_every_object_is_owned_and_hashed(case: Case) -> None:
    _, spec, platform = case
    for manifest in make_tenancy(spec, platform):
        labels = manifest["metadata"]["labels"]
        assert labels[constants.LABEL_MANAGED_BY] == constants.MANAGED_BY
        assert labels[constants.LABEL_HUB] == platform.hub_id
        assert labels[constants.LABEL_TEAM] == spec.team
        assert labels[constants.LABEL_CONTEST] == spec.contest
        annotations = manifest["metadata"]["annotations"]
        said = annotations.pop(constants.ANNOTATION_OBJECT_HASH)
        text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert said == hashlib.sha256(text.encode()).hexdigest()
        assert constants.ANNOTATION_READY_HASH not in annotations


def test_namespace_holds_the_spec(case: Case) -> None:
    _, spec, platform = case
    namespace = make_tenancy(spec, platform)[0]
    annotations = namespace["metadata"]["annotations"]
    again = TeamSpec.model_validate_json(annotations[constants.ANNOTATION_SPEC])
    assert again == spec
    assert again.hash() == spec.hash() == annotations[constants.ANNOTATION_SPEC_HASH]


def test_rendering_is_a_function_of_its_input(case: Case) -> None:
    _, spec, platform = case
    assert make_tenancy(spec, platform) == make_tenancy(spec, platform)


def test_deny_all_selects_every_pod_and_allows_nothing(case: Case) -> None:
    _, spec, platform = case
    policy = by_kind(make_tenancy(spec, platform), "NetworkPolicy")["deny-all"]
    assert policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_no_policy_opens_dns_or_everything(case: Case) -> None:
    _, spec, platform = case
    for name, policy in by_kind(make_tenancy(spec, platform), "NetworkPolicy").items():
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(direction, []):
                assert rule[peers], f"{name}: no peer means anybody"
                assert rule["ports"], f"{name}: no port means any"
                assert 53 not in [port["port"] for port in rule["ports"]]


@pytest.mark.parametrize("address", SECRET_PLACES)
def test_a_wide_rule_never_opens_special_addresses(address: str) -> None:
    policies = by_kind(make_tenancy(*make_case("full")), "NetworkPolicy")
    ip = ip_address(address)
    for name in ("egress-web", "egress-web-v6"):
        block = policies[name]["spec"]["egress"][0]["to"][0]["ipBlock"]
        opened = ip in ip_network(block["cidr"])
        excepted = any(ip in ip_network(n) for n in block["except"])
        assert not opened or excepted


@pytest.mark.parametrize("address", ["151.101.1.1", "8.8.8.8", "2606:4700::1", "2a04:4e42::1"])
def test_a_wide_rule_opens_public_addresses(address: str) -> None:
    """The twin of the test above: the exceptions are not simply everything."""
    policies = by_kind(make_tenancy(*make_case("full")), "NetworkPolicy")
    ip = ip_address(address)
    name = "egress-web" if ip.version == 4 else "egress-web-v6"
    block = policies[name]["spec"]["egress"][0]["to"][0]["ipBlock"]
    assert ip in ip_network(block["cidr"])
    assert not any(ip in ip_network(n) for n in block["except"])


def test_quota_storage_leaves_the_team_exactly_its_tier(case: Case) -> None:
    """Data sets fill their own part of the total to the byte; the rest is the tier's."""
    _, spec, platform = case
    manifests = make_tenancy(spec, platform)
    hard = by_kind(manifests, "ResourceQuota")["team"]["spec"]["hard"]
    claims = by_kind(manifests, "PersistentVolumeClaim").values()
    of_datasets = [
        units.to_bytes(c["spec"]["resources"]["requests"]["storage"])
        for c in claims
        if c["spec"].get("storageClassName") == constants.DATASET_STORAGE_CLASS
    ]
    key = f"{constants.DATASET_STORAGE_CLASS}.storageclass.storage.k8s.io"
    assert units.to_bytes(hard[f"{key}/requests.storage"]) == sum(of_datasets)
    assert int(hard[f"{key}/persistentvolumeclaims"]) == len(of_datasets)
    total = units.to_bytes(hard["requests.storage"])
    assert total - sum(of_datasets) == spec.tier.storage_bytes


def test_datasets_are_read_only_static_and_kept() -> None:
    spec, platform = make_case("full")
    manifests = make_tenancy(spec, platform)
    volumes = by_kind(manifests, "PersistentVolume")
    claims = by_kind(manifests, "PersistentVolumeClaim")
    assert set(volumes) == {"team-ocean.sst", "team-ocean.patients"}
    for key in ("sst", "patients"):
        volume, claim = volumes[f"team-ocean.{key}"], claims[f"dataset-{key}"]
        body = volume["spec"]
        assert body["accessModes"] == claim["spec"]["accessModes"] == ["ReadOnlyMany"]
        assert body["persistentVolumeReclaimPolicy"] == "Retain"
        assert body["storageClassName"] == claim["spec"]["storageClassName"] == "collab-datasets"
        assert body["claimRef"]["namespace"] == claim["metadata"]["namespace"]
        assert body["claimRef"]["name"] == claim["metadata"]["name"]
        assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    assert volumes["team-ocean.sst"]["spec"]["csi"]["readOnly"] is True
    assert volumes["team-ocean.patients"]["spec"]["nfs"]["readOnly"] is True
    assert "ro" in volumes["team-ocean.patients"]["spec"]["mountOptions"]
    assert constants.LABEL_PROTECTED not in volumes["team-ocean.sst"]["metadata"]["labels"]


def test_protected_data_is_refused_and_would_bear_its_label() -> None:
    spec, platform = make_case("full")
    patients = spec.datasets["patients"].model_copy(update={"protected": True})
    protected = spec.model_copy(update={"datasets": {**spec.datasets, "patients": patients}})
    with pytest.raises(SpecError, match="reads from a mounted volume") as refused:
        make_tenancy(protected, platform)
    assert [problem.field for problem in refused.value.problems] == ["datasets.patients.protected"]
    recorded = platform.model_copy(update={"protected_data": "mounts-recorded"})
    assert make_tenancy(protected, recorded)
    for make in (make_dataset_volume, make_dataset_claim):
        thing = make("patients", patients, protected, platform)
        assert thing["metadata"]["labels"][constants.LABEL_PROTECTED] == "true"


def test_what_the_platform_does_not_allow_is_refused_with_all_reasons() -> None:
    spec, platform = make_case("full")
    strict = platform.model_copy(
        update={"dataset_csi_drivers": (), "dataset_nfs": False, "private_ranges_allowed": ()}
    )
    with pytest.raises(SpecError) as refused:
        make_tenancy(spec, strict)
    fields = [problem.field for problem in refused.value.problems]
    assert fields == ["datasets.sst.csi.driver", "datasets.patients.nfs", "egress.archive.cidr"]


def test_images_and_placement_that_the_platform_does_not_allow_are_refused() -> None:
    """By the spec already, not only by the cluster when a server starts."""
    spec, platform = make_case("full")
    profile = spec.profiles["medium"].to_wire()
    plane = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
    spot = {"key": "spot", "effect": "NoSchedule"}
    profiles = {"medium": {**profile, "priorityClass": "urgent", "tolerations": [plane, spot]}}
    spec = TeamSpec.model_validate({**spec.to_wire(), "profiles": profiles})
    strict = {"image_prefixes": ["quay.io/"], "priority_classes": ["contest"]}
    strict_platform = Platform.model_validate(
        {**platform.to_wire(), **strict, "toleration_keys": ["gpu"]}
    )
    with pytest.raises(SpecError) as refused:
        make_tenancy(spec, strict_platform)
    assert [problem.field for problem in refused.value.problems] == [
        "images.basic.image",
        "profiles.medium.priorityClass",
        "profiles.medium.tolerations[0].key",
        "profiles.medium.tolerations[1].key",
    ]
    with pytest.raises(SpecError) as refused:
        make_tenancy(spec, platform)
    assert [p.field for p in refused.value.problems] == ["profiles.medium.tolerations[0].key"]


@pytest.mark.parametrize("prefix", ["registry.example.org", "quay.io/contest"])
def test_an_image_prefix_ends_where_a_name_does(prefix: str) -> None:
    """registry.example.org would let registry.example.org.evil.example through."""
    with pytest.raises(ValueError, match="must end in"):
        Platform.model_validate({**make_case("full")[1].to_wire(), "image_prefixes": [prefix]})


def test_the_namespace_says_what_a_team_may_have(case: Case) -> None:
    _, spec, platform = case
    annotations = make_tenancy(spec, platform)[0]["metadata"]["annotations"]
    assert annotations[constants.ANNOTATION_IMAGES] == "registry.example.org/basic:1.0"
    assert annotations[constants.ANNOTATION_GATE] == "open"
    assert annotations[constants.ANNOTATION_HOST_ALIASES].splitlines()[0] == (
        f"{platform.hub_api.address} {platform.hub_api.host}"
    )


def test_a_team_never_gets_the_hub_namespace() -> None:
    spec, platform = make_case("least")
    taken = platform.model_copy(update={"hub_namespace": "collab-ice-2"})
    with pytest.raises(SpecError, match="hub's or the cluster's own"):
        make_tenancy(spec, taken)


def test_limit_range_is_consistent(case: Case) -> None:
    """min <= default <= max, whatever the tier: the API refuses anything else."""
    _, spec, platform = case
    for entry in by_kind(make_tenancy(spec, platform), "LimitRange")["team"]["spec"]["limits"]:
        for resource, largest in entry["max"].items():
            smallest = entry.get("min", {}).get(resource, 0)
            default = entry.get("default", entry["max"])[resource]
            request = entry.get("defaultRequest", entry["max"])[resource]
            assert units.to_decimal(smallest) <= units.to_decimal(request)
            assert units.to_decimal(request) <= units.to_decimal(default)
            assert units.to_decimal(default) <= units.to_decimal(largest)


def test_the_page_of_policies_is_fresh() -> None:
    assert policies_page.PAGE.read_text() == policies_page.render(), "python tools/generate_docs.py"


def test_policies_tell_of_their_version() -> None:
    """The same for every platform: it is the rules' version, not the settings'."""
    versions = {
        manifest["metadata"]["labels"][constants.LABEL_POLICIES]
        for case in ("full", "least")
        for manifest in make_guard(make_case(case)[1])
    }
    assert versions == {rules_version()}


def test_no_setting_of_the_platform_is_read_as_code() -> None:
    _, platform = make_case("full")
    hostile = {"runtime_class": 'x" || true || "', "default_priority_class": '" || true || "'}
    text = yaml.safe_dump_all(make_guard(platform.model_copy(update=hostile)))
    for manifest in make_guard(platform.model_copy(update=hostile)):
        for rule in manifest.get("spec", {}).get("validations", ()):
            for value in hostile.values():
                assert value not in rule["expression"]
    assert "true ||" in text, "it is there, quoted"
