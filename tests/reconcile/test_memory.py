"""What was compared once is not compared again, unless something else decides it too."""

from __future__ import annotations

from collections.abc import Sequence

from jupyterhub_collab.reconcile.engine import Engine
from jupyterhub_collab.reconcile.objects import ObjectKey, key_of
from jupyterhub_collab.reconcile.plan import Plan, marked
from tests.reconcile.fake_api import Cache, FakeApi
from tests.reconcile.test_engine_laws import DESIRED, KEYS, OWNER, SPACE, SPEC

VOLUME = next(key for key in KEYS if key.kind == "PersistentVolume")
CLAIM = ObjectKey("PersistentVolumeClaim", SPACE, "dataset-sea")


def arrange() -> tuple[FakeApi, Cache, Engine]:
    """All stands."""
    api = FakeApi()
    for manifest in DESIRED:
        is_space = key_of(manifest) == KEYS[0]
        api.put(marked(manifest, SPEC.hash()) if is_space else manifest, is_applied=True)
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
    assert [step.key for step in plan(engine).steps if step.key != KEYS[0]] == [KEYS[1]]


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
