"""The servers of a directory: which one to ask, kept connections, and which to leave alone.

The first that answers is asked. One that failed several times in a row is left alone for a while
(circuit breaker), so that logins do not each wait for it; then one call at a time tries it.
Runs in threads; nothing here knows what is asked.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable
from typing import TypeVar

from .directory_errors import DirectoryCertificateError, DirectoryDownError, DirectorySettingsError
from .directory_link import Deadline, Link, Turn
from .directory_settings import DirectorySettings, Server

log = logging.getLogger(__name__)
T = TypeVar("T")


class Breaker:
    """Remembers whether one server is worth a try. Thread-safe."""

    def __init__(self, *, failures: int, pause_s: float, clock: Callable[[], float]) -> None:
        self._limit, self._pause_s, self._clock = failures, pause_s, clock
        self._lock = threading.Lock()
        self._failures = 0
        self._until = 0.0
        self._trying = False

    def may_try(self) -> bool:
        """Whether to ask it now. Whoever was told yes says afterwards how it went."""
        with self._lock:
            if self._failures < self._limit:
                return True
            if self._trying or self._clock() < self._until:
                return False
            self._trying = True
            return True

    def succeeded(self) -> None:
        with self._lock:
            self._failures, self._trying = 0, False

    def failed(self) -> None:
        with self._lock:
            self._failures, self._trying = self._failures + 1, False
            self._until = self._clock() + self._pause_s

    def learned_nothing(self) -> None:
        with self._lock:
            self._trying = False

    def wait_s(self) -> float:
        """Seconds until it is tried again; 0 when it may be tried now."""
        with self._lock:
            if self._failures < self._limit:
                return 0.0
            return max(0.0, self._until - self._clock())


class _Kept:
    """Connections of one kind to one server that nobody uses just now. Newest first."""

    def __init__(self, *, idle_s: float, clock: Callable[[], float]) -> None:
        self._idle_s, self._clock = idle_s, clock
        self._lock = threading.Lock()
        self._links: list[tuple[float, Link]] = []
        self._closed = False

    def take(self) -> Link | None:
        with self._lock:
            link = self._links.pop()[1] if self._links else None
        self.close_idle()
        return link if link is None or link.is_clean else None

    def give(self, link: Link) -> None:
        with self._lock:
            if link.is_clean and not self._closed:
                self._links.append((self._clock(), link))
                return
        link.close()

    def close_idle(self) -> None:
        before = self._clock() - self._idle_s
        with self._lock:
            old = [link for since, link in self._links if since <= before]
            self._links = [(since, link) for since, link in self._links if since > before]
        for link in old:
            link.close()

    def close(self, *, for_good: bool) -> None:
        with self._lock:
            links, self._links = self._links, []
            self._closed = self._closed or for_good
        for _, link in links:
            link.close()


class Session:
    """What one call holds: at most one connection of each kind, all to one server."""

    def __init__(self, servers: _OneServer, deadline: Deadline) -> None:
        self.server = servers.server
        self._servers, self._deadline = servers, deadline
        self._reader: Link | None = None
        self._person: Link | None = None
        self.used_kept = False

    def reader(self) -> Link:
        """Connection of the service account, or of nobody where that was asked for.

        Raises
        ------
        DirectorySettingsError
            There is neither, or the account is refused.
        """
        if self._reader is None:
            settings = self._servers.settings
            if not settings.can_look_up:
                raise DirectorySettingsError(
                    f"directory {settings.name} has no bind_dn (service account): nobody can be"
                    " looked up without their password"
                )
            self._reader = self._take(self._servers.readers)
        return self._reader

    def person(self) -> Link:
        """Connection to show a person's password on."""
        if self._person is None:
            self._person = self._take(self._servers.persons)
            self._deadline.password_shown = True
        return self._person

    def _take(self, kept: _Kept) -> Link:
        link = kept.take()
        if link is not None:
            self.used_kept = True
            link.use(self._deadline)
            return link
        return self._servers.open(self._deadline, for_reading=kept is self._servers.readers)

    def end(self) -> None:
        """Keep what is clean, close the rest."""
        for kept, link in (
            (self._servers.readers, self._reader),
            (self._servers.persons, self._person),
        ):
            if link is not None:
                kept.give(link)


