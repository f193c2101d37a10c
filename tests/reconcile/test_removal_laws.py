"""The laws of the way down, from any state and through any faults."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jupyterhub_collab.constants import (
    ANNOTATION_DESTROY,
    ANNOTATION_SPEC,
    LABEL_CONTEST,
    LABEL_HUB,
    LABEL_TEAM,
)
from jupyterhub_collab.reconcile.engine import Engine, Outcome
from jupyterhub_collab.reconcile.issues import IssueType
from jupyterhub_collab.reconcile.objects import ObjectKey, key_of
from jupyterhub_collab.reconcile.removal import Doomed, plan_removal
from tests.reconcile.fake_api import Cache, FakeApi, Fault, faults
from tests.reconcile.test_engine_laws import (
    DESIRED,
    EXTRAS,
    KEYS,
    OWNER,
    SPACE,
    arrange,
    fault_lists,
    foreign,
    hows,
    states,
)

NAMESPACE = KEYS[0]
VOLUME = next(key for key in KEYS if key.kind == "PersistentVolume")
DOOMED = Doomed(OWNER, SPACE, "reef")
REFUSALS = (None, "", "destroy", "ocean", "Reef", "reef\n", "old")  # what is not the contest's id


def release(api: FakeApi, word: str | None = "reef") -> None:
    """An administrator says this of all that there is."""
    for key, found in api.objects.items():
        if key.kind in (NAMESPACE.kind, VOLUME.kind) and word is not None:
            found["metadata"].setdefault("annotations", {})[ANNOTATION_DESTROY] = word


def bystanders(how: int) -> list[dict[str, Any]]:
    """What a team's deletion must never reach, however much it looks like the team's."""
    space = copy.deepcopy(DESIRED[0])
    space["metadata"]["name"] = "hub-ocean-2"
    space["metadata"]["labels"][LABEL_TEAM] = "ocean-2"
    volume = foreign(next(m for m in DESIRED if key_of(m) == VOLUME), how)
    volume["metadata"]["name"] = "hub-ocean.other"
    theirs = copy.deepcopy(volume)
    theirs["metadata"] |= {"name": "hub-ocean-2.sea", "labels": space["metadata"]["labels"]}
    return [space, volume, theirs]


class Watcher:
    """Looks on at every write and objects at once."""

    def __init__(self, api: FakeApi, *, may_delete: bool = True) -> None:
        self._api, self._may_delete = api, may_delete
        self._ours = {key for key, obj in api.objects.items() if OWNER.owns(obj)}
        api.on_write = self.look

    def look(self, verb: str, key: ObjectKey) -> None:
        if verb == "get":
            return
        assert self._may_delete, f"{verb} of {key}, which nobody released"
        assert verb == "delete"
        assert key in self._ours, f"{key} is not ours"
        assert key.kind in ("Namespace", "PersistentVolume"), f"{key}: the cluster takes it along"
        if key.kind == "PersistentVolume":
            space = self._api.objects.get(NAMESPACE)
            is_there = space is not None and OWNER.owns(space)
            assert not is_there, "a volume before its namespace was gone"


async def passes(engine: Engine, api: FakeApi, cache: Cache, count: int) -> Outcome:
    """Passes, with the cluster's controllers and our watches between them."""
    for _ in range(count):
        outcome = await engine.remove(DOOMED)
        api.control_deletions()
        cache.sync()
    return outcome


