"""What a step of a course is given, and what it says when it comes back.

A handler does one step for one team, or for the contest. It is killed anywhere and called again, so
it looks at how things are and makes them as they should be; what it finds done it leaves. It does
not wait: where it must, it says for what, in words that the host's page shows, and is called again.
Before what is irreversible it looks once more at what runs, and has recorded what it is about to do
(`StepWork.record`): no record, no destruction. It must not: write a course's row, or a state; it
hands back what the worker is to write. A row of the team it changes only from the very generation
that it was given (`StepWork.change_team`), so a course that was undone meanwhile changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, Protocol

from ..auditapi import Recorder
from ..hubapi.client import HubClient
from ..hubapi.provisioner import ProvisionerClient
from ..models.audit import AuditEvent, Detail, Outcome, Verb
from ..models.contest_life import ContestRecord, Course, Step, TeamRecord, Transition
from ..policy.contest_courses import steps_of
from ..policy.contest_projection import has_group
from ..storage.contests import ContestStore
from .contest_statuses import TeamStatuses

_TEXT_MAX: Final = 500  # of why something waits; a row and a line on a page


class GroupWriter(Protocol):
    """Brings hub groups after the registry (`managers.contest_projection.Projection`)."""

    async def bring_team(self, team: str) -> None:
        """The team's group is as the registry has it when this returns; the contest's before it.

        Raises
        ------
        PermanentError, RetryableError
            It is not.
        """

    async def bring_contest(self, contest: str) -> None:
        """The contest's group is. Raises as `bring_team`."""

    async def wanted_hash(self, team: str) -> str:
        """Of the spec that the registry wants for a team. Raises as `bring_team`."""

    async def forget_team(self, team: str, contest: str) -> None:
        """There is no group of the team any more. One that is not ours stays. Raises likewise."""

    async def forget_contest(self, contest: str) -> None:
        """There is no group of the contest any more. One that is not ours stays. Likewise."""


@dataclass(frozen=True)
class StepSettings:
    """What an installation decides.

    Attributes
    ----------
    keep_users
        Whether hub users stay who belong to nothing any more.
    stops_at_once, stops_in_all
        Servers of one team, or of one contest, that are stopped at the same time, and before it is
        looked again at what runs.
    """

    keep_users: bool = False
    stops_at_once: int = 8
    stops_in_all: int = 100


@dataclass(frozen=True)
class StepWork:
    """All that a handler is given.

    Attributes
    ----------
    team
        None: the step is the contest's.
    now
        When the step began.
    """

    course: Course
    contest: ContestRecord
    team: TeamRecord | None
    now: datetime
    store: ContestStore
    hub: HubClient
    provisioner: ProvisionerClient
    statuses: TeamStatuses
    groups: GroupWriter
    recorder: Recorder
    settings: StepSettings = field(default_factory=StepSettings)

    @property
    def step(self) -> Step:
        """The one that is to be done."""
        return steps_of(self.course.kind)[self.course.step]

    @property
    def has_group(self) -> bool:
        """Whether the team is, or was, anything on the hub and in the cluster."""
        return self.team is None or has_group(self.team)

    async def change_team(self, **values: Any) -> None:
        """Give the team's row these values, and bring its group after it.

        Raises
        ------
        StaleError
            The team has changed since the step began; nothing was written.
        """
        if self.team is None:
            raise RuntimeError("the contest's own course changes no team")
        if any(getattr(self.team, key) != value for key, value in values.items()):
            generation = self.team.generation
            await self.store.update_team(self.team.id, values, expected_generation=generation)
        await self.groups.bring_team(self.team.id)

    async def record(self, what: str, **details: Detail) -> None:
        """Have it in the audit log that something irreversible is about to be done.

        Parameters
        ----------
        what
            A word of letters, digits and hyphens.
        details
            Nothing personal.

        Raises
        ------
        AuditUnavailableError
            It is not recorded. Do not do it.
        """
        await self.recorder.record(
            AuditEvent(
                time=self.now,
                verb=Verb.CONTEST_CHANGE,
                outcome=Outcome.ALLOWED,
                reason=what,
                contest=self.contest.id,
                team=None if self.team is None else self.team.id,
                details={
                    "step": self.step.value,
                    "course": self.course.kind.value,
                    "operation": self.course.operation,
                    **details,
                },
            )
        )


@dataclass(frozen=True)
class StepResult:
    """What came of a step. Make it with `done` or `not_yet`.

    Attributes
    ----------
    why
        What it waits for, for a person: what, and what to do if that is somebody's to do.
    wait
        At least so long; None: the worker asks again from 1 s on, more and more seldom.
    times
        Moments to be kept with the course, besides those that it has.
    transition, team_values, contest_values
        Of a step that is done: written with it, in one transaction.
    """

    is_done: bool
    why: str = ""
    wait: timedelta | None = None
    times: Mapping[Step, datetime] = field(default_factory=dict)
    transition: Transition | None = None
    team_values: Mapping[str, Any] | None = None
    contest_values: Mapping[str, Any] | None = None

    @classmethod
    def done(
        cls,
        *,
        transition: Transition | None = None,
        team_values: Mapping[str, Any] | None = None,
        contest_values: Mapping[str, Any] | None = None,
    ) -> StepResult:
        """The next step may begin."""
        return cls(
            is_done=True,
            transition=transition,
            team_values=team_values,
            contest_values=contest_values,
        )

    @classmethod
    def not_yet(
        cls,
        why: str,
        *,
        wait: timedelta | None = None,
        times: Mapping[Step, datetime] = MappingProxyType({}),
    ) -> StepResult:
        """Call again later."""
        return cls(is_done=False, why=why[:_TEXT_MAX], wait=wait, times=times)


StepHandler = Callable[[StepWork], Awaitable[StepResult]]
"""Does a step. Raises RetryableError or PermanentError: tried again later, ever more seldom."""

StepHandlers = Mapping[Step, StepHandler]
"""Which module does which steps; whoever wires the worker joins them."""