class _OneServer:
    def __init__(
        self,
        server: Server,
        settings: DirectorySettings,
        context: ssl.SSLContext | None,
        turn: Turn,
        clock: Callable[[], float],
    ) -> None:
        self.server, self.settings, self._context, self._turn = server, settings, context, turn
        self.breaker = Breaker(
            failures=settings.failures_to_break, pause_s=settings.break_s, clock=clock
        )
        self.readers = _Kept(idle_s=settings.idle_s, clock=clock)
        self.persons = _Kept(idle_s=settings.idle_s, clock=clock)
        self.failure: DirectoryDownError | DirectoryCertificateError | None = None  # its latest

    def open(self, deadline: Deadline, *, for_reading: bool) -> Link:
        settings = self.settings
        link = Link(self.server, settings, self._context, self._turn)
        link.use(deadline)
        try:
            link.open()
            if for_reading and settings.bind_dn:
                answer = link.bind(settings.bind_dn, settings.bind_password.get_secret_value())
                if not answer.is_right:
                    raise DirectorySettingsError(
                        f"{self.server} refused the service account {settings.bind_dn!r}"
                        f" ({answer.message or 'no reason given'}). Check bind_dn and bind_password"
                    )
        except BaseException:
            link.close()
            raise
        return link

    def close_idle(self) -> None:
        self.readers.close_idle()
        self.persons.close_idle()

    def close(self, *, for_good: bool) -> None:
        self.readers.close(for_good=for_good)
        self.persons.close(for_good=for_good)


class Servers:
    """All servers of a directory. Thread-safe."""

    def __init__(
        self,
        settings: DirectorySettings,
        context: ssl.SSLContext | None,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._turn = Turn()
        self._servers = [
            _OneServer(s, settings, context, self._turn, clock) for s in settings.addresses
        ]

    def run(self, deadline: Deadline, work: Callable[[Session], T]) -> T:
        """Do this on the first server that answers. It may be begun again on another.

        Raises
        ------
        DirectoryDownError
            None answered in time.
        DirectoryCertificateError
            Those that answered could not prove who they are.
        """
        with self._turn:
            for one in self._servers:  # those that nothing is asked of now, too
                one.close_idle()
            for one in self._servers:
                if not deadline.is_over() and one.breaker.may_try():
                    try:
                        return self._try(one, deadline, work)
                    except (DirectoryDownError, DirectoryCertificateError) as e:
                        if deadline.given_up:
                            raise
                        log.warning("Directory %s: %s", self._settings.name, e)
        raise self._nobody()

    def _try(self, one: _OneServer, deadline: Deadline, work: Callable[[Session], T]) -> T:
        try:
            done = self._on(one, deadline, work)
        except (DirectoryDownError, DirectoryCertificateError) as e:
            if deadline.given_up:
                one.breaker.learned_nothing()
            else:
                one.breaker.failed()
                one.failure = e
            raise
        except BaseException:
            one.breaker.succeeded()  # it answered; what, is not its fault
            one.failure = None
            raise
        one.breaker.succeeded()
        one.failure = None
        return done

    def _nobody(self) -> DirectoryDownError | DirectoryCertificateError:
        """Why no server could be asked."""
        failures = [one.failure for one in self._servers if one.failure]
        said = "; ".join(str(e) for e in failures) or "it did not come to it in time"
        text = f"no server of directory {self._settings.name} answers: {said}"
        if failures and all(isinstance(e, DirectoryCertificateError) for e in failures):
            return DirectoryCertificateError(text)
        wait_s = min(one.breaker.wait_s() for one in self._servers)
        return DirectoryDownError(text, retry_after_s=wait_s or None)

    def probe(self, server: Server, deadline: Deadline, work: Callable[[Session], T]) -> T:
        """Do this on one server over new connections, whatever it did lately."""
        one = next(one for one in self._servers if one.server == server)
        with self._turn:
            one.close(for_good=False)
            return self._in(Session(one, deadline), work)

    def close(self) -> None:
        with self._turn:
            for one in self._servers:
                one.close(for_good=True)

    def _on(self, one: _OneServer, deadline: Deadline, work: Callable[[Session], T]) -> T:
        session = Session(one, deadline)
        try:
            return self._in(session, work)
        except DirectoryDownError:
            if not session.used_kept or deadline.given_up:
                raise
            deadline.remaining_s()
        # A kept connection may have been closed long ago: the server is asked afresh, once.
        one.close(for_good=False)
        return self._in(Session(one, deadline), work)

    def _in(self, session: Session, work: Callable[[Session], T]) -> T:
        try:
            return work(session)
        finally:
            session.end()
