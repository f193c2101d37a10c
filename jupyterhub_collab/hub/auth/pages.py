"""The page on which people see what they are here and why, and end all their sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from jupyterhub.handlers.base import BaseHandler
from tornado import web

from ...errors import RetryableError
from ...models import Granted

TEMPLATES: Final = Path(__file__).parent / "templates"


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


HANDLERS: list[tuple[str, type]] = [(r"/access", AccessPageHandler)]
