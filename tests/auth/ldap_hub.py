"""A real hub that logs people in through a real slapd; a switch between the two."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.auth.conftest import PaperHub
from tests.identity import slapd as s
from tests.identity.conftest import started

RULES = f"""
apiVersion: jupyterhub-collab.org/v1alpha1
kind: Entitlements
rules:
  - issuer: ldap
    group: {{like: "cn=team-{{team}},{s.GROUPS}"}}
    gives: {{team: "{{team}}"}}
  - issuer: ldap
    group: "cn=ocean,{s.GROUPS}"
    gives: {{team: ocean}}
  - issuer: ldap
    group: "cn=divers,{s.GROUPS}"
    gives: {{team: river}}
"""
SCOPES = ("list:groups", "read:groups", "admin:groups", "groups", "admin:users", "admin:servers",
          "tokens", "shares", "read:users:groups", "read:metrics")  # fmt: skip
#: Nothing here waits long.
SHORT = {"connect_timeout_s": 1.0, "receive_timeout_s": 1.0, "timeout_s": 2.0, "break_s": 0.3}


def until(is_so: Callable[[], bool], *, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.05)


def settings_for(server: s.Slapd, **more: Any) -> dict[str, Any]:
    return {
        "servers": [f"127.0.0.1:{server.tls_port}"],
        "ca_file": str(server.ca_file),
        "bind_dn": f"cn=reader,ou=services,{s.SUFFIX}",
        "bind_password": "reader pw",
        "user_bases": [s.PEOPLE],
        "group_bases": [s.GROUPS],
        "active_filter": "(!(description=gone))",
        "tries_per_address": 1_000_000,
        "watch_interval": 1.0,
        "rules_file": "rules.yaml",
        **more,
    }


@dataclass(kw_only=True)
class LdapHub(PaperHub):
    """A hub with a directory.

    Attributes
    ----------
    ldap
        Traits of the authenticator.
    """

    ldap: dict[str, Any] = field(default_factory=dict)
    authenticator: str = "tests.auth.watched_ldap.WatchedLDAP"

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "rules.yaml").write_text(RULES)
        lines = [f"c.LDAPTeamAuthenticator.{key} = {value!r}" for key, value in self.ldap.items()]
        events = str(self.folder / "events.jsonl")
        self.more = f"""
import logging
c.JupyterHub.authenticator_class = {self.authenticator!r}
c.EventLogger.handlers = [logging.FileHandler({events!r}, delay=True)]
c.Authenticator.auth_refresh_age = 100000
c.Authenticator.allow_all = False
{chr(10).join(lines)}
{self.more}"""

    @property
    def events(self) -> list[dict[str, Any]]:
        path = self.folder / "events.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def logins(self) -> list[str]:
        return [e["outcome"] for e in self.events if "outcome" in e]

    def longest_stall_s(self) -> float:
        return float(self.api("GET", "test/heart").json()["longest_s"])

    def metric(self, line: str) -> float:
        """Value of a metric's line, such as ``collab_source_up{source="ldap"}``."""
        text = self.api("GET", "../metrics").text
        (found,) = [row for row in text.splitlines() if row.startswith(line + " ")]
        return float(found.rsplit(" ", 1)[1])

    def make_teams(self, *teams: str, **more: Any) -> None:
        for team in teams:
            self.make_team(team, **more)
        self.api("POST", "groups/contest.sea")
        contest = {"collab": {"schema": 1, "generation": 1, "title": "Sea"}}
        self.api("PUT", "groups/contest.sea/properties", json=contest)


@contextmanager
def ldap_hub(folder: Path, ldap: dict[str, Any], **more: Any) -> Iterator[LdapHub]:
    hub = LdapHub(folder=folder, scopes=SCOPES, ldap=ldap, **more)
    try:
        hub.start()
        hub.make_teams("ocean", "river")
        yield hub
    finally:
        hub.kill()


@contextmanager
def directory(folder: Path) -> Iterator[s.Slapd]:
    if s.SLAPD is None:
        pytest.skip("NOT PROVED: logging in through a directory (no slapd here)")
    server = started(folder)
    try:
        yield server
    finally:
        server.stop()


def add(server: s.Slapd, *entries: str) -> None:
    """People and groups (`tests.identity.slapd`), while it runs."""
    blocks = [block for entry in entries for block in entry.split("\n\n") if block.strip()]
    added = (block.split("\n", 1) for block in blocks)
    server.modify("\n".join(f"{dn}\nchangetype: add\n{rest}\n" for dn, rest in added))


def change(server: s.Slapd, dn: str, how: str, attribute: str, value: str) -> None:
    server.modify(f"dn: {dn}\nchangetype: modify\n{how}: {attribute}\n{attribute}: {value}\n")


class Switch:
    """Lies between hub and directory: passes on, or is a fault.

    Modes: ``pass``; ``dead`` hangs up; ``tarpit`` accepts and never answers; ``garbage`` answers
    with what is no LDAP.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.mode = "pass"
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = int(self._listener.getsockname()[1])
        self._wires: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def open(self) -> int:
        """Connections that are there now."""
        return len(self._wires)

    def set(self, mode: str) -> None:
        self.mode = mode
        self._cut()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._cut()
        self._thread.join()

    def _cut(self) -> None:
        with self._lock:
            for wire in self._wires:
                with contextlib.suppress(OSError):
                    wire.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                wire, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with self._lock:
                self._wires.add(wire)
            threading.Thread(target=self._serve, args=(wire,), daemon=True).start()

    def _serve(self, wire: socket.socket) -> None:
        try:
            with wire, contextlib.suppress(OSError):
                if self.mode == "tarpit":
                    while wire.recv(1 << 16):
                        pass
                elif self.mode == "garbage":
                    wire.recv(1 << 16)
                    wire.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                elif self.mode == "pass":
                    with socket.create_connection(("127.0.0.1", self._target)) as other:
                        _pump(wire, other)
        finally:
            with self._lock:
                self._wires.discard(wire)


def _pump(one: socket.socket, other: socket.socket) -> None:
    while True:
        for ready in select.select([one, other], [], [])[0]:
            data = ready.recv(1 << 16)
            if not data:
                return
            (other if ready is one else one).sendall(data)
