"""Actions as a host asks for them: the dry run first, then exactly that, or a second host's yes.

A form shows a plan in words and holds its hash and a key of its own. What is sent is done only if
the plan, made anew, has the same hash; otherwise the new one is shown. Sent twice it is done once.
"""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import ValidationError
from tornado.web import HTTPError

from ... import names
from ...managers.contest_refusals import NotNowError
from ...models.contest_life import (
    Action,
    ActionPlan,
    ActionRequest,
    ContestRecord,
    Operation,
    OperationState,
)
from ...policy.action_words import ACTION_WORDS, describe_plan
from ...policy.contest_access import Right, may
from ...policy.contest_actions import TEAM_ACTIONS, hash_plan
from .handlers import Route
from .pages import PageHandler, zone_of

_KEEP_MAX: Final = 400_000  # characters: 10,000 ids
_NAMED: Final = 40  # teams that are named at once; the others are in a list to open


class Wanted:
    """What a form says, as it was written; `request` where it can be asked for.

    Attributes
    ----------
    problem
        What is not right; empty: nothing.
    """

    def __init__(self, action: Action, team: str, said: dict[str, str]) -> None:
        self.action, self.team, self.said = action, team, said
        self.problem = ""
        self.request: ActionRequest | None = None
        try:
            self.request = self._read()
        except ValueError as error:
            self.problem = _in_words(error)

    def _read(self) -> ActionRequest:
        values: dict[str, Any] = {"action": self.action, "reason": self.said.get("reason", "")}
        if self.team:
            values["team"] = self.team
        minutes = self.said.get("notice", "").strip()
        if minutes:
            values["notice_s"] = _to_number(minutes, "The notice", 90 * 1440) * 60
        if self.action is Action.ADVANCE:
            values |= self._kept()
        return ActionRequest.model_validate(values)

    def _kept(self) -> dict[str, Any]:
        if self.said.get("how") == "list":
            ids = re.split(r"[\s,]+", self.said.get("keep", "").strip())
            found = tuple(dict.fromkeys(i for i in ids if i))
            wrong = [i for i in found if not names.is_team_id(i)]
            if wrong:
                raise ValueError(f"{wrong[0][:60]!r} is no team id.")
            if not found:
                raise ValueError("Name the teams that go on, one in a line.")
            return {"keep": found}
        return {"top": _to_number(self.said.get("top", ""), "How many go on", 10_000)}


class ActionPage(PageHandler):
    """The form of an action, with its dry run, and what carries it out."""

    async def get(self, contest: str, action: str) -> None:
        record, kind, team = await self._where(contest, action, self.get_query_argument("team", ""))
        top = self.get_query_argument("top", "")
        wanted = Wanted(kind, team, {"top": top or str(len(record.ranking) or "")})
        if not top:
            wanted.problem = ""  # nobody wrote anything yet
        await self._show(record, wanted)

    async def post(self, contest: str, action: str) -> None:
        record, kind, team = await self._where(contest, action, self.get_body_argument("team", ""))
        said = {name: self.get_body_argument(name, "") for name in ("reason", "notice", "how")}
        said["top"] = self.get_body_argument("top", "")
        said["keep"] = self.get_body_argument("keep", "")[:_KEEP_MAX]
        wanted = Wanted(kind, team, said)
        if wanted.request is None or self.get_body_argument("do", "") != "execute":
            await self._show(record, wanted)
            return
        try:
            operation = await self.work.registry.act(
                contest,
                wanted.request,
                by=self.asker.name,
                key=self.form_key(),
                shown=self.get_body_argument("plan", ""),
            )
        except NotNowError as error:
            self.set_status(409)
            await self._show(record, wanted, stale=str(error))
            return
        word = "proposed" if operation.state is OperationState.PROPOSED else "asked"
        self.go(f"contests/{contest}" + (f"/teams/{team}" if team else ""), word)

    async def _where(
        self, contest: str, action: str, team: str
    ) -> tuple[ContestRecord, Action, str]:
        record = await self.require(Right.HOST, contest)
        try:
            kind = Action(action)
        except ValueError:
            self.not_there("action", action)
        if team and not names.is_team_id(team):
            self.not_there("team", team)
        if kind in TEAM_ACTIONS and not team and kind.value in ("admit", "reject", "eliminate"):
            raise HTTPError(422, "This is done with a team. Choose it in the list of teams.")
        return record, kind, team

    async def _show(self, record: ContestRecord, wanted: Wanted, *, stale: str = "") -> None:
        plan: ActionPlan | None = None
        refusal = ""
        if wanted.request is not None:
            try:
                plan = await self.work.registry.plan(record.id, wanted.request)
            except NotNowError as error:
                refusal = str(error)
        if wanted.problem or refusal:
            self.set_status(422 if wanted.problem else 409)
        self.show(
            "action.html",
            contest=record,
            zone=zone_of(record),
            action=wanted.action,
            team=wanted.team,
            title=ACTION_WORDS[wanted.action],
            said_values=wanted.said,
            problem=wanted.problem,
            refusal=refusal,
            stale=stale,
            plan=None if plan is None else describe_plan(plan, record),
            plan_hash="" if plan is None else hash_plan(plan),
            key=self.new_key(),
            named=_NAMED,
            endings=record.manifest.endings,
            has_notice=wanted.action in _STOPPING,
        )


