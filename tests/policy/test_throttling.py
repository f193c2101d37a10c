"""Guesses are stopped below the directory's lock-out, and nobody is locked out by a stranger."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_collab.policy.throttling import Budget, Throttle, ThrottleSettings, Verdict

NOW = datetime(2027, 1, 31, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)
SETTINGS = ThrottleSettings(
    account=Budget(2, 10 * MINUTE), device=Budget(2, 10 * MINUTE), address=Budget(5, MINUTE)
)
HOME, AWAY = "192.0.2.1", "198.51.100.7"


def attempt(
    throttle: Throttle,
    account: str = "ada",
    address: str = HOME,
    device: str | None = None,
    after: timedelta = timedelta(0),
) -> Verdict:
    return throttle.try_now(account, address, device=device, now=NOW + after)


def exhaust(throttle: Throttle, account: str = "ada", address: str = AWAY) -> None:
    for _ in range(2):
        assert attempt(throttle, account, address).may_try


def test_guesses_are_stopped_and_let_in_again_one_by_one() -> None:
    throttle = Throttle(SETTINGS)
    exhaust(throttle)
    verdict = attempt(throttle)
    assert verdict == Verdict(10 * MINUTE, "account")
    assert not verdict.may_try
    assert attempt(throttle, after=10 * MINUTE).may_try
    assert not attempt(throttle, after=10 * MINUTE).may_try


def test_a_stranger_does_not_lock_out_a_member_on_a_known_device() -> None:
    throttle = Throttle(SETTINGS)
    for number in range(200):
        attempt(throttle, address=f"198.51.100.{number}")
    assert not attempt(throttle).may_try
    assert attempt(throttle, device="laptop").may_try
    assert attempt(throttle, account="grace").may_try


def test_a_known_device_cannot_guess_for_ever() -> None:
    throttle = Throttle(SETTINGS)
    for _ in range(2):
        assert attempt(throttle, device="laptop").may_try
    assert attempt(throttle, device="laptop").because == "device"


def test_a_device_is_known_for_its_own_account_alone() -> None:
    throttle = Throttle(SETTINGS)
    for _ in range(2):
        assert attempt(throttle, device="laptop").may_try
    assert attempt(throttle, account="grace", device="laptop").may_try


def test_a_stranger_on_the_same_campus_keeps_no_known_device_out() -> None:
    throttle = Throttle(SETTINGS)
    while attempt(throttle, account=f"user{len(throttle)}").may_try:
        pass
    assert attempt(throttle, account="last").because == "address"
    assert attempt(throttle, device="laptop").may_try


def test_a_try_that_nobody_looked_at_counts_for_nothing() -> None:
    throttle = Throttle(SETTINGS)
    for device in (None, "laptop"):
        for _ in range(50):
            assert attempt(throttle, device=device).may_try
            throttle.give_back("ada", HOME, device=device, now=NOW)
    assert len(throttle) == 0
    assert attempt(throttle).may_try
    assert attempt(throttle).may_try
    assert not attempt(throttle).may_try, "what is given back is one try, not the others"


def test_one_password_tried_on_everybody_is_stopped_by_the_address() -> None:
    throttle = Throttle(SETTINGS)
    verdicts = [attempt(throttle, account=f"user{n}").may_try for n in range(8)]
    assert verdicts == [True] * 5 + [False] * 3
    assert attempt(throttle, account="ada", address=AWAY).may_try


def test_tries_sent_together_take_their_places_before_any_is_answered() -> None:
    throttle = Throttle(SETTINGS)
    assert [attempt(throttle).may_try for _ in range(1000)].count(True) == 2


def test_a_success_gives_the_accounts_tries_back() -> None:
    throttle = Throttle(SETTINGS)
    exhaust(throttle, address=HOME)
    throttle.succeeded("ada", HOME, device=None, now=NOW)
    assert [attempt(throttle).may_try for _ in range(3)] == [True, True, False]


def test_who_has_one_account_right_may_not_guess_others() -> None:
    throttle = Throttle(SETTINGS)
    guessed = 0
    for number in range(20):
        guessed += attempt(throttle, account=f"user{number}").may_try
        if attempt(throttle, account="mallory").may_try:
            throttle.succeeded("mallory", HOME, device=None, now=NOW)
    assert guessed == 5


def test_a_refused_try_costs_nothing_more() -> None:
    throttle = Throttle(SETTINGS)
    exhaust(throttle)
    for _ in range(100):
        assert attempt(throttle).wait == 10 * MINUTE


def test_a_clock_set_back_frees_nobody() -> None:
    throttle = Throttle(SETTINGS)
    exhaust(throttle)
    assert not attempt(throttle, after=-timedelta(days=1)).may_try


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("", "not an address", True),
    ],
)
def test_what_counts_as_one_address(one: str, other: str, is_same: bool) -> None:
    throttle = Throttle(SETTINGS)
    for number in range(5):
        assert attempt(throttle, account=f"user{number}", address=one).may_try
    assert attempt(throttle, account="last", address=other).may_try is not is_same


def test_memory_is_bounded_and_what_is_over_is_forgotten() -> None:
    wide = ThrottleSettings(address=Budget(10**6, MINUTE), keys_max=100)
    throttle = Throttle(wide)
    for number in range(1000):
        attempt(throttle, account=f"user{number}")
    assert len(throttle) == 100
    attempt(throttle, account="ada")
    throttle.succeeded("ada", HOME, device=None, now=NOW)
    assert ("account", "ada") not in throttle._levels


@pytest.mark.parametrize(("tries", "refill"), [(0, MINUTE), (-1, MINUTE), (1, timedelta(0))])
def test_a_budget_that_is_none_is_refused(tries: int, refill: timedelta) -> None:
    with pytest.raises(ValueError, match="at least one try"):
        Budget(tries, refill)


steps = st.tuples(
    st.sampled_from(["ada", "grace"]),
    st.sampled_from([HOME, AWAY, "2001:db8::1"]),
    st.sampled_from([None, "laptop"]),
    st.integers(0, 300),
)


@given(st.lists(steps, max_size=80))
def test_no_order_of_tries_gets_past_the_budgets(
    order: list[tuple[str, str, str | None, int]],
) -> None:
    """In any stretch of time at most the budget, and what time gave back."""
    throttle = Throttle(SETTINGS)
    made: dict[tuple[str, str | None], list[datetime]] = {}
    now = NOW
    for account, address, device, seconds in order:
        now += timedelta(seconds=seconds)
        if throttle.try_now(account, address, device=device, now=now).may_try:
            made.setdefault((account, device), []).append(now)
    for times in made.values():
        for i, first in enumerate(times):
            for j in range(i, len(times)):
                back = (times[j] - first) / (10 * MINUTE)
                assert j - i + 1 <= 2 + back + 1e-6
