"""What is told of requests to the hub: who asks, log-ins, log-outs, refused visits.

JupyterHub has no hook before its handlers, so two methods of its base handler are wrapped, once
(`wrap_handlers`); what happens after an answer hangs on tornado's log function.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, Final

from jupyterhub import orm
from jupyterhub.apihandlers.auth import OAuthAuthorizeHandler
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.handlers.login import LogoutHandler

from ...models.audit import Outcome, Verb
from ..addresses import address_of
from .logins import tell_failure, tell_login
from .origin import LOGIN, Origin, Who, begin, sent_correlation
from .row_events import place_of
from .telling import Happening, tell, to_plain

_ORIGIN: Final = "_collab_origin"
_ASKED_BY: Final = "_collab_asked_by"
_WRAPPED: Final = "_collab_wrapped"
log = logging.getLogger(__name__)


def wrap_handlers() -> None:
    """Have all handlers of the hub say who asks. Doing it twice is doing it once."""
    if getattr(BaseHandler, _WRAPPED, False):
        return
    BaseHandler.prepare = _with_origin(BaseHandler.prepare)
    BaseHandler.login_user = _with_login(BaseHandler.login_user)
    setattr(BaseHandler, _WRAPPED, True)


def _with_origin(prepare: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(prepare)
    async def prepared(handler: Any) -> None:
        origin = Origin(
            address=to_plain(address_of(handler)),
            agent=to_plain(handler.request.headers.get("User-Agent", "")),
            handler=handler,
        )
        setattr(handler, _ORIGIN, origin)
        begin(origin)
        await prepare(handler)
        asker = origin.asker()
        setattr(handler, _ASKED_BY, asker)
        if asker is not None and asker.kind == "service":
            origin.correlation = sent_correlation(handler.request.headers) or origin.correlation

    return prepared


def _with_login(login_user: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(login_user)
    async def logged_in(handler: Any, data: Any = None) -> Any:
        origin: Origin = getattr(handler, _ORIGIN, None) or Origin()
        before, origin.cause = origin.cause, LOGIN
        user, fault = None, None
        try:
            user = await login_user(handler, data)
        except Exception as error:
            fault = error
            raise
        finally:
            origin.cause = before
            if user is None and (not origin.has_told_login or _is_ours(fault)):
                tell_failure(handler, data, fault, origin)
        if user is not None and not origin.has_told_login:
            tell_login(Outcome.SUCCEEDED, username=user.name, origin=origin)
        return user

    return logged_in


def _is_ours(fault: Exception | None) -> bool:
    """Whether a log-in that was let in broke after that, in the hub itself."""
    from tornado.web import Finish, HTTPError

    return fault is not None and not isinstance(fault, HTTPError | Finish)


def with_finish(log_function: Callable[[Any], None] | None) -> Callable[[Any], None]:
    """Tornado's log function, and what is told once a request is answered."""

    def finished(handler: Any) -> None:
        try:
            _finish(handler)
        except Exception:  # a fault of ours must cost nobody their request
            log.exception("What a request came to could not be told")
        if log_function is not None:
            log_function(handler)

    return finished


def _finish(handler: Any) -> None:
    origin: Origin | None = getattr(handler, _ORIGIN, None)
    if origin is None:
        return
    asked_by: Who | None = getattr(handler, _ASKED_BY, None)
    status = handler.get_status()
    if asked_by is not None and isinstance(handler, LogoutHandler) and status < 400:
        origin.who = asked_by  # the handler has forgotten them
        tell(Happening(Verb.LOGOUT, subject=asked_by.name), origin=origin)
    if isinstance(handler, OAuthAuthorizeHandler) and status == 403:
        _tell_refused_visit(handler, origin)
    origin.end()


def _tell_refused_visit(handler: Any, origin: Origin) -> None:
    client_id = handler.get_argument("client_id", "")
    client = handler.db.query(orm.OAuthClient).filter_by(identifier=client_id).first()
    server = None if client is None else client.spawner
    asker = origin.asker()
    if server is None or asker is None or server.user.name == asker.name:
        return
    team, contest, thing = place_of(server)
    happening = Happening(
        Verb.IMPERSONATE,
        Outcome.REFUSED,
        reason="no-access",
        team=team,
        contest=contest,
        thing=thing,
        subject=server.user.name,
    )
    tell(happening, origin=origin)
