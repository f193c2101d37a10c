"""Ends what a hub user still holds of teams that they are no longer in.

The hub's groups say who is in which team; this brings the rest after them: servers (and with them
their server credentials and tokens), shares of those servers and tokens for teammates' servers.
It looks at what is there and not at what was just taken away, so it can be called at any time, as
often as one likes, and finishes what a hub that was killed left half done.

`log_out` ends all sessions of a user, browsers' too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any, Final

from jupyterhub import orm

from ..audit.origin import caused
from ..teams import teams_of

_CORNER: Final = "collab"  # of a server's state (`TeamSpawner.get_state`)
_TEAM: Final = "team"  # there, and in a server's options
log = logging.getLogger(__name__)


class AccessEnder:
    """Ends access. One for a hub.

    Parameters
    ----------
    app
        JupyterHub's application.
    may_use
        Whether a user may have a server of this team at this moment, besides being in it.
    """

    def __init__(self, app: Any, *, may_use: Callable[[Any, str], bool] = lambda *_: True) -> None:
        self._app = app
        self._may_use = may_use
        self._stopping: dict[tuple[str, str], asyncio.Task[None]] = {}

    def end_lost(self, user: Any) -> tuple[str, ...]:
        """End what a user (JupyterHub's wrapper) has of teams that are not theirs. Returns those.

        Shares and tokens are gone when this returns; servers are stopped in the background.
        """
        with caused("access-lost"):
            return self._end_lost(user)

    def _end_lost(self, user: Any) -> tuple[str, ...]:
        mine = frozenset(teams_of(user))
        lost: set[str] = set()
        for name, spawner in _spawners_of(user):
            team = _team_of(spawner)
            if team and not self._is_right(user, team, mine):
                lost.add(team)
                self._stop(user, name, spawner)
        self._drop_shares(user, mine)
        self._drop_tokens(user, mine)
        return tuple(sorted(lost))

    def log_out(self, user: Any, *, servers_too: bool = False, because: str = "") -> None:
        """End all of a user's sessions, in every browser, and revoke all tokens.

        Tokens of servers that run stay with them unless ``servers_too``, which stops those.

        Parameters
        ----------
        because
            Why, where nobody asked for it.
        """
        with caused("sessions-ended", note=because) if because else nullcontext():
            self._log_out(user, servers_too=servers_too)

    def _log_out(self, user: Any, *, servers_too: bool) -> None:
        running = _spawners_of(user)
        kept = set()
        for name, spawner in running:
            if servers_too:
                self._stop(user, name, spawner)
            token = (
                orm.APIToken.find(self._app.db, spawner.api_token) if spawner.api_token else None
            )
            if token is not None:
                kept.add(token.id)
        self._delete(token for token in list(user.api_tokens) if token.id not in kept)
        user.orm_user.cookie_id = orm.new_token()
        self._app.db.commit()
        log.info("All sessions of %s were ended", user.name)

    async def wait(self) -> None:
        """Wait for all servers that are being stopped."""
        while self._stopping:
            await asyncio.wait(list(self._stopping.values()))

    def _is_right(self, user: Any, team: str, mine: frozenset[str]) -> bool:
        return team in mine and self._may_use(user, team)

    def _stop(self, user: Any, name: str, spawner: Any) -> None:
        key = (user.name, name)
        if key in self._stopping:
            return
        task = asyncio.ensure_future(self._stop_now(user, name, spawner))
        self._stopping[key] = task
        task.add_done_callback(lambda _: self._stopping.pop(key, None))

    async def _stop_now(self, user: Any, name: str, spawner: Any) -> None:
        """As JupyterHub's own handlers stop a server, without a request. Never raises."""
        log.warning(
            "Stopping server %r of %s: no longer in team %s", name, user.name, _team_of(spawner)
        )
        with caused("access-lost", note=f"no longer in team {_team_of(spawner)}"):
            await self._stop_quietly(user, name, spawner)

    async def _stop_quietly(self, user: Any, name: str, spawner: Any) -> None:
        try:
            starting = spawner._spawn_future
            if starting is not None and not starting.done():
                await asyncio.wait([starting])  # it cannot be stopped on the way
            if not spawner.ready:
                return
            spawner._stop_pending = True
            try:
                await self._app.proxy.delete_user(user, name)
                await user.stop(name)
            finally:
                spawner._stop_pending = False
        except Exception:  # a server that could not be stopped is found again by the next look
            log.exception("Server %r of %s could not be stopped yet", name, user.name)

    def _drop_shares(self, user: Any, mine: frozenset[str]) -> None:
        """Shares of this user's servers in lost teams, and of such servers with this user."""
        own = [
            share
            for server in user.orm_user.orm_spawners.values()
            if _is_lost(server, mine)
            for share in (*server.shares, *server.share_codes)
        ]
        theirs = [s for s in user.orm_user.shared_with_me if _is_lost(s.spawner, mine)]
        self._delete((*own, *theirs))

    def _drop_tokens(self, user: Any, mine: frozenset[str]) -> None:
        """Tokens with which this user's browsers reach teammates' servers."""
        tokens = []
        for token in list(user.api_tokens):
            server = token.oauth_client.spawner if token.oauth_client is not None else None
            if server is not None and _is_lost(server, mine):
                tokens.append(token)
        self._delete(tokens)

    def _delete(self, rows: Iterable[Any]) -> None:
        found = list(rows)
        for row in found:
            self._app.db.delete(row)
        if found:
            self._app.db.commit()


def _team_of(spawner: Any) -> str:
    """Team of a server that runs; empty where it is no TeamSpawner's."""
    return getattr(spawner, "team", "")  # the class itself takes a second to import


def _spawners_of(user: Any) -> list[tuple[str, Any]]:
    """Servers that run, start or stop."""
    found = []
    for name, server in list(user.orm_user.orm_spawners.items()):
        if server.server is None and name not in user.spawners:
            continue
        spawner = user.spawners[name]
        if spawner.active or spawner.pending:
            found.append((name, spawner))
    return found


def _is_lost(server: Any, mine: frozenset[str]) -> bool:
    """Whether a server (the database's row) is one of a team that is not among these."""
    state = server.state if isinstance(server.state, dict) else {}
    for said in (state.get(_CORNER), server.user_options):
        team = said.get(_TEAM) if isinstance(said, dict) else None
        if isinstance(team, str) and team:
            return team not in mine
    return False
