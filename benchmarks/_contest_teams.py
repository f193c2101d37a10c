"""What `contest_cluster` has on its two sides: teams of a registry, and a hub that can be written.

The contest has two rounds. Those who are kept come into the second, with another tier, another
image and one data set more; the gates of all others close; then all are destroyed. `Stage` says
what the registry has then, and both sides take it from there: ours writes rows, the raw client
sends the objects that differ from the stage before (all of them at the first).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from enum import Enum
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web

from benchmarks._teams import DRIVER, SEA, Order, Teams
from jupyterhub_collab.constants import SCOPE_PROVISION
from jupyterhub_collab.manifests.manifest import Manifest
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.models import ContestManifest, Gate, HubDecider, Retention
from jupyterhub_collab.models.contest_life import (
    ContestRecord,
    ContestState,
    MemberRecord,
    TeamRecord,
    TeamState,
)
from jupyterhub_collab.policy.contest_manifest import to_groups
from jupyterhub_collab.policy.contest_projection import to_manifest
from jupyterhub_collab.policy.spec import merge_team_spec
from jupyterhub_collab.reconcile.plan import bearer_of, marked
from tests.services.stub_hub import StubHub

CONTEST: Final = "reef"
MEMBERS: Final = 5
KEPT_OF: Final = 10  # one of so many goes on
NOW: Final = datetime(2027, 1, 1, tzinfo=timezone.utc)
DECIDER: Final = HubDecider(frozenset())
_TIER: Final = {"cpu": 1, "memory": "1Gi", "storage": "30Gi", "ephemeralStorage": "1Gi", "pods": 4}
MANIFEST: Final = ContestManifest.model_validate(
    {
        "apiVersion": "jupyterhub-collab.org/v1alpha1",
        "kind": "Contest",
        "contest": {"id": CONTEST, "title": "Reef"},
        "tiers": {"first": _TIER, "later": {**_TIER, "cpu": 2, "memory": "2Gi"}},
        "images": {
            "basic": {"title": "Basic", "image": "registry.example.org/basic:1"},
            "deep": {"title": "Deep", "image": "registry.example.org/deep:1"},
        },
        "profiles": {"only": {"title": "Only", "cpu": 1, "memory": "1Gi"}},
        "volumes": {"team": "1Gi", "personal": "1Gi"},
        "egress": [{"name": "web", "cidr": "151.101.0.0/16", "ports": [{"port": 443}]}],
        "datasets": {
            "sea": SEA,
            "sky": {
                "title": "Sky",
                "size": "5Gi",
                "csi": {"driver": DRIVER, "volumeHandle": "sky"},
            },
        },
        "rounds": [
            {"title": "One", "tier": "first", "images": ["basic"]},
            {"title": "Two", "tier": "later", "images": ["deep"], "datasets": ["sky"]},
        ],
    }
)


class Stage(Enum):
    """How far the contest has come."""

    PROVISIONED = "provisioned"
    ADVANCED = "advanced"
    DESTROYED = "destroyed"


def is_kept(number: int) -> bool:
    return number % KEPT_OF == 0


def values_of(stage: Stage, number: int) -> dict[str, Any]:
    """What a stage changes in a team's row."""
    if stage is Stage.ADVANCED:
        return {"round": 2} if is_kept(number) else {"gate": Gate.CLOSED}
    if stage is Stage.DESTROYED:
        return {"gate": Gate.CLOSED, "retention": Retention.DESTROY}
    return {}


def contest_record() -> ContestRecord:
    return ContestRecord(CONTEST, MANIFEST, ContestState.RUNNING, round=1)


def team_record(name: str, **values: Any) -> TeamRecord:
    given = {"tier": "first", "round": 1, **values}
    return TeamRecord(name, CONTEST, TeamState.ACTIVE, **given)


def users_of(team: str) -> tuple[str, ...]:
    return tuple(f"{team}-m{n}" for n in range(MEMBERS))


