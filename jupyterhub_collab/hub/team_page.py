"""A team's page on the hub: where its name leads.

Its members see where the team stands, and their servers in it; anybody else learns nothing, not
even whether there is such a team.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jupyterhub.handlers import BaseHandler
from tornado import web

from ..errors import CollabError, SpecError
from ..models import Gate
from .spawner import TeamSpawner
from .teams import is_member, team_spec, titles_of

_GATES = {
    Gate.OPEN: "Open: its members can start servers.",
    Gate.FROZEN: "Frozen: everything can be read, nothing changed.",
    Gate.CLOSED: "Closed: no servers can be started now.",
}


@dataclass(frozen=True)
class OwnServer:
    """A server of the person who looks, in this team."""

    name: str
    url: str
    is_ready: bool


class TeamPageHandler(BaseHandler):  # type: ignore[misc]
    """One team, for its members."""

    @web.authenticated
    async def get(self, team: str) -> None:
        user = self.current_user
        if not is_member(user, team):
            raise web.HTTPError(404, f"You are not in a team {team[:30]!r}; perhaps not any more.")
        title, contest, state = "", "", "Its settings are not valid: the host can put it right."
        try:
            spec = team_spec(user, team)
            titles = titles_of(user, team)
            title, contest = titles.team, titles.contest or spec.contest
            state = _GATES[spec.gate]
        except (SpecError, CollabError):
            pass  # the page says that, and shows the rest
        html = await self.render_template(
            "team.html",
            team=team,
            title=title,
            contest=contest,
            state=state,
            servers=_servers(user, team),
            user=user,
        )
        self.finish(html)


def _servers(user: Any, team: str) -> list[OwnServer]:
    found = []
    for name, spawner in sorted(user.spawners.items()):
        if isinstance(spawner, TeamSpawner) and spawner.team == team and spawner.active:
            found.append(OwnServer(name, user.server_url(name), bool(spawner.ready)))
    return found


HANDLERS: list[tuple[str, type[BaseHandler]]] = [(r"/team/([^/]+)", TeamPageHandler)]
