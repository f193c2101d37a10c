"""Logs people in through a directory (LDAP, Active Directory), and asks it about them later.

`identity.directory` talks to the directory, in threads, within time limits; here are the login
page's side of it, the sentences that people read, and what the watcher asks. A directory that is
away lets nobody in and takes nothing from anybody.

It must not: keep a password, tell a stranger which names exist, or hand a directory's own words to
the browser.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from tornado import web
from traitlets import TraitError

from ...errors import CollabError
from ...identity.directory import Directory
from ...identity.directory_errors import (
    BadCredentialsError,
    DirectoryDownError,
    DirectorySettingsError,
    GroupNotFoundError,
    Refusal,
)
from ...identity.directory_settings import DirectorySettings
from ...models import EntitlementRules
from ...storage.memberships import Membership
from .admission import RulesFile
from .brake import LoginTry, TooManyTriesError
from .events import SOURCE_UP, Outcome
from .ldap_overview import DirectoryOverview
from .ldap_settings import DirectoryTraits
from .source import Asked, CannotAskError, Finding, Findings, Overview
from .team_authenticator import TeamAuthenticator

DOWN: Final = (
    "Nobody can log in just now: the directory of your institution does not answer. Try again in a"
    " minute. Servers that run go on."
)
MISCONFIGURED: Final = (
    "Nobody can say who you are: the hub and the directory of your institution do not understand"
    " each other. Tell whoever runs this hub; the hub's log says what is wrong."
)
log = logging.getLogger(__name__)


class LDAPTeamAuthenticator(DirectoryTraits, TeamAuthenticator):
    """People of a directory, by name and password."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        settings = self.to_settings()
        self.directory = self._open(settings)
        self._overview = DirectoryOverview(self.directory)
        # All who waited for a silent directory are told at one moment: each in a turn of the loop
        # of their own, or everybody else waits for all of their pages.
        self._one_by_one = asyncio.Lock()
        if settings.tls == "insecure":
            self.log.warning(
                "PASSWORDS GO TO THE DIRECTORY IN THE CLEAR: c.%s.tls is insecure",
                type(self).__name__,
            )
        for note in _notes(settings):
            self.log.warning("Directory %s: %s", settings.name, note)

    @property
    def issuer(self) -> str:
        """Name of the directory."""
        return str(self.name)

    async def authenticate(self, handler: Any, data: Any) -> dict[str, Any]:
        """JupyterHub's model of whoever typed this name and password.

        Raises
        ------
        HTTPError
            403, 429, 503: the text is for them.
        """
        username, password = _typed(data, "username"), _typed(data, "password")
        known_as = f"{self.name_prefix}{username}".lower()
        try:
            taken = self.admission.brake.take(handler, source=self.issuer, username=username)
        except TooManyTriesError as e:
            because = f"tries of one {e.because}"
            self.tell(Outcome.THROTTLED, username=known_as, address=e.address, because=because)
            raise
        try:
            facts = await self.directory.authenticate(username, password)
        except BadCredentialsError as e:
            if e.reason is Refusal.BAD_INPUT:
                taken.give_back()  # an empty field: the directory was not asked
            because = e.reason.value
            self.tell(Outcome.REFUSED, username=known_as, address=taken.address, because=because)
            raise web.HTTPError(403, str(e)) from e
        except CollabError as e:
            async with self._one_by_one:
                await asyncio.sleep(0)
            self._count_failure(taken, e, known_as)
            is_down = isinstance(e, DirectoryDownError)
            raise web.HTTPError(503, DOWN if is_down else MISCONFIGURED) from e
        taken.succeeded()
        return await self.admit(facts, address=taken.address)

    def _count_failure(self, taken: LoginTry, error: CollabError, known_as: str) -> None:
        """A directory that did not judge has found no password wrong.

        One that fell silent after it was shown a password may count it all the same towards its
        lock-out, so the try counts here too.
        """
        if not (isinstance(error, DirectoryDownError) and error.password_shown):
            taken.give_back()
        SOURCE_UP.labels(self.issuer).set(0)
        is_down = isinstance(error, DirectoryDownError)
        outcome = Outcome.UNAVAILABLE if is_down else Outcome.MISCONFIGURED
        # The error's own text names entries and servers: it is in the log (`Directory`).
        because = type(error).__name__
        self.tell(outcome, username=known_as, address=taken.address, because=because)

    async def ask(self, user: Any, membership: Membership) -> Asked:
        """What the directory says now of somebody it let in; nobody's password is needed."""
        self._check_can_ask()
        facts = await self.directory.look_up_subject(membership.identity.subject)
        if facts is None and not await self.directory.shows_people():
            # An account that lost its rights sees an empty directory, not an error.
            raise DirectorySettingsError(
                f"directory {self.issuer} shows our account nobody at all. Check its rights,"
                " user_bases, user_filter and active_filter"
            )
        return Asked(facts)

    async def look_over(self, memberships: Sequence[Membership]) -> Overview:
        """What the directory says of all whom it let in, group by group."""
        self._check_can_ask()
        return await self._overview.look(
            memberships,
            self.admission.rules_file.rules(),
            now=self.admission.now(),
            interval_s=self.watch_interval,
            within_s=self.admission.max_staleness / timedelta(seconds=2),
        )

    def _check_can_ask(self) -> None:
        if not self.directory.settings.can_look_up:
            raise CannotAskError(f"directory {self.issuer} has no service account (bind_dn)")

    def _open(self, settings: DirectorySettings) -> Directory:
        try:
            return Directory(settings)
        except DirectorySettingsError as e:
            raise TraitError(f"c.{type(self).__name__}.ca_file: {e}") from e

    # -- without a hub ----------------------------------------------------------------------------

    async def check(self, username: str | None = None) -> Findings:
        """Try every server: its certificate, our account, the bases, the groups of rules."""
        found: list[Finding] = []
        facts = None
        async with self._open(self.to_settings()) as directory:
            for each in await directory.check(username):
                found.append(Finding(f"{each.server} {each.step}", each.is_fine, each.text))
            if directory.settings.can_look_up:
                try:
                    found += await _check_groups(directory, RulesFile(self.rules_file).rules())
                    facts = await directory.look_up(username) if username else None
                except CollabError as e:
                    found.append(Finding("groups", False, str(e)))
        found += [Finding("settings", None, note) for note in _notes(self.to_settings())]
        return Findings(tuple(dict.fromkeys(found)), facts)


async def _check_groups(directory: Directory, rules: EntitlementRules) -> list[Finding]:
    """Whether there are the groups that rules name in full, and who is in them."""
    issuer = directory.settings.name
    wanted = [r.group for r in rules.rules if r.issuer == issuer and isinstance(r.group, str)]
    found = []
    for group in dict.fromkeys(wanted):
        try:
            number = len(await directory.members_of(group))
            text = f"{group}: {number} active {'person' if number == 1 else 'people'}"
            found.append(Finding("rule", True, text))
        except GroupNotFoundError as e:
            found.append(Finding("rule", False, str(e)))
    return found


def _notes(settings: DirectorySettings) -> list[str]:
    """What is allowed, and should be known."""
    notes = []
    if settings.tls == "insecure":
        notes.append("no TLS: passwords cross the network in the clear")
    if not settings.can_look_up:
        notes.append(
            "no service account (bind_dn): who leaves a group or the institution loses it here no"
            " sooner than at the next login"
        )
    elif not settings.active_filter:
        notes.append(
            "no active_filter: an account that is disabled, not deleted, loses nothing here before"
            " its next login"
        )
    return notes


def _typed(data: Any, key: str) -> str:
    """What a form or an API request holds, which may be anything."""
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, str) else ""
