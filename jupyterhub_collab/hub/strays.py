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
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from .. import names
from .cluster import ClusterLink, leavings_in
from .database import roll_back
from .reflector import PodView

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 300.0
ASK_AGAIN_S: Final = 10.0  # after the database did not answer


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
    """Have somebody take up what an earlier process was still to delete, and look for strays.

    Asking twice is asking once. Nothing is read here: polls ask too, and JupyterHub takes a server
    for dead whose poll raises.

    Parameters
    ----------
    db
        The hub's database session.
    """
    if link.is_swept:
        return
    link.is_swept = True
    link.keep(watch_strays(link, db, prefix=prefix), name="watch strays")


async def watch_strays(
    link: ClusterLink,
    db: Any,
    *,
    prefix: str,
    every_s: float = LOOK_EVERY_S,
    again_s: float = ASK_AGAIN_S,
) -> None:
    """Take up what is to be deleted, then log the strays, each once, until cancelled.

    Parameters
    ----------
    again_s
        Seconds until a database that could not be read is asked again.
    """
    states = await _read(db, again_s=again_s)
    for state in states:
        for leaving in leavings_in(state):
            link.see_off(leaving)
    told: set[str] = set()
    await link.pods.synced.wait()
    while True:
        states = await _read(db, again_s=again_s)  # anew: servers have started meanwhile
        for stray in find_strays(link.pods, states, prefix=prefix):
            if stray.uid not in told:
                told.add(stray.uid)
                log.warning("%s", to_sentence(stray))
        await asyncio.sleep(every_s)


async def _read(db: Any, *, again_s: float) -> list[dict[str, Any]]:
    """As `read_states`, however often the database has to be asked."""
    while True:
        try:
            return read_states(db)
        except (SQLAlchemyError, ValueError):
            log.exception("The hub's database cannot be read; it is asked again")
            roll_back(db)
        await asyncio.sleep(again_s)


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
