"""Demo accounts: every user the hub knows gets a random password, shown on the login page.

What: an authenticator and a login page for one person trying things out on their own machine.
Why: the demo needs people to log in as, and fixed passwords would be known to everybody.
It must not: serve anybody but this machine. Accounts are shown, and passwords accepted, only in
requests that come from it; and it does not start when the hub is open to others, unless told to.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jupyterhub.auth import Authenticator
from jupyterhub.handlers.login import LoginHandler
from traitlets import Bool, Unicode

from .. import names

_WORDS = 3  # of 12 bits each, and two digits: 43 bits, behind a login for this machine alone
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"


class DemoAuthenticator(Authenticator):  # type: ignore[misc]
    """Accepts the accounts in a file, and makes one for each user that the hub comes to know."""

    accounts_file = Unicode(
        help="""JSON file of names and passwords. The hub writes it, mode 0600; remove a line and
        that user gets a new password at the hub's next start.""",
    ).tag(config=True)

    accept_other_machines = Bool(
        False,
        help="""Show the accounts to, and let in, whoever can reach the hub.

        Only where everybody who can is meant to be let in: passwords are on the login page.""",
    ).tag(config=True)

    public_url = Unicode(
        help="The one address under which people reach the hub; others are sent there.",
    ).tag(config=True)

    warning = Unicode(
        help="What the login page must say of the ground the hub stands on.",
    ).tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        bind_url = getattr(self.parent, "bind_url", "") if self.parent else ""
        if bind_url and not self.accept_other_machines and not is_loopback_url(bind_url):
            raise ValueError(
                f"The demo accounts are shown on the login page, and {bind_url} is open to other "
                "machines. Bind to 127.0.0.1, use another authenticator, or set "
                "DemoAuthenticator.accept_other_machines."
            )

    def accounts(self) -> dict[str, str]:
        """Names and passwords now."""
        try:
            stored = json.loads(Path(self.accounts_file).read_text())
        except FileNotFoundError:
            return {}
        return {str(name): str(password) for name, password in stored.items()}

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
            _write_accounts(Path(self.accounts_file), accounts)

    def delete_user(self, user: Any) -> None:
        """Forget the account of a user who is deleted."""
        super().delete_user(user)
        accounts = self.accounts()
        if accounts.pop(user.name, None) is not None:
            _write_accounts(Path(self.accounts_file), accounts)

    def get_handlers(self, app: Any) -> list[tuple[str, type]]:
        """The login page with the accounts on it."""
        return [("/login", DemoLoginHandler)]

    def is_welcome(self, handler: Any) -> bool:
        """Whether a request may see the accounts and use them.

        It must name the hub by its own name, too: a page from elsewhere whose name was made to
        resolve to this machine (DNS rebinding) asks from this machine.
        """
        if self.accept_other_machines:
            return True
        is_ours = not self.public_url or handler.request.host == urlsplit(self.public_url).netloc
        return is_ours and is_from_this_machine(handler.request)


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
            if user is None:
                continue
            teams = [group.name for group in user.groups if names.is_team_id(group.name)]
            says = ", ".join(sorted(teams)) or ("host of the hub" if user.admin else "no team yet")
            listed.append({"name": name, "password": password, "teams": says})
        return listed


def make_password() -> str:
    """A password that can be read and typed."""
    words = [
        "".join(secrets.choice(letters) for letters in (_CONSONANTS, _VOWELS) * 2)
        for _ in range(_WORDS)
    ]
    return "-".join([*words, f"{secrets.randbelow(100):02}"])


def is_loopback_url(url: str) -> bool:
    """Whether a URL's host is this machine alone. An empty host means every interface."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_from_this_machine(request: Any) -> bool:
    """Whether the peer of the connection itself is this machine.

    Headers such as X-Forwarded-For are not looked at: a pod can send what it likes. A process of
    this machine that connects to one of its addresses comes from that same address; everybody
    else comes from another one.
    """
    stream = getattr(request.connection, "stream", None)
    socket = getattr(stream, "socket", None)
    if socket is None:
        return False
    peer, own = socket.getpeername()[0], socket.getsockname()[0]
    return bool(peer == own or ipaddress.ip_address(peer).is_loopback)


def _write_accounts(path: Path, accounts: dict[str, str]) -> None:
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600 by itself
    with os.fdopen(fd, "w") as file:
        json.dump(dict(sorted(accounts.items())), file, indent=1)
    os.replace(name, path)
