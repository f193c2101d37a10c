"""Log-in page and log-out of a hub with several sources."""

from __future__ import annotations

import logging
from typing import Any

from jupyterhub.handlers.login import LoginHandler, LogoutHandler
from tornado import web
from tornado.httputil import url_concat

log = logging.getLogger(__name__)


class SeveralLoginHandler(LoginHandler):  # type: ignore[misc]
    """One page: the form, with a choice of institution, and a link for each other source."""

    async def post(self) -> None:
        """A form with ``source``, ``username`` and ``password``."""
        for wanted in ("username", "password"):
            if self.get_body_argument(wanted, None) is None:
                raise web.HTTPError(400, f"The form has no {wanted}.")
        await super().post()

    def render_template(self, name: str, **namespace: Any) -> Any:
        """Our page in the place of the hub's, which it extends. Awaitable, as the hub's own is."""
        if name != "login.html":
            return super().render_template(name, **namespace)
        authenticator = self.authenticator
        target = self.get_argument("next", "")
        more = {"next": target} if target else {}
        forms = authenticator.form_sources
        elsewhere = [
            {"label": s.label, "url": url_concat(s.login_url(self.hub.base_url), more)}
            for s in authenticator.sources
            if s not in forms
        ]
        namespace |= {"forms": forms, "elsewhere": elsewhere}
        namespace["chosen"] = self.get_argument("source", "")
        return super().render_template("login_several.html", **namespace)


class SeveralLogoutHandler(LogoutHandler):  # type: ignore[misc]
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
        """At the source, or here."""
        self.set_header("Cache-Control", "no-store")
        if self._elsewhere is not None:
            self.redirect(self._elsewhere)
            return
        await super().render_logout_page()


def bind(handler: type, source: Any) -> type:
    """The same handler, serving one source: what it asks of the hub's authenticator, this answers.

    So two sources of one kind have handlers of their own.
    """
    return type(handler.__name__, (handler,), {"authenticator": source})
