"""How long the oldest event has waited: never told younger than it is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_collab.policy.audit_window import Window

STEPS = st.lists(
    st.tuples(st.floats(0, 5), st.integers(0, 50), st.integers(0, 60)), min_size=1, max_size=80
)


@given(STEPS)
def test_no_event_looks_younger_than_it_is_and_hardly_older(
    steps: list[tuple[float, int, int]],
) -> None:
    window, now_s, size, held = Window(), 0.0, 0, 0
    stored: list[float] = []
    for wait_s, more, hold in steps:
        now_s += wait_s
        size += more
        stored += [now_s] * more
        window.grow(size, now_s)
        held = min(size, held + hold)
        window.hold(held)
        assert window.events == size - held
        age_s = now_s - stored[held] if held < size else 0.0
        assert age_s <= window.age_s(now_s) <= age_s + 1.0


def test_a_place_that_is_away_for_a_day_costs_little() -> None:
    window = Window()
    for second in range(20_000):
        window.grow(second + 1, 2.0 * second)
    assert len(window._marks) <= 4096
    window.hold(19_000)
    assert 0 <= window.age_s(40_000.0) - (40_000.0 - 2.0 * 19_000) < 40
    window.hold(20_000)
    assert window.age_s(50_000.0) == 0.0


def test_a_clock_that_stands_still_or_an_older_checkpoint_change_nothing() -> None:
    window = Window(held=10)
    window.grow(10, 5.0)
    assert (window.events, window.age_s(5.0)) == (0, 0.0)
    window.grow(12, 5.0)
    window.hold(4)
    assert (window.events, window.age_s(5.0)) == (2, 0.0)
