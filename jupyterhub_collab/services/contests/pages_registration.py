"""Pages for everybody: register a team, invite, join by a link, leave, hand over, agree.

An invitation's word stands behind the # of its link, which no server is sent and no log holds. Who
follows the link may not be logged in yet; so the page that takes the word is for all, and its
script carries the word over the hub's login into a form.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from tornado.web import HTTPError

from ... import names
from ...errors import Problem, SpecError
from ...managers.contest_refusals import NotNowError, NotThereError
from ...managers.team_assembly import INVITATION_TIME, NewTeam, ShownInvitation, agreement_of
from ...models.contest_life import ContestRecord, TeamRecord, TeamState
from ...policy.contest_access import Right
from ...policy.contest_projection import to_acceptance
from ...policy.team_assembly import why_not_merge
from .handlers import Route
from .pages import PageHandler, is_registering, name_of, zone_of
from .pages_host import member_rows

_TITLE_MAX: Final = 200
_TOKEN_MAX: Final = 200
_OVER: Final = frozenset({TeamState.ARCHIVED, TeamState.DESTROYED})


class RegisterPage(PageHandler):
    """A team registers, with whoever asks as its captain."""

    async def get(self, contest: str) -> None:
        record = await self.require(Right.REGISTER, contest)
        await self._show(record, "", "")

    async def post(self, contest: str) -> None:
        record = await self.require(Right.REGISTER, contest)
        team = self.get_body_argument("id", "").strip()
        title = self.get_body_argument("title", "").strip()
        problems = _problems(team, title)
        version = self.get_body_argument("agreed", "")
        message = ""
        if not problems:
            try:
                found = await self._register(record, team, title, version)
            except SpecError as error:
                problems = error.problems
            except NotNowError as error:
                message = str(error)
            else:
                self.go(f"my/{found.id}", "registered")
                return
        self.set_status(422 if problems else 409)
        await self._show(record, team, title, problems=problems, message=message)

    async def _register(
        self, record: ContestRecord, team: str, title: str, version: str
    ) -> TeamRecord:
        assembly, me = self.work.assembly, self.asker.name
        if version:  # before the team: who is in one and has not agreed can start nothing
            await assembly.agree(record, version, me, by=me)
        new = NewTeam(team, title or None, me)
        return await assembly.register(record, new, by=me, key=self.form_key())

    async def _show(self, record: ContestRecord, team: str, title: str, **more: Any) -> None:
        agreement = agreement_of(record)
        accepted: Mapping[str, datetime] = {}
        if agreement is not None:
            accepted = await self.work.store.acceptances(record.id, agreement.version)
        mine = [t for t, c in self.asker.teams.items() if c == record.id]
        values = {"problems": (), "message": "", **more}
        self.show(
            "register.html",
            contest=record,
            zone=zone_of(record),
            rules=record.manifest.registration,
            is_open=is_registering(record),
            agreement=agreement,
            agreed=accepted.get(self.asker.name),
            mine=sorted(mine),
            team=team,
            title=title,
            key=self.new_key(),
            **values,
        )


class MyTeamPage(PageHandler):
    """A team, as its members see it. All that is done here is a form of this page."""

    async def get(self, team: str) -> None:
        found, contest = await self.require_team(Right.SEE_TEAM, team)
        await self._show(found, contest)

    async def post(self, team: str) -> None:
        found, contest = await self.require_team(Right.SEE_TEAM, team)
        do = _DEEDS.get(self.get_body_argument("do", ""))
        if do is None:
            raise HTTPError(422, "Nothing of that name is done here. Load the page again.")
        right, deed = do
        if not self.may_of_team(right, found):
            raise HTTPError(403, "Only the captain of the team does this.")
        try:
            await deed(self, found, contest)
        except (NotNowError, NotThereError, SpecError) as error:
            self.set_status(409)
            found = await self.work.store.team(team) or found
            await self._show(found, contest, message=str(error))

    async def invite(self, team: TeamRecord, contest: ContestRecord) -> None:
        """A link that is shown on this page and never again; `ask`: for another team, to merge."""
        shown = await self.work.assembly.invite(
            contest, team, by=self.asker.name, key=self.form_key(), lasts=INVITATION_TIME
        )
        is_merger = self.get_body_argument("do") == "ask"
        await self._show(team, contest, made=shown, is_merger=is_merger)

    async def withdraw(self, team: TeamRecord, contest: ContestRecord) -> None:
        """Nobody joins by that link any more."""
        number = self.get_body_argument("invitation", "")[:100]
        await self.work.assembly.withdraw(team, number, by=self.asker.name)
        self.go(f"my/{team.id}", "withdrawn")

    async def leave(self, team: TeamRecord, contest: ContestRecord) -> None:
        """Whoever asks is out of the team."""
        own = self.own_entries(team.id)
        roster = (await self.work.store.members([team.id])).get(team.id, ())
        for entry in [m.entry for m in roster if m.entry in own] or [self.asker.name]:
            await self.work.assembly.remove(team, entry, by=self.asker.name)
        self.go("", "left")

    async def remove(self, team: TeamRecord, contest: ContestRecord) -> None:
        """Another member is out of the team."""
        wanted = self.get_body_argument("member", "")
        roster = (await self.work.store.members([team.id])).get(team.id, ())
        entry = next((m.entry for m in roster if to_acceptance(m.entry) == wanted), None)
        if entry is None:
            raise NotThereError("They are not in the team any more.")
        await self.work.assembly.remove(team, entry, by=self.asker.name)
        self.go(f"my/{team.id}", "removed")

    async def hand_over(self, team: TeamRecord, contest: ContestRecord) -> None:
        """Another member is the captain."""
        captain = self.get_body_argument("member", "")
        roster = (await self.work.store.members([team.id])).get(team.id, ())
        if not any(m.entry == captain for m in roster):
            raise NotThereError("They are not in the team any more.")
        await self.work.assembly.hand_over(team, captain, by=self.asker.name)
        self.go(f"my/{team.id}", "handed")

    async def agree(self, team: TeamRecord, contest: ContestRecord) -> None:
        """Whoever asks accepts the agreement."""
        version = self.get_body_argument("agreed", "")
        if not version:
            raise NotNowError("Tick that you accept it; otherwise nothing is recorded.")
        for entry in self.own_entries(contest=contest.id):
            await self.work.assembly.agree(contest, version, entry, by=self.asker.name)
        self.go(f"my/{team.id}", "agreed")

    async def _show(
        self,
        team: TeamRecord,
        contest: ContestRecord,
        *,
        message: str = "",
        made: ShownInvitation | None = None,
        is_merger: bool = False,
    ) -> None:
        store, now, me = self.work.store, self.work.now(), self.asker.name
        own = self.own_entries(contest=contest.id)
        roster = (await store.members([team.id])).get(team.id, ())
        agreement = agreement_of(contest)
        accepted = await store.acceptances(contest.id, agreement.version) if agreement else None
        leads = self.may_of_team(Right.LEAD, team)
        rules = contest.manifest.registration
        link = ""
        if made is not None:
            page = "merge" if is_merger else "join"
            link = f"{self._origin()}{self.work.prefix}{page}#{made.token}"
        self.show(
            "my_team.html",
            contest=contest,
            zone=zone_of(contest),
            team=team,
            name=name_of(team),
            members=[
                (*row, to_acceptance(row[0].entry), isinstance(row[0].entry, str))
                for row in member_rows(roster, team, accepted)
            ],
            size_max=rules.team_size_max if rules else None,
            leads=leads,
            is_captain=bool(team.captain) and team.captain == me,
            is_member=any(m.entry in own for m in roster),
            is_over=team.state in _OVER,
            me=me,
            agreement=agreement,
            agreed=None if accepted is None else self.accepted_at(accepted, own),
            invitations=await store.invitations(team.id) if leads else (),
            notices=await store.notices(teams=[team.id], now=now),
            message=message,
            link=link,
            made=made,
            is_merger=is_merger,
            may_merge=team.state is TeamState.INVITED and not why_not_merge(contest, now),
            key=self.new_key(),
        )

    def _origin(self) -> str:
        """Where the browser has this page from, for a link that is sent to others."""
        forwarded = self.request.headers.get("X-Forwarded-Proto", "").split(",")[0].strip()
        proto = forwarded if forwarded in ("http", "https") else self.request.protocol
        return f"{proto}://{self.request.host}"


_DEEDS: Final[dict[str, tuple[Right, Any]]] = {
    "invite": (Right.LEAD, MyTeamPage.invite),
    "ask": (Right.LEAD, MyTeamPage.invite),
    "withdraw": (Right.LEAD, MyTeamPage.withdraw),
    "remove": (Right.LEAD, MyTeamPage.remove),
    "hand-over": (Right.LEAD, MyTeamPage.hand_over),
    "leave": (Right.LEAVE, MyTeamPage.leave),
    "agree": (Right.LEAVE, MyTeamPage.agree),
}
"""What a form of the page may ask for, and what it takes: LEAVE is what members have."""


class JoinPage(PageHandler):
    """Where an invitation's link leads. For all: the script carries the word over the login."""

    is_public = True
    here = "join"

    async def get(self) -> None:
        self.show("join.html")


