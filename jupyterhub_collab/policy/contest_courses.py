"""The ways that teams and contests go step by step, and what may still be turned back.

Steps are small, and each may be done twice: whoever is killed goes on with the step it was in. What
comes before the first irreversible step can be undone.

A plan that begins a course has changed the state already where `policy.contest_life` leads to it
at once. Left to steps: `MARK_ACTIVE`, `MARK_ARCHIVED`, `MARK_DESTROYED`; a team's own gate, which
the gate steps set; and in an ADVANCE course the team's `round`, which its `PROJECT` sets to the
contest's, so that teams come into the next round in batches and not all with the plan.
`MARK_ENDED` makes a contest archived after SHELVE and destroyed after END; after CLOSE_ROUND it
changes nothing. Of a contest's own course the gate steps have nothing to do: its gate follows from
its state.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ..models.contest_life import Course, CourseKind, Step

_DOWN: Final = (Step.RELEASE, Step.AWAIT_DESTROYED, Step.FORGET, Step.MARK_DESTROYED)
_QUIET: Final = (Step.CLOSE_GATE, Step.NOTIFY, Step.DRAIN)

STEPS: Final[Mapping[CourseKind, tuple[Step, ...]]] = MappingProxyType(
    {
        CourseKind.ADMIT: (Step.PROJECT, Step.AWAIT_READY, Step.MARK_ACTIVE, Step.NOTIFY),
        CourseKind.ADVANCE: (Step.PROJECT, Step.NOTIFY, Step.DRAIN, Step.AWAIT_READY),
        CourseKind.FREEZE: (*_QUIET, Step.FREEZE_GATE),
        CourseKind.LIFT: (Step.OPEN_GATE, Step.NOTIFY),
        CourseKind.RESTORE: (Step.OPEN_GATE, Step.AWAIT_READY, Step.MARK_ACTIVE, Step.NOTIFY),
        # Out, with a time in which the team may read and export; then as DESTROY.
        CourseKind.ELIMINATE: (
            *_QUIET,
            Step.FREEZE_GATE,
            Step.AWAIT_EXPORT,
            *_QUIET,
            Step.ARCHIVE,
            Step.MARK_ARCHIVED,
            *_DOWN,
        ),
        CourseKind.ARCHIVE: (*_QUIET, Step.ARCHIVE, Step.MARK_ARCHIVED),
        CourseKind.DESTROY: (*_QUIET, Step.ARCHIVE, *_DOWN),
        CourseKind.CLOSE_ROUND: (Step.NOTIFY, Step.DRAIN, Step.MARK_ENDED),
        CourseKind.SHELVE: (Step.AWAIT_TEAMS, Step.MARK_ENDED),
        CourseKind.END: (
            Step.AWAIT_TEAMS,
            Step.REMOVE_SHARED,
            Step.SCAN,
            Step.CERTIFY,
            Step.MARK_ENDED,
        ),
    }
)
"""Steps of each kind, in order."""

IRREVERSIBLE: Final = frozenset({Step.RELEASE, Step.AWAIT_DESTROYED, Step.FORGET, Step.SCAN})
"""From the first of these on a course only goes forward."""

FINAL: Final = frozenset({CourseKind.DESTROY, CourseKind.END})
"""Courses that only go forward from their beginning: who asked for them was shown that."""

CHECKED: Final = frozenset({Step.RELEASE, Step.FORGET})
"""Before these it is looked once more at what runs."""


def steps_of(kind: CourseKind) -> tuple[Step, ...]:
    """In order."""
    return STEPS[kind]


def next_step(course: Course) -> Step | None:
    """What is to be done next; None: all is done."""
    steps = steps_of(course.kind)
    return steps[course.step] if course.step < len(steps) else None


def may_undo(course: Course) -> bool:
    """Whether another course may take its place: nothing irreversible was begun, nor decided."""
    if course.kind in FINAL:
        return False
    steps = steps_of(course.kind)[: course.step + 1]
    return not IRREVERSIBLE.intersection(steps)
