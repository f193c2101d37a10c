"""Where users stand in the tests' hub: ``host-reef`` hosts the contest reef, ``judge-reef`` judges.

There it is rules that say so; the rest of the answer is the hub's own.
"""

from __future__ import annotations

from jupyterhub_collab.hub.standing import ServiceStandingHandler
from jupyterhub_collab.hub.team_servers import HANDLERS as TEAM_SERVERS_HANDLERS
from jupyterhub_collab.models.entitlement import Entitlement, Role


class StandingByNameHandler(ServiceStandingHandler):
    """Roles by the user's name."""

    async def _roles_of(self, name: str) -> frozenset[Entitlement]:
        role, _, contest = name.partition("-")
        roles = {"host": Role.HOST, "judge": Role.JUDGE, "other": Role.HOST}
        if role not in roles or not contest:
            return frozenset()
        return frozenset({Entitlement(contest=contest, role=roles[role])})


HANDLERS = [
    *TEAM_SERVERS_HANDLERS,
    (r"/api/collab/standing/([^/]+)", StandingByNameHandler),
]
