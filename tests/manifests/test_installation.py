"""What `jupyterhub-collab install` prints: golden file, typed models, and a real API server's yes.

Accounts, roles and admission policies, a part of it, have golden files of their own.
"""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest

from jupyterhub_collab import constants
from jupyterhub_collab.errors import UserError
from jupyterhub_collab.manifests.guard import make_guard
from jupyterhub_collab.manifests.installation import make_installation
from jupyterhub_collab.manifests.rbac import make_rbac
from jupyterhub_collab.models import Platform
from jupyterhub_collab.services.application import ServiceApplication
from jupyterhub_collab.services.audit.app import AuditApp
from jupyterhub_collab.services.contests.app import ContestsApp
from jupyterhub_collab.services.provisioner.app import ProvisionerApp
from tests.cluster.cluster import Cluster

from .conftest import IN_CLUSTER, OUTSIDE, make_case
from .test_tenancy import by_kind, check_golden, check_typed

OPTIONS = {
    "image": "registry.example.org/hub:1.0",
    "public_url": "https://hub.example.org",
    "hub_secret": "hub",
}


def make_own(platform: Platform) -> tuple[dict[str, Any], ...]:
    """Without what has a golden file of its own."""
    others = [*make_rbac(platform), *make_guard(platform)]
    return tuple(m for m in make_installation(platform, **OPTIONS) if m not in others)


def test_installation_golden(request: pytest.FixtureRequest) -> None:
    _, platform = make_case("full")
    check_golden("installation", make_own(platform), request)
    for manifest in make_installation(platform, **OPTIONS):
        check_typed(manifest)


def test_the_namespace_comes_first_and_everything_is_closed_before_a_program() -> None:
    _, platform = make_case("full")
    kinds = [(m["kind"], m["metadata"]["name"]) for m in make_installation(platform, **OPTIONS)]
    assert kinds[0] == ("Namespace", platform.hub_namespace)
    assert kinds.index(("NetworkPolicy", "collab-deny-all")) < kinds.index(
        ("Deployment", constants.PROVISIONER_SERVICE)
    )
    assert not any(kind == "Secret" for kind, _ in kinds)


def test_the_hubs_address_is_the_one_that_servers_are_told() -> None:
    _, platform = make_case("full")
    service = by_kind(make_own(platform), "Service")[constants.HUB_SERVICE]
    assert service["spec"]["clusterIP"] == platform.hub_api.address
    assert service["spec"]["ports"][0]["port"] == platform.hub_api.port
    assert service["spec"]["ports"][0]["targetPort"] == platform.hub_api.target_port


def test_hub_and_provisioner_read_the_same_settings() -> None:
    _, platform = make_case("full")
    config = by_kind(make_own(platform), "ConfigMap")[constants.PLATFORM_CONFIG_MAP]
    read = Platform.model_validate(json.loads(config["data"][constants.PLATFORM_FILE]))
    assert read == platform


def test_other_settings_make_other_pods() -> None:
    _, platform = make_case("full")
    templates = [
        by_kind(make_own(p), "Deployment")[constants.PROVISIONER_SERVICE]["spec"]["template"]
        for p in (platform, platform.model_copy(update={"storage_class": "another"}))
    ]
    assert templates[0]["metadata"]["annotations"] != templates[1]["metadata"]["annotations"]


def open_to_teams(platform: Platform) -> dict[tuple[str, str], list[int]]:
    """What pods of team namespaces reach: of which policy, by which component, at which ports."""
    teams = [{"key": constants.LABEL_TEAM, "operator": "Exists"}]
    return {
        (name, pods.get(constants.LABEL_COMPONENT, "any")): [p["port"] for p in rule["ports"]]
        for name, policy in by_kind(make_own(platform), "NetworkPolicy").items()
        for rule in policy["spec"].get("ingress", [])
        for peer in rule.get("from", [])
        if (peer.get("namespaceSelector") or {}).get("matchExpressions") == teams
        for pods in [peer.get("podSelector", {}).get("matchLabels", {})]
    }


def test_no_team_reaches_more_than_the_hubs_api_and_archive_jobs_the_contests_service() -> None:
    _, platform = make_case("full")
    to_hub = {("collab-hub", "any"): [platform.hub_api.target_port]}
    to_contests = {("collab-contests", constants.COMPONENT_ARCHIVE): [constants.CONTESTS_PORT]}
    assert open_to_teams(platform) == {**to_hub, **to_contests}
    without = platform.model_copy(update={"archive_image": None})
    assert open_to_teams(without) == to_hub


