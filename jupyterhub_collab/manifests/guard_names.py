"""Holds the routes that the provisioner writes to the names of their own teams.

Whoever took over the provisioner could otherwise take the hub's own name, or another team's, and
have browsers sent to a page that looks like the hub's. A route is for one host, the team's id in a
domain of the platform's; it serves nothing, and leads to the team's page on the hub. What it says
to controllers in annotations (external-dns, the ingress controller) is held word for word.
"""

from __future__ import annotations

import re
from typing import Final

from ..constants import ANNOTATION_OBJECT_HASH, TEAM_NAME_ROUTE
from ..models import Platform
from ..models.platform import Gateway, TeamNames
from .admission import Rule, annotation, literal, team_of
from .team_name import EXTERNAL_DNS, FOUND, TEAM_PAGE, hub_parts

_LISTS: Final = ".orValue([])"
_TEXT: Final = '.orValue("")'
_NO_NAMES: Final = (("false", "this platform's settings have no such names for teams"),)
_HOST: Final = "the provisioner's routes are for their team's name in the platform's domains"
_PAGE: Final = "the provisioner's routes lead to their team's page on the hub, and nowhere else"
_WORDS: Final = (
    "the provisioner's routes bear the annotations of the platform's settings and no others"
)


def route_rules(platform: Platform) -> tuple[Rule, ...]:
    """Rules on HTTPRoutes that the provisioner writes."""
    names = platform.names
    if names is None or names.gateway is None:
        return _NO_NAMES
    hosts = f"object.spec.?hostnames{_LISTS}"
    rules, parents = f"object.spec.?rules{_LISTS}", f"object.spec.?parentRefs{_LISTS}"
    return (
        (f"size({hosts}) == 1 && {hosts}.all(h, {_is_theirs('h', names)})", _HOST),
        (
            f"size({parents}) == 1 && {parents}.all(p, {_is_parent(names.gateway)})"
            f" && size({rules}) > 0 && {rules}.all(r, {_leads(names)})",
            _PAGE,
        ),
        *_annotation_rules(names, f"{hosts}[0]"),
    )


def ingress_rules(platform: Platform) -> tuple[Rule, ...]:
    """Rules on Ingresses that the provisioner writes."""
    names = platform.names
    if names is None or names.ingress_class is None:
        return _NO_NAMES
    hosts = f"object.spec.?rules{_LISTS}"
    ruled = _is_theirs(f"r.?host{_TEXT}", names)
    return (
        (
            f"size({hosts}) == 1 && {hosts}.all(r, {ruled})"
            f' && object.spec.?tls{_LISTS}.all(t, t.?secretName{_TEXT} == ""'
            f" && t.?hosts{_LISTS}.all(h, {_is_theirs('h', names)}))"
            " && !has(object.spec.defaultBackend)",
            _HOST,
        ),
        (
            f"object.spec.?ingressClassName{_TEXT} == {literal(names.ingress_class)}"
            f" && {hosts}.all(r, r.?http.?paths{_LISTS}.all(p,"
            f" p.backend.?service.?name{_TEXT} == {literal(TEAM_NAME_ROUTE)}))",
            _PAGE,
        ),
        *_annotation_rules(names, f"{hosts}[0].?host{_TEXT}"),
    )


def _is_parent(gateway: Gateway) -> str:
    """CEL: `p` is the platform's listener."""
    wanted = {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "name": gateway.name,
        "namespace": gateway.namespace,
        "sectionName": gateway.section or "",
    }
    return " && ".join(f"p.?{key}{_TEXT} == {literal(value)}" for key, value in wanted.items())


def _leads(names: TeamNames) -> str:
    """CEL: the rule `r` serves nothing, and redirects to the team's page, for this once."""
    scheme, host, port = hub_parts(names)
    to = "f.?requestRedirect"
    page = f"{literal(TEAM_PAGE)} + {team_of('object')}"
    return (
        f"size(r.?backendRefs{_LISTS}) == 0 && size(r.?filters{_LISTS}) == 1"
        ' && r.filters.all(f, f.type == "RequestRedirect"'
        f" && {to}.?scheme{_TEXT} == {literal(scheme)} && {to}.?hostname{_TEXT} == {literal(host)}"
        f" && {to}.?port.orValue(0) == {port} && {to}.?statusCode.orValue(0) == {FOUND}"
        f" && {to}.?path.?replaceFullPath{_TEXT} == {page})"
    )


def _annotation_rules(names: TeamNames, host: str) -> tuple[Rule, ...]:
    """What controllers read: `host` is the one host, in CEL. Others' annotations stay."""
    said = {EXTERNAL_DNS: "{host}", **names.annotations}
    known = literal([*sorted(said), ANNOTATION_OBJECT_HASH])
    mine = "object.metadata.?annotations.orValue({})"
    old = "oldObject.metadata.?annotations.orValue({})"
    kept = f"(oldObject != null && k in {old} && {old}[k] == {mine}[k])"
    are_filled = " && ".join(
        f"{annotation('object', key)} == {_filled(text, host, names)}"
        for key, text in sorted(said.items())
    )
    return ((f"{mine}.all(k, k in {known} || {kept}) && {are_filled}", _WORDS),)


def _filled(text: str, host: str, names: TeamNames) -> str:
    """CEL: an annotation's text with what stands for its placeholders."""
    page = f"{literal(names.hub_url + TEAM_PAGE)} + {team_of('object')}"
    meant = {"{url}": page, "{host}": host}
    parts = [part for part in re.split(r"(\{url\}|\{host\})", text) if part]
    return f"({' + '.join(meant.get(part, literal(part)) for part in parts) or literal('')})"


def _is_theirs(host: str, names: TeamNames) -> str:
    """CEL: this host is the team's id, and then what contests' domains are or end in."""
    team = team_of("object")
    ends = " || ".join(f"{host}.endsWith({literal('.' + suffix)})" for suffix in names.suffixes)
    return f'({host}.startsWith({team} + ".") && ({ends}))'
