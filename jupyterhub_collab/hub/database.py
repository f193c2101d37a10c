"""When the hub's own database does not answer: nobody is worse off for it, and it is asked again.

The session is JupyterHub's, one for the whole process. Until it is rolled back after an error it
refuses everything, so whoever meets the error has to. Nothing is written here.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError
from tornado import web

if TYPE_CHECKING:
    from .spawner import TeamSpawner

log = logging.getLogger(__name__)
Poll = Callable[["TeamSpawner"], Awaitable["int | None"]]


def roll_back(db: Any) -> None:
    """Make a session usable again after an error, if anything can."""
    with contextlib.suppress(SQLAlchemyError):  # the connection is gone: the next use opens another
        db.rollback()


@contextlib.contextmanager
def refused_without_database(db: Any) -> Iterator[None]:
    """Have a request that needs the database refused in words (503) while it does not answer.

    JupyterHub answers 500 and says nothing. What cannot be parsed in it is no answer either.
    """
    try:
        yield
    except (SQLAlchemyError, json.JSONDecodeError) as e:
        log.exception("A request could not be answered without the hub's database")
        roll_back(db)
        raise web.HTTPError(
            503,
            f"The hub's database does not answer as it should ({type(e).__name__}); the hub's log"
            " says more. No server was ended. Try again in a minute.",
        ) from e


def unknown_without_database(poll: Poll) -> Poll:
    """Have a poll say that nobody knows, instead of raising, while the database does not answer.

    JupyterHub takes a server whose poll raises for dead when it starts, and ends it.
    """

    @functools.wraps(poll)
    async def guarded(spawner: TeamSpawner) -> int | None:
        db = spawner.user.db  # not from the database itself
        try:
            return await poll(spawner)
        except SQLAlchemyError:
            spawner.log.exception("The hub's database does not say whether a server is over")
            roll_back(db)
            return None

    return guarded
