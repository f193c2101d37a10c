"""Listens to the hub's database sessions, so that no door is missed: REST, pages, authenticators,
configuration and hooks all write through them.

What a flush writes is taken down and told once it is committed; what is rolled back is told never.
A fault here is logged and costs nobody their request. Statements that go past the sessions' units
of work are not seen, but for deletions: JupyterHub deletes all shares of a server so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from jupyterhub import orm
from sqlalchemy import event, select

from .origin import Origin, current_origin
from .row_events import of_changed, of_deleted, of_new
from .telling import Happening, tell

_WAITING: Final = "collab_audit"
_WATCHED: Final = (
    orm.User,
    orm.Group,
    orm.Role,
    orm.Service,
    orm.APIToken,
    orm.Share,
    orm.ShareCode,
    orm.OAuthCode,
)
log = logging.getLogger(__name__)


class RowListener:
    """One for a session factory of the hub."""

    def __init__(self, session_factory: Any) -> None:
        for name, listener in (
            ("before_flush", self._before_flush),
            ("after_flush", self._after_flush),
            ("after_commit", self._after_commit),
            ("after_rollback", self._after_rollback),
            ("do_orm_execute", self._before_statement),
        ):
            event.listen(session_factory, name, listener)

    def _before_flush(self, session: Any, _context: Any, _instances: Any) -> None:
        # What goes is looked at while it is there.
        for row in session.deleted:
            self._take(session, row, of_deleted)

    def _after_flush(self, session: Any, context: Any) -> None:
        for row in session.new:
            self._take(session, row, of_new)
        gone = set(session.deleted)
        for row in session.dirty:
            if row not in gone:
                self._take(session, row, of_changed)
        for state, (is_deleted, is_listed) in list(context.states.items()):
            row = state.obj()
            # What a relationship has dropped is deleted on the way, without anybody saying so.
            if is_deleted and not is_listed and row is not None and row not in gone:
                self._take(session, row, of_deleted)

    def _before_statement(self, state: Any) -> None:
        if not state.is_delete or state.bind_mapper is None:
            return
        entity = state.bind_mapper.class_
        if entity not in _WATCHED:
            return
        try:
            found = select(entity)
            if state.statement.whereclause is not None:
                found = found.where(state.statement.whereclause)
            rows = state.session.scalars(found, state.parameters or {}).all()
        except Exception:  # as in _take
            log.exception("What a statement deletes could not be told")
            return
        for row in rows:
            self._take(state.session, row, of_deleted)

    def _take(
        self, session: Any, row: Any, describe: Callable[[Any, Any], list[Happening]]
    ) -> None:
        if not isinstance(row, _WATCHED):
            return
        try:
            with session.no_autoflush:
                happenings = describe(row, session)
        except Exception:  # a fault of ours must cost nobody their request
            log.exception("A change of a %s could not be told", type(row).__name__)
            return
        waiting: list[tuple[Happening, Origin | None]] = session.info.setdefault(_WAITING, [])
        origin = current_origin()
        for happening in happenings:
            # Both ends of a membership tell of it.
            if not any(known == happening and why is origin for known, why in waiting):
                waiting.append((happening, origin))

    def _after_commit(self, session: Any) -> None:
        for happening, origin in session.info.pop(_WAITING, ()):
            tell(happening, origin=origin)

    def _after_rollback(self, session: Any) -> None:
        session.info.pop(_WAITING, None)
