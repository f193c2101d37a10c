"""Turns of starts: nobody keeps another contest, or another team, from its turn."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jupyterhub_collab.policy.start_turns import StartTurns, Turn


def call(turns: StartTurns) -> list[Turn]:
    """All that get a place now."""
    found = []
    while (turn := turns.next()) is not None:
        found.append(turn)
    return found


def test_a_storm_of_one_contest_leaves_room_for_another() -> None:
    turns = StartTurns(100)
    for i in range(1000):
        turns.ask("big", f"team-{i % 200}")
    assert len(call(turns)) == 50
    mine = turns.ask("small", "ocean")
    assert call(turns) == [mine]


def test_starts_that_hang_for_ever_keep_nobody_else_waiting() -> None:
    turns = StartTurns(16)
    for contest in ("a", "b", "c"):  # one after the other, and none of them ever ends
        for i in range(100):
            turns.ask(contest, f"team-{i}")
        call(turns)
    mine = turns.ask("small", "ocean")
    assert call(turns) == [mine]


def test_a_team_leaves_room_for_the_others_of_its_contest() -> None:
    turns = StartTurns(30)
    for _ in range(100):
        turns.ask("sea", "greedy")
    assert len(call(turns)) == 10
    mine = turns.ask("sea", "small")
    assert call(turns) == [mine]


def test_one_place_is_enough_for_everybody_in_turn() -> None:
    turns = StartTurns(1)
    waiting = [turns.ask(contest, "ocean") for contest in "aabbc"]
    order = []
    while len(order) < len(waiting):
        (turn,) = call(turns)
        order.append(turn)
        turns.leave(turn)
    assert [turn.contest for turn in order] == ["a", "b", "c", "a", "b"]


def test_no_place_is_none() -> None:
    with pytest.raises(ValueError, match="at least one"):
        StartTurns(0)


CROWD = 4


@given(
    behind=st.integers(0, 4),
    storms=st.lists(st.tuples(st.integers(0, CROWD), st.integers(0, 6)), max_size=60),
    places=st.integers(1, 9),
)
def test_a_start_waits_for_its_turn_and_no_longer(
    behind: int, storms: list[tuple[int, int]], places: int
) -> None:
    """Whatever the crowd asks for: other contests (by number), and other teams of one's own."""
    turns = StartTurns(places)
    more = iter(storms)

    def crowd(group: int, count: int) -> None:
        for i in range(count):
            contest = "mine" if group == CROWD else f"crowd-{group}"
            turns.ask(contest, f"team-{i % 3}")

    for group in range(CROWD + 1):
        crowd(group, 20)
    mine = [turns.ask("mine", "ocean") for _ in range(behind + 1)][-1]
    taken = 0
    while mine.is_waiting:
        crowd(*next(more, (0, 1)))
        turn = turns.next()
        assert turn is not None
        turns.leave(turn)
        taken += 1
        # A round of all contests for each turn of mine, a round of its teams for each of my team's.
        assert taken <= (behind + 1) * 4 * (CROWD + 1)


@given(
    asked=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), max_size=40),
    left=st.sets(st.integers(0, 39)),
)
def test_how_many_come_before_is_how_many_came_before(
    asked: list[tuple[str, str]], left: set[int]
) -> None:
    turns = StartTurns(1)
    waiting = [turns.ask(*one) for one in asked]
    for number in left:
        if number < len(waiting):
            turns.leave(waiting[number])
    said = {contest: turns.ahead(contest) for contest in "ab"}
    came = {"a": 0, "b": 0}
    while (turn := turns.next()) is not None:
        assert said[turn.contest].pop(turn) == came[turn.contest]
        came[turn.contest] += 1
        turns.leave(turn)
    assert said == {"a": {}, "b": {}}


class AnyUse(RuleBasedStateMachine):
    """Whatever is done to it, of three contests with two teams each."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = StartTurns(7)
        self.all: list[Turn] = []

    @rule(contest=st.sampled_from("abc"), team=st.sampled_from("xy"), count=st.integers(1, 9))
    def ask(self, contest: str, team: str, count: int) -> None:
        self.all += [self.turns.ask(contest, team) for _ in range(count)]

    @rule()
    def call(self) -> None:
        for turn in call(self.turns):
            earlier = self.all[: self.all.index(turn)]
            same = (turn.contest, turn.team)
            assert not any(t.is_waiting for t in earlier if (t.contest, t.team) == same)

    @precondition(lambda self: self.all)
    @rule(data=st.data(), times=st.integers(1, 2))
    def leave(self, data: st.DataObject, times: int) -> None:
        turn = data.draw(st.sampled_from(self.all))
        for _ in range(times):
            self.turns.leave(turn)
        if turn in self.all:
            self.all.remove(turn)

    def held(self, contest: str) -> int:
        return sum(not t.is_waiting for t in self.all if t.contest == contest)

    @invariant()
    def what_is_counted_is_what_there_is(self) -> None:
        assert self.turns.free == 7 - sum(self.held(contest) for contest in "abc") >= 0
        for contest in "abc":
            assert self.turns.held_by(contest) == self.held(contest) <= 4
            waiting = [t for t in self.all if t.contest == contest and t.is_waiting]
            assert self.turns.waiting_in(contest) == len(waiting)

    @invariant()
    def nobody_waits_who_could_start(self) -> None:
        call(self.turns)
        for turn in self.all:
            room = self.turns.free - self.turns.held_by(turn.contest)
            team = sum(
                not t.is_waiting
                for t in self.all
                if (t.contest, t.team) == (turn.contest, turn.team)
            )
            assert not turn.is_waiting or room <= team


TestAnyUse = AnyUse.TestCase
TestAnyUse.settings = settings(max_examples=60, stateful_step_count=30)
