"""The provisioner's HTTP API, as JupyterHub services do it.

Programs come with a token of the hub, people through the hub's login. To read takes access to this
service; to set it to work takes `custom:collab:provision` besides, or to be an admin. Every answer
but the page and the metrics is JSON; every error says what happened and what to do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from tornado.web import HTTPError

from ... import names
from ...auditapi.correlation import HEADER
from ...constants import SCOPE_PROVISION
from ...errors import CollabError, PermanentError, Problem, RetryableError, SpecError
from ...managers.leftovers import Leftovers
from ...managers.team_archives import TeamArchives
from ...managers.tenancy import TenancyManager
from ...reconcile.conditions import State
from ...reconcile.plan import Plan
from ..handlers import ServiceHandler
from .metrics import Metrics
from .openapi import make_openapi
from .page import make_page
from .requests import (
    BadRequest,
    EmptyRequest,
    NudgeRequest,
    PlanRequest,
    check_plan,
    parse,
    refusal,
    to_wire_problems,
)

log = logging.getLogger(__name__)

_PAGE_SIZE: Final = 200  # teams in one answer


@dataclass
class Work:
    """What the handlers look at.

    Attributes
    ----------
    waiting_for
        Why this process does not work now, in words; None while it does.
    asked
        Told which team somebody wants worked on, and under which id of the audit log.
    """

    manager: TenancyManager
    metrics: Metrics
    prefix: str
    archives: TeamArchives
    leftovers: Leftovers
    waiting_for: str | None = "it has only just started"
    asked: Callable[[str, str], None] = lambda _team, _correlation: None

    def not_ready(self) -> str | None:
        """Why answers would be guesses, None when they are not."""
        if self.waiting_for is not None:
            return self.waiting_for
        if not self.manager.is_ready:
            return self.manager.hub_error or "the first lists are not complete"
        return None


class Handler(ServiceHandler):
    """Base of this service's.

    Attributes
    ----------
    is_write
        Takes `custom:collab:provision`, or an admin.
    """

    content_policy = "default-src 'none'; style-src 'unsafe-inline'"
    is_write = False
    work: Work

    async def prepare(self) -> None:
        await super().prepare()
        if not self.is_write or self.hub_model is None:
            return
        may = SCOPE_PROVISION in self.hub_model.get("scopes", ())
        if not may and self.hub_model.get("admin") is not True:
            raise HTTPError(403, f"This needs the hub scope {SCOPE_PROVISION}, or an admin.")

    def require_ready(self) -> bool:
        """Answer 503 unless both sides are known."""
        why = self.work.not_ready()
        if why is not None:
            self.set_header("Retry-After", "2")
            self.refuse(503, f"The provisioner cannot say yet: {why}. Ask again in a moment.")
        return why is None

    def answer_error(self, error: CollabError | BadRequest) -> None:
        """Answer what went wrong."""
        if isinstance(error, SpecError):
            error = refusal(error)
        if isinstance(error, BadRequest):
            problems = to_wire_problems(error.problems)
            self.refuse(error.status, error.message, problems=problems)
        elif isinstance(error, RetryableError):
            self.set_header("Retry-After", str(max(1, round(error.retry_after_s or 2))))
            self.refuse(503, f"The hub does not answer as it should: {error}")
        else:
            self.refuse(502, f"The hub refuses: {error}")

    def no_team(self, team: str) -> None:
        """Answer 404."""
        self.refuse(404, f"There is no team {team[:60]!r}: no such group on the hub.")


class TeamsHandler(Handler):
    """All teams, in pages; a table for people."""

    async def get(self) -> None:
        if not self.require_ready():
            return
        statuses = self.work.manager.statuses()
        state = self.get_query_argument("state", "")
        contest = self.get_query_argument("contest", "")
        states = [s.value for s in State]
        if state and state not in states:
            self.answer_error(_bad_query("state", state, "one of " + ", ".join(states)))
            return
        statuses = [
            s
            for s in statuses
            if (not state or s.state.value == state) and (not contest or s.contest == contest)
        ]
        try:
            offset = self._number("offset", 0, 10**9)
            limit = self._number("limit", _PAGE_SIZE, _PAGE_SIZE)
        except BadRequest as error:
            self.answer_error(error)
            return
        page = statuses[offset : offset + limit]
        after = offset + limit if offset + limit < len(statuses) else None
        if self.wants_page():
            self.set_header("Content-Type", "text/html; charset=utf-8")
            self.finish(make_page(page, total=len(statuses), offset=offset, after=after))
            return
        self.send(
            {"total": len(statuses), "next": after, "teams": [status.to_wire() for status in page]}
        )

    def _number(self, name: str, default: int, most: int) -> int:
        text = self.get_query_argument(name, str(default))
        if not text.isascii() or not text.isdecimal() or int(text[:12]) > most:
            raise _bad_query(name, text, f"a number from 0 to {most}")
        return int(text)


def _bad_query(name: str, found: str, expected: str) -> BadRequest:
    return BadRequest(422, "The query is not right.", [Problem(name, repr(found[:60]), expected)])


class TeamHandler(Handler):
    """One team."""

    async def get(self, team: str) -> None:
        if not self.require_ready():
            return
        status = self.work.manager.status(team)
        if status is None:
            self.no_team(team)
        else:
            self.send(status.to_wire())


class ProvisionHandler(Handler):
    """Have one team worked on now."""

    is_write = True

    async def post(self, team: str) -> None:
        if not self.require_ready():
            return
        try:
            parse(EmptyRequest, self.request.body)
            if not names.is_team_id(team):
                self.no_team(team)
                return
            self.work.asked(team, self.request.headers.get(HEADER, ""))
            status = await self.work.manager.refresh(team)
        except (BadRequest, SpecError, RetryableError, PermanentError) as error:
            self.answer_error(error)
            return
        if status is None:
            self.no_team(team)
            return
        url = f"{self.work.prefix}teams/{quote(team, safe='')}"
        if status.is_doomed:
            message = (
                f"Team {team} is {status.state.value}: its group says retention: destroy, so "
                "nothing is provisioned for it."
            )
            self.refuse(409, message, status_url=url)
            return
        if status.is_ready:
            self.send({**status.to_wire(), "status_url": url})
        else:
            self.set_header("Location", url)
            self.send({**status.to_wire(), "status_url": url}, 202)


class PlanHandler(Handler):
    """What would be changed. Changes nothing."""

    async def post(self) -> None:
        if not self.require_ready():
            return
        manager = self.work.manager
        try:
            request = parse(PlanRequest, self.request.body)
            check_plan(request)
            if request.team is not None:
                plan = manager.plan(request.team, request.properties, request.contest_properties)
                plans = {request.team: _to_wire_plan(plan)}
            else:
                plans = {team: self._plan(team) for team in request.teams}
        except (BadRequest, SpecError) as error:
            self.answer_error(error)
            return
        self.send({"plans": plans})

    def _plan(self, team: str) -> dict[str, Any]:
        try:
            return _to_wire_plan(self.work.manager.plan(team))
        except KeyError:
            return {"error": "There is no such team."}
        except SpecError as error:
            return {
                "error": "The team's spec is not valid.",
                "problems": to_wire_problems(error.problems),
            }


def _to_wire_plan(plan: Plan) -> dict[str, Any]:
    return {
        "steps": [
            {
                "action": step.action.value,
                "kind": step.key.kind,
                "namespace": step.key.namespace or None,
                "name": step.key.name,
                "reason": step.reason,
            }
            for step in plan.steps
        ],
        "issues": [
            {
                "type": issue.type.value,
                "reason": issue.reason,
                "message": issue.message,
                "blocking": issue.is_blocking,
            }
            for issue in plan.issues
        ],
    }


class NudgeHandler(Handler):
    """Read some hub groups now instead of within seconds."""

    is_write = True

    async def post(self) -> None:
        if not self.require_ready():
            return
        try:
            request = parse(NudgeRequest, self.request.body)
            changed = await self.work.manager.refresh_groups(list(dict.fromkeys(request.groups)))
        except (BadRequest, RetryableError, PermanentError) as error:
            self.answer_error(error)
            return
        self.send({"changed": sorted(changed)}, 202)


class HealthHandler(Handler):
    """Whether this process can do its work."""

    is_public = True

    async def get(self) -> None:
        why = self.work.not_ready()
        state = {
            "status": "ok" if why is None else "waiting",
            "waitingFor": why,
            "hubError": self.work.manager.hub_error,
            "watchesDown": self.work.manager.watches_down(),
            "queue": self.work.manager.queue_length,
        }
        self.send(state, 200 if why is None else 503)


class LiveHandler(Handler):
    """Whether this process runs at all, one that waits its turn too."""

    is_public = True

    async def get(self) -> None:
        self.send({"status": "ok"})


class MetricsHandler(Handler):
    """Prometheus."""

    async def get(self) -> None:
        self.set_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.finish(self.work.metrics.to_text())


class OpenApiHandler(Handler):
    """What this API is."""

    is_public = True

    async def get(self) -> None:
        self.send(make_openapi(self.work.prefix))


class RootHandler(Handler):
    """The way to the table."""

    is_public = True

    async def get(self) -> None:
        self.redirect(f"{self.work.prefix}teams")
