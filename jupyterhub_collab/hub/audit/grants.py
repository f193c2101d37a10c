"""A grant of data sets is recorded before it is in force: it is what opens them.

Groups' properties say who may mount what, and they are written by one handler of JupyterHub. It is
wrapped: it waits for the audit service's word, outside of any transaction, and refuses with 503
where there is none. Where no audit service is configured, data that is not protected can be granted
all the same; protected data is refused by the platform.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from jupyterhub import orm
from jupyterhub.apihandlers.groups import GroupPropertiesAPIHandler
from jupyterhub.scopes import needs_scope
from jupyterhub.utils import maybe_future
from tornado import web

from ... import names
from ...errors import AuditUnavailableError
from ...models.audit import Outcome, Verb
from .recorder import RECORDER
from .row_events import grant_changes, to_grants
from .telling import Happening, record

_WRAPPED: Final = "_collab_grants_wrapped"
_RETRY_AFTER_S: Final = 30


def wrap_properties() -> None:
    """Have grants recorded before they are written. Doing it twice is doing it once."""
    if getattr(GroupPropertiesAPIHandler, _WRAPPED, False):
        return
    GroupPropertiesAPIHandler.put = _recorded(GroupPropertiesAPIHandler.put)
    setattr(GroupPropertiesAPIHandler, _WRAPPED, True)


def _recorded(put: Callable[..., Any]) -> Callable[..., Any]:
    @needs_scope("groups")  # type: ignore[untyped-decorator]
    async def allowed(handler: Any, group_name: str) -> None:
        """Asked only of whoever may write: others learn nothing, and nothing is recorded."""
        for happening in _grants(handler, group_name):
            await record(happening)

    @functools.wraps(put)
    async def recorded(handler: Any, group_name: str) -> None:
        if RECORDER.is_on:
            try:
                await allowed(handler, group_name)
            except AuditUnavailableError as e:
                refusal: Any = web.HTTPError(
                    503,
                    "This grants data sets, and that could not be recorded just now. Nothing was"
                    " changed. Try again in a few minutes.",
                )
                refusal.headers = {"Retry-After": str(int(e.retry_after_s or _RETRY_AFTER_S))}
                raise refusal from e
        await maybe_future(put(handler, group_name))

    return recorded


def _grants(handler: Any, group_name: str) -> list[Happening]:
    group = orm.Group.find(handler.db, group_name)
    after = handler.get_json_body()
    if group is None or not isinstance(after, Mapping):
        return []  # JupyterHub's own handler says so

    def read(contest: str) -> Mapping[str, Any]:
        found = orm.Group.find(handler.db, names.contest_group(contest))
        return {} if found is None else found.properties or {}

    changes = grant_changes(group.name, group.properties, after, read)
    return [
        replace(happening, outcome=Outcome.ALLOWED)
        for happening in to_grants(changes)
        if happening.verb is Verb.DATASET_GRANT
    ]
