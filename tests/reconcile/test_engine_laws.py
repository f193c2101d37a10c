"""The engine's laws, from any state and through any faults."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jupyterhub_collab.constants import (
    ANNOTATION_READY_HASH,
    COMPONENT_PERSONAL_VOLUME,
    HUB_ROLE_BINDING_NAME,
    LABEL_COMPONENT,
    LABEL_HUB,
    LABEL_MANAGED_BY,
    LABEL_TEAM,
    POLICY_DENY_ALL,
)
from jupyterhub_collab.errors import RetryableError
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.models import Platform, TeamSpec
from jupyterhub_collab.policy.spec import merge_team_spec
from jupyterhub_collab.reconcile.compare import find_deviations
from jupyterhub_collab.reconcile.engine import Engine, Outcome
from jupyterhub_collab.reconcile.objects import ObjectKey, Owner, key_of
from jupyterhub_collab.reconcile.plan import Action, marked, plan_objects
from tests.reconcile.fake_api import Cache, FakeApi, Fault, faults
from tests.services.running import CONTEST, make_platform, team

DATASET = {"title": "Sea", "everyTeam": True, "size": "5Gi", "nfs": {"server": "s", "path": "/x"}}
PLATFORM: Platform = make_platform("hub", dataset_nfs=True)
OWNER = Owner("hub", "ocean")
SPACE = "hub-ocean"
FIELDS = {"datasets": {"sea": DATASET}}


def make_spec(tier: str = "small", **contest: Any) -> TeamSpec:
    return merge_team_spec("ocean", team(tier=tier), {"collab": {**CONTEST, **FIELDS, **contest}})


SPEC = make_spec()
OLD = make_spec("large", egress=[{"name": "old", "cidr": "8.8.8.0/24", "ports": [{"port": 53}]}])
DESIRED = make_tenancy(SPEC, PLATFORM)
BEFORE = {key_of(m): m for m in make_tenancy(OLD, PLATFORM)}
KEYS = [key_of(m) for m in DESIRED]
DENY_ALL = ObjectKey("NetworkPolicy", SPACE, POLICY_DENY_ALL)
RIGHTS = ObjectKey("RoleBinding", SPACE, HUB_ROLE_BINDING_NAME)  # which bear the ready mark


def drifted(manifest: dict[str, Any], how: int) -> dict[str, Any]:
    """Somebody's hand was in it."""
    changed = copy.deepcopy(manifest)
    kind = manifest["kind"]
    if kind == "NetworkPolicy" and how % 2:
        changed["spec"]["egress"] = [{}]
    elif kind == "ResourceQuota":
        hard = changed["spec"]["hard"]
        hard.pop("pods") if how % 2 else hard.update({"limits.cpu": "2000"})
    elif kind == "LimitRange":
        changed["spec"]["limits"] = changed["spec"]["limits"][:1]
    elif kind == "RoleBinding":
        if how % 2:
            changed["subjects"].append({"kind": "User", "name": "mallory"})
        else:
            changed["roleRef"]["name"] = "admin"
    elif kind == "ServiceAccount":
        changed.pop("automountServiceAccountToken")
    elif kind == "PersistentVolumeClaim":
        changed["spec"]["resources"]["requests"]["storage"] = "100Mi" if how % 2 else "100Gi"
    else:
        changed["metadata"]["annotations"] = {}
    return changed


def foreign(manifest: dict[str, Any], how: int) -> dict[str, Any]:
    """Somebody else's object of that name."""
    changed = copy.deepcopy(manifest)
    labels = changed["metadata"]["labels"]
    if how % 3 == 0:
        changed["metadata"]["labels"] = {"mine": "yes"}
    elif how % 3 == 1:
        labels[LABEL_HUB] = "other-hub"
    else:
        labels[LABEL_MANAGED_BY] = "Helm"
    return changed


