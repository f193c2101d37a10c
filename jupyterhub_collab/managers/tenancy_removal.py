"""The way down of a team: have deleted what the cluster releases, and keep up what it does not.

A team that may not be deleted yet stays as it is, walls and all: whoever runs the manager says how
walls are kept up (`uphold`). What is gone is never made anew. It decides nothing about who is to
be destroyed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from .. import names
from ..models import Platform
from ..reconcile.conditions import State
from ..reconcile.engine import Engine, Outcome
from ..reconcile.issues import IssueType
from ..reconcile.objects import Owner
from ..reconcile.observed import ClusterView
from ..reconcile.plan import Plan
from ..reconcile.removal import Doomed

# Nothing of the team may be deleted as things are: it stays, so its walls do.
_HELD_BACK: Final = frozenset(
    {IssueType.NOT_RELEASED, IssueType.CLUSTER_TOO_OLD, IssueType.REFUSED}
)
_NOT_THEIRS: Final = frozenset({IssueType.NOT_OURS, IssueType.OTHER_CONTEST})


@dataclass(frozen=True)
class Removal:
    """What a pass on the way down came to, and how the team is now."""

    state: State
    outcome: Outcome


class TeamRemoval:
    """Takes down teams that their groups say are to be destroyed.

    Parameters
    ----------
    uphold
        Keeps up what a team was given; None when nobody knows what that is.
    """

    def __init__(
        self,
        engine: Engine,
        view: ClusterView,
        platform: Platform,
        *,
        uphold: Callable[[str], Awaitable[Outcome | None]],
    ) -> None:
        self._engine, self._view, self._platform = engine, view, platform
        self._uphold = uphold

    def plan(self, team: str, contest: str) -> Plan:
        """What `run` would delete now."""
        return self._engine.plan_removal(self._doomed(team, contest))

    async def run(self, team: str, contest: str) -> Removal:
        """Delete what a team of this contest has, as far as it goes now."""
        doomed = self._doomed(team, contest)
        outcome = await self._engine.remove(doomed)
        types = {issue.type for issue in outcome.issues}
        if types & _NOT_THEIRS:
            return Removal(State.FAILED, outcome)
        # What is gone has no walls, and to heal them would make the team anew.
        if types & _HELD_BACK and self._view.namespace_of(team) is not None:
            outcome = _both(outcome, await self._uphold(team))
        return Removal(State.DESTROYED if outcome.is_ready else State.DESTROYING, outcome)

    def _doomed(self, team: str, contest: str) -> Doomed:
        namespace = names.namespace_of(team, prefix=self._platform.namespace_prefix)
        return Doomed(Owner(self._platform.hub_id, team), namespace, contest)


def _both(removed: Outcome, upheld: Outcome | None) -> Outcome:
    """One outcome of the two; why the walls could not be kept up comes before the rest."""
    if upheld is None:
        return removed
    return Outcome(
        False,
        (*removed.issues, *upheld.issues),
        upheld.error or removed.error,
        removed.writes + upheld.writes,
    )
