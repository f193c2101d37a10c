"""All admission policies of one hub, in apply order: what the cluster refuses whoever asks.

Each holds what one of our parts could do if somebody took it over. `jupyterhub-collab rbac` prints
them with the roles; what each of them holds is in docs/security/policies.md. They bear the version
of their rules, so that it can be seen which of them a cluster has.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ..constants import LABEL_HUB, LABEL_POLICIES
from ..models import Platform
from ..models.platform import CidrPeer, Endpoint, Gateway, TeamNames
from .guard_archives import make_archive_policies
from .guard_claims import make_claim_policy, make_secret_policy
from .guard_labels import make_label_policy
from .guard_pods import make_pod_policies, pod_rules
from .guard_provisioner import make_provisioner_policy
from .manifest import Manifest
from .retention import make_retention_policy

_POLICY: Final = "ValidatingAdmissionPolicy"
_BINDING: Final = "ValidatingAdmissionPolicyBinding"


def make_guard(platform: Platform) -> tuple[Manifest, ...]:
    """Policies and their bindings."""
    manifests = _make_guard(platform)
    for manifest in manifests:
        manifest["metadata"]["labels"][LABEL_POLICIES] = rules_version()
    return manifests


def _make_guard(platform: Platform) -> tuple[Manifest, ...]:
    return (
        *make_provisioner_policy(platform),
        *make_retention_policy(platform),
        *make_label_policy(platform),
        *make_pod_policies(platform),
        *make_archive_policies(platform, pod_rules(platform)),
        *make_claim_policy(platform),
        *make_secret_policy(platform),
    )


@functools.cache
def rules_version() -> str:
    """Hash of the rules themselves, whatever a platform's settings are: 16 hex digits."""
    other = _ANY_PLATFORM.model_copy(update={"names": _BY_INGRESS})
    text = json.dumps([_make_guard(_ANY_PLATFORM), _make_guard(other)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_ANYWHERE: Final = Endpoint(
    host="x", address="192.0.2.1", port=1, peer=CidrPeer(cidr="192.0.2.1/32")
)
_BY_INGRESS: Final = TeamNames(
    suffixes=("x.example",),
    hub_url="https://hub.test",
    ingress_class="x",
    annotations={"x": "{url} {host}"},
)
_ANY_PLATFORM: Final = Platform(
    hub_api=_ANYWHERE,
    proxy=_ANYWHERE,
    # All settings that bring a rule of their own.
    archive_image="x/y:1",
    contests=_ANYWHERE,
    dataset_nfs=True,
    host_users=False,
    dataset_csi_drivers=("x",),
    image_prefixes=("x/",),
    names=TeamNames(
        suffixes=("x.example",),
        hub_url="https://hub.test",
        gateway=Gateway(name="x", namespace="x", section="x"),
        annotations={"x": "{url} {host}"},
    ),
    private_ranges_allowed=("10.0.0.0/8",),
    priority_classes=("x",),
    toleration_keys=("x",),
)


def find_problems(
    found: Iterable[Manifest], platforms: Mapping[str, Platform] | None = None
) -> dict[str, str]:
    """What is wrong with the policies that a cluster has, by hub; a hub without fault is empty.

    Parameters
    ----------
    found
        Policies and bindings that bear our managed-by label.
    platforms
        Settings by hub id, as far as they are known: then what the rules say is compared, word by
        word. Of other hubs only the version of the rules can be.

    Returns
    -------
    By hub id; no hub at all: there are none.
    """
    wanted = {(m["kind"], _short(m)) for m in _make_guard(_ANY_PLATFORM)}
    hubs: dict[str, dict[tuple[str, str], Manifest]] = {}
    for manifest in found:
        hub = manifest["metadata"].get("labels", {}).get(LABEL_HUB, "")
        hubs.setdefault(hub, {})[manifest["kind"], _short(manifest)] = manifest
    known = platforms or {}
    return {
        hub: _problem_of(wanted, policies) or _difference(policies, known.get(hub))
        for hub, policies in hubs.items()
    }


def _difference(found: dict[tuple[str, str], Manifest], platform: Platform | None) -> str:
    """Which policies do not say what these settings make of them."""
    if platform is None:
        return ""
    other = [
        _short(m)
        for m in _make_guard(platform)
        if _without_defaults(found[m["kind"], _short(m)]["spec"]) != m["spec"]
    ]
    return f"say other than this hub's settings: {', '.join(sorted(set(other)))}" if other else ""


# What the API server puts where a policy says nothing. Anything else there is somebody's doing.
_DEFAULTS: Final = (("matchPolicy", "Equivalent"), ("scope", "*"))


def _without_defaults(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_defaults(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _without_defaults(item)
        for key, item in value.items()
        if (key, item) not in _DEFAULTS and item not in ({}, [], None)
    }


def _problem_of(wanted: set[tuple[str, str]], found: dict[tuple[str, str], Manifest]) -> str:
    missing = sorted({name for _, name in wanted - found.keys()})
    if missing:
        return f"missing: {', '.join(missing)}"
    idle = [
        name
        for (kind, name), manifest in found.items()
        if kind == _BINDING and "Deny" not in manifest["spec"].get("validationActions", ())
    ]
    if idle:
        return f"refuse nothing: {', '.join(sorted(idle))}"
    versions = {key: found[key]["metadata"]["labels"].get(LABEL_POLICIES) for key in wanted}
    older = sorted({name for (_, name), v in versions.items() if v != rules_version()})
    return f"of another version than this program: {', '.join(older)}" if older else ""


def _short(manifest: Manifest) -> str:
    """Name without the hub's namespace."""
    return str(manifest["metadata"]["name"]).partition(".")[0]
