"""What the provisioner does to teams' namespaces, as audit events: one a pass that wrote something.

The engine tells each step, the manager the end of each pass. Whether a pass made, changed, put back
or took down follows from what stood when it began. It must not: decide anything, or keep a pass
waiting; names of volumes are not told, for some are people's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Final, Protocol

from ..auditapi import Recorder
from ..auditapi.correlation import is_correlation
from ..kube.kinds import NAMESPACE
from ..models.audit import AuditEvent, Outcome, Verb
from ..reconcile.conditions import READY, State
from ..reconcile.engine import Outcome as PassOutcome
from ..reconcile.objects import Owner
from ..reconcile.plan import Action, Step
from ..reconcile.volumes import VOLUME_KINDS
from .tenancy_status import TeamStatus

_OBJECTS_MAX: Final = 60  # named in one event
_MARKS: Final = frozenset({Action.MARK_READY, Action.UNMARK_READY})


class View(Protocol):
    """What is known of the cluster."""

    def ready_hash_of(self, team: str) -> str | None:
        """The ready mark."""


@dataclass
class _Pass:
    """One pass over a team, so far."""

    stood: str | None  # hash of the spec whose tenancy stood when it began
    steps: list[Step] = field(default_factory=list)


class TenancyTeller:
    """Tells a Recorder. One for a provisioner."""

    def __init__(
        self,
        recorder: Recorder,
        view: View,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._recorder, self._view, self._now = recorder, view, now
        self._passes: dict[str, _Pass] = {}
        self._asked: dict[str, str] = {}  # correlation ids of who had a team worked on
        self._refused: dict[str, tuple[str, ...]] = {}  # what was told as refused, by team

    def asked(self, team: str, correlation: str) -> None:
        """Somebody wants this team worked on, and sent the id of what it is for."""
        if is_correlation(correlation):
            self._asked[team] = correlation

    def on_step(self, owner: Owner, step: Step) -> None:
        """A step is about to be taken."""
        known = self._passes.get(owner.team)
        if known is None:
            known = self._passes[owner.team] = _Pass(self._view.ready_hash_of(owner.team))
        known.steps.append(step)

    def on_pass(self, team: str, status: TeamStatus | None, outcome: PassOutcome | None) -> None:
        """A pass is over; `status` is what is told of the team now."""
        done = self._passes.pop(team, None)
        correlation = self._asked.pop(team, None)
        if done is not None:
            self._tell(team, status, correlation, **_to_event(done, status, outcome))
        self._tell_refusal(team, status, correlation)

    def _tell_refusal(self, team: str, status: TeamStatus | None, correlation: str | None) -> None:
        """Tell why nothing can be done for a team, once for each reason."""
        is_refused = status is not None and (
            status.state is State.FAILED or any(c.type == "NotReleased" for c in status.conditions)
        )
        if status is None or not is_refused:
            self._refused.pop(team, None)
            return
        reasons = tuple(c.type for c in status.conditions if c.type != READY)
        known = (*reasons, status.spec_hash or "")
        if self._refused.get(team) == known:
            return
        self._refused[team] = known
        verb = Verb.TENANCY_DELETE if status.is_doomed else Verb.TENANCY_CHANGE
        details = {"conditions": reasons, "spec_hash": status.spec_hash or ""}
        self._tell(
            team,
            status,
            correlation,
            verb=verb,
            outcome=Outcome.REFUSED,
            reason=_to_code(reasons[0] if reasons else "failed"),
            details=details,
        )

    def _tell(
        self,
        team: str,
        status: TeamStatus | None,
        correlation: str | None,
        *,
        verb: Verb,
        outcome: Outcome,
        reason: str | None,
        details: dict[str, Any],
    ) -> None:
        self._recorder.emit(
            AuditEvent(
                time=self._now(),
                verb=verb,
                outcome=outcome,
                reason=reason,
                contest=(status.contest or None) if status is not None else None,
                team=team,
                thing=status.namespace if status is not None else None,
                details={key: value for key, value in details.items() if value not in ("", ())},
                correlation=correlation,
            )
        )


def _to_event(
    done: _Pass, status: TeamStatus | None, outcome: PassOutcome | None
) -> dict[str, Any]:
    """Verb, outcome, reason and details of a pass that wrote."""
    wanted = status.spec_hash if status is not None else None
    error = outcome.error if outcome is not None else None
    if error is not None:
        ended, reason = Outcome.FAILED, type(error).__name__.removesuffix("Error")
    else:
        blocking = [i for i in outcome.issues if i.is_blocking] if outcome is not None else []
        ended, reason = Outcome.SUCCEEDED, blocking[0].type.value if blocking else ""
    return {
        "verb": _verb_of(done, status, wanted),
        "outcome": ended,
        "reason": _to_code(reason) if reason else None,
        "details": {
            "objects": _to_objects(done.steps),
            "spec_hash": wanted or "",
            "spec_hash_before": done.stood or "",
        },
    }


def _verb_of(done: _Pass, status: TeamStatus | None, wanted: str | None) -> Verb:
    space = [step.action for step in done.steps if step.key.kind == NAMESPACE.name]
    if Action.DELETE in space or (status is not None and status.is_doomed):
        return Verb.TENANCY_DELETE
    if Action.CREATE in space or done.stood is None:  # the pass that makes it, or finishes it
        return Verb.TENANCY_CREATE
    return Verb.TENANCY_DRIFT if done.stood == wanted and wanted else Verb.TENANCY_CHANGE


def _to_objects(steps: list[Step]) -> tuple[str, ...]:
    """What was written, each once, in order."""
    named = [
        f"{step.action.value} {step.key.kind}"
        + ("" if step.key.kind in VOLUME_KINDS else f" {step.key.name}")
        for step in steps
        if step.action not in _MARKS
    ]
    found = list(dict.fromkeys(named))
    more = len(found) - _OBJECTS_MAX
    return (*found[:_OBJECTS_MAX], f"and {more} more") if more > 0 else tuple(found)


def _to_code(word: str) -> str:
    """``SpecInvalid`` to ``spec-invalid``."""
    parts = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in word)
    return parts.strip("-") or "failed"