class AcceptPage(PageHandler):
    """Joins the team of an invitation."""

    here = "join"

    async def get(self) -> None:
        self.show("accept.html", message="", token="")

    async def post(self) -> None:
        token = self.get_body_argument("token", "").strip()
        token = token.rpartition("#")[2].strip()  # a whole link is as good
        try:
            if not token or len(token) > _TOKEN_MAX or not token.isascii():
                raise NotNowError("Paste the link, or the word behind its #, as you were sent it.")
            team = await self.work.assembly.accept(token, self.asker.name, by=self.asker.name)
        except NotNowError as error:
            self.set_status(409)
            self.show("accept.html", message=str(error), token="")
            return
        self.go(f"my/{team.id}", "joined")


def _problems(team: str, title: str) -> tuple[Problem, ...]:
    found = []
    if not names.is_team_id(team):
        found.append(Problem("id", repr(team[:60]), names.TEAM_ID_RULE))
    if len(title) > _TITLE_MAX or any(ord(c) < 32 or ord(c) == 127 for c in title):
        found.append(Problem("title", f"{len(title)} characters", f"one line up to {_TITLE_MAX}"))
    return tuple(found)


ROUTES: Final[list[Route]] = [
    (r"register/([^/]+)", RegisterPage),
    (r"my/([^/]+)", MyTeamPage),
    ("join", JoinPage),
    ("join/accept", AcceptPage),
]
