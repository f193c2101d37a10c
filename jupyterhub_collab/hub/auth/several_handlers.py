"""Log-in page of a hub with several sources."""

from __future__ import annotations

from typing import Any

from jupyterhub.handlers.login import LoginHandler
from tornado import web
from tornado.httputil import url_concat


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


def bind(handler: type, source: Any) -> type:
    """The same handler, serving one source: what it asks of the hub's authenticator, this answers.

    So two sources of one kind have handlers of their own.
    """
    return type(handler.__name__, (handler,), {"authenticator": source})
