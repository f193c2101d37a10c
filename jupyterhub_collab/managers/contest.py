"""Plan and apply a contest manifest on the hub.

Who is in which team is decided by the hub where its authenticator does so: then rosters are
written, and no users. Elsewhere the groups' users are written themselves.

Apply repeats safely: each step makes a thing as it should be, so a run that was interrupted is
finished by the next. Groups are written in an order that leaves no team without valid settings on
the way (`policy.contest_order`). Nothing is deleted but memberships.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

from ..errors import PermanentError, RetryableError
from ..hubapi.client import HubClient
from ..models import ContestManifest, HubDecider, HubGroup
from ..policy.contest_manifest import OPEN, ContestPlan, GroupChange, Reached, plan_contest
from ..policy.contest_order import order_writes

TRIES: Final = 6
FIRST_WAIT_S: Final = 0.5  # doubles; six tries span about 15 s, a restart of the hub
LONGEST_WAIT_S: Final = 60.0  # whatever Retry-After says
AT_ONCE: Final = 4  # the hub works on one call at a time; this only hides the way there and back

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]
Report = Callable[[GroupChange], None]


class TeamRegistry:
    """The seam: where teams, their properties and members are kept.

    Now that is the hub's groups themselves. A service that owns teams replaces this class; the
    hub's groups are then its projection.
    """

    def __init__(self, hub: HubClient, *, sleep: Sleep = asyncio.sleep) -> None:
        self._hub = hub
        self._sleep = sleep

    async def read(self) -> dict[str, HubGroup]:
        """All groups by name, also those that are not ours."""
        return await self._retry(self._hub.list_groups)

    async def read_decider(self) -> HubDecider | None:
        """The hub, where it makes members of rosters itself; None: `write` has to."""
        return await self._retry(self._hub.read_decider)

    async def tell(self, changes: Iterable[GroupChange]) -> None:
        """Have the hub make members of rosters that were written.

        Raises
        ------
        PermanentError
            It did not say that it has. It looks by itself, so nothing is lost.
        """
        teams = [c.group for c in changes if c.joining or c.leaving]
        try:
            await self._retry(lambda: self._hub.project_rosters(teams))
        except (PermanentError, RetryableError) as e:
            raise PermanentError(
                f"the rosters are written, but the hub was not told of all: {e}. It looks by itself"
                " every minute or so (TeamAuthenticator.watch_interval); members come and go then"
            ) from e

    async def write(self, change: GroupChange) -> None:
        """Make one group as it should be. Users to add who are none yet become users."""
        hub, group = self._hub, change.group
        if not change.exists:
            await self._retry(lambda: hub.create_group(group))
        properties = change.properties
        if properties is not None:
            await self._retry(lambda: hub.put_properties(group, properties))
        # Out before in: who leaves must not stay because a new name is misspelt.
        if change.remove:
            await self._retry(lambda: hub.remove_members(group, change.remove))
        if change.add:
            await self._retry(lambda: hub.create_users(change.add))
            await self._retry(lambda: hub.add_members(group, change.add))

    async def _retry(self, call: Callable[[], Awaitable[T]]) -> T:
        wait_s = FIRST_WAIT_S
        for _ in range(TRIES - 1):
            try:
                return await call()
            except RetryableError as e:
                await self._sleep(min(LONGEST_WAIT_S, max(wait_s, e.retry_after_s or 0.0)))
                wait_s *= 2
        return await call()


class ContestManager:
    """Brings the registry to what a manifest says."""

    def __init__(self, registry: TeamRegistry) -> None:
        self._registry = registry

    async def plan(self, manifest: ContestManifest, reached: Reached = OPEN) -> ContestPlan:
        """What would change. Raises SpecError as `plan_contest`."""
        decider = await self._registry.read_decider()
        return plan_contest(manifest, await self._registry.read(), decider, reached)

    async def apply(
        self,
        manifest: ContestManifest,
        reached: Reached = OPEN,
        *,
        report: Report = lambda change: None,
    ) -> ContestPlan:
        """Make it so; returns what was done.

        Parameters
        ----------
        reached
            The contest's gate and its teams' rounds.
        report
            Called after each group, once it is as it should be.

        Raises
        ------
        SpecError
            A group is not ours to write; nothing was changed.
        PermanentError
            The hub refused, or still differs afterwards. What was done stays done; apply again.
        """
        decider = await self._registry.read_decider()
        current = await self._registry.read()
        plan = plan_contest(manifest, current, decider, reached)
        steps = order_writes(plan, current).steps
        last = {change.group: change for step in steps for change in step}
        room = asyncio.Semaphore(AT_ONCE)

        async def write(change: GroupChange) -> None:
            async with room:
                await self._registry.write(change)
            if change is last[change.group]:
                report(change)

        untold: list[PermanentError] = []
        for step in steps:
            # One team's refusal does not keep its like from what is theirs. What comes after
            # counts on it, and could take away what the team still names.
            results = await asyncio.gather(*map(write, step), return_exceptions=True)
            failures = [result for result in results if isinstance(result, BaseException)]
            written = [c for c, r in zip(step, results, strict=True) if r is None]
            try:
                await self._registry.tell(written)
            except PermanentError as e:
                untold.append(e)
            for failure in failures:
                if not isinstance(failure, (PermanentError, RetryableError)):
                    raise failure
            if failures:
                said = dict.fromkeys(str(error) for error in (*failures, *untold))
                raise PermanentError("\n".join(said))
        if untold:
            raise untold[0]
        rest = await self.plan(manifest, reached) if plan.changes else plan
        if not rest.is_empty:
            groups = ", ".join(change.group for change in rest.changes)
            raise PermanentError(
                f"after applying, the hub still differs in: {groups}. Somebody else writes these"
                " groups (an authenticator with manage_groups?), or the hub changes members' names"
            )
        return plan