@settings(max_examples=150, deadline=None)
@given(states, st.sets(st.sampled_from(sorted(EXTRAS))), hows, fault_lists)
@example(dict.fromkeys(KEYS, "right"), set(), 0, [Fault.LOST] * 6)
@example({**dict.fromkeys(KEYS, "right"), NAMESPACE: "foreign"}, set(EXTRAS), 0, [])
@example({**dict.fromkeys(KEYS, "missing"), VOLUME: "right"}, set(), 0, [Fault.FORBIDDEN])
def test_from_any_state_through_any_faults(
    chosen: dict[ObjectKey, str], some: set[str], how: int, sequence: list[Fault]
) -> None:
    """Convergent, idempotent, touches only the namespace and the volumes that are ours."""

    async def run() -> None:
        api = FakeApi()
        arrange(api, chosen, some, how)
        others = [key_of(api.put(obj)) for obj in bystanders(how)]
        api.bind()
        release(api)
        before = {key: copy.deepcopy(api.objects[key]) for key in others}
        space = api.objects.get(NAMESPACE)
        is_theirs = space is not None and not OWNER.owns(space)
        if is_theirs:  # then whatever is in it is not ours to end, nor is itself
            theirs = {key: obj for key, obj in api.objects.items() if not OWNER.owns(obj)}
            before |= copy.deepcopy(theirs)
        Watcher(api)
        cache = Cache(api, SPACE)
        cache.sync()
        engine = Engine(api, cache)
        api.faults = faults(sequence)
        for _ in range(len(sequence) + 1):
            await passes(engine, api, cache, 1)
        api.faults = faults(())
        outcome = await passes(engine, api, cache, 4)
        for key, obj in before.items():
            assert api.objects[key]["metadata"]["uid"] == obj["metadata"]["uid"]
            assert "deletionTimestamp" not in api.objects[key]["metadata"]
        if is_theirs:
            assert not outcome.is_ready
            assert [issue.type for issue in outcome.issues] == [IssueType.NOT_OURS]
            return
        assert outcome.is_ready
        assert outcome.issues == ()
        left = {key for key, obj in api.objects.items() if OWNER.owns(obj)}
        assert left == set()
        # Idempotent: the second time there is no step, and no request.
        api.requests.clear()
        again = await passes(engine, api, cache, 1)
        assert again.writes == 0
        assert api.requests == []
        assert engine.plan_removal(DOOMED).steps == ()

    asyncio.run(run())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 8), st.sampled_from(list(Fault)))
def test_a_pass_cut_off_anywhere_is_taken_up_by_another_process(cut: int, fault: Fault) -> None:
    async def run() -> None:
        api = standing()
        Watcher(api)
        first = Cache(api, SPACE)
        first.sync()
        api.faults = faults([Fault.NONE] * cut + [fault])
        await Engine(api, first).remove(DOOMED)
        for _ in range(4):  # a new process each time: it knows nothing but what the API tells
            api.control_deletions()
            cache = Cache(api, SPACE)
            cache.sync()
            outcome = await Engine(api, cache).remove(DOOMED)
        assert outcome.is_ready
        assert api.objects == {}
        deleted = [key for verb, key in api.writes if verb == "delete"]
        assert sorted(set(deleted)) == sorted([NAMESPACE, VOLUME])

    asyncio.run(run())


def standing(word: str | None = "reef") -> FakeApi:
    """A whole tenancy. `word`: what an administrator says of its end."""
    api = FakeApi()
    arrange(api, dict.fromkeys(KEYS, "right"), set(), 0)
    api.bind()
    release(api, word)
    return api


@pytest.mark.parametrize("word", REFUSALS)
def test_what_the_cluster_does_not_release_stays(word: str | None) -> None:
    api = standing(word)
    before = copy.deepcopy(api.objects)
    cache = Cache(api, SPACE)
    cache.sync()
    outcome = asyncio.run(Engine(api, cache).remove(DOOMED))
    assert api.objects == before
    assert api.requests == []
    assert not outcome.is_ready
    (issue,) = outcome.issues
    assert issue.type is IssueType.NOT_RELEASED
    assert issue.is_blocking
    own = f"{LABEL_HUB}={OWNER.hub_id},{LABEL_TEAM}=ocean"
    command = f"kubectl annotate --overwrite namespace,persistentvolume -l {own} "
    assert f"{command}{ANNOTATION_DESTROY}=reef" in issue.message


@pytest.mark.parametrize("released", [NAMESPACE, VOLUME])
def test_a_word_is_for_the_object_that_it_lies_on(released: ObjectKey) -> None:
    api = standing(None)
    api.objects[released]["metadata"].setdefault("annotations", {})[ANNOTATION_DESTROY] = "reef"
    cache = Cache(api, SPACE)
    for _ in range(3):
        cache.sync()
        outcome = asyncio.run(Engine(api, cache).remove(DOOMED))
        api.control_deletions()
    assert (NAMESPACE in api.objects) == (released == VOLUME)
    assert VOLUME in api.objects
    assert [issue.type for issue in outcome.issues] == [IssueType.NOT_RELEASED]


def test_a_refusal_by_the_admission_policy_is_told_in_its_own_words() -> None:
    """The key may have been taken back meanwhile, or the API server may see it a moment later."""
    api = standing()
    cache = Cache(api, SPACE)
    cache.sync()
    words = "ValidatingAdmissionPolicy 'x' denied request: no word of an administrator"
    api.admit = lambda verb, _obj: words if verb == "delete" else ""
    outcome = asyncio.run(Engine(api, cache).remove(DOOMED))
    assert outcome.error is not None, "tried again"
    (issue,) = outcome.issues
    assert issue.type is IssueType.NOT_RELEASED
    assert words in issue.message
    assert NAMESPACE in api.objects


