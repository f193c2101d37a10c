"""Nothing that a quota counts is asked for before the quota is in force."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from jupyterhub_collab.constants import ANNOTATION_READY_HASH
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.models import TeamSpec
from jupyterhub_collab.reconcile.engine import Engine, Outcome
from jupyterhub_collab.reconcile.issues import IssueType
from jupyterhub_collab.reconcile.objects import ObjectKey
from jupyterhub_collab.reconcile.quota import is_quota_refusal, quota_pending
from tests.reconcile.fake_api import Cache, FakeApi
from tests.reconcile.test_engine_laws import (
    DATASET,
    OWNER,
    PLATFORM,
    RIGHTS,
    SPACE,
    make_spec,
)

SMALL = make_spec(datasets={})
GROWN = make_spec("large", datasets={}, volumes={"team": "3Gi"})
GRANTED = make_spec(datasets={"sea": DATASET})
CLAIM = ObjectKey("PersistentVolumeClaim", SPACE, "team")
EXCEEDED = (
    'persistentvolumeclaims "team" is forbidden: exceeded quota: team, requested: '
    "requests.storage=2Gi, used: requests.storage=1Gi, limited: requests.storage=2Gi"
)


class Team:
    """One team, its cluster and what works on it."""

    def __init__(self) -> None:
        self.api = FakeApi()
        self.cache = Cache(self.api, SPACE)
        self.now = 0.0
        self.engine = Engine(self.api, self.cache, clock=lambda: self.now)

    async def work(self, spec: TeamSpec) -> Outcome:
        self.cache.sync()
        return await self.engine.reconcile(
            make_tenancy(spec, PLATFORM), owner=OWNER, ready_hash=spec.hash()
        )

    def mark(self) -> str | None:
        bearer = self.api.objects.get(RIGHTS, {"metadata": {"annotations": {}}})
        annotations = bearer["metadata"]["annotations"]
        found: str | None = annotations.get(ANNOTATION_READY_HASH)
        return found

    def refuse_growth(self, words: str) -> None:
        """The team's volume cannot become 2Gi large."""
        larger = {"requests": {"storage": "2Gi"}}

        def admit(_verb: str, obj: Any) -> str:
            return words if obj.get("spec", {}).get("resources") == larger else ""

        self.api.admit = admit

    def claims(self) -> set[str]:
        return {key.name for key in self.api.objects if key.kind == "PersistentVolumeClaim"}


@pytest.fixture
def ocean(monkeypatch: pytest.MonkeyPatch) -> Team:
    """One whose storage class lets volumes grow."""
    monkeypatch.setattr("tests.reconcile.fake_api._immutable_change", lambda _live, _wish: "")
    return Team()


def types(outcome: Outcome) -> list[IssueType]:
    return [issue.type for issue in outcome.issues]


async def test_a_new_team_is_not_ready_before_its_quota_is_in_force(ocean: Team) -> None:
    ocean.api.is_quota_prompt = False
    for _ in range(2):
        outcome = await ocean.work(SMALL)
        assert not outcome.is_ready
        assert outcome.error is None
        assert types(outcome) == [IssueType.QUOTA_PENDING]
        assert outcome.issues[0].is_passing
        assert ocean.mark() is None
        assert ocean.claims() == set()
    kinds = {key.kind for key in ocean.api.objects}
    assert kinds >= {"NetworkPolicy", "ServiceAccount"}
    assert "RoleBinding" not in kinds  # it is made with the mark
    ocean.api.control_quotas()
    outcome = await ocean.work(SMALL)
    assert outcome.is_ready
    assert ocean.mark() == SMALL.hash()
    assert ocean.claims() == {"team"}


async def test_a_dry_run_of_a_new_team_tells_all_its_steps(ocean: Team) -> None:
    plan = ocean.engine.plan(make_tenancy(SMALL, PLATFORM), owner=OWNER, ready_hash=SMALL.hash())
    assert CLAIM in {step.key for step in plan.steps}
    assert not plan.issues


@pytest.mark.parametrize("after", [GROWN, GRANTED], ids=["raised-and-grown", "data-set-granted"])
async def test_what_the_old_quota_would_refuse_waits_for_the_new_one(
    ocean: Team, after: TeamSpec
) -> None:
    assert (await ocean.work(SMALL)).is_ready
    ocean.api.is_quota_prompt = False

    def admit(_verb: str, obj: Any) -> str:
        quota = ocean.api.objects[ObjectKey("ResourceQuota", SPACE, "team")]
        is_old = quota["status"]["hard"] != quota["spec"]["hard"]
        return EXCEEDED if is_old and obj["kind"] == "PersistentVolumeClaim" else ""

    ocean.api.admit = admit
    outcome = await ocean.work(after)
    assert outcome.error is None
    assert types(outcome) == [IssueType.QUOTA_PENDING]
    assert ocean.mark() is None
    ocean.api.control_quotas()
    outcome = await ocean.work(after)
    assert outcome.is_ready
    assert outcome.issues == ()
    assert ocean.mark() == after.hash()
    wanted = {m["metadata"]["name"]: m for m in make_tenancy(after, PLATFORM)}
    for key, obj in ocean.api.objects.items():
        if key.kind == "PersistentVolumeClaim":
            assert obj["spec"]["resources"] == wanted[key.name]["spec"]["resources"]


