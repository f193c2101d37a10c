"""Figures for Prometheus. No person, team or contest is named in a label."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import GaugeMetricFamily

from ...models.contest_life import TeamState
from ...policy.contest_courses import next_step
from ...storage.contests import ContestStore, DeliveryState


class _Figures:
    """What the registry's rows come to, as of the last look."""

    def __init__(self) -> None:
        self.teams: Count[str] = Count()
        self.contests: Count[str] = Count()
        self.courses: Count[tuple[str, str]] = Count()
        self.failing = 0
        self.oldest_s = 0.0
        self.behind = 0
        self.unreadable = 0
        self.deliveries: Mapping[DeliveryState, int] = {}

    def collect(self) -> Iterable[GaugeMetricFamily]:
        teams = GaugeMetricFamily("collab_contests_teams", "Teams by state", labels=["state"])
        for state in TeamState:
            teams.add_metric([state.value], self.teams[state.value])
        yield teams
        contests = GaugeMetricFamily(
            "collab_contests_contests", "Contests by state", labels=["state"]
        )
        for name, count in sorted(self.contests.items()):
            contests.add_metric([name], count)
        yield contests
        courses = GaugeMetricFamily(
            "collab_contests_courses", "Courses by the step they are at", labels=["kind", "step"]
        )
        for (kind, step), count in sorted(self.courses.items()):
            courses.add_metric([kind, step], count)
        yield courses
        deliveries = GaugeMetricFamily(
            "collab_contests_notices_undelivered",
            "Teams, addresses and webhooks that a notice did not reach: tried again, or given up",
            labels=["state"],
        )
        for came in (DeliveryState.WAITING, DeliveryState.GIVEN_UP):
            deliveries.add_metric([came.value], self.deliveries.get(came, 0))
        yield deliveries
        single = {
            "collab_contests_courses_failing": (
                "Courses whose step was tried in vain",
                self.failing,
            ),
            "collab_contests_stuck_seconds": (
                "Seconds that the longest overdue course has been due",
                self.oldest_s,
            ),
            "collab_contests_groups_behind": (
                "Hub groups that are not as the registry has them",
                self.behind,
            ),
            "collab_contests_unreadable": (
                "Contests that stand still because their row in the registry cannot be read",
                self.unreadable,
            ),
        }
        for name, (said, value) in single.items():
            yield GaugeMetricFamily(name, said, value=value)


class _OfWork:
    """A figure of the contests' work, of the process that does it."""

    def __init__(
        self, name: str, said: str, read: Callable[[], float], is_holder: Callable[[], bool]
    ) -> None:
        self._name, self._said, self._read, self._is_holder = name, said, read, is_holder

    def collect(self) -> Iterable[GaugeMetricFamily]:
        value = self._read() if self._is_holder() else None
        yield GaugeMetricFamily(self._name, self._said, value=value)


class Metrics:
    """All of them, in a registry of their own; other modules may register theirs with it.

    Parameters
    ----------
    is_holder, term
        Whether this process does the contests' work now, and the last term in which it did.
    """

    def __init__(
        self,
        *,
        is_holder: Callable[[], bool] = lambda: True,
        term: Callable[[], int] = lambda: 0,
    ) -> None:
        self._is_holder = is_holder
        self.registry = CollectorRegistry()
        self._figures = _Figures()
        self.registry.register(self._figures)
        Gauge(
            "collab_contests_holder",
            "1 in the process that does the contests' work, 0 in one that stands by",
            registry=self.registry,
        ).set_function(is_holder)
        Gauge(
            "collab_contests_term",
            "The last term in which this process did the contests' work; each rises by one",
            registry=self.registry,
        ).set_function(term)
        self._requests = Counter(
            "collab_contests_requests",
            "Requests, by kind and by the first digit of the answer's status",
            ["method", "status"],
            registry=self.registry,
        )

    def on_request(self, method: str, status: int) -> None:
        """A request was answered."""
        known = method if method in ("GET", "POST", "PUT", "DELETE") else "other"
        self._requests.labels(known, f"{status // 100}xx").inc()

    def observe(self, name: str, said: str, read: Callable[[], float]) -> None:
        """One figure more of the contests' work, read whenever somebody asks. Whoever stands by has
        no value of it: what it came to in an earlier term says nothing of now."""
        self.registry.register(_OfWork(name, said, read, self._is_holder))

    async def look(self, store: ContestStore, now: Callable[[], datetime]) -> None:
        """Count what is in the registry. Raises DatabaseError."""
        found = _Figures()
        at = now()
        for contest in await store.contests():
            found.contests[contest.state.value] += 1
            for state, count in (await store.count_teams(contest.id)).items():
                found.teams[state.value] += count
            for course in (await store.courses(contest.id)).values():
                step = next_step(course)
                found.courses[(course.kind.value, step.value if step else "")] += 1
                found.failing += course.attempts > 0
                found.oldest_s = max(found.oldest_s, (at - course.due_at).total_seconds())
        found.unreadable = len(await store.unreadable_contests())
        contests, teams = await store.unprojected(limit=10_000)
        found.behind = len(contests) + len(teams)
        found.deliveries = await store.deliveries.count_undone()
        self._figures.__dict__.update(found.__dict__)

    def to_text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)
