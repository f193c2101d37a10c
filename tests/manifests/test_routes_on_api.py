"""What the cluster lets the provisioner write as an HTTPRoute, on a real API server.

That has no Gateway API, so the tests bring the kind, without a schema: what its own schema would
refuse besides is not ours to prove.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from jupyterhub_collab.constants import TEAM_NAME_ROUTE
from jupyterhub_collab.kube import kinds
from jupyterhub_collab.manifests.guard import make_guard
from jupyterhub_collab.manifests.team_name import EXTERNAL_DNS
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.models import Platform, TeamSpec

from .acting import Ground, until
from .conftest import DOMAIN, to_team
from .test_pod_policies_on_api import Change, at
from .test_team_name import GATEWAY, names_of, route_of_team

pytestmark = pytest.mark.api
Manifest = dict[str, Any]
GROUP = "gateway.networking.k8s.io"
OPEN_SCHEMA = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
KIND: Manifest = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": f"httproutes.{GROUP}",
        "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
    },
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"kind": "HTTPRoute", "plural": "httproutes", "singular": "httproute"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": OPEN_SCHEMA},
            }
        ],
    },
}


@pytest.fixture(scope="module")
def platform(ground: Ground, ocean: tuple[TeamSpec, str]) -> Iterator[Platform]:
    """The platform has names by a Gateway while these tests run."""
    found = ground.platform.model_copy(update={"names": names_of(GATEWAY).names})
    ground.admin.apply(KIND)
    which = f"crd/{KIND['metadata']['name']}"
    ground.admin.kubectl("wait", "--for=condition=Established", which, "--timeout=60s")
    ground.admin.apply(*make_guard(found))
    yield found
    ground.admin.apply(*make_guard(ground.platform))
    standing = route_of_team(ocean[0], ground.platform)
    until(lambda: "already exists" in ground.provisioner.create(standing))
    ground.admin.kubectl("delete", which, "--wait=true")


@pytest.fixture(scope="module")
def cove(ground: Ground, platform: Platform) -> Iterator[TeamSpec]:
    """A tenancy that stands, with its route, made by the provisioner."""
    spec = to_team(ground, "cove")[0]
    route = route_of_team(spec, platform)
    made = [m for m in make_tenancy(spec, platform) if m is not route and m["kind"] != "HTTPRoute"]
    ground.provisioner.apply(*made)
    until(lambda: ground.provisioner.create(route) == "")
    elsewhere = copy.deepcopy(route)
    elsewhere["spec"]["hostnames"] = ["hub.example.com"]
    until(lambda: "for their team's name" in ground.provisioner.create(elsewhere))
    ground.provisioner.apply(route)
    yield spec
    ground.forget(spec)


FILTER = "spec.rules.0.filters.0"
REDIRECT = f"{FILTER}.requestRedirect"
PARENT = "spec.parentRefs.0"
HOST, PAGE, WORDS = "for their team's name", "lead to their team's page", "annotations of the"
CASES: list[tuple[str, Change, str]] = [
    ("the hub's name", at("spec.hostnames.0", "hub.example.com"), HOST),
    ("another team's name", at("spec.hostnames.0", f"ice.{DOMAIN}"), HOST),
    ("a longer team's name", at("spec.hostnames.0", f"coves.{DOMAIN}"), HOST),
    ("another domain", at("spec.hostnames.0", "cove.evil.example"), HOST),
    ("any name", at("spec.hostnames.0", "*"), HOST),
    ("a second name", at("spec.hostnames.+", f"ice.{DOMAIN}"), HOST),
    ("no name, which is any", at("spec.hostnames", []), HOST),
    ("no field of names", at("spec.hostnames", None), HOST),
    ("another gateway", at(f"{PARENT}.name", "internal"), PAGE),
    ("another namespace's gateway", at(f"{PARENT}.namespace", "kube-system"), PAGE),
    ("another listener", at(f"{PARENT}.sectionName", "hub"), PAGE),
    ("all listeners", at(f"{PARENT}.sectionName", None), PAGE),
    ("a service for a parent", at(f"{PARENT}.kind", "Service"), PAGE),
    ("a second parent", at("spec.parentRefs.+", {"name": "internal"}), PAGE),
    ("no parent", at("spec.parentRefs", []), PAGE),
    ("a backend", at("spec.rules.0.backendRefs", [{"name": "server", "port": 80}]), PAGE),
    ("a mirror", at(f"{FILTER}.type", "RequestMirror"), PAGE),
    ("a second filter", at("spec.rules.0.filters.+", {"type": "RequestMirror"}), PAGE),
    ("no filter", at("spec.rules.0.filters", []), PAGE),
    ("no rule", at("spec.rules", []), PAGE),
    ("another host", at(f"{REDIRECT}.hostname", "evil.example"), PAGE),
    ("the host that was asked", at(f"{REDIRECT}.hostname", None), PAGE),
    ("in the clear", at(f"{REDIRECT}.scheme", "http"), PAGE),
    ("another port", at(f"{REDIRECT}.port", 8443), PAGE),
    ("for good", at(f"{REDIRECT}.statusCode", 301), PAGE),
    ("another team's page", at(f"{REDIRECT}.path.replaceFullPath", "/hub/team/ice"), PAGE),
    ("any page", at(f"{REDIRECT}.path", None), PAGE),
]


def annotated(**said: str) -> Change:
    def change(manifest: Manifest) -> None:
        manifest["metadata"]["annotations"] |= {EXTERNAL_DNS: f"cove.{DOMAIN}", **said}

    return change


CASES += [
    ("another DNS record", annotated(**{EXTERNAL_DNS: "hub.example.com"}), WORDS),
    ("more DNS records", annotated(**{EXTERNAL_DNS: f"cove.{DOMAIN},hub.example.com"}), WORDS),
    (
        "another target",
        annotated(**{"external-dns.alpha.kubernetes.io/target": "192.0.2.6"}),
        WORDS,
    ),
]


@pytest.mark.parametrize(("change", "sentence"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_route_that_is_anything_else_is_refused(
    change: Change, sentence: str, ground: Ground, platform: Platform, cove: TeamSpec
) -> None:
    mine = route_of_team(cove, platform)
    other = copy.deepcopy(mine)
    other["metadata"]["name"] = "another"
    assert ground.provisioner.create(other) == "", "it is the change that is refused"
    change(other)
    said = ground.provisioner.create(other)
    assert sentence in said
    assert "ValidatingAdmissionPolicy" in said
    change(mine)
    assert sentence in ground.provisioner.refusal(mine), "as a change of the one that stands too"


def test_the_provisioner_writes_again_what_stands_and_takes_it_away(
    ground: Ground, platform: Platform, cove: TeamSpec
) -> None:
    mine = route_of_team(cove, platform)
    ground.provisioner.apply(mine)
    space = mine["metadata"]["namespace"]
    controller = json.dumps({"metadata": {"annotations": {"controller.example.org/seen": "yes"}}})
    where = ("httproute", TEAM_NAME_ROUTE, "-n", space)
    ground.admin.kubectl("patch", *where, "--type=merge", "-p", controller)
    ground.provisioner.apply(mine)
    assert ground.provisioner.deletion(kinds.HTTP_ROUTE, TEAM_NAME_ROUTE, space) == ""


def test_an_ingress_is_none_of_this_platforms_names(
    ground: Ground, platform: Platform, cove: TeamSpec
) -> None:
    ingress = route_of_team(cove, ground.platform)
    assert ingress["kind"] == "Ingress"
    assert "no such names for teams" in ground.provisioner.create(ingress)


def test_nobody_but_the_provisioner_writes_routes(
    ground: Ground, platform: Platform, cove: TeamSpec
) -> None:
    route = route_of_team(cove, platform)
    route["metadata"]["name"] = "hubs"
    assert "forbidden" in ground.hub.create(route)
