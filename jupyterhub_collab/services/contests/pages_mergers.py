"""Two teams become one: a captain asks by a link, the other one sees what comes of it and accepts.

As with an invitation to one person, the word stands behind the # of the link, and the script
carries it over the hub's login. Who holds it learns which team asks; nobody else learns of any.
"""

from __future__ import annotations

from typing import Final

from tornado.web import HTTPError

from ... import names
from ...managers.contest_refusals import NotNowError
from ...models.contest_life import TeamRecord, TeamState
from ...policy.contest_access import Right
from ...storage.contests import Merger
from .handlers import Route
from .pages import PageHandler, name_of

_TOKEN_MAX: Final = 200
_NO_WORD: Final = "Paste the link, or the word behind its #, as you were sent it."


class MergePage(PageHandler):
    """Where the link leads. For all: the script carries the word over the login."""

    is_public = True
    here = "join"

    async def get(self) -> None:
        self.show("merge.html")


class AcceptMergerPage(PageHandler):
    """A captain brings a team into the one that asked."""

    here = "join"

    async def get(self) -> None:
        await self._show("", "")

    async def post(self) -> None:
        written = self.get_body_argument("token", "").strip()
        token = written.rpartition("#")[2].strip()  # a whole link is as good
        source = self.get_body_argument("source", "")
        is_dry = self.get_body_argument("do", "") != "execute"
        try:
            into = token.partition(".")[0]
            is_one = bool(token) and len(token) <= _TOKEN_MAX and token.isascii()
            if not is_one or not names.is_team_id(into):
                raise NotNowError(_NO_WORD)
            team = await self._mine(source)
            merger = await self.work.assembly.merge(
                team, into, by=self.asker.name, invitation=token, is_dry=is_dry
            )
        except NotNowError as error:
            self.set_status(409)
            await self._show(source, written, message=str(error))
            return
        if is_dry:
            await self._show(source, token, merger=merger)
            return
        self.go(f"my/{into}", "merged")

    async def _mine(self, source: str) -> TeamRecord:
        """The team that goes. Raises HTTPError 403 or 404."""
        team, _ = await self.require_team(Right.LEAD, source)
        if team.id not in self.asker.leads:
            raise HTTPError(403, "Only the captain of a team brings it into another one.")
        return team

    async def _show(
        self, source: str, token: str, *, merger: Merger | None = None, message: str = ""
    ) -> None:
        found = [await self.work.store.team(team) for team in sorted(self.asker.leads)]
        mine = [team for team in found if team is not None and team.state is TeamState.INVITED]
        into = None if merger is None else await self.work.store.team(merger.into)
        self.show(
            "merge_accept.html",
            mine=[(team.id, name_of(team)) for team in mine],
            source=source,
            token=token,
            merger=merger,
            into=None if into is None else name_of(into),
            message=message,
        )


ROUTES: Final[list[Route]] = [("merge", MergePage), ("merge/accept", AcceptMergerPage)]
