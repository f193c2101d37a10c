"""What programs and admins can ask and order about access.

``GET /hub/api/collab/membership`` says that the hub itself decides who is in which team: whoever
writes teams then leaves their groups' users alone. ``POST`` to it brings the hub after rosters that
have changed. ``GET /hub/api/collab/membership/NAME`` says what somebody is and why. ``POST
/hub/api/collab/logout`` ends all sessions of somebody.
"""

from __future__ import annotations

import json
from typing import Any

from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.scopes import needs_scope
from tornado import web

from ...errors import RetryableError
from ...models import Entitlements
from ...policy.entitlements import explain

_TEAMS_MAX = 100  # in one call: the hub serves nobody else meanwhile


class MembershipHandler(APIHandler):  # type: ignore[misc]
    """Who decides, and news for whoever does."""

    @needs_scope("list:groups")  # type: ignore[untyped-decorator]
    async def get(self) -> None:
        """Says that the hub's authenticator decides."""
        sources = [source.issuer for source in self.authenticator.sources]
        self.finish(json.dumps({"decider": "hub", "sources": sources}))

    @needs_scope("admin:groups")  # type: ignore[untyped-decorator]
    async def post(self) -> None:
        """Body: ``{"teams": [...]}``, those whose rosters changed; at most 100. May be repeated."""
        body = self.get_json_body()
        teams = body.get("teams") if isinstance(body, dict) else None
        if not isinstance(teams, list) or not all(isinstance(team, str) for team in teams):
            raise web.HTTPError(400, "Send teams, a list of team ids.")
        if len(teams) > _TEAMS_MAX:
            raise web.HTTPError(400, f"Send at most {_TEAMS_MAX} teams at once.")
        try:
            await self.authenticator.admission.project(teams)
        except RetryableError as e:
            raise web.HTTPError(503, f"Not all could be brought after their rosters: {e}") from e
        self.set_status(204)
        self.finish()


class StandingHandler(APIHandler):  # type: ignore[misc]
    """What one hub user is here."""

    @needs_scope("read:users:groups")  # type: ignore[untyped-decorator]
    async def get(self, user_name: str) -> None:
        """Teams, roles and data sets, with the reasons; and when the source last said so.

        JupyterHub finds by the parameter's name whether it is the asking user's own.
        """
        admission = self.authenticator.admission
        try:
            membership = await admission.memberships.read(user_name)
            if membership is None:
                raise web.HTTPError(404, "Nobody of that name came in through a source.")
            standing = await admission.manager.project(membership)
        except RetryableError as e:
            raise web.HTTPError(503, str(e)) from e
        given = standing.entitlements
        answer: dict[str, Any] = {
            "name": user_name,
            "issuer": membership.identity.issuer,
            "subject": membership.identity.subject,
            "confirmed_at": membership.confirmed_at.isoformat(),
            "is_active": membership.is_active,
            "known": given is not None,
            "entitlements": [_to_wire(g) for g in (given or Entitlements()).granted],
            "explain": explain(given) if given is not None else [],
        }
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(answer))


class LogOutEverywhereHandler(APIHandler):  # type: ignore[misc]
    """Ends all sessions of a user."""

    async def post(self) -> None:
        """Body: ``{"name": ..., "stop_servers": false}``; nobody else's without ``admin:users``."""
        body = self.get_json_body()
        body = {} if body is None else body
        if not isinstance(body, dict) or not isinstance(body.get("name", ""), str):
            raise web.HTTPError(400, "Send name, a hub user's.")
        current = self.current_user
        if current is None:
            raise web.HTTPError(403)
        own = getattr(current, "name", None) if current.kind == "user" else None
        name = body.get("name") or own
        if name != own and "admin:users" not in self.expanded_scopes:
            raise web.HTTPError(403, "This needs the scope admin:users.")
        if name == own and not self._may_end_own():
            raise web.HTTPError(403, "This token may not end sessions.")
        user = self.find_user(name) if name else None
        if user is None:
            raise web.HTTPError(404, "There is no such user.")
        admission = self.authenticator.admission
        admission.ender.log_out(user, servers_too=bool(body.get("stop_servers", False)))
        admission.events.access("logged-out", username=user.name, because="asked for")
        self.set_status(204)
        self.finish()

    def _may_end_own(self) -> bool:
        """In the browser, or with a token that may revoke all of one's tokens."""
        return self.get_token() is None or any(
            scope.startswith(("tokens!user", "admin:users")) or scope == "tokens"
            for scope in self.expanded_scopes
        )


def _to_wire(granted: Any) -> dict[str, str]:
    what = granted.what
    fields = {
        "team": what.team,
        "contest": what.contest,
        "dataset": what.dataset,
        "role": what.role.value if what.role else "",
        "because": granted.because,
    }
    return {key: value for key, value in fields.items() if value}


HANDLERS: list[tuple[str, type]] = [
    (r"/api/collab/membership", MembershipHandler),
    (r"/api/collab/membership/([^/]+)", StandingHandler),
    (r"/api/collab/logout", LogOutEverywhereHandler),
]