def extras() -> dict[str, dict[str, Any]]:
    """What may stand there besides."""
    policy, claim = DESIRED[1], next(m for m in DESIRED if m["kind"] == "PersistentVolumeClaim")

    def named(base: dict[str, Any], name: str, **labels: str) -> dict[str, Any]:
        made = copy.deepcopy(base)
        made["metadata"]["name"] = name
        made["metadata"]["labels"] |= labels
        return made

    theirs = named(policy, "theirs")
    theirs["metadata"]["labels"] = {}
    return {
        "pruned": named(policy, "egress-old"),
        "foreign": theirs,
        "other-hub": named(policy, "egress-b", **{LABEL_HUB: "other-hub"}),
        "other-team": named(policy, "egress-c", **{LABEL_TEAM: "tide"}),
        "personal": named(claim, "personal-x", **{LABEL_COMPONENT: COMPONENT_PERSONAL_VOLUME}),
        "kept-claim": named(claim, "dataset-old"),
    }


EXTRAS = extras()
STATES = ("missing", "right", "old", "drifted", "foreign")
states = st.fixed_dictionaries({key: st.sampled_from(STATES) for key in KEYS})
fault_lists = st.lists(st.sampled_from(Fault), max_size=25)
hows = st.integers(0, 5)


def arrange(
    api: FakeApi,
    chosen: dict[ObjectKey, str],
    some: set[str],
    how: int,
    mark: str | None = None,
) -> set[ObjectKey]:
    """Put a state into the API. Returns what is not ours in it."""
    others: set[ObjectKey] = set()
    if chosen[KEYS[0]] == "missing":
        some = set()  # without the namespace there is nothing in it
        chosen = {k: v if not k.namespace else "missing" for k, v in chosen.items()}
    for manifest in DESIRED:
        key, state = key_of(manifest), chosen[key_of(manifest)]
        if state in ("right", "old"):
            put = manifest if state == "right" else BEFORE.get(key, manifest)
            api.put(marked(put, mark) if mark and key == KEYS[0] else put, is_applied=True)
        elif state == "drifted":
            api.put(drifted(manifest, how))
        elif state == "foreign":
            api.put(foreign(manifest, how))
            others.add(key)
    for name in some:
        api.put(EXTRAS[name], is_applied=name in ("pruned", "kept-claim"))
        if name != "pruned":
            others.add(key_of(EXTRAS[name]))
    return others


class Watcher:
    """Looks on at every write and objects at once."""

    def __init__(self, api: FakeApi, others: set[ObjectKey]) -> None:
        self._api, self._others = api, others
        self._theirs = {key: copy.deepcopy(api.objects[key]) for key in others}
        self._volumes = {
            key for key in api.objects if key.kind in ("PersistentVolumeClaim", "PersistentVolume")
        } | {KEYS[0]}
        api.on_write = self.look

    def look(self, verb: str, key: ObjectKey) -> None:
        assert key not in self._others, f"{verb} of {key}, which is not ours"
        for other, before in self._theirs.items():
            assert self._api.objects[other] == before, f"{other} was touched"
        if verb == "delete":
            assert key not in self._volumes, f"{key} was deleted"
        if verb == "create" and key.namespace and key != DENY_ALL:
            assert DENY_ALL in self._api.objects, f"{key} before the policy that denies all"
        bearer = self._api.objects.get(RIGHTS)
        if bearer is not None and verb in ("create", "apply") and key == RIGHTS:
            annotations = bearer["metadata"].get("annotations") or {}
            if annotations.get(ANNOTATION_READY_HASH) == SPEC.hash():
                assert not missing(self._api, self._others), "marked ready before all stands"


def is_claim(key: ObjectKey) -> bool:
    return key.kind == "PersistentVolumeClaim"


def missing(api: FakeApi, others: set[ObjectKey]) -> list[ObjectKey]:
    """What does not stand as it should. Of volumes only what can be changed counts."""
    found = []
    for manifest in DESIRED:
        key = key_of(manifest)
        live = api.objects.get(key)
        is_fixed = key.kind.startswith("PersistentVolume")
        if key in others or live is None or (not is_fixed and find_deviations(manifest, live)):
            found.append(key)
    return found


async def passes(engine: Engine, cache: Cache, count: int, *, is_synced: bool) -> Outcome:
    for _ in range(count):
        if is_synced:
            cache.sync()
        outcome = await engine.reconcile(DESIRED, owner=OWNER, ready_hash=SPEC.hash())
    return outcome


