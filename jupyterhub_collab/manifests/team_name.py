"""A team's name: a route that sends browsers from TEAM.DOMAIN to the team's page on the hub.

It only redirects: nothing of the team answers under it, so no page of theirs can pass for the
hub's, and a name whose team is gone leads nowhere. external-dns makes the DNS record of it and
takes it away with it; certificate and listener for all names of a domain are the platform's.

Notes
-----
https://gateway-api.sigs.k8s.io/api-types/httproute/ (RequestRedirect),
https://kubernetes-sigs.github.io/external-dns/
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from .. import names
from ..constants import TEAM_NAME_ROUTE
from ..models import Platform, TeamSpec
from ..models.platform import TeamNames
from .manifest import Manifest, make_object

TEAM_PAGE: Final = "/hub/team/"
FOUND: Final = 302  # a name may be given up, and browsers keep a 301 for good
HTTP_ROUTE: Final = "HTTPRoute"
INGRESS: Final = "Ingress"
KINDS_OF_NAMES: Final = (HTTP_ROUTE, INGRESS)
EXTERNAL_DNS: Final = "external-dns.alpha.kubernetes.io/hostname"


def kinds_of_names(platform: Platform) -> tuple[str, ...]:
    """Kinds that names take on this platform; none where teams have no names."""
    if platform.names is None:
        return ()
    return (HTTP_ROUTE,) if platform.names.gateway is not None else (INGRESS,)


def former_kinds_of_names(platform: Platform) -> tuple[str, ...]:
    """Kinds that names took under other settings, perhaps; a cluster may not know them."""
    return tuple(kind for kind in KINDS_OF_NAMES if kind not in kinds_of_names(platform))


def team_page(team: str, settings: TeamNames) -> str:
    """The team's page on the hub."""
    return f"{settings.hub_url}{TEAM_PAGE}{team}"


def hub_parts(settings: TeamNames) -> tuple[str, str, int]:
    """Scheme, host and port of the hub."""
    hub = urlsplit(settings.hub_url)
    return hub.scheme, hub.hostname or "", hub.port or (443 if hub.scheme == "https" else 80)


def make_team_name(spec: TeamSpec, host: str, platform: Platform, settings: TeamNames) -> Manifest:
    """HTTPRoute or Ingress, as the platform has it."""
    page = team_page(spec.team, settings)
    said = {
        key: text.replace("{url}", page).replace("{host}", host)
        for key, text in settings.annotations.items()
    }
    if settings.gateway is not None:
        version, kind = "gateway.networking.k8s.io/v1", HTTP_ROUTE
        body = _make_route(spec.team, host, settings)
    else:
        version, kind = "networking.k8s.io/v1", INGRESS
        body = _make_ingress(host, settings)
    return make_object(
        version,
        kind,
        TEAM_NAME_ROUTE,
        spec=spec,
        platform=platform,
        namespace=names.namespace_of(spec.team, prefix=platform.namespace_prefix),
        annotations={EXTERNAL_DNS: host, **said},
        body=body,
    )


def _make_route(team: str, host: str, settings: TeamNames) -> dict[str, Any]:
    assert settings.gateway is not None
    scheme, hostname, port = hub_parts(settings)
    parent = {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "name": settings.gateway.name,
        "namespace": settings.gateway.namespace,
    }
    if settings.gateway.section is not None:
        parent["sectionName"] = settings.gateway.section
    redirect: dict[str, Any] = {
        "scheme": scheme,
        "hostname": hostname,
        "port": port,
        "path": {"type": "ReplaceFullPath", "replaceFullPath": f"{TEAM_PAGE}{team}"},
        "statusCode": FOUND,
    }
    rule = {"filters": [{"type": "RequestRedirect", "requestRedirect": redirect}]}
    return {"spec": {"parentRefs": [parent], "hostnames": [host], "rules": [rule]}}


def _make_ingress(host: str, settings: TeamNames) -> dict[str, Any]:
    # The controller redirects before it looks for a backend; there is none in the namespace.
    backend = {"service": {"name": TEAM_NAME_ROUTE, "port": {"number": 80}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    return {
        "spec": {
            "ingressClassName": settings.ingress_class,
            "tls": [{"hosts": [host]}],
            "rules": [{"host": host, "http": {"paths": [path]}}],
        }
    }
