"""The demo's accounts on its login page: for whoever sits at this machine.

What: the file of accounts, and who may see it; `demo_login` is the page that shows them.
Why: people must be able to log in to a demo, and fixed passwords would be known to everybody.
It must not: serve anybody but this machine. Accounts are shown, and passwords accepted, only in
requests that come from it; and the hub does not start when it is open to others, unless told to.
"""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from traitlets import Bool, Unicode
from traitlets.config import Configurable

from .. import names

HOST_ACCOUNT = "host"
"""The demo's admin: whoever organises the contests."""

_WORDS = 3  # of 12 bits each, and two digits: 43 bits, behind a login for this machine alone
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"


class DemoAccounts(Configurable):
    """What an authenticator of the demo has besides its own: accounts that are shown."""

    accounts_file = Unicode(
        help="""JSON file of names and passwords, mode 0600; remove a line and that user gets a new
        password at the next start.""",
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
        parent = getattr(self, "parent", None)
        bind_url = getattr(parent, "bind_url", "") if parent else ""
        if bind_url and not self.accept_other_machines and not is_loopback_url(bind_url):
            raise ValueError(
                f"The demo accounts are shown on the login page, and {bind_url} is open to other "
                "machines. Bind to 127.0.0.1, use another authenticator, or set "
                f"{type(self).__name__}.accept_other_machines."
            )

    def accounts(self) -> dict[str, str]:
        """Names and passwords now."""
        try:
            stored = json.loads(Path(self.accounts_file).read_text())
        except FileNotFoundError:
            return {}
        return {str(name): str(password) for name, password in stored.items()}

    def teams_of(self, name: str, user: Any) -> set[str]:
        """Teams to show beside an account; `user` is None before the first log-in."""
        groups = () if user is None else user.groups
        return {group.name for group in groups if names.is_team_id(group.name)}

    def is_host(self, name: str, user: Any) -> bool:
        """Whether an account is the hub's admin."""
        return user is not None and bool(user.admin)

    def is_welcome(self, handler: Any) -> bool:
        """Whether a request may see the accounts and use them.

        It must name the hub by its own name, too: a page from elsewhere whose name was made to
        resolve to this machine (DNS rebinding) asks from this machine.
        """
        if self.accept_other_machines:
            return True
        is_ours = not self.public_url or handler.request.host == urlsplit(self.public_url).netloc
        return is_ours and is_from_this_machine(handler.request)


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


def write_accounts(path: Path, accounts: dict[str, str]) -> None:
    """Write the file in one step, for its owner alone."""
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600 by itself
    with os.fdopen(fd, "w") as file:
        json.dump(dict(sorted(accounts.items())), file, indent=1)
    os.replace(name, path)