class OperationPage(PageHandler):
    """Something that was asked for; where it waits for a second person, that person's choice."""

    async def get(self, number: str) -> None:
        operation, contest = await self._find(number)
        await self._show(operation, contest)

    async def post(self, number: str) -> None:
        operation, contest = await self._find(number)
        do = self.get_body_argument("do", "")
        try:
            if do == "approve":
                await self.require(Right.APPROVE, contest.id)
                if self.get_body_argument("plan", "") != operation.plan_hash:
                    raise HTTPError(422, "This form is of another plan. Load the page again.")
                await self.work.registry.approve(operation.number, by=self.asker.name)
            elif do == "decline":
                await self.work.registry.decline(operation.number, by=self.asker.name)
            else:
                raise HTTPError(422, "Approve or decline.")
        except NotNowError as error:
            found = await self.work.store.operation(operation.number)
            self.set_status(409)
            await self._show(found or operation, contest, stale=str(error))
            return
        self.go(f"contests/{contest.id}", "approved" if do == "approve" else "declined")

    async def _find(self, number: str) -> tuple[Operation, ContestRecord]:
        operation = await self.work.store.operation(int(number))
        if operation is None or not may(self.asker, Right.HOST, contest=operation.contest):
            self.not_there("operation", number)
        return operation, await self.require(Right.HOST, operation.contest)

    async def _show(self, operation: Operation, contest: ContestRecord, *, stale: str = "") -> None:
        plan: ActionPlan | None = None
        refusal = ""
        is_waiting = operation.state is OperationState.PROPOSED
        if is_waiting:
            try:
                plan = await self.work.registry.plan(contest.id, operation.request)
            except NotNowError as error:
                refusal = str(error)
        self.show(
            "operation.html",
            contest=contest,
            zone=zone_of(contest),
            operation=operation,
            title=ACTION_WORDS[operation.request.action],
            plan=None if plan is None else describe_plan(plan, contest),
            is_waiting=is_waiting,
            is_same=plan is not None and hash_plan(plan) == operation.plan_hash,
            is_own=operation.asked_by == self.asker.name,
            may_approve=may(self.asker, Right.APPROVE, contest=contest.id),
            refusal=refusal,
            stale=stale,
            named=_NAMED,
            report=[(str(k), str(v)) for k, v in operation.report.items()],
        )


def _to_number(text: str, what: str, most: int) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) <= most):
        raise ValueError(f"{what}: found {text[:30]!r}; expected a number up to {most}.")
    return int(text)


def _in_words(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where}: {first['msg']}."
    return str(error)


_STOPPING: Final = frozenset(
    {
        Action.ADVANCE,
        Action.CLOSE_ROUND,
        Action.FINISH,
        Action.FREEZE,
        Action.ELIMINATE,
        Action.ARCHIVE,
        Action.DESTROY,
    }
)
"""Actions that stop servers, after a notice."""

ROUTES: Final[list[Route]] = [
    (r"contests/([^/]+)/actions/([^/]+)", ActionPage),
    (r"operations/([0-9]{1,15})", OperationPage),
]
