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
from tests.cluster.cluster import Cluster

from .conftest import OUTSIDE, make_case
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


def test_no_team_reaches_more_than_the_hubs_api() -> None:
    _, platform = make_case("full")
    teams = [{"key": constants.LABEL_TEAM, "operator": "Exists"}]
    open_to_teams = {
        name: [port["port"] for port in rule["ports"]]
        for name, policy in by_kind(make_own(platform), "NetworkPolicy").items()
        for rule in policy["spec"].get("ingress", [])
        for peer in rule.get("from", [])
        if (peer.get("namespaceSelector") or {}).get("matchExpressions") == teams
    }
    assert open_to_teams == {"collab-hub": [platform.hub_api.target_port]}


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
    for name in ("hub_api", "proxy"):
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
