"""A contest and its teams as the registry keeps them, and all that may be done with them.

Records are what the registry's database holds, at one moment. Whoever wants something writes an
`ActionRequest`; pure code (`policy.contest_actions`) makes of it what would change, and the
registry writes that in one transaction. What takes time is a *course*: a row that says which step
of which way a team is on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from .contest import ContestManifest
from .document import Count, Document, Id
from .roster import RosterEntry
from .team import Gate, Retention
from .tier import TierOverrides


class ContestState(str, Enum):
    """Where a contest is."""

    DRAFT = "draft"
    REGISTRATION = "registration"  # teams assemble; nobody works yet
    RUNNING = "running"  # in a round, or without rounds
    JUDGING = "judging"  # between two rounds: everything can be read, nothing changed
    FINISHED = "finished"
    ARCHIVED = "archived"  # volumes are kept elsewhere
    DESTROYED = "destroyed"  # nothing is left but records, archives and the certificate


class TeamState(str, Enum):
    """Where a team is."""

    INVITED = "invited"  # registered; it has nothing in the cluster yet
    PROVISIONING = "provisioning"  # admitted; its namespace is being made
    ACTIVE = "active"
    FROZEN = "frozen"  # everything can be read, nothing changed, until it is lifted
    ELIMINATED = "eliminated"  # out of the contest; may export until its window ends
    ARCHIVED = "archived"
    DESTROYED = "destroyed"


class Action(str, Enum):
    """What may be done with a contest, or with a team."""

    OPEN = "open"  # registration
    START = "start"  # the first round
    CLOSE_ROUND = "close-round"
    REOPEN_ROUND = "reopen-round"
    ADVANCE = "advance"  # to the next round, with those who are kept
    FINISH = "finish"
    ARCHIVE = "archive"
    DESTROY = "destroy"
    FREEZE = "freeze"
    LIFT = "lift"
    # Of a team alone.
    ADMIT = "admit"
    REJECT = "reject"
    ELIMINATE = "eliminate"
    RESTORE = "restore"  # after an appeal: it is in again


class CourseKind(str, Enum):
    """A way of several steps that a team, or a contest, is on."""

    ADMIT = "admit"
    ADVANCE = "advance"
    FREEZE = "freeze"
    LIFT = "lift"
    ELIMINATE = "eliminate"
    RESTORE = "restore"
    ARCHIVE = "archive"
    DESTROY = "destroy"
    CLOSE_ROUND = "close-round"  # of a contest
    SHELVE = "shelve"  # of a contest: waits until its teams are archived
    END = "end"  # of a contest: waits for its teams, looks for what is left, certifies


class Step(str, Enum):
    """One step of a course. Each may be done twice: whoever is killed in it does it again."""

    PROJECT = "project"  # write the team's hub group
    AWAIT_READY = "await-ready"  # the provisioner says that all stands
    OPEN_GATE = "open-gate"
    CLOSE_GATE = "close-gate"
    FREEZE_GATE = "freeze-gate"
    NOTIFY = "notify"
    DRAIN = "drain"  # stop the team's servers
    AWAIT_EXPORT = "await-export"  # until its time, the team reads and takes out what is its own
    ARCHIVE = "archive"  # have the volumes copied, and checked
    MARK_ARCHIVED = "mark-archived"
    RELEASE = "release"  # decide destruction: retention of the group becomes destroy
    AWAIT_DESTROYED = "await-destroyed"
    FORGET = "forget"  # tokens, group, users who belong to nothing else
    MARK_DESTROYED = "mark-destroyed"
    MARK_ACTIVE = "mark-active"
    # Of a contest.
    AWAIT_TEAMS = "await-teams"
    REMOVE_SHARED = "remove-shared"  # the contest's own group and names
    SCAN = "scan"
    CERTIFY = "certify"
    MARK_ENDED = "mark-ended"


class OperationState(str, Enum):
    """Where something is that somebody asked for."""

    PROPOSED = "proposed"  # waits for a second person
    RUNNING = "running"
    DONE = "done"
    UNDONE = "undone"
    DECLINED = "declined"


@dataclass(frozen=True)
class ContestRecord:
    """A contest.

    Attributes
    ----------
    manifest
        What its host wrote, whole, but for teams: those are rows of their own.
    round
        1 for the first; 0 before it, and for a contest without rounds.
    is_frozen
        All teams are at most frozen until it is lifted.
    ranking
        Teams from best to worst, as the judges have them for this round.
    generation
        Raised at each change; what is under way names the one that it counts on.
    projected
        The generation that the hub's groups were last brought after.
    """

    id: str
    manifest: ContestManifest
    state: ContestState = ContestState.DRAFT
    round: int = 0
    is_frozen: bool = False
    ranking: tuple[str, ...] = ()
    generation: int = 1
    projected: int = 0


@dataclass(frozen=True)
class TeamRecord:
    """A team.

    Attributes
    ----------
    gate
        Its own; the contest's may be stricter.
    captain
        Hub user name; empty: nobody yet.
    round
        The round whose tier, images and data sets it has.
    state_before
        What lifting or restoring leads back to.
    """

    id: str
    contest: str
    state: TeamState = TeamState.INVITED
    state_before: TeamState | None = None
    title: str | None = None
    tier: str = ""
    overrides: TierOverrides = field(default_factory=TierOverrides)
    datasets: tuple[str, ...] = ()
    gate: Gate = Gate.OPEN
    retention: Retention = Retention.KEEP
    captain: str = ""
    round: int = 0
    generation: int = 1
    projected: int = 0


@dataclass(frozen=True)
class MemberRecord:
    """One entry of a team's roster."""

    team: str
    entry: RosterEntry
    joined_at: datetime
    is_captain: bool = False


