"""What was compared once is not compared again, unless something else decides it too."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from jupyterhub_collab.constants import LABEL_TEAM
from jupyterhub_collab.kube.informer import Change
from jupyterhub_collab.kube.kinds import kind_named
from jupyterhub_collab.reconcile.engine import Engine
from jupyterhub_collab.reconcile.objects import Manifest, ObjectKey, key_of
from jupyterhub_collab.reconcile.plan import Plan, marked
from tests.reconcile.fake_api import Cache, FakeApi
from tests.reconcile.test_engine_laws import DESIRED, KEYS, OWNER, RIGHTS, SPACE, SPEC

VOLUME = next(key for key in KEYS if key.kind == "PersistentVolume")
QUOTA = next(key for key in KEYS if key.kind == "ResourceQuota")
CLAIM = ObjectKey("PersistentVolumeClaim", SPACE, "dataset-sea")


def arrange() -> tuple[FakeApi, Cache, Engine]:
    """All stands."""
    api = FakeApi()
    for manifest in DESIRED:
        is_bearer = key_of(manifest) == RIGHTS
        api.put(marked(manifest, SPEC.hash()) if is_bearer else manifest, is_applied=True)
    cache = Cache(api, SPACE)
    cache.sync()
    return api, cache, Engine(api, cache)


def plan(engine: Engine) -> Plan:
    return engine.plan(DESIRED, owner=OWNER, ready_hash=SPEC.hash())


def compared(found: Plan) -> Sequence[ObjectKey]:
    return [key_of(wish) for wish in found.alike]


def test_what_stands_is_compared_once() -> None:
    api, cache, engine = arrange()
    assert plan(engine) == Plan()
    assert compared(plan(engine)) == []
    policy = api.objects[KEYS[1]]
    policy["spec"]["egress"] = [{}]
    api.put(policy)
    cache.sync()
    assert [step.key for step in plan(engine).steps if step.key != RIGHTS] == [KEYS[1]]


def test_a_volume_is_looked_at_again_for_its_claim_may_go() -> None:
    api, cache, engine = arrange()
    volume = api.objects[VOLUME]
    volume["spec"]["claimRef"]["uid"] = api.objects[CLAIM]["metadata"]["uid"]
    api.put(volume)
    cache.sync()
    assert plan(engine) == Plan()
    cache.forget(CLAIM, api.objects[CLAIM]["metadata"]["uid"])  # the volume is the very same
    steps = {step.key: step.remove for step in plan(engine).steps}
    assert ("spec", "claimRef", "uid") in steps[VOLUME]


def change(engine: Engine, cache: Cache, new: Manifest | None, key: ObjectKey) -> bool:
    """A watch tells it; whether that is news."""
    old = cache.objects_of(OWNER.team).get(key)
    if new is not None:
        cache.show(new)
    return engine.is_news(Change(kind_named(key.kind), old, new), OWNER)


def younger(obj: Manifest) -> Manifest:
    meta = {**obj["metadata"], "resourceVersion": "99999"}
    return {**obj, "metadata": meta}


async def test_what_the_cluster_adds_to_an_object_that_stands_is_no_news() -> None:
    api, cache, engine = arrange()
    assert plan(engine) == Plan()
    claim = younger(api.objects[CLAIM])
    annotations = {**claim["metadata"]["annotations"], "pv.kubernetes.io/bind-completed": "yes"}
    claim["metadata"]["annotations"] = annotations
    assert not change(engine, cache, claim, CLAIM)
    assert compared(plan(engine)) == [], "it was compared when it was told"


def change_policy(obj: Manifest) -> None:
    obj["spec"]["egress"] = [{}]


def take_label(obj: Manifest) -> None:
    del obj["metadata"]["labels"][LABEL_TEAM]


def end(obj: Manifest) -> None:
    obj["metadata"]["deletionTimestamp"] = "2027-01-01T00:00:00Z"


def replace_object(obj: Manifest) -> None:
    obj["metadata"]["uid"] = "another"


def nothing(_obj: Manifest) -> None:
    """Of these kinds any change counts."""


@pytest.mark.parametrize(
    ("key", "how"),
    [
        (KEYS[1], change_policy),
        (KEYS[1], take_label),
        (KEYS[1], end),
        (CLAIM, replace_object),
        (KEYS[0], nothing),
        (RIGHTS, nothing),
        (QUOTA, nothing),
    ],
)
async def test_what_a_pass_would_answer_is_news(
    key: ObjectKey, how: Callable[[Manifest], None]
) -> None:
    api, cache, engine = arrange()
    assert plan(engine) == Plan()
    new = copy.deepcopy(younger(api.objects[key]))
    how(new)
    assert change(engine, cache, new, key)


async def test_what_is_gone_and_what_was_never_looked_at_is_news() -> None:
    api, cache, engine = arrange()
    assert change(engine, cache, younger(api.objects[KEYS[1]]), KEYS[1])
    assert plan(engine) == Plan()
    assert change(engine, cache, None, KEYS[1])


async def test_a_volume_whose_claim_is_gone_is_news() -> None:
    api = FakeApi()
    cache = Cache(api, SPACE)
    engine = Engine(api, cache)
    await engine.reconcile(DESIRED, owner=OWNER, ready_hash=SPEC.hash())
    bound = copy.deepcopy(younger(api.objects[VOLUME]))
    bound["spec"]["claimRef"]["uid"] = api.objects[CLAIM]["metadata"]["uid"]
    assert not change(engine, cache, bound, VOLUME)
    stale = copy.deepcopy(bound)
    stale["metadata"]["resourceVersion"] = "999999"
    stale["spec"]["claimRef"]["uid"] = "of a claim that is gone"
    assert change(engine, cache, stale, VOLUME)


async def test_the_echo_of_a_write_is_no_news_however_early_it_comes() -> None:
    """A watch is often faster than the answer to the write that it tells of."""
    api = FakeApi()
    cache = Cache(api, SPACE)
    engine = Engine(api, cache)
    told: list[bool] = []

    def echo(verb: str, key: ObjectKey) -> None:
        told.append(change(engine, cache, copy.deepcopy(api.objects[key]), key))

    api.on_write = echo
    outcome = await engine.reconcile(DESIRED, owner=OWNER, ready_hash=SPEC.hash())
    assert outcome.is_ready
    assert outcome.writes == len(DESIRED)
    assert told == [False] * outcome.writes
    assert plan(engine) == Plan()


async def test_what_another_changes_before_the_answer_comes_is_put_right_in_the_same_pass() -> None:
    """Its event is taken for an echo, so nothing else would look at it."""

    class Contested(FakeApi):
        async def apply_new(self, manifest: Mapping[str, Any]) -> Manifest:
            answer = await super().apply_new(manifest)
            if key_of(manifest) == KEYS[1]:
                self.objects[KEYS[1]]["spec"]["egress"] = [{}]
                self._touch(self.objects[KEYS[1]])
                told.append(change(engine, cache, copy.deepcopy(self.objects[KEYS[1]]), KEYS[1]))
            return answer

    told: list[bool] = []
    api = Contested()
    cache = Cache(api, SPACE)
    engine = Engine(api, cache)
    outcome = await engine.reconcile(DESIRED, owner=OWNER, ready_hash=SPEC.hash())
    assert told == [False]
    assert outcome.is_ready
    assert not api.objects[KEYS[1]]["spec"].get("egress")


async def test_what_comes_again_while_it_is_deleted_is_news() -> None:
    """Nothing looks at it when the answer to the deletion comes."""
    api, cache, engine = arrange()
    told: list[bool] = []
    api.put({**api.objects[KEYS[1]], "metadata": {**api.objects[KEYS[1]]["metadata"], "name": "x"}})
    unwanted = KEYS[1]._replace(name="x")
    cache.sync()

    def come_again(verb: str, key: ObjectKey) -> None:
        if verb == "delete" and key == unwanted:
            again = copy.deepcopy(younger(api.objects[KEYS[1]]))
            again["metadata"] |= {"name": "x", "uid": "another"}
            told.append(engine.is_news(Change(kind_named(key.kind), None, again), OWNER))

    api.on_write = come_again
    await engine.reconcile(DESIRED, owner=OWNER, ready_hash=SPEC.hash())
    assert told == [True]
