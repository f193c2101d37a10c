"""The work queue: each key once, never twice at a time, fair, patient when asked to be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jupyterhub_collab.reconcile.backoff import Backoff
from jupyterhub_collab.reconcile.queue import Lane, WorkQueue


def take_all(queue: WorkQueue, now: float) -> list[str]:
    found = []
    while (key := queue.take(now)) is not None:
        found.append(key)
    return found


def test_a_key_added_ten_times_is_worked_on_once() -> None:
    queue = WorkQueue()
    for _ in range(10):
        queue.add("ocean", group="reef", now=0)
    assert take_all(queue, 0) == ["ocean"]
    queue.done("ocean", 0)
    assert take_all(queue, 0) == []


def test_a_key_added_while_it_is_worked_on_comes_once_more() -> None:
    queue = WorkQueue()
    queue.add("ocean", group="reef", now=0)
    assert queue.take(0) == "ocean"
    queue.add("ocean", group="reef", now=0)
    queue.add("ocean", group="reef", now=0)
    assert queue.take(0) is None
    queue.done("ocean", 0)
    assert take_all(queue, 0) == ["ocean"]


def test_contests_take_turns() -> None:
    queue = WorkQueue()
    for i in range(2000):
        queue.add(f"big-{i}", group="big", now=0)
    for i in range(3):
        queue.add(f"small-{i}", group="small", now=0)
    first = take_all(queue, 0)[:6]
    assert first == ["big-0", "small-0", "big-1", "small-1", "big-2", "small-2"]


CROWD = 4


@given(
    behind=st.integers(0, 5),
    lane=st.sampled_from(Lane),
    backlog=st.lists(st.integers(0, 40), min_size=CROWD, max_size=CROWD),
    more=st.lists(st.tuples(st.integers(0, CROWD - 1), st.integers(0, 5)), max_size=60),
    fails=st.booleans(),
)
def test_a_contest_waits_for_its_turn_and_no_longer(
    behind: int, lane: Lane, backlog: list[int], more: list[tuple[int, int]], *, fails: bool
) -> None:
    """Whatever a crowd of others has queued, and goes on to queue, fails at and asks for again."""
    queue = WorkQueue(Backoff(first_s=0.001, longest_s=0.001))
    waiting = iter(more)
    made = 0

    def crowd(group: int, keys: int) -> None:
        nonlocal made
        for _ in range(keys):
            made += 1
            queue.add(f"{group}-{made}", group=f"crowd-{group}", lane=lane, now=made)

    for group, keys in enumerate(backlog):
        crowd(group, keys)
    for i in range(behind + 1):
        queue.add(f"mine-{i}", group="mine", lane=lane, now=made)
    taken = 0
    while True:
        crowd(*next(waiting, (0, 2)))
        key = queue.take(made)
        taken += 1
        assert key is not None
        assert taken <= (behind + 1) * (CROWD + 1)
        if key == f"mine-{behind}":
            break
        if fails and not key.startswith("mine"):
            queue.failed(key, made)
        else:
            queue.done(key, made)


def test_the_number_of_those_that_wait_is_kept_and_not_counted() -> None:
    queue = WorkQueue()
    for i in range(50):
        queue.add(f"k{i}", group=f"g{i % 3}", now=0)
    queue.add("k7", group="g1", lane=Lane.URGENT, now=0)  # moves, and is not there twice
    assert len(queue) == 50
    assert queue.take(0) == "k7"
    assert len(queue) == 49
    assert len(take_all(queue, 0)) == 49
    assert len(queue) == 0


def test_what_is_urgent_goes_first_and_has_places_of_its_own() -> None:
    queue = WorkQueue()
    queue.add("a", group="x", now=0)
    queue.add("b", group="x", now=0)
    queue.add("b", group="x", lane=Lane.URGENT, now=0)
    assert queue.take(0, urgent_only=True) == "b"
    assert queue.take(0, urgent_only=True) is None
    assert queue.take(0) == "a"


def test_failures_wait_ever_longer_and_success_forgets_them() -> None:
    queue = WorkQueue(Backoff(first_s=1, longest_s=8, uniform=lambda _low, high: high))
    delays = []
    now = 0.0
    queue.add("ocean", group="reef", now=now)
    for _ in range(5):
        assert queue.take(now) == "ocean"
        delays.append(queue.failed("ocean", now))
        assert queue.take(now + delays[-1] - 0.01) is None
        now += delays[-1]
        assert queue.next_due() == now
    assert delays == [1, 2, 4, 8, 8]
    assert queue.take(now) == "ocean"
    queue.done("ocean", now)
    assert queue.failures("ocean") == 0


def test_retry_after_is_honoured_even_when_somebody_nudges() -> None:
    queue = WorkQueue(Backoff(first_s=1, uniform=lambda low, _high: low))
    queue.add("ocean", group="reef", now=0)
    assert queue.take(0) == "ocean"
    assert queue.failed("ocean", 0, asked_s=30) == 30
    queue.add("ocean", group="reef", lane=Lane.URGENT, now=5)
    assert queue.take(29.9) is None
    assert queue.next_due() == 30
    assert queue.take(30) == "ocean"


def test_a_nudge_does_not_wait_for_a_back_off_that_nobody_asked_for() -> None:
    queue = WorkQueue(Backoff(first_s=60))
    queue.add("ocean", group="reef", now=0)
    queue.take(0)
    queue.failed("ocean", 0)
    assert queue.take(1) is None
    queue.add("ocean", group="reef", lane=Lane.URGENT, now=1)
    assert queue.take(1) == "ocean"
    queue.done("ocean", 1)
    assert take_all(queue, 1000) == []


@given(st.integers(1, 100), st.none() | st.floats(0, 1000))
def test_back_off_is_bounded_and_never_earlier_than_asked(
    failures: int, asked_s: float | None
) -> None:
    backoff = Backoff(first_s=0.25, longest_s=60)
    delay = backoff.delay_s(failures, asked_s=asked_s)
    assert delay >= (asked_s or 0)
    assert delay <= max(60, (asked_s or 0) + 30)
    assert delay > 0


class AnyUse(RuleBasedStateMachine):
    """Whatever is done to it: no key is lost, none runs twice at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = WorkQueue(Backoff(first_s=1, longest_s=4))
        self.now = 0.0
        self.running: set[str] = set()
        self.wanted: set[str] = set()  # added and not taken since

    @rule(
        key=st.sampled_from("abcdef"),
        group=st.sampled_from("xyz"),
        lane=st.sampled_from(Lane),
    )
    def add(self, key: str, group: str, lane: Lane) -> None:
        self.queue.add(key, group=group, lane=lane, now=self.now)
        self.wanted.add(key)

    @rule(urgent=st.booleans())
    def take(self, urgent: bool) -> None:
        key = self.queue.take(self.now, urgent_only=urgent)
        if key is not None:
            assert key not in self.running
            self.running.add(key)
            self.wanted.discard(key)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        self.running.remove(key)
        self.queue.done(key, self.now)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), asked=st.none() | st.integers(0, 9))
    def fail(self, data: st.DataObject, asked: int | None) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        self.running.remove(key)
        self.queue.failed(key, self.now, asked_s=asked)
        self.wanted.add(key)

    @rule(seconds=st.floats(0, 10))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def length_is_never_negative(self) -> None:
        assert len(self.queue) <= 6

    def teardown(self) -> None:
        for key in list(self.running):
            self.queue.done(key, self.now)
        self.now += 1000
        assert set(take_all(self.queue, self.now)) >= self.wanted


TestAnyUse = AnyUse.TestCase