@pytest.mark.parametrize("where", ["label", "spec", "volume"])
def test_another_contests_work_is_left_alone(where: str) -> None:
    """An id that came again decides nothing about the former team."""
    api = standing()
    release(api, "old")
    if where == "volume":
        api._drop(NAMESPACE)
    found = api.objects[VOLUME if where == "volume" else NAMESPACE]["metadata"]
    if where == "spec":
        spec = found["annotations"][ANNOTATION_SPEC]
        assert '"contest":"reef"' in spec
        found["annotations"][ANNOTATION_SPEC] = spec.replace('"contest":"reef"', '"contest":"old"')
    else:
        found["labels"][LABEL_CONTEST] = "old"
    cache = Cache(api, SPACE)
    cache.sync()
    outcome = asyncio.run(Engine(api, cache).remove(DOOMED))
    assert [issue.type for issue in outcome.issues] == [IssueType.OTHER_CONTEST]
    assert api.requests == []


MOVES = ("vanish", "relabel", "anew", "other-contest")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([NAMESPACE, VOLUME]), st.sampled_from(MOVES)),
        min_size=1,
        max_size=4,
    )
)
def test_somebody_elses_hand_between_look_and_deletion(moves: list[tuple[ObjectKey, str]]) -> None:
    """What changed hands since it was read is never deleted: each deletion says which it means."""

    async def run() -> None:
        api = standing()
        cache = Cache(api, SPACE)
        cache.sync()
        left, fail = list(moves), api._fail

        def interfere(verb: str, key: ObjectKey) -> bool:
            if left and verb == "delete":
                target, how = left.pop(0)
                move(api, target, how)
            return fail(verb, key)

        def look(verb: str, key: ObjectKey) -> None:
            # A namespace stays to be looked at; a volume is looked at before it goes.
            live = api.objects.get(key)
            if verb == "delete" and live is not None:
                assert OWNER.owns(live), f"{key} had changed hands"
                assert live["metadata"]["labels"][LABEL_CONTEST] == "reef"

        api._fail, api.on_write = interfere, look  # type: ignore[method-assign]
        engine = Engine(api, cache)
        await passes(engine, api, cache, len(moves) + 4)
        others = {key for key, obj in api.objects.items() if not OWNER.owns(obj)}
        for key in others:
            assert "deletionTimestamp" not in api.objects[key]["metadata"]

    asyncio.run(run())


def move(api: FakeApi, target: ObjectKey, how: str) -> None:
    live = api.objects.get(target)
    if live is None or "deletionTimestamp" in live["metadata"]:
        return  # it is irrevocable already
    if how == "vanish":
        api._drop(target)
    elif how == "anew":
        manifest = next(m for m in DESIRED if key_of(m) == target)
        api.put(foreign(manifest, 0))
    else:
        labels = live["metadata"]["labels"]
        changed = {"mine": "yes"} if how == "relabel" else {**labels, LABEL_CONTEST: "old"}
        live["metadata"]["labels"] = changed
        api._touch(live)


def test_an_older_cluster_destroys_nothing() -> None:
    """It may take the policies away while pods run yet."""
    api = standing()
    api.kubernetes = (1, 33)
    cache = Cache(api, SPACE)
    cache.sync()
    outcome = asyncio.run(Engine(api, cache).remove(DOOMED))
    assert NAMESPACE in api.objects
    (issue,) = outcome.issues
    assert issue.type is IssueType.CLUSTER_TOO_OLD
    assert "Kubernetes 1.33" in issue.message
    assert "1.34" in issue.message


def test_what_holds_a_namespace_is_told() -> None:
    api = standing()
    space = api.objects[NAMESPACE]
    space["metadata"] |= {"deletionTimestamp": "2027-01-01T00:00:00Z", "finalizers": ["x.org/held"]}
    remaining = {"type": "NamespaceContentRemaining", "status": "True", "message": "pods. has 1"}
    space["status"] = {"conditions": [remaining, {**remaining, "status": "False", "message": "no"}]}
    plan = plan_removal(DOOMED, api.objects)
    assert plan.steps == ()
    (issue,) = plan.issues
    assert issue.is_passing
    assert "waits for x.org/held" in issue.message
    assert issue.message.endswith("The cluster says: pods. has 1")