@settings(max_examples=150, deadline=None)
@given(
    states,
    st.sets(st.sampled_from(sorted(EXTRAS))),
    hows,
    st.sampled_from([None, OLD.hash(), SPEC.hash()]),
    fault_lists,
    st.booleans(),
)
@example(dict.fromkeys(KEYS, "missing"), set(), 0, None, [Fault.LOST] * 12, True)
@example(dict.fromkeys(KEYS, "missing"), set(), 0, None, [Fault.LOST] * 12, False)
@example({**dict.fromkeys(KEYS, "right"), KEYS[0]: "foreign"}, set(EXTRAS), 0, None, [], True)
@example({**dict.fromkeys(KEYS, "foreign"), KEYS[0]: "right"}, set(), 0, SPEC.hash(), [], True)
def test_from_any_state_through_any_faults(
    chosen: dict[ObjectKey, str],
    some: set[str],
    how: int,
    mark: str | None,
    sequence: list[Fault],
    is_synced: bool,
) -> None:
    """Convergent, idempotent, never touches what is not ours, marks ready last and only then."""

    async def run() -> None:
        api = FakeApi()
        others = arrange(api, chosen, some, how, mark)
        Watcher(api, others)
        cache = Cache(api, SPACE)
        cache.sync()
        engine = Engine(api, cache)
        api.faults = faults(sequence)
        # Each pass meets one fault at least, so this many are enough to get through them all.
        await passes(engine, cache, len(sequence) + 1, is_synced=is_synced)
        api.faults = faults(())
        cache.sync()
        outcome = await passes(engine, cache, 2, is_synced=True)
        assert outcome.error is None
        blocked = {key for key in KEYS if key in others}
        # A foreign namespace stops everything; else everything else stands.
        if KEYS[0] in blocked:
            assert not outcome.is_ready
        else:
            late = set() if any(map(is_claim, api.objects)) else {RIGHTS}
            assert set(missing(api, others)) == (blocked | late if blocked else set())
            assert outcome.is_ready == (not blocked)
            if RIGHTS in api.objects and RIGHTS not in blocked:
                annotations = api.objects[RIGHTS]["metadata"]["annotations"]
                found = annotations.get(ANNOTATION_READY_HASH)
                assert found == (None if blocked else SPEC.hash())
            assert key_of(EXTRAS["pruned"]) not in api.objects
        # Idempotent: what stands gives no step, and no request at all.
        cache.sync()
        api.requests.clear()
        writes = len(api.writes)
        again = await passes(engine, cache, 1, is_synced=False)
        assert len(api.writes) == writes
        if not blocked:
            assert again.is_ready
            assert api.requests == []
            assert engine.plan(DESIRED, owner=OWNER, ready_hash=SPEC.hash()).steps == ()

    asyncio.run(run())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.sampled_from(list(Fault)))
def test_a_pass_cut_off_anywhere_is_taken_up_by_another_process(cut: int, fault: Fault) -> None:
    """A new process knows nothing but what the API tells."""

    async def run() -> None:
        api = FakeApi()
        Watcher(api, set())
        first = Cache(api, SPACE)
        api.faults = faults([Fault.NONE] * cut + [fault])
        await Engine(api, first).reconcile(DESIRED, owner=OWNER, ready_hash=SPEC.hash())
        api.faults = faults(())
        second = Cache(api, SPACE)
        outcome = await passes(Engine(api, second), second, 1, is_synced=True)
        assert outcome.is_ready
        creates = [key for verb, key in api.writes if verb == "create"]
        assert len(creates) == len(set(creates)) == len(DESIRED), "made twice, or not at all"

    asyncio.run(run())


MOVES = ("vanish", "drift", "foreign", "relabel")
TARGETS = [*KEYS[1:], key_of(EXTRAS["pruned"])]
moves = st.lists(st.tuples(st.sampled_from(TARGETS), st.sampled_from(MOVES)), max_size=12)


def move(api: FakeApi, target: ObjectKey, how: str, variant: int) -> None:
    """Somebody's hand between two of our requests."""
    manifest = next((m for m in DESIRED if key_of(m) == target), EXTRAS["pruned"])
    live = api.objects.get(target)
    if how == "relabel":
        if live is not None:  # the same object, given to somebody else
            live["metadata"]["labels"] = {"mine": "yes"}
            api._touch(live)
        return
    api.objects.pop(target, None)
    if how == "drift":
        api.put(drifted(manifest, variant))
    elif how == "foreign":
        api.put(foreign(manifest, variant))


