"""Teams' names whose settings change: what they left in the cluster goes, on a real API server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from jupyterhub_collab.constants import TEAM_NAME_ROUTE
from jupyterhub_collab.hubapi.client import HubClient
from tests.cluster.cluster import Cluster
from tests.services.running import CONTEST, Provisioner, prepare_cluster, team, wait_until

pytestmark = pytest.mark.api
NAMES: dict[str, Any] = {
    "suffixes": ["contests.example.org"],
    "hubUrl": "https://hub.example.com",
    "ingressClass": "nginx",
    "annotations": {"nginx.ingress.kubernetes.io/temporal-redirect": "{url}"},
}


async def test_routes_of_a_kind_that_is_not_used_any_more_go(
    make_provisioner: Callable[..., Provisioner], api_cluster: Cluster
) -> None:
    made = make_provisioner(platform={"names": NAMES})
    made.start()
    made.wait_healthy()
    shared = {**CONTEST, "domain": "reef.contests.example.org"}
    async with HubClient(made.hub.api_url, made.hub.token) as hub:
        await hub.create_group("contest.reef")
        await hub.put_properties("contest.reef", {"collab": shared})
        await hub.create_group("ocean")
        await hub.put_properties("ocean", team())
        made.wait_state("ocean", "ready")
        space = f"{made.platform.namespace_prefix}ocean"

        def routes() -> list[str]:
            found = api_cluster.get("ingress", "-n", space)["items"]
            return [route["metadata"]["name"] for route in found]

        assert routes() == [TEAM_NAME_ROUTE]
        made.end()
        # While it was away the names were taken from the platform's settings, and the contest.
        await hub.put_properties("contest.reef", {"collab": {**CONTEST, "generation": 2}})
        plain = replace(made, platform=made.platform.model_copy(update={"names": None}))
        prepare_cluster(api_cluster, plain.platform, made.folder)
        found = plain
        try:
            found.start()
            found.wait_healthy()
            wait_until(lambda: routes() == [], timeout_s=30, what=lambda: found.log[-3000:])
            found.wait_state("ocean", "ready")
            leftovers = found.request("GET", "leftovers?contest=reef").json()
        finally:
            found.kill()
    assert "Ingress" in leftovers["looked"]
    assert ("HTTPRoute" in leftovers["looked"]) is ("HTTPRoute" not in leftovers["notLooked"])
    assert "Ingress" not in {leftover["kind"] for leftover in leftovers["leftovers"]}
