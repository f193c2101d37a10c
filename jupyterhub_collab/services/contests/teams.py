"""Teams over HTTP: registration, members, captains, invitations, mergers."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from tornado.web import HTTPError

from ... import names
from ...managers.team_assembly import NewTeam, agreement_of
from ...models.contest_life import ContestRecord, TeamRecord, TeamState
from ...policy.contest_access import Right, what_it_takes
from ...policy.contest_actions import possible_actions
from .bodies import bad_field
from .handlers import PAGE_MAX, Handler, Route
from .requests import AcceptBody, CaptainBody, EntryBody, InvitationBody, MergeBody, TeamBody
from .wire import course_wire, invitation_wire, members_wire, merger_wire, team_summary


class TeamsHandler(Handler):
    """Teams of a contest, in pages; registering one."""

    async def get(self, contest: str) -> None:
        found = await self.require(Right.SEE_TEAMS, contest)
        states = [self._state(text) for text in self.get_query_arguments("state") if text]
        after = self.get_query_argument("after", "")
        if after and not names.is_team_id(after):
            raise bad_field("after (query)", repr(after[:60]), names.TEAM_ID_RULE)
        limit = self.read_number("limit", 200, PAGE_MAX, least=1)
        teams = await self.work.store.teams(found.id, states=states, after=after, limit=limit + 1)
        page = teams[:limit]
        following = page[-1].id if len(teams) > limit else None
        self.send({"teams": [team_summary(team, found) for team in page], "next": following})

    @staticmethod
    def _state(text: str) -> TeamState:
        words = [state.value for state in TeamState]
        if text not in words:
            raise bad_field("state (query)", repr(text[:60]), "one of " + ", ".join(words))
        return TeamState(text)

    async def post(self, contest: str) -> None:
        found = await self.require(Right.REGISTER, contest)
        body = self.read_body(TeamBody)
        may_list = self.may(Right.ENTER_OTHERS, found) or self.may(Right.HOST, found)
        captain = body.captain or ""
        if not may_list:
            # Who is in one team can be in no other: so nobody is put into one unasked.
            if body.members or (captain and captain != self.asker.name):
                field = "members" if body.members else "captain"
                raise bad_field(field, "somebody else", "only yourself; others get an invitation")
            captain = self.asker.name
        team = await self.work.assembly.register(
            found,
            NewTeam(body.id, body.title, captain, body.members),
            by=self.asker.name,
            key=self.read_key(),
        )
        self.set_header("Location", f"{self.work.prefix}api/teams/{team.id}")
        self.send(team_summary(team, found), 201 if team.state is TeamState.INVITED else 202)


class TeamHandler(Handler):
    """One team with its members."""

    async def get(self, team: str) -> None:
        found, contest = await self.require_team(Right.SEE_TEAM, team)
        store = self.work.store
        members = (await store.members([found.id])).get(found.id, ())
        agreement = agreement_of(contest)
        accepted = (
            None if agreement is None else await store.acceptances(contest.id, agreement.version)
        )
        answer = {
            **team_summary(found, contest),
            "members": members_wire(members, accepted),
            "datasets": list(found.datasets),
        }
        if self.may(Right.HOST, contest):
            courses = await store.courses(contest.id, teams=("", found.id))
            mine = courses.get(found.id)
            answer["course"] = None if mine is None else course_wire(mine)
            answer["possible"] = [a.value for a in possible_actions(contest, courses, found)]
        self.send(answer)


class MembersHandler(Handler):
    """Who is in a team."""

    async def post(self, team: str) -> None:
        found, contest = await self.require_team(Right.ADD, team)
        body = self.read_body(EntryBody)
        await self.work.assembly.add(contest, found, body.entry, by=self.asker.name)
        await self.show(found, contest)

    async def delete(self, team: str) -> None:
        found, contest = await self.require_team(Right.SEE_TEAM, team)
        body = self.read_body(EntryBody)
        is_self = self.asker.is_person and body.entry in self.own_entries(found.id)
        if not self.may_of_team(Right.LEAVE if is_self else Right.LEAD, found):
            raise HTTPError(403, what_it_takes(Right.LEAD))
        await self.work.assembly.remove(found, body.entry, by=self.asker.name)
        await self.show(found, contest)

    async def show(self, team: TeamRecord, contest: ContestRecord) -> None:
        """Answer with the roster as it is now."""
        members = (await self.work.store.members([team.id])).get(team.id, ())
        self.send({"team": team.id, "members": members_wire(members, None)})


class CaptainHandler(Handler):
    """Who leads a team."""

    async def post(self, team: str) -> None:
        found, contest = await self.require_team(Right.LEAD, team)
        body = self.read_body(CaptainBody)
        changed = await self.work.assembly.hand_over(found, body.captain, by=self.asker.name)
        self.send(team_summary(changed, contest))


class InvitationsHandler(Handler):
    """Invitations to a team."""

    async def get(self, team: str) -> None:
        found, _ = await self.require_team(Right.LEAD, team)
        invitations = await self.work.store.invitations(found.id)
        self.send({"invitations": [invitation_wire(invitation) for invitation in invitations]})

    async def post(self, team: str) -> None:
        found, contest = await self.require_team(Right.LEAD, team)
        body = self.read_body(InvitationBody)
        shown = await self.work.assembly.invite(
            contest,
            found,
            by=self.asker.name,
            key=self.read_key(),
            lasts=timedelta(days=body.lasts_days),
        )
        # After the hash, so that it comes into nobody's log of requests.
        url = f"{self.work.prefix}join#{shown.token}"
        self.send({**invitation_wire(shown.invitation), "token": shown.token, "url": url}, 201)


class InvitationHandler(Handler):
    """One invitation to a team."""

    async def delete(self, team: str, invitation: str) -> None:
        found, _ = await self.require_team(Right.LEAD, team)
        await self.work.assembly.withdraw(found, invitation[:100], by=self.asker.name)
        self.send({"withdrawn": invitation[:100]})


class AcceptHandler(Handler):
    """Joining by an invitation."""

    async def post(self) -> None:
        body = self.read_body(AcceptBody)
        entry = self.entry_or_self(body.entry)
        team = await self.work.assembly.accept(body.token, entry, by=self.asker.name)
        self.send({"team": team.id, "contest": team.contest, "title": team.title})


class MergeHandler(Handler):
    """Two teams that become one."""

    async def post(self, team: str) -> None:
        found, contest = await self.require_team(Right.LEAD, team)
        body = self.read_body(MergeBody)
        into = await self.work.store.team(body.into)
        if into is not None and into.contest != found.contest:
            into = None
        is_for_both = into is not None and self.may_of_team(Right.LEAD, into)
        # A captain learns of no other team whether it is there: only its invitation says so.
        if not is_for_both and body.invitation is None:
            if self.may(Right.SEE_TEAMS, contest):
                raise bad_field("into", repr(body.into), "another team of the same contest")
            raise bad_field("invitation", "nothing", f"an invitation of the team {body.into}")
        merger = await self.work.assembly.merge(
            found,
            body.into,
            by=self.asker.name,
            invitation=None if is_for_both else body.invitation,
            is_dry=body.dry_run,
        )
        self.send(merger_wire(merger))


ROUTES: Final[list[Route]] = [
    ("api/contests/([^/]+)/teams", TeamsHandler),
    ("api/teams/([^/]+)", TeamHandler),
    ("api/teams/([^/]+)/members", MembersHandler),
    ("api/teams/([^/]+)/captain", CaptainHandler),
    ("api/teams/([^/]+)/invitations", InvitationsHandler),
    ("api/teams/([^/]+)/invitations/([^/]+)", InvitationHandler),
    ("api/teams/([^/]+)/merge", MergeHandler),
    ("api/invitations/accept", AcceptHandler),
]
