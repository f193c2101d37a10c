"""The demo's login page, apart from its accounts: `up` needs those and nothing of a hub."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from jupyterhub.handlers.login import LoginHandler


class DemoLoginHandler(LoginHandler):  # type: ignore[misc]
    """The login page, with the accounts for whoever sits at this machine."""

    async def get(self) -> None:
        """Show it; under another name of this machine, go to the hub's own first."""
        public_url = self.authenticator.public_url
        if public_url and self.request.host != urlsplit(public_url).netloc:
            self.redirect(public_url + self.hub.base_url + "login")
            return
        await super().get()

    def render_template(self, name: str, **namespace: Any) -> Any:
        """Give the login template, and no other, the accounts. Awaitable, as the hub's own is."""
        if name == "login.html":
            namespace.setdefault("demo_warning", self.authenticator.warning)
            namespace.setdefault("demo_accounts", self._list_accounts())
        return super().render_template(name, **namespace)

    def _list_accounts(self) -> list[dict[str, str]]:
        if not self.authenticator.is_welcome(self):
            return []
        listed = []
        for name, password in sorted(self.authenticator.accounts().items()):
            user = self.find_user(name)
            teams = ", ".join(sorted(self.authenticator.teams_of(name, user)))
            is_host = self.authenticator.is_host(name, user)
            says = teams or ("host of the hub" if is_host else "no team yet")
            listed.append({"name": name, "password": password, "teams": says})
        return listed
