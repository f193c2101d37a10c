"""Which start of a server comes next, when more want to start than there are places.

Two rules, both for contests and, within a contest, for its teams:

- They take **turns**: whoever stands behind n others of its own team waits for n turns of the team,
  however many of others wait.
- Nobody takes the **last of the room**: a contest takes a place only while it holds fewer than are
  free. So one alone holds half of them, two a third each, and one that holds none finds a place
  even if all starts of another hang (its registry is away) until their time is over.

A plain data structure: it knows no clock and never waits. Every place that was given has to be
given back with `leave`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(eq=False)
class Turn:
    """One start that waits for a place, holds one, or is over."""

    contest: str
    team: str
    is_waiting: bool = True
    is_over: bool = False


_Line = OrderedDict[Turn, None]
_Teams = OrderedDict[str, _Line]


class StartTurns:
    """Places of a hub, and who waits for one.

    Parameters
    ----------
    places
        How many may start at once, at least 1.
    """

    def __init__(self, places: int) -> None:
        if places < 1:
            raise ValueError("at least one place is needed")
        self.places = places
        self._waiting: OrderedDict[str, _Teams] = OrderedDict()
        self._waiting_in: Counter[str] = Counter()
        self._held_by_contest: Counter[str] = Counter()
        self._held_by_team: Counter[tuple[str, str]] = Counter()

    @property
    def free(self) -> int:
        """Places that nobody holds."""
        return self.places - self._held_by_contest.total()

    def waiting_in(self, contest: str) -> int:
        """How many starts of a contest wait."""
        return self._waiting_in[contest]

    def held_by(self, contest: str) -> int:
        """How many places a contest holds."""
        return self._held_by_contest[contest]

    def ask(self, contest: str, team: str) -> Turn:
        """Stand behind the others of the team."""
        turn = Turn(contest, team)
        teams = self._waiting.setdefault(contest, OrderedDict())
        teams.setdefault(team, OrderedDict())[turn] = None
        self._waiting_in[contest] += 1
        return turn

    def next(self) -> Turn | None:
        """Give a place to whose turn it is; None while nobody may take one."""
        free = self.free
        for contest, teams in self._waiting.items():
            # Whoever holds too many stays where it stands, and comes first as soon as it may.
            room = free - self._held_by_contest[contest]
            if room <= 0:
                continue
            for team, line in teams.items():
                if self._held_by_team[contest, team] < room:
                    turn = next(iter(line))
                    self._take_out(turn)
                    self._to_the_back(turn)
                    self._held_by_contest[contest] += 1
                    self._held_by_team[contest, team] += 1
                    return turn
        return None

    def leave(self, turn: Turn) -> None:
        """The start is over, or waits no more. Asking twice is asking once."""
        if turn.is_over:
            return
        if turn.is_waiting:
            self._take_out(turn)
        else:
            _decrease(self._held_by_contest, turn.contest)
            _decrease(self._held_by_team, (turn.contest, turn.team))
        turn.is_over = True

    def ahead(self, contest: str) -> dict[Turn, int]:
        """For each start of a contest that waits, how many of that contest come before it.

        As turns go, while nobody else comes or leaves. What each team holds does not count.
        """
        lines = [iter(line) for line in self._waiting.get(contest, {}).values()]
        order: list[Turn] = []
        while lines:
            turns = [(line, next(line, None)) for line in lines]
            order += [turn for _, turn in turns if turn is not None]
            lines = [line for line, turn in turns if turn is not None]
        return {turn: place for place, turn in enumerate(order)}

    def _take_out(self, turn: Turn) -> None:
        teams = self._waiting[turn.contest]
        del teams[turn.team][turn]
        if not teams[turn.team]:
            del teams[turn.team]
        if not teams:
            del self._waiting[turn.contest]
        _decrease(self._waiting_in, turn.contest)
        turn.is_waiting = False

    def _to_the_back(self, turn: Turn) -> None:
        """Contest and team had their turn."""
        teams = self._waiting.get(turn.contest)
        if teams is not None:
            self._waiting.move_to_end(turn.contest)
            if turn.team in teams:
                teams.move_to_end(turn.team)


def _decrease(counter: Counter[K], key: K) -> None:
    """One less; what is none is forgotten, so that ended contests leave nothing behind."""
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