async def test_admission_that_lags_behind_the_status_is_asked_again(ocean: Team) -> None:
    """It reads a cache: a moment after the status agrees it may still refuse."""
    refusals = [EXCEEDED, ""]
    ocean.api.admit = lambda verb, obj: (
        refusals.pop(0) if obj["kind"] == "PersistentVolumeClaim" and refusals else ""
    )
    outcome = await ocean.work(SMALL)
    assert not outcome.is_ready
    assert types(outcome) == [IssueType.QUOTA_PENDING]
    assert "exceeded quota" in outcome.issues[0].message
    assert (await ocean.work(SMALL)).is_ready


async def test_the_mark_goes_before_a_wall_is_touched_and_comes_back_last(ocean: Team) -> None:
    """The platform changed, the spec and so its hash did not: no server may start meanwhile."""
    assert (await ocean.work(SMALL)).is_ready
    elsewhere = PLATFORM.model_copy(update={"egress_denied_ranges": ("151.101.7.0/24",)})
    desired = make_tenancy(SMALL, elsewhere)
    ocean.cache.sync()
    walls = [
        step.key
        for step in ocean.engine.plan(desired, owner=OWNER, ready_hash=SMALL.hash()).steps
        if step.key.kind == "NetworkPolicy"
    ]
    assert walls
    marks: list[tuple[ObjectKey, str | None]] = []
    ocean.api.on_write = lambda _verb, key: marks.append((key, ocean.mark()))
    outcome = await ocean.engine.reconcile(desired, owner=OWNER, ready_hash=SMALL.hash())
    assert outcome.is_ready
    assert [mark for key, mark in marks if key in walls] == [None] * len(walls)
    assert marks[-1] == (RIGHTS, SMALL.hash())
    assert not ocean.engine.plan(desired, owner=OWNER, ready_hash=SMALL.hash()).steps


@pytest.mark.parametrize("kind", ["NetworkPolicy", "ResourceQuota"])
async def test_a_wall_that_vanished_takes_the_mark_with_it(ocean: Team, kind: str) -> None:
    assert (await ocean.work(SMALL)).is_ready
    gone = next(key for key in ocean.api.objects if key.kind == kind)
    del ocean.api.objects[gone]
    marks: dict[ObjectKey, str | None] = {}
    ocean.api.on_write = lambda _verb, key: marks.update({key: ocean.mark()})
    assert (await ocean.work(SMALL)).is_ready
    assert marks[gone] is None
    assert ocean.mark() == SMALL.hash()


async def test_a_quota_without_room_keeps_the_team_ready_and_is_asked_again(ocean: Team) -> None:
    assert (await ocean.work(SMALL)).is_ready
    larger = make_spec(datasets={}, volumes={"team": "2Gi"})
    ocean.refuse_growth(EXCEEDED)
    for _ in range(2):
        outcome = await ocean.work(larger)
        assert outcome.is_ready
        assert types(outcome) == [IssueType.VOLUME_FIXED]
        assert ocean.mark() == larger.hash()
    ocean.api.admit = lambda _verb, _obj: ""  # a personal volume went
    outcome = await ocean.work(larger)
    assert outcome.issues == ()
    size = ocean.api.objects[CLAIM]["spec"]["resources"]["requests"]["storage"]
    assert size == "2Gi"


async def test_another_refusal_is_remembered_for_a_while_only(ocean: Team) -> None:
    assert (await ocean.work(SMALL)).is_ready
    larger = make_spec(datasets={}, volumes={"team": "2Gi"})
    ocean.refuse_growth("only dynamically provisioned pvc can be resized")
    assert types(await ocean.work(larger)) == [IssueType.VOLUME_FIXED]
    ocean.api.admit = lambda _verb, _obj: ""  # the storage class allows it now
    ocean.api.requests.clear()
    assert types(await ocean.work(larger)) == [IssueType.VOLUME_FIXED]
    assert ocean.api.requests == []
    ocean.now += 601.0
    outcome = await ocean.work(larger)
    assert outcome.is_ready
    assert outcome.issues == ()


@pytest.mark.parametrize(
    ("hard", "status", "is_pending"),
    [
        ({"limits.cpu": "2"}, {"hard": {"limits.cpu": "2000m"}}, False),
        ({"limits.cpu": "2"}, {"hard": {"limits.cpu": "1"}}, True),
        ({"limits.cpu": "2", "pods": "3"}, {"hard": {"limits.cpu": "2"}}, True),
        ({"limits.cpu": "2"}, {"hard": {"limits.cpu": "2", "pods": "3"}}, True),
        ({"limits.cpu": "2"}, {}, True),
        ({"limits.cpu": "2"}, None, True),
    ],
)
def test_in_force_means_the_same_amounts(
    hard: dict[str, str], status: dict[str, Any] | None, is_pending: bool
) -> None:
    quota = {"kind": "ResourceQuota", "metadata": {"name": "team"}, "spec": {"hard": hard}}
    if status is not None:
        quota["status"] = copy.deepcopy(status)
    assert (quota_pending(quota) is not None) == is_pending


@pytest.mark.parametrize(
    ("message", "is_refusal"),
    [
        (EXCEEDED, True),
        ('pods "x" is forbidden: status unknown for quota: team, resources: pods', True),
        ("maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi", True),
        ("only dynamically provisioned pvc can be resized", False),
    ],
)
def test_the_words_of_quota_admission(message: str, is_refusal: bool) -> None:
    assert is_quota_refusal(message) == is_refusal
