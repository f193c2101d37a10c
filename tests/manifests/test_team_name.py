"""A team's name: the route to its page, and what the platform lets a contest call itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from jupyterhub_collab.constants import TEAM_NAME_ROUTE
from jupyterhub_collab.errors import SpecError
from jupyterhub_collab.manifests import guard_names, guard_provisioner
from jupyterhub_collab.manifests.guard import make_guard, rules_version
from jupyterhub_collab.manifests.team_name import EXTERNAL_DNS, kinds_of_names
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.models import Platform, TeamSpec
from jupyterhub_collab.policy.contest_manifest import parse_contest_manifest

from .acting import Ground, until
from .conftest import DOMAIN, IN_CLUSTER, NGINX, make_case

GATEWAY: dict[str, Any] = {
    "suffixes": ["contests.example.org"],
    "hubUrl": "https://hub.example.com",
    "gateway": {"name": "public", "namespace": "gateways", "section": "names"},
}


def names_of(settings: dict[str, Any]) -> Platform:
    return Platform.model_validate({**IN_CLUSTER, "names": settings})


def route_of(platform: Platform) -> dict[str, Any]:
    spec, _ = make_case("full")
    (found,) = (m for m in make_tenancy(spec, platform) if m["metadata"]["name"] == TEAM_NAME_ROUTE)
    return found


def test_a_gateway_sends_browsers_on_by_itself() -> None:
    platform = names_of(GATEWAY)
    route = route_of(platform)
    assert kinds_of_names(platform) == (route["kind"],) == ("HTTPRoute",)
    assert route["spec"] == {
        "parentRefs": [
            {
                "group": "gateway.networking.k8s.io",
                "kind": "Gateway",
                "name": "public",
                "namespace": "gateways",
                "sectionName": "names",
            }
        ],
        "hostnames": [f"ocean.{DOMAIN}"],
        "rules": [
            {
                "filters": [
                    {
                        "type": "RequestRedirect",
                        "requestRedirect": {
                            "scheme": "https",
                            "hostname": "hub.example.com",
                            "port": 443,
                            "path": {
                                "type": "ReplaceFullPath",
                                "replaceFullPath": "/hub/team/ocean",
                            },
                            "statusCode": 302,
                        },
                    }
                ]
            }
        ],
    }


def test_a_contest_without_domain_has_no_routes() -> None:
    spec, _ = make_case("least")
    kinds = {m["kind"] for m in make_tenancy(spec, names_of(GATEWAY))}
    assert not kinds & {"HTTPRoute", "Ingress"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gateway": None}, "exactly one of gateway and ingressClass"),
        ({"ingressClass": "nginx"}, "exactly one of gateway and ingressClass"),
        ({"gateway": None, "ingressClass": "nginx"}, "an annotation with {url}"),
        ({"suffixes": ["hub.example.com"]}, "lie in one another"),
        ({"suffixes": ["users.hub.example.com"]}, "lie in one another"),
        ({"suffixes": ["example.com"]}, "lie in one another"),
        ({"suffixes": ["localhost"]}, "suffixes"),
        ({"suffixes": ["Contests.example.org"]}, "suffixes"),
        ({"suffixes": []}, "suffixes"),
        ({"hubUrl": "https://hub.example.com/base"}, "hubUrl"),
        ({"hubUrl": "javascript:alert(1)"}, "hubUrl"),
    ],
)
def test_settings_that_would_mix_origins_or_lead_nowhere(
    change: dict[str, Any], words: str
) -> None:
    settings = {k: v for k, v in {**GATEWAY, **change}.items() if v is not None}
    with pytest.raises(ValidationError) as error:
        names_of(settings)
    assert words in str(error.value)


@pytest.mark.parametrize(
    "domain",
    ["hub.example.com", "contests.example.org.evil.example", "evilcontests.example.org"],
)
def test_a_domain_that_is_not_the_platforms_to_give(domain: str) -> None:
    spec, platform = make_case("full")
    other = spec.model_copy(update={"host": f"ocean.{domain}"})
    with pytest.raises(SpecError) as error:
        make_tenancy(other, platform)
    assert "a domain in contests.example.org" in str(error.value)
    with pytest.raises(SpecError) as error:
        make_tenancy(spec, Platform.model_validate(IN_CLUSTER))
    assert "no domain: this platform" in str(error.value)
    assert f'"{DOMAIN}"' in str(error.value), "as it stands in the manifest"
    assert "Take it out of the contest's manifest, or have an administrator" in str(error.value)


MANIFEST = """
apiVersion: jupyterhub-collab.org/v1alpha1
kind: Contest
contest: {{id: forecast, title: Forecasts, domain: {domain}}}
tiers: {{small: {{cpu: 1, memory: 1Gi, storage: 70Gi, ephemeralStorage: 1Gi, pods: 2}}}}
images: {{basic: {{title: Basic, image: "registry.example.org/basic:1"}}}}
profiles: {{small: {{title: Small, cpu: 1, memory: 1Gi}}}}
"""


@pytest.mark.parametrize(
    ("domain", "words"),
    [
        ("other.example", "contest.domain"),
        ("-bad.contests.example.org", "contest.domain"),
        ("under_score.contests.example.org", "contest.domain"),
        ("a." * 110 + "contests.example.org", "contest.domain"),
    ],
)
def test_the_manifest_names_a_domain_that_cannot_be(domain: str, words: str) -> None:
    with pytest.raises(SpecError) as error:
        parse_contest_manifest(
            MANIFEST.format(domain=domain), file="c.yaml", platform=names_of(GATEWAY)
        )
    assert words in str(error.value)
    good = MANIFEST.format(domain=DOMAIN)
    assert parse_contest_manifest(good, file="c.yaml", platform=names_of(GATEWAY)).contest.domain


@pytest.mark.api
def test_a_taken_over_provisioner_takes_no_other_name(
    ground: Ground, ocean: tuple[TeamSpec, str]
) -> None:
    """Not the hub's, not another team's, and leads nowhere else."""
    spec, _ = ocean
    mine = route_of_team(spec, ground.platform)
    host = mine["spec"]["rules"][0]["host"]

    def changed(
        *,
        host: str = host,
        tls: dict[str, Any] | None = None,
        url: str = "",
        said: dict[str, str] | None = None,
        **spec: Any,
    ) -> str:
        rule = {**mine["spec"]["rules"][0], "host": host}
        annotations = {**mine["metadata"]["annotations"], "DNS": host}
        annotations[EXTERNAL_DNS] = annotations.pop("DNS")
        annotations |= said or {}
        if url:
            annotations["nginx.ingress.kubernetes.io/temporal-redirect"] = url
        meta = {
            **mine["metadata"],
            "name": f"n{abs(hash((host, url, str(tls), str(said), str(spec))))}",
        }
        meta["annotations"] = annotations
        inside = {**mine["spec"], "rules": [rule], "tls": [tls or {"hosts": [host]}], **spec}
        return ground.provisioner.create({**mine, "metadata": meta, "spec": inside})

    until(lambda: "already exists" in ground.provisioner.create(mine))
    until(lambda: "for their team's name" in changed(host="hub.example.com"))
    assert changed() == ""
    for other in ("hub.example.com", f"ice.{DOMAIN}", f"oceanic.{DOMAIN}", "ocean.evil.example"):
        assert "for their team's name" in changed(host=other)
    assert "for their team's name" in changed(tls={"hosts": ["hub.example.com"]})
    assert "for their team's name" in changed(tls={"hosts": [host], "secretName": "stolen"})
    assert "annotations of the platform" in changed(url="https://evil.example/")
    for said in (
        {EXTERNAL_DNS: "hub.example.com"},
        {EXTERNAL_DNS: f"{host},hub.example.com"},
        {"external-dns.alpha.kubernetes.io/target": "192.0.2.6"},
        {"nginx.ingress.kubernetes.io/server-alias": "hub.example.com"},
        {"nginx.ingress.kubernetes.io/server-snippet": "return 200 'hello';"},
    ):
        assert "annotations of the platform" in changed(said=said)
    assert "lead to their team's page" in changed(ingressClassName="another")


@pytest.mark.api
def test_what_others_wrote_on_a_route_holds_the_provisioner_up_no_further(
    ground: Ground, ocean: tuple[TeamSpec, str]
) -> None:
    """A controller's own annotation stays, and the provisioner's next write goes through."""
    spec, _ = ocean
    mine = route_of_team(spec, ground.platform)
    controller = {"controller.example.org/seen": "yes"}
    patch = json.dumps({"metadata": {"annotations": controller}})
    where = ("ingress", TEAM_NAME_ROUTE, "-n", mine["metadata"]["namespace"])
    ground.admin.kubectl("patch", *where, "--type=merge", "-p", patch)
    ground.provisioner.apply(mine)
    again = {"metadata": {"annotations": {"controller.example.org/seen": "no"}}}
    assert "annotations of the platform" in ground.provisioner.patch(mine, again)


def test_a_text_with_both_placeholders_is_held_too() -> None:
    """Nothing that the settings can say leaves the page open."""
    settings = {**NGINX, "annotations": {"controller.example.org/to": "{url}?from={host}"}}
    rules = [cel for cel, _ in guard_names.ingress_rules(names_of(settings))]
    assert "true" not in rules
    assert any('"?from="' in cel for cel in rules)


def test_the_version_of_the_rules_tells_changed_rules_on_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = rules_version()
    for kind in ("route_rules", "ingress_rules"):
        rules_version.cache_clear()
        with monkeypatch.context() as patched:
            patched.setattr(guard_provisioner, kind, lambda _: (("true", "open"),))
            assert rules_version() != before
    rules_version.cache_clear()


@pytest.mark.api
def test_rules_of_both_kinds_are_taken_by_the_cluster(ground: Ground) -> None:
    """The API server compiles every expression."""
    for settings in (GATEWAY, NGINX):
        update = {"names": names_of(settings).names}
        for manifest in make_guard(ground.platform.model_copy(update=update)):
            document = {**manifest, "metadata": {**manifest["metadata"], "name": "compiled"}}
            if manifest["kind"] == "ValidatingAdmissionPolicy":
                ground.admin.kubectl(
                    *("create", "--dry-run=server", "-f", "-"), stdin=_text(document)
                )


def route_of_team(spec: TeamSpec, platform: Platform) -> dict[str, Any]:
    return next(m for m in make_tenancy(spec, platform) if m["metadata"]["name"] == TEAM_NAME_ROUTE)


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document)
