"""Which servers run for a team or a contest, told to what ends contests.

``GET /hub/api/collab/servers?team=T`` (or ``contest=C``, or neither: all) takes a token with
`SERVERS_SCOPE` and answers in pages. It costs what runs, not what there are users: every spawner
that begins to start, or is found running when the hub starts, is noted here, and dropped once it is
neither. Whoever wants one stopped uses JupyterHub's own ``DELETE users/U/servers/S``.

A start that has not yet come to us is not in the answer: it looks at the team's gate first, and a
closed one ends it there. So "none" counts only where the gate was closed before.
"""

from __future__ import annotations

import json
import weakref
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from jupyterhub.apihandlers.base import APIHandler
from tornado import web

from .. import names
from . import SERVERS_SCOPE

if TYPE_CHECKING:
    from .spawner import TeamSpawner

PAGE_SIZE: Final = 200
_noted: weakref.WeakSet[TeamSpawner] = weakref.WeakSet()


def note(spawner: TeamSpawner) -> None:
    """This one starts, or was found running."""
    _noted.add(spawner)


def active_spawners() -> list[TeamSpawner]:
    """All that start, run or stop at this moment, by user and server name."""
    for spawner in [s for s in _noted if not s.active]:
        _noted.discard(spawner)
    return sorted(_noted, key=_place)


def _place(spawner: TeamSpawner) -> tuple[str, str]:
    return spawner.user.name, spawner.name


def to_wire(spawner: TeamSpawner) -> dict[str, Any]:
    """As the API gives it. `gate` is the team's when the pod was made; empty before that."""
    started = spawner.orm_spawner.started
    return {
        "user": spawner.user.name,
        "server": spawner.name,
        "team": spawner.asked_team(),
        "contest": spawner.contest,
        "started": None if started is None else _to_time(started),
        "ready": bool(spawner.ready),
        "pending": spawner.pending or "",
        "gate": spawner.gate,
    }


def _to_time(moment: datetime) -> str:
    """The database keeps UTC without saying so."""
    return moment.replace(tzinfo=timezone.utc).isoformat().replace("+00:00", "Z")


class TeamServersHandler(APIHandler):  # type: ignore[misc]
    """Servers that start, run or stop now."""

    async def get(self) -> None:
        """``{"servers": [...], "next": {"afterUser", "afterServer"} or null}``.

        Pages follow names, so what starts and stops meanwhile moves nothing out of them.
        """
        if SERVERS_SCOPE not in self.expanded_scopes or self.get_token() is None:
            raise web.HTTPError(403, f"This needs a token with the scope {SERVERS_SCOPE}.")
        team, contest = self._id_of("team"), self._id_of("contest")
        user = self.get_query_argument("afterUser", None)
        after = None if user is None else (user, self.get_query_argument("afterServer", ""))
        found = [
            spawner
            for spawner in active_spawners()
            if (not team or spawner.asked_team() == team)
            and (not contest or spawner.contest == contest)
            and (after is None or _place(spawner) > after)
        ]
        page = found[:PAGE_SIZE]
        following = None
        if len(found) > len(page):
            following = {"afterUser": page[-1].user.name, "afterServer": page[-1].name}
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps({"servers": [to_wire(s) for s in page], "next": following}))

    def _id_of(self, what: str) -> str:
        """An id to look for; empty: none was given. Raises HTTPError."""
        given: str = self.get_query_argument(what, "")
        # A misspelt one would be answered with "none", and none is what destroying waits for.
        if (given or what in self.request.query_arguments) and not names.is_team_id(given):
            raise web.HTTPError(400, f"{given[:60]!r} is no {what}: {names.TEAM_ID_RULE}.")
        return given


HANDLERS: list[tuple[str, type[APIHandler]]] = [
    (r"/api/collab/servers", TeamServersHandler),
]
