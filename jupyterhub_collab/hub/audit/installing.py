"""Sets the hub's audit up: opens the recorder before the hub's first change, listens, tells which
configuration is in force, and closes it all at the end.

JupyterHub has no hooks for its own start and end, so three methods of its application are wrapped.
`configure` calls `install` while the hub reads its configuration, which is before all of them. A
program that only reads the configuration (``jupyterhub token``, ``upgrade-db``) is no hub: nothing
is opened, for the spool is the running hub's.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import jupyterhub
from jupyterhub.app import JupyterHub
from sqlalchemy import make_url

from ... import __version__
from ...errors import PermanentError
from ...models.audit import Verb
from ..settings import settings_of
from .grants import wrap_properties
from .recorder import RECORDER, settings_from
from .requests import with_finish, wrap_handlers
from .rows import RowListener
from .telling import Happening, tell

_WRAPPED: Final = "_collab_wrapped"
log = logging.getLogger(__name__)


def install() -> None:
    """Have this process's hub tell what happens in it. Doing it twice is doing it once."""
    if getattr(JupyterHub, _WRAPPED, False):
        return
    JupyterHub.init_role_creation = _opening(JupyterHub.init_role_creation)
    JupyterHub.start = _starting(JupyterHub.start)
    JupyterHub.cleanup = _ending(JupyterHub.cleanup)
    setattr(JupyterHub, _WRAPPED, True)


def _opening(init_role_creation: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(init_role_creation)
    async def opened(app: Any) -> None:
        if is_the_hub(app):
            await _open(app)
        elif settings_from(app.config).url:
            log.warning("What this command changes is not recorded: the spool is the hub's")
        await init_role_creation(app)

    return opened


async def _open(app: Any) -> None:
    """The first that is changed comes right after this."""
    try:
        await RECORDER.open(settings_from(app.config))
    except PermanentError as e:
        app.log.critical("The hub does not start unrecorded: %s", e)
        app.exit(1)
    if RECORDER.is_on:
        RowListener(app.session_factory)
        wrap_handlers()
        wrap_properties()


def _starting(start: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(start)
    async def started(app: Any) -> None:
        if RECORDER.is_on and is_the_hub(app):
            settings = app.tornado_application.settings
            settings["log_function"] = with_finish(settings.get("log_function"))
            tell(to_configuration(app))
        await start(app)

    return started


def _ending(cleanup: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(cleanup)
    async def ended(app: Any) -> None:
        try:
            await cleanup(app)
        finally:
            if is_the_hub(app):
                tell(Happening(Verb.HUB_STOP, reason="stopped"), origin=None)
                await RECORDER.close()

    return ended


def is_the_hub(app: Any) -> bool:
    """Whether an application is this process's hub, and no command that reads its settings."""
    return bool(JupyterHub.initialized()) and JupyterHub.instance() is app and app.subapp is None


def to_configuration(app: Any) -> Happening:
    """What is in force: versions, classes, settings that decide who gets in. No secret, no path."""
    authenticator = app.authenticator
    team = settings_of(app.config)
    details: dict[str, Any] = {
        "hub_version": jupyterhub.__version__,
        "collab_version": __version__,
        "python_version": platform.python_version(),
        "authenticator": _name_of(type(authenticator)),
        "spawner": _name_of(app.spawner_class),
        "sources": tuple(s.issuer for s in getattr(authenticator, "sources", ())) or None,
        "platform_sha256": _hash_of(team.platform_file),
        "rules_sha256": _hash_of(getattr(authenticator, "rules_file", "")),
        "configuration_sha256": _hash_of(app.config_file),
        "database": make_url(app.db_url).get_backend_name(),
        "allow_all": bool(authenticator.allow_all),
        "auth_refresh_age_s": int(authenticator.auth_refresh_age),
        "browser_session_s": int(app.cookie_max_age_days * 86400),
        "token_life_max_s": int(app.token_expires_in_max_seconds),
        "close_when_stale": getattr(authenticator, "close_when_stale", None),
        "max_staleness_s": int(getattr(authenticator, "max_staleness", 0)) or None,
        "services": tuple(sorted(app._service_map)),
        "subdomains": bool(app.subdomain_host),
    }
    return Happening(Verb.CONFIGURATION_LOAD, thing="hub", details=details)


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _hash_of(path: str) -> str | None:
    """SHA-256 of a file; None: there is none that can be read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else None
    except OSError:
        return None
