"""The demo's people in a real directory, their passwords on the login page."""

from __future__ import annotations

from typing import Any

from tornado import web

from .auth.ldap import LDAPTeamAuthenticator
from .demo_accounts import HOST_ACCOUNT, DemoAccounts
from .demo_login import DemoLoginHandler


class DemoLDAPAuthenticator(DemoAccounts, LDAPTeamAuthenticator):
    """As any directory's, for requests from this machine, with its accounts shown."""

    async def authenticate(self, handler: Any, data: Any) -> dict[str, Any]:
        """As any directory's. Raises HTTPError."""
        if not self.is_welcome(handler):
            self.log.warning("Refused a demo account to a request from another machine")
            raise web.HTTPError(403, "The demo's accounts are for this machine alone.")
        return await super().authenticate(handler, data)

    def teams_of(self, name: str, user: Any) -> set[str]:
        """Those of the rosters too, for people who have not come yet."""
        rosters = self.admission.registry.rosters_with(name=name)
        named = {team for team, entries in rosters.items() if name in entries}
        return super().teams_of(name, user) | named

    def is_host(self, name: str, user: Any) -> bool:
        """The host's account, before the first log-in too."""
        return name == HOST_ACCOUNT or super().is_host(name, user)

    def get_handlers(self, app: Any) -> list[tuple[str, type]]:
        """The login page with the accounts on it."""
        others = [
            (path, handler) for path, handler in super().get_handlers(app) if path != "/login"
        ]
        return [("/login", DemoLoginHandler), *others]