@settings(max_examples=200, deadline=None)
@given(st.sets(st.sampled_from(TARGETS)), moves, hows)
def test_somebody_else_works_on_the_same_objects_meanwhile(
    disturbed: set[ObjectKey], pending: list[tuple[ObjectKey, str]], how: int
) -> None:
    """Between any two requests objects vanish, change hands, come anew: still only ours change."""

    async def run() -> None:
        api = FakeApi()
        cache = Cache(api, SPACE)
        engine = Engine(api, cache)
        await passes(engine, cache, 1, is_synced=True)
        for target in disturbed:  # so that there is something to do, and to interfere with
            move(api, target, "drift", how)
        left = list(pending)
        theirs: dict[ObjectKey, Any] = {}
        fail = api._fail

        def interfere(verb: str, key: ObjectKey) -> bool:
            if left:
                move(api, *left.pop(0), how)
            theirs.clear()
            theirs.update(
                {k: copy.deepcopy(o) for k, o in api.objects.items() if not OWNER.owns(o)}
            )
            return fail(verb, key)

        def look(verb: str, key: ObjectKey) -> None:
            for other, before in theirs.items():
                assert api.objects.get(other) == before, f"{verb} of {key} touched {other}"

        api._fail, api.on_write = interfere, look  # type: ignore[method-assign]
        for _ in range(len(pending) + 2):
            await passes(engine, cache, 1, is_synced=True)
        left.clear()
        others = {key for key, obj in api.objects.items() if not OWNER.owns(obj)}
        outcome = await passes(engine, cache, 3, is_synced=True)
        assert outcome.is_ready == (not others & set(KEYS))

    asyncio.run(run())


def test_what_the_api_server_makes_of_a_wish_is_settled_with() -> None:
    """Its defaults are not drift: else every pass would write, for ever."""

    def mutate(obj: dict[str, Any]) -> None:
        if obj["kind"] == "NetworkPolicy":
            obj["spec"]["ingress"] = [{"from": []}]

    async def run() -> None:
        api = FakeApi()
        api.mutate = mutate
        cache = Cache(api, SPACE)
        engine = Engine(api, cache)
        assert (await passes(engine, cache, 1, is_synced=True)).is_ready
        writes = len(api.writes)
        assert (await passes(engine, cache, 2, is_synced=True)).is_ready
        assert len(api.writes) == writes
        # Anything else that somebody adds still is.
        api.objects[DENY_ALL]["spec"]["egress"] = [{}]
        api._touch(api.objects[DENY_ALL])
        assert (await passes(engine, cache, 1, is_synced=True)).is_ready
        assert "egress" not in api.objects[DENY_ALL]["spec"]

    asyncio.run(run())


def test_a_terminating_namespace_is_waited_for() -> None:
    api = FakeApi()
    space = api.put(DESIRED[0], is_applied=True)
    space["metadata"]["deletionTimestamp"] = "2027-01-01T00:00:00Z"
    cache = Cache(api, SPACE)
    outcome = asyncio.run(passes(Engine(api, cache), cache, 1, is_synced=True))
    assert not outcome.is_ready
    assert outcome.error is None
    assert [issue.type.value for issue in outcome.issues] == ["Terminating"]
    assert api.requests == []


def test_a_refusal_takes_the_ready_mark_away() -> None:
    """A tenancy that cannot be healed does not stand, whatever it was before."""

    async def run() -> None:
        api = FakeApi()
        cache = Cache(api, SPACE)
        engine = Engine(api, cache)
        assert (await passes(engine, cache, 1, is_synced=True)).is_ready
        del api.objects[DENY_ALL]
        api.faults = faults([Fault.FORBIDDEN])
        outcome = await passes(engine, cache, 1, is_synced=True)
        assert not outcome.is_ready
        assert not isinstance(outcome.error, RetryableError)
        annotations = api.objects[RIGHTS]["metadata"]["annotations"]
        assert ANNOTATION_READY_HASH not in annotations
        assert (await passes(engine, cache, 1, is_synced=True)).is_ready

    asyncio.run(run())


