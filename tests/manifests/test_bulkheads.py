"""What two contests on one hub, and two hubs on one cluster, have in common: as good as nothing.

The matrix is in docs/bulkheads.md, with where each of its lines is tested.
"""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from jupyterhub_collab import constants, names
from jupyterhub_collab.manifests.installation import make_installation
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.models import Platform
from jupyterhub_collab.policy.spec import merge_team_spec

from .conftest import CONTEST, IN_CLUSTER
from .test_installation import OPTIONS

Manifests = tuple[dict[str, Any], ...]

CLUSTER_WIDE: Final = {
    *("Namespace", "PersistentVolume", "ClusterRole", "ClusterRoleBinding", "PriorityClass"),
    *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
}
# The same text whichever hub it comes from: what a role may do, bound by each hub for itself.
SHARED: Final = {
    ("ClusterRole", constants.HUB_CLUSTER_ROLE),
    ("ClusterRole", constants.HUB_WATCH_CLUSTER_ROLE),
    ("ClusterRole", constants.PROVISIONER_CLUSTER_ROLE),
    ("PriorityClass", constants.HOME_PRIORITY_CLASS),
}


def dataset(contest: str) -> dict[str, Any]:
    """Of the same name in both contests, and something else in each."""
    source = {"driver": "files.csi.example.org", "volumeHandle": f"secret-of-{contest}"}
    return {"title": "Data", "everyTeam": True, "size": "1Gi", "csi": source}


def egress(cidr: str) -> list[dict[str, Any]]:
    return [{"name": "mirror", "cidr": cidr, "ports": [{"port": 443}]}]


def tenancy(team: str, contest: str, cidr: str) -> Manifests:
    said = {
        **CONTEST,
        "title": contest,
        "datasets": {"data": dataset(contest)},
        "egress": egress(cidr),
    }
    properties = {"generation": 1, "contest": contest, "tier": "large"}
    spec = merge_team_spec(team, {"collab": properties}, {"collab": said})
    return make_tenancy(spec, Platform.model_validate({**IN_CLUSTER, "hub_id": "shared"}))


OCEAN: Final = tenancy("ocean", "forecast", "151.101.0.0/16")
CORAL: Final = tenancy("coral", "reef", "8.8.8.0/24")
BOTH: Final = pytest.mark.parametrize(
    ("mine", "contest", "theirs"),
    [
        (OCEAN, "forecast", ("reef", "coral", "8.8.8.0/24")),
        (CORAL, "reef", ("forecast", "ocean", "151.101.0.0/16")),
    ],
)


def places(manifests: Manifests) -> set[tuple[str, str, str]]:
    return {
        (m["kind"], m["metadata"].get("namespace", ""), m["metadata"]["name"]) for m in manifests
    }


def cluster_wide(manifests: Manifests) -> dict[tuple[str, str], dict[str, Any]]:
    return {(m["kind"], m["metadata"]["name"]): m for m in manifests if m["kind"] in CLUSTER_WIDE}


def peers(manifests: Manifests) -> list[dict[str, Any]]:
    return [
        peer
        for m in manifests
        if m["kind"] == "NetworkPolicy"
        for way, side in (("ingress", "from"), ("egress", "to"))
        for rule in m["spec"].get(way, [])
        for peer in rule[side]
    ]


def test_teams_of_two_contests_have_no_object_in_common() -> None:
    assert places(OCEAN) & places(CORAL) == set()


@BOTH
def test_every_object_says_whose_contest_it_is_and_nothing_of_the_other(
    mine: Manifests, contest: str, theirs: tuple[str, ...]
) -> None:
    for manifest in mine:
        assert manifest["metadata"]["labels"][constants.LABEL_CONTEST] == contest
        for word in theirs:
            assert word not in json.dumps(manifest)


@BOTH
def test_a_data_set_of_the_same_name_is_each_contests_own(
    mine: Manifests, contest: str, theirs: tuple[str, ...]
) -> None:
    (volume,) = (m for m in mine if m["kind"] == "PersistentVolume")
    (claim,) = (
        m for m in mine if m["kind"] == "PersistentVolumeClaim" and m["spec"].get("volumeName")
    )
    assert volume["spec"]["csi"]["volumeHandle"] == f"secret-of-{contest}"
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    bound = volume["spec"]["claimRef"]
    assert bound["namespace"] == claim["metadata"]["namespace"]
    assert bound["name"] == claim["metadata"]["name"]


@BOTH
def test_no_team_is_let_in_by_another_or_out_to_it(
    mine: Manifests, contest: str, theirs: tuple[str, ...]
) -> None:
    """All that is named in the cluster is the hub's namespace; the rest is the contest's rules."""
    home = {"matchLabels": {"kubernetes.io/metadata.name": IN_CLUSTER["hub_namespace"]}}
    found = peers(mine)
    assert len(found) >= 4
    for peer in found:
        assert ("ipBlock" in peer) != (peer.get("namespaceSelector") == home)


def release(name: str) -> Platform:
    """A hub of its own for one contest, as docs/hub-per-contest.md says."""
    number = {"forecast": 1, "reef": 2}[name]

    def endpoint(key: str) -> dict[str, Any]:
        found = {**IN_CLUSTER[key], "address": f"10.96.{number}.{IN_CLUSTER[key]['port'] % 200}"}
        return {**found, "peer": {**found["peer"], "namespace": f"hub-{name}"}}

    ends = ("hub_api", "proxy", "egress_proxy", "data_gateway", "contests")
    settings = {
        "hub_id": name,
        "hub_namespace": f"hub-{name}",
        "namespace_prefix": f"{name}-",
        **{key: endpoint(key) for key in ends},
    }
    return Platform.model_validate({**IN_CLUSTER, **settings})


def test_two_hubs_share_nothing_but_what_is_the_same_for_all() -> None:
    one, other = (
        make_installation(release(name), **{**OPTIONS, "public_url": f"https://{name}.example.org"})
        for name in ("forecast", "reef")
    )
    assert places(one) & places(other) == {(kind, "", name) for kind, name in SHARED}
    first, second = cluster_wide(one), cluster_wide(other)
    assert first.keys() & second.keys() == SHARED
    for key in SHARED:
        assert first[key] == second[key]
    assert len(first) > 2 * len(SHARED)


def test_nothing_of_one_hub_names_another() -> None:
    for name, other in (("forecast", "reef"), ("reef", "forecast")):
        options = {**OPTIONS, "public_url": f"https://{name}.example.org"}
        assert other not in json.dumps(make_installation(release(name), **options))


def test_a_team_of_the_same_name_on_two_hubs_is_two_teams() -> None:
    spaces = {
        names.namespace_of("ocean", prefix=release(name).namespace_prefix)
        for name in ("forecast", "reef")
    }
    assert len(spaces) == 2
