"""One connection to one server of a directory: the only place that calls ldap3.

All of it blocks, so it runs in threads (`directory`), under a `Deadline` that the loop can end
from outside: it then cuts the connection, and the thread that waits on it goes on at once.
Whatever ldap3 raises is translated here, broadly: garbage from a server makes it raise anything.

It trusts no server before TLS stands, unless told to; it follows no referral.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import ldap3

from .directory_entries import Entry, find_ranges, merge_range, to_password_policy_error
from .directory_errors import (
    DirectoryCertificateError,
    DirectoryDownError,
    DirectorySettingsError,
)
from .directory_settings import DirectorySettings, Server

_PASSWORD_POLICY: Final = "1.3.6.1.4.1.42.2.27.8.5.1"  # noqa: S105 - no password
_PAGED: Final = "1.2.840.113556.1.4.319"
_PAGE_SIZE: Final = 500  # below every server's limit
_PIECE_BYTES: Final = 1 << 16
_MAX_RANGES: Final = 1000
_SUCCESS, _SIZE_LIMIT, _NO_SUCH_OBJECT = 0, 4, 32
_AWAY: Final = frozenset({3, 51, 52, 80})  # timeLimitExceeded, busy, unavailable, other
_NEEDS_TLS: Final = frozenset({8, 13})  # strongerAuthRequired, confidentialityRequired
_SCOPES: Final = {True: ldap3.SUBTREE, False: ldap3.BASE}


class Deadline:
    """When a call must be over. Threads ask it; the loop may end it from outside.

    Attributes
    ----------
    given_up
        Its caller went away: nothing it says tells anything about a server.
    password_shown
        The connection for a person's password stood.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ends = clock() + seconds
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._cut = False
        self.given_up = self.password_shown = False

    def remaining_s(self) -> float:
        """Seconds that are left.

        Raises
        ------
        DirectoryDownError
            None.
        """
        if self.is_over():
            raise DirectoryDownError("the directory did not answer in time")
        return max(0.001, self._ends - self._clock())

    def is_over(self) -> bool:
        return self._cut or self._clock() >= self._ends

    @contextlib.contextmanager
    def watching(self, wire: socket.socket) -> Iterator[None]:
        """For as long as this socket is used."""
        with self._lock:
            self._sockets.append(wire)
            if self._cut:
                _shut(wire)
        try:
            yield
        finally:
            with self._lock:
                self._sockets.remove(wire)

    def cut(self, *, given_up: bool = False) -> None:
        """End it now. Does not block."""
        with self._lock:
            self._cut, self.given_up = True, given_up
            for wire in self._sockets:
                _shut(wire)


class Turn:
    """One thread at a time computes; the others wait for the network, or for their turn.

    ldap3 is Python: threads that decode at once fight over the interpreter, which makes all of
    them slower and the event loop wait for tens of milliseconds. So a thread has the turn while it
    works, and leaves it to others for as long as it waits for a server.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @contextlib.contextmanager
    def left_to_others(self) -> Iterator[None]:
        """For as long as whoever has it waits."""
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()


class _Wire:
    """A socket that leaves the turn to others while it sends or waits."""

    def __init__(self, wire: socket.socket, turn: Turn) -> None:
        self._wire, self._turn = wire, turn

    def recv(self, size: int) -> bytes:
        """As a socket's, but more at once: ldap3 copies all it has for each piece that comes."""
        with self._turn.left_to_others():
            return self._wire.recv(max(size, _PIECE_BYTES))

    def sendall(self, data: bytes) -> None:
        with self._turn.left_to_others():
            self._wire.sendall(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wire, name)


def _shut(wire: socket.socket) -> None:
    """Wake whoever waits for it. Not SSLSocket's own way: that would go on in the clear."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(wire, socket.SHUT_RDWR)


def make_tls_context(settings: DirectorySettings) -> ssl.SSLContext | None:
    """What servers must prove; None where TLS was switched off.

    Raises
    ------
    DirectorySettingsError
        The CA file cannot be read.
    """
    if settings.tls == "insecure":
        return None
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as e:
        raise DirectorySettingsError(
            f"the CA file {settings.ca_file} of directory {settings.name} cannot be used: {e}"
        ) from e


class _Tls(ldap3.Tls):  # type: ignore[misc]  # ldap3 has no types
    """TLS by one shared context, which checks the server's name too; keeps what went wrong."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context, self._host = context, host
        self.failure: Exception | None = None

    def wrap_socket(self, connection: Any, do_handshake: bool = True) -> None:
        try:
            connection.socket = self._context.wrap_socket(
                connection.socket, server_hostname=self._host
            )
        except Exception as e:  # ldap3 keeps only its text, and the kind decides what is told
            self.failure = e
            raise


