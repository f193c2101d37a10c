"""Every single-event tampering is found, up to the last checkpoint that was kept outside.

Here each event of the log meets some of the ways; `make campaign` does all to each.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest

from jupyterhub_collab.policy.audit_finding import Kind
from jupyterhub_collab.policy.audit_verify import Evidence, Note
from tests.policy.audit_logs import (
    SIGNER,
    Checker,
    Log,
    edit_body,
    fetch_of,
    hashes_of,
    make_event,
    make_log,
    make_row,
    sign,
)
from tests.policy.audit_mutations import BESIDE, EDITS, PLACES, SHIFTS, Mutation, mutations

SIZE, ANCHORED = 2100, 2000


class Scene:
    """A log, what is kept outside of it, and checks of what became of it."""

    def __init__(self) -> None:
        self.log = make_log([make_row(n, make_event(n)) for n in range(1, SIZE + 1)], [1000, SIZE])
        leaves = hashes_of(self.log.rows)
        self.notes = [sign(leaves, size, "outside") for size in (1500, ANCHORED)]
        self.with_tiles = Evidence(SIGNER.verifier, self.notes, [fetch_of(leaves[:ANCHORED])])
        self.heads_only = Evidence(SIGNER.verifier, self.notes)
        self.checker = Checker()
        self.checker.remember(self.log)
        self.found: Counter[str] = Counter()

    def check_named(self, tampered: Iterable[Mutation]) -> int:
        """With tiles from outside the first bad event is named. How many were tried."""
        count = 0
        for mutation in tampered:
            verdict = self.checker.check(mutation.log, self.with_tiles)
            first = verdict.first_bad
            assert first is not None, (mutation.name, mutation.event)
            assert first.is_exact, (mutation.name, mutation.event, first)
            assert first.first == mutation.event, (mutation.name, mutation.event, first)
            self.found[first.kind.value] += 1
            count += 1
        return count

    def check_found(self, tampered: Iterable[Mutation]) -> int:
        """With heads alone, all of the log's own hashes in the attacker's hand, it is found."""
        count = 0
        for mutation in tampered:
            verdict = self.checker.check(mutation.log, self.heads_only, keeps_hashes=False)
            first = verdict.first_bad
            assert first is not None, (mutation.name, mutation.event)
            assert first.first <= mutation.event <= first.last, (
                mutation.name,
                mutation.event,
                first,
            )
            count += 1
        return count


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


EVENTS = range(1, ANCHORED + 1)


def test_control(scene: Scene) -> None:
    for keeps_hashes in (True, False):
        evidence = scene.with_tiles if keeps_hashes else scene.heads_only
        verdict = scene.checker.check(scene.log, evidence, keeps_hashes=keeps_hashes)
        assert verdict.is_fine
        assert verdict.unanchored == (ANCHORED + 1, SIZE)


def test_each_event_meets_some_tampering(scene: Scene) -> None:
    """One of: another text, other things beside it, another place. Nearly each event, then."""
    assert scene.check_named(mutations(scene.log, EDITS, EVENTS[::4], each=1)) == 500
    # Of people and columns, heads say nothing: each is found by itself.
    assert scene.check_named(mutations(scene.log, BESIDE, EVENTS[1::4], each=1)) == 500
    events = [event for event in EVENTS[2::4] if event <= ANCHORED - 340]
    assert scene.check_named(mutations(scene.log, PLACES, events, each=1)) == len(events)
    near = {name: change for name, change in PLACES.items() if "far" not in name}
    events = [event for event in EVENTS[2::4] if ANCHORED - 340 < event < ANCHORED - 10]
    assert scene.check_named(mutations(scene.log, near, events, each=1)) == len(events)


def test_heads_alone_find_it_too(scene: Scene) -> None:
    """The attacker fixed all hashes that the log itself keeps; what is outside are two notes."""
    assert scene.check_found(mutations(scene.log, EDITS, EVENTS[::11], each=1)) == 182
    assert scene.check_found(mutations(scene.log, PLACES, EVENTS[:-340:17], each=1)) == 98


def test_events_that_are_put_in_or_taken_out(scene: Scene) -> None:
    events = [*EVENTS[::83], 1, 2, 255, 256, 257, 1023, 1024, 1025, 1499, 1500, 1501, 1999, 2000]
    assert scene.check_named(mutations(scene.log, SHIFTS, events, each=1)) == len(events)
    assert scene.check_found(mutations(scene.log, SHIFTS, events[::3], each=1)) > len(events) // 3


def test_a_log_that_is_cut(scene: Scene) -> None:
    for length in (*range(0, ANCHORED, 13), 255, 256, 257, 1499, 1500, 1501, ANCHORED - 1):
        cut = Log(scene.log.rows[:length], (), scene.log.tiles)
        first = scene.checker.check(cut, scene.with_tiles).first_bad
        assert first is not None
        assert (first.kind, first.first) == (Kind.CUT, length + 1)


def rewritten(log: Log, event: int, inside: Iterable[int] = ()) -> Log:
    """All hashes and notes made anew, with the log's own key, from an edited event on."""
    rows = list(log.rows)
    rows[event - 1] = edit_body(rows[event - 1], thing="rewritten")
    return make_log(rows, inside)


def test_a_log_that_is_rewritten_with_its_own_key(scene: Scene) -> None:
    for event in (1, 2, 256, 999, 1000, 1001, 1499, 1500, 1501, 1777, 1999, 2000):
        false = rewritten(scene.log, event, (1000, SIZE))
        first = scene.checker.check(false, scene.with_tiles).first_bad
        assert first is not None
        assert first.first == event
        assert scene.checker.check(false, Evidence(SIGNER.verifier)).is_fine
        verdict = scene.checker.check(false, scene.heads_only)
        kinds = {found.kind for found in verdict.findings}
        assert kinds == {Kind.CHANGED, Kind.REWRITTEN}
        assert verdict.anchored == (1500 if event > 1500 else 0)


def test_what_the_test_would_miss_without_heads(scene: Scene) -> None:
    """After the last head outside a rewritten log looks right: it must be said."""
    false = rewritten(scene.log, ANCHORED + 1, (1000, SIZE))
    verdict = scene.checker.check(false, scene.with_tiles)
    assert verdict.is_fine
    assert verdict.unanchored == (ANCHORED + 1, SIZE)
    kept = Note("post", scene.log.inside[1].text)
    evidence = replace(scene.with_tiles, outside=[*scene.notes, kept])
    assert not scene.checker.check(false, evidence).is_fine


def run_all(scene: Scene, seconds: float) -> Counter[str]:
    """All kinds for each event, as far as the time goes, each time in another order."""
    until = time.monotonic() + seconds
    tried: Counter[str] = Counter()
    for event in random.sample(EVENTS, len(EVENTS)):
        for kinds in (EDITS, BESIDE, PLACES, SHIFTS):
            is_near_end = kinds is PLACES and event > ANCHORED - 340
            some = {n: m for n, m in kinds.items() if not (is_near_end and "far" in n)}
            made = list(mutations(scene.log, some, [event], each=len(some)))
            made = [m for m in made if m.event <= ANCHORED]
            tried["named"] += scene.check_named(made)
            if kinds is not BESIDE:
                tried["found"] += scene.check_found(made)
        tried["events"] += 1
        if time.monotonic() > until:
            break
    return tried
