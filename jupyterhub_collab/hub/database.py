"""When the hub's own database does not answer: nobody is worse off for it, and it is asked again.

The session is JupyterHub's, one for the whole process. Until it is rolled back after an error it
refuses everything, so whoever meets the error has to. Nothing is written here.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

if TYPE_CHECKING:
    from .spawner import TeamSpawner

Poll = Callable[["TeamSpawner"], Awaitable["int | None"]]


def roll_back(db: Any) -> None:
    """Make a session usable again after an error, if anything can."""
    with contextlib.suppress(SQLAlchemyError):  # the connection is gone: the next use opens another
        db.rollback()


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
