"""Strays: pods of this hub that no server in the hub's database belongs to.

They come with a database that was lost or put back to an earlier state, and with a cluster that
was. They run and count against their team's quota, and nobody is led to them. They are told of, to
the administrator; they are never deleted here, for a lost database must cost nobody their work.
`recovery` gives one back to its member; a member who starts that server anew has it replaced.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import sqlalchemy

from .. import names
from .cluster import ClusterLink, leavings_in
from .reflector import PodCache, PodView

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 300.0


@dataclass(frozen=True)
class Stray:
    """One of them. `server_name` is empty for a member's default server."""

    namespace: str
    pod: str
    uid: str
    username: str
    server_name: str
    server_id: str
    team: str

    def to_wire(self) -> dict[str, str]:
        """As the API gives it."""
        return asdict(self)


def find_strays(
    views: Iterable[PodView], states: Iterable[Mapping[str, Any]], *, prefix: str
) -> list[Stray]:
    """Pods that run or start and that none of the spawners' states knows.

    A state names its pod's server id before the pod is made, so no start is ever among them.
    """
    known: set[str] = set()
    for state in states:
        server = state.get("collab")
        if isinstance(server, Mapping):
            known.add(str(server.get("server_id") or ""))
        known |= {leaving.server_id for leaving in leavings_in(state)}
    found = []
    for view in views:
        team = names.team_of_namespace(view.namespace, prefix=prefix)
        is_over = view.is_terminating or view.is_dead
        if team is None or is_over or not view.server_id or view.server_id in known:
            continue
        found.append(
            Stray(
                view.namespace,
                view.name,
                view.uid,
                view.username,
                view.server_name,
                view.server_id,
                team,
            )
        )
    return sorted(found, key=lambda stray: (stray.team, stray.username, stray.server_name))


def read_states(db: Any) -> list[dict[str, Any]]:
    """States of all spawners in the hub's database that hold anything of ours."""
    query = sqlalchemy.text("SELECT state FROM spawners WHERE state LIKE '%collab%'")
    states = (json.loads(state) for (state,) in db.execute(query))
    return [state for state in states if isinstance(state, dict)]


def sweep(link: ClusterLink, db: Any, *, prefix: str) -> None:
    """Take up, once a process, what an earlier one was still to delete; begin to look for strays.

    Parameters
    ----------
    db
        The hub's database session.
    """
    if link.is_swept:
        return
    link.is_swept = True
    for state in read_states(db):
        for leaving in leavings_in(state):
            link.see_off(leaving)
    link.keep(watch_strays(link.pods, lambda: read_states(db), prefix=prefix))


async def watch_strays(
    pods: PodCache,
    read: Callable[[], list[dict[str, Any]]],
    *,
    prefix: str,
    every_s: float = LOOK_EVERY_S,
) -> None:
    """Log the strays, each once, until cancelled."""
    told: set[str] = set()
    await pods.synced.wait()
    while True:
        for stray in find_strays(pods, read(), prefix=prefix):
            if stray.uid not in told:
                told.add(stray.uid)
                log.warning("%s", to_sentence(stray))
        await asyncio.sleep(every_s)


def to_sentence(stray: Stray) -> str:
    """What an administrator reads."""
    server = f"server {stray.server_name!r}" if stray.server_name else "server"
    return (
        f"Pod {stray.pod} in namespace {stray.namespace} is a {server} of {stray.username!r} that"
        " this hub's database does not know: the database or the cluster was put back to an"
        " earlier state, or the database was lost. The pod is left alone; it counts against the"
        " team's quota and nobody is led to it. Give it back to its member with"
        " `jupyterhub-collab recover`, or delete it with kubectl: its volumes stay."
    )
