"""Conditions: what can be said of a team's tenancy, as Kubernetes says it of its objects. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Final

from .issues import Issue, IssueType

READY: Final = "Ready"


class State(str, Enum):
    """Where a team's tenancy is, in one word."""

    PENDING = "pending"  # known, not worked on yet
    PROVISIONING = "provisioning"  # being made, or waiting to be tried again
    READY = "ready"
    FAILED = "failed"  # somebody has to do something; the conditions say what
    ORPHANED = "orphaned"  # its group is gone; what it has is kept as it is
    DESTROYING = "destroying"  # to be destroyed, and something of it is there yet
    DESTROYED = "destroyed"  # nothing of it is left in the cluster but data sets' data


@dataclass(frozen=True)
class Condition:
    """One statement. `last_transition` is when `status` last changed."""

    type: str
    status: bool
    reason: str
    message: str
    last_transition: datetime

    def to_wire(self) -> dict[str, Any]:
        """As the API gives it."""
        return {
            "type": self.type,
            "status": "True" if self.status else "False",
            "reason": self.reason,
            "message": self.message,
            "lastTransitionTime": to_time(self.last_transition),
        }


def to_time(when: datetime) -> str:
    """RFC 3339 in UTC, to the second."""
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def to_conditions(
    issues: Sequence[Issue], *, state: State, now: datetime, before: Sequence[Condition] = ()
) -> tuple[Condition, ...]:
    """`Ready` first, then one condition a type of issue, messages of one type together.

    Parameters
    ----------
    now, before
        Time zone aware; the conditions so far, whose times are kept where nothing changed.
    """
    since = {(c.type, c.status): c.last_transition for c in before}
    is_ready = state is State.READY
    blocking = [issue for issue in issues if issue.is_blocking]
    why = blocking if blocking or is_ready else issues
    message = "\n".join(issue.message for issue in why)
    reason = blocking[0].type.value if blocking else state.value.capitalize()
    found = [Condition(READY, is_ready, reason, message, since.get((READY, is_ready), now))]
    for kind in IssueType:
        same = [issue for issue in issues if issue.type is kind]
        if same:
            text = "\n".join(dict.fromkeys(issue.message for issue in same))
            when = since.get((kind.value, True), now)
            found.append(Condition(kind.value, True, same[0].reason, text, when))
    return tuple(found)