@dataclass(frozen=True)
class BindAnswer:
    """What a server said to a bind. ``password_policy``: error of that control, if any."""

    is_right: bool
    message: str
    password_policy: int | None


class Link:
    """One connection. Used by one thread at a time, which has the turn.

    Attributes
    ----------
    is_clean
        Whether it may be used again: nothing on it failed or was refused.
    """

    def __init__(
        self,
        server: Server,
        settings: DirectorySettings,
        context: ssl.SSLContext | None,
        turn: Turn,
    ) -> None:
        self.server = server
        self.is_clean = False
        self._settings = settings
        self._tls = _Tls(context, server.host) if context else None
        self._turn = turn
        self._wire: socket.socket | None = None
        self._connection: Any = None
        self._deadline: Deadline | None = None

    def use(self, deadline: Deadline) -> None:
        """Whose time counts from now on."""
        self._deadline = deadline

    def open(self) -> None:
        """Connect, with TLS.

        Raises
        ------
        DirectoryDownError, DirectoryCertificateError
        """
        settings, left = self._settings, self._left_s()
        # Of its own: ldap3 keeps the state of one connection in what it calls a server.
        server = ldap3.Server(
            self.server.host,
            port=self.server.port,
            use_ssl=settings.tls == "ldaps",
            get_info=ldap3.NONE,
            tls=self._tls,
            connect_timeout=min(settings.connect_timeout_s, left),  # the TLS handshake too
        )
        self._connection = ldap3.Connection(
            server,
            client_strategy=ldap3.SAFE_SYNC,
            auto_referrals=False,
            check_names=False,
            auto_escape=False,
            auto_encode=False,
            receive_timeout=None,  # ldap3 takes whole seconds alone; `_call` sets the exact time
        )
        with self._turn.left_to_others():
            self._translated("connect", self._connection.open, read_server_info=False)
            self._wire = self._connection.socket
            if settings.tls == "starttls":
                self._call("start TLS", self._connection.start_tls, read_server_info=False)
                self._wire = self._connection.socket
        if self._tls and not isinstance(self._wire, ssl.SSLSocket):
            raise DirectorySettingsError(f"{self.server} went on without TLS")
        self._connection.socket = _Wire(self._connection.socket, self._turn)
        self.is_clean = True

    def bind(self, name: str, password: str) -> BindAnswer:
        """Show name and password. The connection is clean afterwards only if they are right.

        Raises
        ------
        DirectoryDownError, DirectorySettingsError
            The server cannot say.
        """
        self.is_clean = False
        connection = self._connection
        # As bytes: from text ldap3 would make a password that may be empty (RFC 4013).
        connection.user, connection.password = name, password.encode()
        connection.authentication = ldap3.SIMPLE
        controls = [(_PASSWORD_POLICY, False, None)]
        try:
            result = self._call("bind", connection.bind, read_server_info=False, controls=controls)[
                1
            ]
        finally:
            connection.user = connection.password = None
        code = int(result["result"])
        message = str(result.get("message") or "")
        if code in _AWAY:
            raise DirectoryDownError(f"{self.server} cannot judge passwords now: {_said(result)}")
        if code in _NEEDS_TLS:
            raise DirectorySettingsError(
                f"{self.server} takes no password over this connection ({_said(result)});"
                f" tls is {self._settings.tls}"
            )
        control = (result.get("controls") or {}).get(_PASSWORD_POLICY) or {}
        raw = control.get("value")
        policy = to_password_policy_error(raw) if isinstance(raw, bytes) else None
        self.is_clean = code == _SUCCESS and policy is None
        return BindAnswer(self.is_clean, message, policy)

    def search(
        self, base: str, filter: str, attributes: Sequence[str], *, limit: int = 0
    ) -> list[Entry]:
        """All entries below a base; with a limit, at most so many.

        Raises
        ------
        DirectoryDownError, DirectorySettingsError
            Not all were to be had, or the base is not there.
        """
        found = self._search(base, filter, attributes, below=True, limit=limit)
        if found is None:
            raise DirectorySettingsError(
                f"{self.server} has no {base!r}, or our account may not see it"
            )
        return found

    def read(
        self, dn: str, attributes: Sequence[str], filter: str = "(objectClass=*)"
    ) -> Entry | None:
        """One entry by its name; None when there is none that fits."""
        found = self._search(dn, filter, attributes, below=False, limit=0)
        return found[0] if found else None

    def describe_tls(self) -> str:
        """How this connection is protected, in words."""
        if isinstance(self._wire, ssl.SSLSocket):
            return f"{self._wire.version()}, certificate verified"
        return "NO TLS"

    def close(self) -> None:
        """Unbind and close; never fails."""
        self.is_clean = False
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with contextlib.suppress(Exception):
            connection.socket.settimeout(1.0)  # an unbind waits for no answer, only to be sent
            connection.unbind()
        with contextlib.suppress(Exception):
            connection.strategy.close()
        wire, self._wire = self._wire, None
        with contextlib.suppress(Exception):
            (wire or connection.socket).close()

    def _search(
        self, base: str, filter: str, attributes: Sequence[str], *, below: bool, limit: int
    ) -> list[Entry] | None:
        found: list[Entry] = []
        cookie: bytes | None = None
        while True:
            _, result, response, _ = self._call(
                "search",
                self._connection.search,
                base,
                filter,
                search_scope=_SCOPES[below],
                dereference_aliases=ldap3.DEREF_NEVER,
                attributes=list(attributes) or [ldap3.NO_ATTRIBUTES],
                size_limit=limit,
                paged_size=_PAGE_SIZE if below and not limit else None,
                paged_cookie=cookie,
            )
            code = int(result["result"])
            if code == _NO_SUCH_OBJECT:
                return None
            found += [_to_entry(item) for item in response if item["type"] == "searchResEntry"]
            if code != _SUCCESS and not (code == _SIZE_LIMIT and limit and len(found) >= limit):
                self._refuse(base, result)
            control = (result.get("controls") or {}).get(_PAGED) or {}
            cookie = (control.get("value") or {}).get("cookie")
            if not cookie:
                return [self._complete(entry) for entry in found]

    def _refuse(self, base: str, result: Any) -> None:
        self.is_clean = False
        what = f"{self.server} did not search {base!r} to the end: {_said(result)}"
        if int(result["result"]) in _AWAY:
            raise DirectoryDownError(what)
        raise DirectorySettingsError(f"{what}. Check the account's rights, limits and the bases")

    def _complete(self, entry: Entry) -> Entry:
        """Entry with the values that a server sends in parts."""
        whole = merge_range(entry)
        for attribute, following in find_ranges(entry):
            for _ in range(_MAX_RANGES):
                _, result, response, _ = self._call(
                    "read on",
                    self._connection.search,
                    entry.dn,
                    "(objectClass=*)",
                    search_scope=ldap3.BASE,
                    attributes=[f"{attribute};range={following}-*"],
                )
                parts = [_to_entry(item) for item in response if item["type"] == "searchResEntry"]
                if int(result["result"]) != _SUCCESS or not parts:
                    self._refuse(entry.dn, result)
                whole = merge_range(whole, parts[0])
                more = [n for name, n in find_ranges(parts[0]) if name == attribute]
                if not more:
                    break
                if more[0] <= following:
                    self._refuse(entry.dn, result)
                following = more[0]
            else:
                raise DirectorySettingsError(f"{entry.dn!r} has too many values of {attribute}")
        return whole

    def _left_s(self) -> float:
        assert self._deadline is not None, "use() comes first"
        return self._deadline.remaining_s()

    def _call(self, what: str, method: Callable[..., Any], *args: Any, **more: Any) -> Any:
        """One request, within the time that is left."""
        left = self._left_s()
        wire = self._wire
        if wire is None or self._deadline is None:
            raise DirectoryDownError(f"the connection to {self.server} is closed")
        with self._deadline.watching(wire):
            try:
                wire.settimeout(min(self._settings.receive_timeout_s, left))
            except OSError as e:
                self.is_clean = False
                raise DirectoryDownError(f"the connection to {self.server} is closed") from e
            return self._translated(what, method, *args, **more)

    def _translated(self, what: str, method: Callable[..., Any], *args: Any, **more: Any) -> Any:
        """Whatever a server makes ldap3 raise, as an error of ours."""
        try:
            return method(*args, **more)
        except Exception as e:  # of garbage ldap3 raises KeyError, IndexError, TypeError and more
            self.is_clean = False
            failure = self._tls.failure if self._tls else None
            if isinstance(failure, ssl.SSLCertVerificationError):
                raise DirectoryCertificateError(
                    f"{self.server} did not prove who it is: {failure.verify_message}. Check the"
                    " server's certificate and ca_file"
                ) from e
            raise DirectoryDownError(
                f"{self.server} failed at: {what} ({type(e).__name__}: {_short(e)})"
            ) from e


def _to_entry(item: Any) -> Entry:
    raw = item["raw_attributes"]
    return Entry(str(item["dn"]), {str(k).lower(): tuple(v) for k, v in raw.items()})


def _said(result: Any) -> str:
    return f"{result.get('description')}: {_short(result.get('message') or 'no reason given')}"


def _short(what: object) -> str:
    return " ".join(str(what).split())[:200]
