"""Pages of all authenticators here: what people are and why, ending sessions, logging out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from jupyterhub.handlers import LogoutHandler
from jupyterhub.handlers.base import BaseHandler
from tornado import web

from ...errors import RetryableError
from ...models import Granted

TEMPLATES: Final = Path(__file__).parent / "templates"
log = logging.getLogger(__name__)


class AccessPageHandler(BaseHandler):  # type: ignore[misc]
    """``/hub/access``."""

    @web.authenticated
    async def get(self) -> None:
        """Teams, roles and data sets of whoever asks."""
        admission = self.authenticator.admission
        user = self.current_user
        granted: tuple[Granted, ...] = ()
        membership, is_known = None, True
        try:
            membership = await admission.memberships.read(user.name)
            if membership is not None:
                given = (await admission.manager.project(membership)).entitlements
                granted, is_known = (given.granted, True) if given else ((), False)
        except RetryableError:
            is_known = False
        html = await self.render_template(
            "access.html", granted=granted, membership=membership, is_known=is_known
        )
        self.set_header("Cache-Control", "no-store")
        self.finish(html)

    @web.authenticated
    async def post(self) -> None:
        """Log out everywhere. The form has JupyterHub's XSRF token."""
        user = self.current_user
        admission = self.authenticator.admission
        servers_too = self.get_body_argument("stop_servers", "") == "yes"
        admission.ender.log_out(user, servers_too=servers_too)
        admission.events.access("logged-out", username=user.name, because="asked for")
        self.clear_login_cookie()
        self.redirect(self.settings["login_url"], permanent=False)


class LeaveHandler(LogoutHandler):  # type: ignore[misc]
    """Logs out here, then at whichever source let the person in."""

    _elsewhere: str | None = None

    async def handle_logout(self) -> None:
        """The session here is over already. Find out where else to go."""
        user = self.current_user
        if user is None:
            return
        try:
            membership = await self.authenticator.admission.memberships.read(user.name)
            source = None if membership is None else self.authenticator.source_of(membership)
            if source is not None:
                self._elsewhere = await source.leave(user, self)
        except Exception:  # whatever it is: the person is logged out here, and is told so
            log.exception("A session at a source goes on")

    async def render_logout_page(self) -> None:
        """At the source, where an admin wants it, or here."""
        self.set_header("Cache-Control", "no-store")
        there = self._elsewhere or getattr(self.authenticator, "logout_redirect_url", "")
        if there:
            self.redirect(there)
            return
        await super().render_logout_page()


HANDLERS: list[tuple[str, type]] = [(r"/access", AccessPageHandler), (r"/logout", LeaveHandler)]
