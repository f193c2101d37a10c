"""A directory (LDAP, Active Directory) to log people in with, and to ask about them later.

All calls run in a bounded pool of threads of its own, each within one time limit that counts the
waiting too: a directory that accepts and never answers holds up neither the event loop nor, for
longer than that limit, a thread. Passwords go to the directory and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from types import TracebackType
from typing import Final, TypeVar

from ..errors import CollabError
from ..models.facts import Facts, Identity
from ..timeouts import TIMED_OUT, timeout
from .directory_entries import (
    Entry,
    all_of,
    is_dn,
    is_typable,
    substitute,
    to_bind_name,
    to_filter_value,
    to_identity_filter,
    to_subject,
    to_username,
)
from .directory_errors import (
    BadCredentialsError,
    DirectoryDownError,
    DirectorySettingsError,
    Refusal,
    to_refusal,
)
from .directory_groups import attributes_of_person, find_groups, find_members, find_people
from .directory_link import Deadline, Link, make_tls_context
from .directory_servers import Servers, Session
from .directory_settings import DirectorySettings, Server

log = logging.getLogger(__name__)
T = TypeVar("T")
_SHOWN: Final = 80  # characters of a typed name in the log


@dataclass(frozen=True)
class Finding:
    """One thing that was tried, and how it went. ``text`` is for an admin."""

    server: str
    step: str
    is_fine: bool
    text: str


class Directory:
    """One directory. An async context manager; used within one event loop.

    Parameters
    ----------
    clock
        Seconds that only go up, for time limits.
    now
        For when facts were said.

    Raises
    ------
    DirectorySettingsError
        The CA file cannot be read.
    """

    def __init__(
        self,
        settings: DirectorySettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self.settings = settings
        self._clock, self._now = clock, now
        self._servers = Servers(settings, make_tls_context(settings), clock)
        self._threads = ThreadPoolExecutor(settings.threads, f"directory-{settings.name}")
        self._running: set[Deadline] = set()
        self._closed = False
        if settings.tls == "insecure":
            log.warning(
                "DIRECTORY %s IS ASKED WITHOUT TLS: passwords cross the network in the clear",
                settings.name,
            )

    async def __aenter__(self) -> Directory:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all calls, unbind all connections."""
        self._closed = True
        for deadline in self._running:
            deadline.cut(given_up=True)

        def end() -> None:
            self._threads.shutdown(wait=True)  # calls in line find their time over, and end
            self._servers.close()

        await asyncio.to_thread(end)

    async def authenticate(self, username: str, password: str) -> Facts:
        """Who this is, as the directory says after it took the password.

        Raises
        ------
        BadCredentialsError
            This person is not let in; the text is for them.
        DirectoryDownError
            Nobody can say just now.
        DirectorySettingsError
            An admin must act.
        """
        shown = username[:_SHOWN]
        try:
            if not is_typable(username, password):
                raise self._refused(Refusal.BAD_INPUT)
            return await self._run(lambda session: self._log_in(session, username, password))
        except BadCredentialsError as e:
            log.info("Directory %s refused %r: %s", self.settings.name, shown, e.detail)
            raise
        except CollabError as e:
            log.error("Directory %s could not judge %r: %s", self.settings.name, shown, e)
            raise

    async def look_up(self, username: str) -> Facts | None:
        """What the directory says about a person now; None when it shows none who is active.

        Raises
        ------
        DirectoryDownError, DirectorySettingsError
            As `authenticate`; also when there is no service account.
        """
        if not is_typable(username, "x"):
            return None
        term = substitute(self.settings.user_filter, username=to_filter_value(username))
        return await self._run(lambda session: self._look_up(session, term))

    async def look_up_subject(self, subject: str) -> Facts | None:
        """As `look_up`, by what stays when a person is renamed: `Identity.subject`."""
        try:
            term = to_identity_filter(self.settings.identity_attribute, subject)
        except ValueError:
            return None
        everybody = substitute(self.settings.user_filter, username="*")
        return await self._run(lambda session: self._look_up(session, all_of(everybody, term)))

    async def members_of(self, group_dn: str) -> frozenset[Identity]:
        """All active people in a group, those of nested groups too.

        Raises
        ------
        GroupNotFoundError
            The directory shows no such group: no proof that anybody left it.
        DirectoryDownError, DirectorySettingsError
            As `look_up`. Never a part of the list.
        """
        wanted = [self.settings.identity_attribute]

        def work(session: Session) -> frozenset[Identity]:
            entries = find_members(self.settings, session.reader(), group_dn, wanted)
            return frozenset(self._identity(entry) for entry in entries)

        return await self._run(work, timeout_s=self.settings.bulk_timeout_s)

    async def active_among(self, subjects: Iterable[str]) -> frozenset[Identity]:
        """Those of these people whom the directory shows as active. Raises as `look_up`."""
        terms = []
        for subject in subjects:
            with contextlib.suppress(ValueError):  # of another directory: nobody here
                terms.append(to_identity_filter(self.settings.identity_attribute, subject))
        if not terms:
            return frozenset()

        def work(session: Session) -> frozenset[Identity]:
            entries = find_people(self.settings, session.reader(), terms)
            return frozenset(self._identity(entry) for entry in entries)

        return await self._run(work, timeout_s=self.settings.bulk_timeout_s)

    async def shows_people(self) -> bool:
        """Whether our account sees any active person at all. Raises as `look_up`."""
        everybody = substitute(self.settings.user_filter, username="*")
        full = all_of(everybody, self.settings.active_filter)

        def work(session: Session) -> bool:
            bases, reader = self.settings.user_bases, session.reader()
            return any(reader.search(base, full, [], limit=1) for base in bases)

        return await self._run(work)

    async def check(self, username: str | None = None) -> tuple[Finding, ...]:
        """Try every server with new connections, step by step; never raises for what it finds.

        Parameters
        ----------
        username
            Somebody to look up, with groups.
        """
        found: list[Finding] = []
        for server in self.settings.addresses:
            steps: list[Finding] = []
            try:
                work = partial(self._check, username=username, steps=steps)
                await self._run(work, only=server)
            except CollabError as e:
                steps.append(Finding(str(server), _NEXT.get(len(steps), "search"), False, str(e)))
            found += steps
        return tuple(found)

    async def _run(
        self,
        work: Callable[[Session], T],
        *,
        only: Server | None = None,
        timeout_s: float | None = None,
    ) -> T:
        """Do this in a thread, within the time limit: that of a login unless said."""
        settings = self.settings
        limit_s = timeout_s or settings.timeout_s
        if self._closed:
            raise DirectoryDownError(f"directory {settings.name} was closed: the hub is ending")
        if len(self._running) >= settings.max_waiting:
            raise DirectoryDownError(
                f"{settings.max_waiting} calls to directory {settings.name} wait already",
                retry_after_s=settings.timeout_s,
            )
        deadline = Deadline(limit_s, self._clock)
        self._running.add(deadline)
        try:
            if only is None:
                future = self._threads.submit(self._servers.run, deadline, work)
            else:
                future = self._threads.submit(self._servers.probe, only, deadline, work)
            async with timeout(limit_s):
                return await asyncio.wrap_future(future)
        except TIMED_OUT as e:
            deadline.cut()
            late = DirectoryDownError(
                f"directory {settings.name} did not answer within {limit_s:g} s"
            )
            late.password_shown = deadline.password_shown
            raise late from e
        except DirectoryDownError as e:
            e.password_shown = deadline.password_shown
            raise
        except asyncio.CancelledError:
            deadline.cut(given_up=True)
            raise
        finally:
            self._running.discard(deadline)

    # In threads from here on.

    def _log_in(self, session: Session, username: str, password: str) -> Facts:
        if self.settings.bind_templates:
            person, reader = self._bind_directly(session, username, password)
        else:
            person, reader = self._search_and_bind(session, username, password)
        return self._to_facts(reader, person)

    def _search_and_bind(
        self, session: Session, username: str, password: str
    ) -> tuple[Entry, Link]:
        reader = session.reader()
        found = self._find(reader, username)
        if len(found) != 1:
            # The time that a bind takes, whether or not there is such a person.
            name = f"cn={secrets.token_hex(8)},{self.settings.user_bases[0]}"
            session.person().bind(name, secrets.token_hex(8))
            raise self._refused(Refusal.SEVERAL if found else Refusal.UNKNOWN)
        self._bind(session.person(), found[0].dn, password)
        return found[0], reader

    def _bind_directly(self, session: Session, username: str, password: str) -> tuple[Entry, Link]:
        link = session.person()
        names = [to_bind_name(text, username) for text in self.settings.bind_templates]
        usable = [name for name in names if name is not None]
        if not usable:
            raise self._refused(Refusal.BAD_INPUT)
        for i, name in enumerate(usable):
            try:
                self._bind(link, name, password)
                break
            except BadCredentialsError as e:
                unknown = e.reason in (Refusal.WRONG_PASSWORD, Refusal.UNKNOWN)
                if not unknown or i == len(usable) - 1:
                    raise
        term = substitute(self.settings.user_filter, username=to_filter_value(username))
        wanted = attributes_of_person(self.settings)
        if is_dn(name):
            entry = link.read(name, wanted, term)
            found = [entry] if entry else []
        else:
            found = self._find(link, username)
        if len(found) != 1:
            raise self._refused(
                Refusal.SEVERAL if found else Refusal.UNKNOWN,
                f"right password, but user_filter fits {len(found)} entries",
            )
        if not is_dn(name):
            # Who may be called so at a bind need not be who the filter found: a person can have
            # another's account name as their principal name. The password must be the entry's.
            self._bind(link, found[0].dn, password)
        return found[0], session.reader() if self.settings.can_look_up else link

    def _bind(self, link: Link, name: str, password: str) -> None:
        answer = link.bind(name, password)
        if not answer.is_right:
            reason = to_refusal(answer.message, answer.password_policy)
            detail = f"{reason.value} ({name!r}: {answer.message or 'no reason given'})"
            raise self._refused(reason, detail)

    def _refused(self, reason: Refusal, detail: str = "") -> BadCredentialsError:
        return BadCredentialsError(reason, detail, tell_locked=self.settings.tell_locked)

    def _find(self, link: Link, username: str) -> list[Entry]:
        term = substitute(self.settings.user_filter, username=to_filter_value(username))
        return self._search(link, term)

    def _search(self, link: Link, term: str) -> list[Entry]:
        """At most two: more is as bad."""
        wanted = attributes_of_person(self.settings)
        found: list[Entry] = []
        for base in self.settings.user_bases:
            found += link.search(base, term, wanted, limit=2)
        return list({entry.dn: entry for entry in found}.values())  # bases may overlap

    def _look_up(self, session: Session, term: str) -> Facts | None:
        reader = session.reader()
        found = self._search(reader, all_of(term, self.settings.active_filter))
        if len(found) > 1:
            raise DirectorySettingsError(
                f"directory {self.settings.name} has several people for {term}: make user_filter"
                " tell them apart"
            )
        return self._to_facts(reader, found[0]) if found else None

    def _identity(self, entry: Entry) -> Identity:
        attribute = self.settings.identity_attribute
        try:
            (value,) = entry.raw(attribute)
            return Identity(self.settings.name, to_subject(attribute, value))
        except ValueError as e:
            raise DirectorySettingsError(
                f"{entry.dn!r} has no {attribute} that is one. Check identity_attribute, and that"
                " the account may read it"
            ) from e

    def _to_facts(self, link: Link, entry: Entry) -> Facts:
        settings = self.settings
        identity = self._identity(entry)
        username = to_username(entry, settings.username_attribute)
        if username is None:
            raise DirectorySettingsError(
                f"{entry.dn!r} has no {settings.username_attribute}. Check username_attribute"
            )
        claims = {name: entry.texts(name) for name in settings.attributes if entry.raw(name)}
        return Facts(
            identity=identity,
            username=username,
            at=self._now(),
            groups=find_groups(settings, link, entry, username),
            claims={**claims, "dn": [entry.dn]},
            # The directory's own word: who may write it there is for its admin to say.
            emails=tuple(claims.get("mail", ())),
        )

    def _check(self, session: Session, username: str | None, steps: list[Finding]) -> None:
        settings, where = self.settings, str(session.server)

        def fine(step: str, text: str) -> None:
            steps.append(Finding(where, step, True, text))

        link = session.person()
        fine("connect", f"answers; {link.describe_tls()}")
        if not settings.can_look_up:
            fine("bind", "no service account: people are read with their own password only")
            return
        reader = session.reader()
        fine("bind", f"as {settings.bind_dn or 'nobody (anonymous)'}")
        for base in (*settings.user_bases, *settings.group_bases):
            if reader.read(base, []) is None:
                text = f"{base!r} is not there, or our account may not see it"
                steps.append(Finding(where, "search", False, text))
            else:
                fine("search", f"{base!r} is there")
        if username is not None:
            term = substitute(settings.user_filter, username=to_filter_value(username))
            facts = self._look_up(session, term)
            if facts is None:
                text = f"{username!r}: no active person fits user_filter"
                steps.append(Finding(where, "person", False, text))
            else:
                fine("person", f"{facts.username!r} is {facts.identity}")
                fine("groups", "; ".join(facts.groups) or "none")


_NEXT: Final = {0: "connect", 1: "bind"}