@dataclass(frozen=True)
class Course:
    """What is under way with a team, or with a contest (`team` is empty); one each at most.

    Attributes
    ----------
    step
        Index of the step that is next, in `policy.contest_courses.steps_of(kind)`.
    due_at
        Not before.
    times
        Moments that steps wait for. One that a kind has twice waits for the same moment both times,
        so the second time it has passed.
    """

    contest: str
    team: str
    kind: CourseKind
    step: int
    due_at: datetime
    operation: int
    times: Mapping[Step, datetime] = field(default_factory=dict)
    attempts: int = 0
    error: str = ""


@dataclass(frozen=True)
class Operation:
    """Something that somebody asked for, and what became of it.

    Attributes
    ----------
    key
        Whoever asks gives it, so that asking twice is one operation.
    plan_hash
        Of what was shown; another person approves that, or nothing.
    """

    number: int
    contest: str
    request: ActionRequest
    state: OperationState
    key: str
    asked_by: str
    asked_at: datetime
    plan_hash: str
    approved_by: str = ""
    ended_at: datetime | None = None
    report: Mapping[str, Any] = field(default_factory=dict)


Reason = Annotated[
    str, StringConstraints(strict=True, max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")
]


class ActionRequest(Document):
    """What somebody wants done."""

    action: Action
    team: Id | None = Field(None, description="Absent: with the contest.")
    keep: tuple[Id, ...] | None = Field(
        None, description="Of advance: teams that go on.", max_length=10_000
    )
    top: Count | None = Field(None, description="Of advance: so many of the ranking go on.")
    notice_s: int | None = Field(
        None,
        strict=True,
        ge=0,
        le=90 * 86400,
        alias="noticeSeconds",
        description="Between the notice and the stop of servers; absent: as the contest says.",
    )
    reason: Reason = ""


@dataclass(frozen=True)
class Transition:
    """A change of state. `team` is empty for the contest's own."""

    contest: str
    team: str
    before: str
    after: str
    reason: str = ""


@dataclass(frozen=True)
class TeamUpdate:
    """New values of a team's row, by field name of `TeamRecord`."""

    team: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class ActionPlan:
    """All that an action would change: pure, so what is shown is what is done.

    Attributes
    ----------
    contest_generation
        Of the contest that it was made from; another one: make it anew.
    contest_values
        New values of the contest's row, by field name of `ContestRecord`.
    courses
        Begun by it; each takes the place of what is under way with that team.
    ended_courses
        Teams (empty: the contest) whose course ends without being finished.
    irreversible
        Teams of whom something is deleted for good, sooner or later.
    """

    contest: str
    contest_generation: int
    request: ActionRequest
    contest_values: Mapping[str, Any] = field(default_factory=dict)
    transitions: tuple[Transition, ...] = ()
    updates: tuple[TeamUpdate, ...] = ()
    courses: tuple[Course, ...] = ()
    ended_courses: tuple[str, ...] = ()
    irreversible: tuple[str, ...] = ()
    needs_second: bool = False


@dataclass(frozen=True)
class Notice:
    """Words to a team, or to all of a contest (`team` is empty)."""

    contest: str
    team: str
    text: str
    at: datetime
    until: datetime | None = None
    key: str = ""  # the same notice twice is one


@dataclass(frozen=True)
class Archive:
    """A volume's copy.

    Attributes
    ----------
    key
        In the place where archives are kept.
    sha256
        Of the copy, 64 hex digits.
    """

    contest: str
    team: str
    volume: str
    place: str
    key: str
    bytes: int
    sha256: str
    at: datetime
    keep_until: datetime | None = None