@pytest.mark.parametrize("fault", [Fault.NONE, Fault.FORBIDDEN])
def test_the_hub_gets_its_rights_back_before_anything_that_may_fail(fault: Fault) -> None:
    """Without them it could not end what runs; without the mark nothing starts."""

    async def run() -> None:
        api = FakeApi()
        cache = Cache(api, SPACE)
        engine = Engine(api, cache)
        assert (await passes(engine, cache, 1, is_synced=True)).is_ready
        volume = next(key for key in KEYS if key.kind == "PersistentVolume")
        del api.objects[RIGHTS]
        api.requests.clear()
        assert (await passes(engine, cache, 1, is_synced=True)).is_ready
        assert [key for _, key in api.requests] == [RIGHTS], "nothing else is to be done: in one"
        del api.objects[RIGHTS], api.objects[volume]
        api.requests.clear()
        api.faults = faults([Fault.NONE, fault])
        outcome = await passes(engine, cache, 1, is_synced=True)
        assert outcome.is_ready == (fault is Fault.NONE)
        assert [key for _, key in api.requests][:2] == [RIGHTS, volume]
        annotations = api.objects[RIGHTS]["metadata"]["annotations"]
        assert (ANNOTATION_READY_HASH in annotations) == outcome.is_ready

    asyncio.run(run())


def test_a_new_team_takes_one_request_an_object() -> None:
    """The hub's rights are the last, and made with the mark."""
    api = FakeApi()
    cache = Cache(api, SPACE)
    assert asyncio.run(passes(Engine(api, cache), cache, 1, is_synced=True)).is_ready
    assert [key for _, key in api.requests] == [*(key for key in KEYS if key != RIGHTS), RIGHTS]
    assert api.objects[RIGHTS]["metadata"]["annotations"][ANNOTATION_READY_HASH] == SPEC.hash()


def test_the_name_of_a_contest_that_gave_up_its_domain_goes() -> None:
    names = {
        "suffixes": ["contests.example.org"],
        "hubUrl": "https://hub.example.com",
        "gateway": {"name": "names", "namespace": "gateways"},
    }
    platform = make_platform("hub", dataset_nfs=True, names=names)
    named = make_tenancy(make_spec(domain="sea.contests.example.org"), platform)
    desired = make_tenancy(make_spec(), platform)
    observed = {key_of(manifest): manifest for manifest in named}
    (route,) = observed.keys() - {key_of(manifest) for manifest in desired}
    steps = plan_objects(desired, observed, owner=OWNER, ready_hash=SPEC.hash()).steps
    assert [s.key.kind for s in steps if s.action is Action.DELETE] == ["HTTPRoute"]
    assert route in {step.key for step in steps}


def test_retry_after_reaches_the_caller() -> None:
    api = FakeApi()
    cache = Cache(api, SPACE)
    api.faults = faults([Fault.NONE, Fault.BUSY])
    outcome = asyncio.run(passes(Engine(api, cache), cache, 1, is_synced=True))
    assert isinstance(outcome.error, RetryableError)
    assert outcome.error.retry_after_s == 3.0


def test_a_volume_that_cannot_become_larger_is_told_once_and_stays_ready() -> None:
    async def run() -> None:
        api = FakeApi()
        cache = Cache(api, SPACE)
        for manifest in DESIRED:
            api.put(manifest, is_applied=True)
        larger = make_spec(volumes={"team": "3Gi"})
        engine = Engine(api, cache)
        for requests in (None, 0, 0):
            cache.sync()
            api.requests.clear()
            outcome = await engine.reconcile(
                make_tenancy(larger, PLATFORM), owner=OWNER, ready_hash=larger.hash()
            )
            assert outcome.is_ready
            assert [issue.type.value for issue in outcome.issues] == ["VolumeFixed"]
            assert "stays at 1Gi" in outcome.issues[0].message
            if requests is not None:
                assert len(api.requests) == requests
        assert not [verb for verb, _ in api.writes if verb == "delete"]

    asyncio.run(run())