class RegisteredTeams(Teams):
    """Some teams of the contest; what the raw client sends is what differs between two stages."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.sent: list[list[Manifest]] = [[] for _ in self.names]
        self.lines = self.sent

    def reach(self, stage: Stage) -> None:
        """From now on `raw` sends what this stage changes; a deletion is of what there is."""
        wanted = self._objects(stage)
        if stage is Stage.DESTROYED:
            self.lines = self.sent
            return
        self.lines = [
            [manifest for manifest in after if manifest not in before]
            for before, after in zip(self.sent, wanted, strict=True)
        ]
        self.sent = wanted

    def _objects(self, stage: Stage) -> list[list[Manifest]]:
        records = [
            team_record(name, **values_of(stage, number)) for number, name in enumerate(self.names)
        ]
        rosters = {t: [MemberRecord(t, user, NOW) for user in users_of(t)] for t in self.names}
        projected = to_manifest(contest_record(), records, rosters)
        groups = to_groups(projected.manifest, DECIDER, projected.reached)
        shared = groups[f"contest.{CONTEST}"].properties
        found = []
        for name in self.names:
            spec = merge_team_spec(name, groups[name].properties, shared)
            tenancy = make_tenancy(spec, self.platform)
            bearer = bearer_of(tenancy)
            found.append([marked(m, spec.hash()) if m is bearer else m for m in tenancy])
        return found

    def write_manifests(self, order: Order) -> Path:
        path = self.folder / "manifests.jsonl"
        stages = arrange(order, self.lines)
        path.write_text("\n\n".join("\n".join(map(json.dumps, stage)) for stage in stages))
        return path


def arrange(order: Order, teams: list[list[Manifest]]) -> list[list[list[Manifest]]]:
    """As `Order.arrange`, where some teams have more to be sent than others."""
    if order is not Order.BY_KIND:
        return order.arrange(teams)
    (sorted_,) = Order.QUOTA_FIRST.arrange(teams)
    return [[[one] for one in same if one is not None] for same in zip_longest(*sorted_)]


class WritableHub(StubHub):
    """Groups that a registry may write, with a decider of its own: nobody is made a user here."""

    def __init__(self) -> None:
        super().__init__(SCOPE_PROVISION)
        self._by_name: dict[str, dict[str, Any]] = {}

    def add_routes(self, app: web.Application) -> None:
        super().add_routes(app)
        group = "/hub/api/groups/{name}"
        app.router.add_get(group, self._read)
        app.router.add_post(group, self._create)
        app.router.add_delete(group, self._delete)
        app.router.add_put(f"{group}/properties", self._put)
        app.router.add_get("/hub/api/collab/membership", self._decider)
        app.router.add_post("/hub/api/collab/membership", self._project)

    def _changed(self) -> None:
        self._groups = list(self._by_name.values())
        self._encoded.clear()

    async def _read(self, request: web.Request) -> web.Response:
        group = self._by_name.get(request.match_info["name"])
        return _answer(group or {"message": "none"}, status=200 if group else 404)

    async def _create(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name in self._by_name:
            return web.json_response({"message": "there is one"}, status=409)
        group = {"kind": "group", "name": name, "properties": {}, "users": [], "roles": []}
        self._by_name[name] = group
        self._changed()
        return _answer(group, status=201)

    async def _delete(self, request: web.Request) -> web.Response:
        self._by_name.pop(request.match_info["name"], None)
        self._changed()
        return web.Response(status=204)

    async def _put(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        properties = msgspec.json.decode(await request.read())
        self._by_name[name]["properties"] = properties
        self._encoded.clear()
        return _answer(self._by_name[name])

    async def _decider(self, _request: web.Request) -> web.Response:
        return web.json_response({"decider": "hub", "sources": []})

    async def _project(self, _request: web.Request) -> web.Response:
        return web.json_response({})


def _answer(what: Any, *, status: int = 200) -> web.Response:
    body = msgspec.json.encode(what)
    return web.Response(body=body, status=status, content_type="application/json")


def total(counts: Mapping[Any, int], *, without: Iterable[str] = ("watch",)) -> int:
    """Requests but those of these verbs."""
    return sum(n for (verb, _), n in counts.items() if verb not in set(without))