def test_the_contests_service_goes_outward_only_where_the_platform_says_so() -> None:
    _, platform = make_case("full")

    def outward(settings: Platform) -> list[int]:
        policy = by_kind(make_own(settings), "NetworkPolicy")["collab-contests"]
        return [
            port["port"]
            for rule in policy["spec"]["egress"]
            if any(peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0" for peer in rule["to"])
            for port in rule["ports"]
        ]

    assert outward(platform) == []
    assert outward(platform.model_copy(update={"contests_outward": True})) == [443, 465, 587]


def test_archive_jobs_find_the_contests_service_where_they_are_told() -> None:
    _, platform = make_case("full")
    service = by_kind(make_own(platform), "Service")[constants.CONTESTS_SERVICE]
    assert platform.contests is not None
    assert service["spec"]["clusterIP"] == platform.contests.address
    assert service["spec"]["ports"][0]["port"] == platform.contests.port


def test_the_contests_service_has_no_token_of_the_cluster_and_no_right() -> None:
    _, platform = make_case("full")
    deployment = by_kind(make_own(platform), "Deployment")[constants.CONTESTS_SERVICE]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == platform.contests_service_account
    bound = [
        subject["name"]
        for manifest in make_rbac(platform)
        for subject in manifest.get("subjects", [])
    ]
    assert platform.hub_service_account in bound
    assert platform.contests_service_account not in bound


def test_copies_have_a_volume_of_their_own_and_only_where_something_is_archived() -> None:
    _, platform = make_case("full")
    claims = by_kind(make_own(platform), "PersistentVolumeClaim")
    size = claims[constants.ARCHIVES_CLAIM]["spec"]["resources"]["requests"]["storage"]
    assert size == "100Gi"
    for place, address, folder in (
        ("", "file:///var/lib/collab-archives", "/var/lib/collab-archives"),
        ("s3://copies/reef", "s3://copies/reef", "/var/lib/collab-contests/archives-incoming"),
    ):
        settings = platform.model_copy(update={"archive_place": place})
        deployment = by_kind(make_own(settings), "Deployment")[constants.CONTESTS_SERVICE]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        said = {variable["name"]: variable.get("value") for variable in container["env"]}
        assert said["COLLAB_CONTESTS_ARCHIVES"] == address
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts["archives"] == folder
    without = platform.model_copy(update={"contests": None, "archive_image": None})
    assert set(by_kind(make_own(without), "PersistentVolumeClaim")) == {
        constants.AUDIT_SERVICE,
        constants.CONTESTS_SERVICE,
    }


@pytest.mark.parametrize(
    ("update", "said"),
    [
        ({"peer": {"cidr": "192.0.2.1/32"}}, r"contests\.peer is not the contests service"),
        (
            {"peer": {"namespace": "jupyterhub", "podLabels": {"component": "contests"}}},
            "by any of these labels",
        ),
        (
            {
                "peer": {
                    "namespace": "elsewhere",
                    "podLabels": {"app.kubernetes.io/component": "contests"},
                }
            },
            "a pod of namespace jupyterhub",
        ),
        ({"port": 80}, r"contests\.targetPort .* must be 8087"),
    ],
)
def test_settings_that_name_another_contests_service_are_refused(
    update: dict[str, Any], said: str
) -> None:
    contests = {**IN_CLUSTER["contests"], **update}
    with pytest.raises(UserError, match=said):
        make_installation(Platform.model_validate({**IN_CLUSTER, "contests": contests}), **OPTIONS)


@pytest.mark.parametrize(
    ("service", "app"),
    [
        (constants.AUDIT_SERVICE, AuditApp),
        (constants.CONTESTS_SERVICE, ContestsApp),
        (constants.PROVISIONER_SERVICE, ProvisionerApp),
    ],
)
def test_each_variable_is_one_that_the_service_reads(
    service: str, app: type[ServiceApplication], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, platform = make_case("full")
    deployment = by_kind(make_own(platform), "Deployment")[service]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    given = {
        variable["name"]: variable.get("value") or f"value-of-{variable['name']}"
        for variable in container["env"]
        if variable["name"].startswith("COLLAB_")
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = app()
    read = [getattr(settings, name) for name in settings.trait_names(config=True)]
    assert {name for name, value in given.items() if value not in read} == set()


def test_no_secret_can_change_what_a_program_is_given_otherwise() -> None:
    """Kubernetes has `env` over `envFrom`; what stands in both is ours."""
    _, platform = make_case("full")
    deployment = by_kind(make_own(platform), "Deployment")[constants.CONTESTS_SERVICE]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    named = {variable["name"] for variable in container["env"]}
    assert {"JUPYTERHUB_API_TOKEN", "JUPYTERHUB_API_URL", "COLLAB_AUDIT_URL"} <= named
    assert "COLLAB_CONTESTS_DATABASE_URL" not in named


def test_a_hub_outside_the_cluster_is_refused_in_words() -> None:
    with pytest.raises(UserError, match=r"hub_api\.peer is no pod of namespace jupyterhub"):
        make_installation(Platform.model_validate(OUTSIDE), **OPTIONS)


@pytest.mark.api
def test_a_real_api_server_takes_all_of_it(api_cluster: Cluster) -> None:
    _, platform = make_case("full")
    first = api_cluster.get("service", "kubernetes", "-n", "default")["spec"]["clusterIP"]
    hub = platform.hub_api.model_copy(update={"address": str(ipaddress.ip_address(first) + 19)})
    home = "installation-hub"
    moved = {"hub_namespace": home, "hub_id": home, "hub_api": hub}
    contests = {"address": str(ipaddress.ip_address(first) + 20)}
    moved["contests"] = platform.contests.model_copy(update=contests)
    for name in ("hub_api", "proxy", "contests"):
        endpoint = moved.get(name, getattr(platform, name))
        peer = endpoint.peer.model_copy(update={"namespace": home})
        moved[name] = endpoint.model_copy(update={"peer": peer})
    namespace, *others = make_installation(platform.model_copy(update=moved), **OPTIONS)
    api_cluster.apply(namespace)  # in a dry run nothing could be put into it
    try:
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": others})
        options = ("--server-side", "--validate=strict", "--dry-run=server", "-f", "-")
        api_cluster.kubectl("apply", *options, stdin=document)
    finally:
        api_cluster.kubectl("delete", "namespace", home, "--wait=false")
