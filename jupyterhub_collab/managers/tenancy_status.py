"""What is told of a team's tenancy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..reconcile.conditions import Condition, State, to_conditions, to_time
from ..reconcile.issues import Issue


@dataclass(frozen=True)
class TeamStatus:
    """State of one team.

    Attributes
    ----------
    spec_hash
        Of the spec that the groups say now; None when it is not valid, or the group is gone.
    ready_hash
        Of the spec whose whole tenancy stands; None when none does.
    """

    team: str
    contest: str
    namespace: str
    state: State
    conditions: tuple[Condition, ...] = ()
    spec_hash: str | None = None
    ready_hash: str | None = None
    last_error: str | None = None
    updated: datetime | None = field(default=None)

    @property
    def is_ready(self) -> bool:
        """Whether the tenancy stands as the groups say now."""
        return self.state is State.READY and self.spec_hash == self.ready_hash

    @property
    def is_doomed(self) -> bool:
        """Whether it is to be destroyed, or has been."""
        return self.state in (State.DESTROYING, State.DESTROYED)

    def to_wire(self) -> dict[str, Any]:
        """As the API gives it."""
        return {
            "team": self.team,
            "contest": self.contest,
            "namespace": self.namespace,
            "state": self.state.value,
            "conditions": [condition.to_wire() for condition in self.conditions],
            "specHash": self.spec_hash,
            "readyHash": self.ready_hash,
            "lastError": self.last_error,
            "updated": to_time(self.updated) if self.updated else None,
        }


def next_status(
    before: TeamStatus | None,
    *,
    team: str,
    contest: str,
    namespace: str,
    state: State,
    now: datetime,
    issues: Sequence[Issue] = (),
    spec_hash: str | None = None,
    ready_hash: str | None = None,
    last_error: str | None = None,
) -> TeamStatus:
    """Status that follows `before`; times of conditions that did not change are kept."""
    conditions = to_conditions(
        issues, state=state, now=now, before=before.conditions if before else ()
    )
    return TeamStatus(
        team, contest, namespace, state, conditions, spec_hash, ready_hash, last_error, now
    )
