"""A team id that comes again in another contest does not get the former team's volumes."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from jupyterhub_collab.constants import (
    ANNOTATION_GIVE_TO_CONTEST,
    ANNOTATION_SPEC,
    LABEL_CONTEST,
)
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.reconcile.engine import Engine, Outcome
from jupyterhub_collab.reconcile.issues import IssueType
from tests.reconcile.fake_api import Cache, FakeApi
from tests.reconcile.test_engine_laws import KEYS, OWNER, PLATFORM, SPACE, make_spec

REEF = make_spec()
ATOLL = REEF.model_copy(update={"contest": "atoll"})


async def work(api: FakeApi, spec: Any) -> Outcome:
    cache = Cache(api, SPACE)
    cache.sync()
    return await Engine(api, cache).reconcile(
        make_tenancy(spec, PLATFORM), owner=OWNER, ready_hash=spec.hash()
    )


@pytest.fixture
async def api() -> FakeApi:
    """A cluster with what team ocean of contest reef left."""
    made = FakeApi()
    assert (await work(made, REEF)).is_ready
    return made


@pytest.mark.parametrize("lost", ["nothing", "annotation", "label"])
async def test_nothing_is_touched_before_somebody_decides(api: FakeApi, lost: str) -> None:
    meta = api.objects[KEYS[0]]["metadata"]
    if lost == "annotation":
        meta["annotations"][ANNOTATION_SPEC] = "{"
    elif lost == "label":
        meta["labels"][LABEL_CONTEST] = "atoll"
    before = copy.deepcopy(api.objects)
    outcome = await work(api, ATOLL)
    assert not outcome.is_ready
    assert [issue.type for issue in outcome.issues] == [IssueType.OTHER_CONTEST]
    assert outcome.issues[0].is_blocking
    assert not outcome.issues[0].is_passing
    assert f"{ANNOTATION_GIVE_TO_CONTEST}=atoll" in outcome.issues[0].message
    assert api.objects == before


async def test_a_decision_for_this_contest_and_no_other_lets_it_go_on(api: FakeApi) -> None:
    annotations = api.objects[KEYS[0]]["metadata"]["annotations"]
    annotations[ANNOTATION_GIVE_TO_CONTEST] = "lagoon"
    assert not (await work(api, ATOLL)).is_ready
    annotations[ANNOTATION_GIVE_TO_CONTEST] = "atoll"
    volumes = {k: o["metadata"]["uid"] for k, o in api.objects.items() if "Volume" in k.kind}
    assert (await work(api, ATOLL)).is_ready
    assert api.objects[KEYS[0]]["metadata"]["labels"][LABEL_CONTEST] == "atoll"
    assert volumes == {
        k: o["metadata"]["uid"] for k, o in api.objects.items() if "Volume" in k.kind
    }
    # Back again is a decision of its own.
    assert not (await work(api, REEF)).is_ready
