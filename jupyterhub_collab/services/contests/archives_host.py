"""Copies of volumes over HTTP, for hosts: what is kept, and bringing a copy back."""

from __future__ import annotations

from typing import Any, Final

from ...errors import AuditUnavailableError
from ...managers.contest_restores import ContestRestores
from ...policy.contest_access import Right
from .bodies import bad_field
from .handlers import PAGE_MAX, Handler, Route
from .requests import RestoreBody
from .wire import archive_wire

RESTORES: Final = "restores"  # where in `Work.more` a `ContestRestores` is


class _RestoresHandler(Handler):
    @property
    def restores(self) -> ContestRestores:
        """What answers."""
        found: ContestRestores = self.work.more[RESTORES]
        return found


class ContestArchivesHandler(_RestoresHandler):
    """Copies of a contest's volumes, in pages."""

    async def get(self, contest: str) -> None:
        found = await self.require(Right.HOST, contest)
        after = self.get_query_argument("after", "")
        team, slash, volume = after.partition("/")
        if after and not (team and slash and volume):
            raise bad_field("after (query)", repr(after[:60]), "`next` of the page before")
        limit = self.read_number("limit", 200, PAGE_MAX, least=1)
        page, is_more = await self.restores.page(found.id, after=(team, volume), limit=limit)
        following = f"{page[-1].team}/{page[-1].volume}" if is_more else None
        self.send({"archives": [archive_wire(row) for row in page], "next": following})


class TeamArchivesHandler(_RestoresHandler):
    """A team's volumes and archive Jobs, as the cluster has them now."""

    async def get(self, team: str) -> None:
        found, _ = await self.require_team(Right.HOST, team)
        self.send(_to_wire(found.id, await self.restores.status(found)))


class RestoreHandler(_RestoresHandler):
    """Have a copy brought back into a volume of a team."""

    async def post(self, team: str) -> None:
        found, _ = await self.require_team(Right.HOST, team)
        body = self.read_body(RestoreBody)
        # What was another contest's comes to this one by it: for who answers for both.
        await self.require(Right.HOST, await self.restores.contest_of(body.archive))
        try:
            status = await self.restores.restore(
                body.archive, found, volume=body.volume, by=self.asker.name
            )
        except AuditUnavailableError as error:
            self.set_header("Retry-After", "30")
            self.refuse(503, f"Nothing is brought back unrecorded. {error}")
            return
        self.send(_to_wire(found.id, status), 202)


def _to_wire(team: str, status: Any) -> dict[str, Any]:
    return {"team": team, "volumes": list(status["volumes"]), "jobs": list(status["jobs"])}


ROUTES: Final[list[Route]] = [
    ("api/contests/([^/]+)/archives", ContestArchivesHandler),
    ("api/teams/([^/]+)/archives", TeamArchivesHandler),
    ("api/teams/([^/]+)/archives/restore", RestoreHandler),
]
