"""Demo accounts: every user the hub knows gets a random password, shown on the login page."""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path
from typing import Any

from jupyterhub.auth import Authenticator

from .demo_accounts import DemoAccounts, make_password, write_accounts
from .demo_login import DemoLoginHandler


class DemoAuthenticator(DemoAccounts, Authenticator):  # type: ignore[misc]
    """Accepts the accounts in a file, and makes one for each user that the hub comes to know."""

    async def authenticate(self, handler: Any, data: dict[str, str]) -> str | None:
        """Name of the user whose password this is."""
        if not self.is_welcome(handler):
            self.log.warning("Refused a demo account to a request from another machine")
            return None
        given = data.get("password", "").encode()
        name = data.get("username", "")
        wanted = self.accounts().get(name)
        # Compared either way, so that the time taken does not tell which names exist.
        matches = hmac.compare_digest(given, (wanted or secrets.token_hex(16)).encode())
        return name if matches and wanted is not None else None

    def check_allowed(self, username: str, authentication: Any = None) -> bool:
        """Whoever has an account may come in."""
        return username in self.accounts()

    def add_user(self, user: Any) -> None:
        """Make an account for a user who has none. Called for each user, at start and later."""
        super().add_user(user)
        accounts = self.accounts()
        if user.name not in accounts:
            accounts[user.name] = make_password()
            write_accounts(Path(self.accounts_file), accounts)

    def delete_user(self, user: Any) -> None:
        """Forget the account of a user who is deleted."""
        super().delete_user(user)
        accounts = self.accounts()
        if accounts.pop(user.name, None) is not None:
            write_accounts(Path(self.accounts_file), accounts)

    def get_handlers(self, app: Any) -> list[tuple[str, type]]:
        """The login page with the accounts on it."""
        return [("/login", DemoLoginHandler)]
