"""Teams that wait for a host to let them in, and all that hosts asked for.

Several are let in, or turned away, at once; each is an action of its own, with its own dry run, and
what cannot be done with one of them is said and stops no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tornado.web import HTTPError

from ... import names
from ...managers.contest_refusals import NotNowError, NotThereError
from ...models.contest_life import (
    Action,
    ActionRequest,
    ContestRecord,
    OperationState,
    TeamRecord,
    TeamState,
)
from ...policy.action_words import ACTION_WORDS
from ...policy.contest_access import Right
from ...policy.contest_actions import hash_plan
from .handlers import Route
from .pages import PageHandler, name_of, zone_of

_AT_ONCE: Final = 50  # teams on a page, and done with one form
_OPERATIONS: Final = 50
_WORDS: Final = {Action.ADMIT: "let in", Action.REJECT: "turned away"}


@dataclass(frozen=True)
class Choice:
    """What would be, or was, done with one team.

    Attributes
    ----------
    plan
        Hash of the plan that was shown; empty: it cannot be done.
    why
        Why not.
    """

    team: str
    plan: str = ""
    why: str = ""


class RegistrationsPage(PageHandler):
    """Who waits. Those who are ticked are let in, or turned away, after that was shown."""

    async def get(self, contest: str) -> None:
        record = await self.require(Right.HOST, contest)
        await self._show(record)

    async def post(self, contest: str) -> None:
        record = await self.require(Right.HOST, contest)
        action = self._action()
        chosen = self.get_body_arguments("team")[: _AT_ONCE + 1]
        if not 0 < len(chosen) <= _AT_ONCE:
            self.set_status(422)
            await self._show(record, message=f"Tick one team, or up to {_AT_ONCE}.")
            return
        if self.get_body_argument("step", "") != "execute":
            choices = [await self._plan(record, action, team) for team in chosen]
            await self._show(record, action=action, choices=choices)
            return
        key = self.form_key()
        done = [await self._do(record, action, text, key) for text in chosen]
        refused = [choice for choice in done if choice.why]
        if refused:
            self.set_status(409)
        await self._show(
            record, action=action, done=[c for c in done if not c.why], refused=refused
        )

    def _action(self) -> Action:
        for action in _WORDS:
            if self.get_body_argument("do", "") == action.value:
                return action
        raise HTTPError(422, "Teams are let in or turned away here. Load the page again.")

    async def _plan(self, record: ContestRecord, action: Action, team: str) -> Choice:
        if not names.is_team_id(team):
            return Choice(team[:60], why="That is no team id.")
        try:
            plan = await self.work.registry.plan(record.id, self._request(action, team))
        except (NotNowError, NotThereError) as error:
            return Choice(team, why=str(error))
        return Choice(team, plan=hash_plan(plan))

    async def _do(self, record: ContestRecord, action: Action, text: str, key: str) -> Choice:
        """Do it with one team of which the plan was shown."""
        team, _, shown = text.partition(" ")
        if not names.is_team_id(team):
            return Choice(team[:60], why="That is no team id.")
        try:
            await self.work.registry.act(
                record.id,
                self._request(action, team),
                by=self.asker.name,
                key=f"{key} {team}",
                shown=shown,
            )
        except (NotNowError, NotThereError) as error:
            return Choice(team, why=str(error))
        return Choice(team, plan=shown)

    def _request(self, action: Action, team: str) -> ActionRequest:
        reason = " ".join(self.get_body_argument("reason", "").split())[:500]
        return ActionRequest(action=action, team=team, reason=reason)

    async def _show(
        self,
        record: ContestRecord,
        *,
        action: Action | None = None,
        choices: list[Choice] | None = None,
        done: list[Choice] | None = None,
        refused: list[Choice] | None = None,
        message: str = "",
    ) -> None:
        after = self.get_query_argument("after", "")
        store = self.work.store
        found = await store.teams(
            record.id,
            states=(TeamState.INVITED,),
            after=after if names.is_team_id(after) else "",
            limit=_AT_ONCE + 1,
        )
        teams: tuple[TeamRecord, ...] = found[:_AT_ONCE]
        members = await store.members(team.id for team in teams)
        self.show(
            "registrations.html",
            contest=record,
            teams=[(team, name_of(team), len(members[team.id])) for team in teams],
            following=teams[-1].id if len(found) > _AT_ONCE else "",
            action=action,
            words=_WORDS,
            choices=choices,
            can=[choice for choice in choices or () if choice.plan],
            done=done,
            refused=refused or [],
            message=message,
            reason=self.get_body_argument("reason", "")[:500],
            key=self.new_key(),
        )


class OperationsPage(PageHandler):
    """What was asked for, the newest first; first what waits for a second person."""

    async def get(self, contest: str) -> None:
        record = await self.require(Right.HOST, contest)
        store = self.work.store
        waiting = await store.operations(
            contest, states=(OperationState.PROPOSED,), limit=_OPERATIONS
        )
        newest = await store.operations(contest, limit=_OPERATIONS)
        others = [o for o in newest if o.state is not OperationState.PROPOSED]
        self.show(
            "operations.html",
            contest=record,
            zone=zone_of(record),
            operations=[*waiting, *others],
            words=ACTION_WORDS,
        )


ROUTES: Final[list[Route]] = [
    (r"contests/([^/]+)/registrations", RegistrationsPage),
    (r"contests/([^/]+)/operations", OperationsPage),
]
