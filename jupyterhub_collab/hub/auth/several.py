"""Several sources at one hub: directories, identity providers, portals, side by side.

Each source is an authenticator of ours that knows only its own people, settings and handlers. What
they share is the hub's: one decider, one throttle, one table of who is who. Nobody becomes somebody
else by having the same name at another source: identities are (source, key), names carry the
source's prefix, and two accounts are one person only where an admin links them (`identities`).

Settings of this class count for the whole hub: `c.SeveralAuthenticators.admin_users` are hub users.
Settings in an entry of `authenticators` count for that source alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Final

from jupyterhub.auth import Authenticator
from jupyterhub.utils import maybe_future
from tornado import web
from traitlets import Dict, List, TraitError, default, import_item

from ...errors import RetryableError
from .several_handlers import SeveralLoginHandler, bind
from .source import Finding, Findings
from .team_authenticator import TeamAuthenticator

_GROUP: Final = "jupyterhub.authenticators"
_OF_THE_HUB: Final = frozenset(
    {
        "rules_file", "database_url", "watch_interval", "close_when_stale", "tries_per_account",
        "tries_per_address", "retry_after", "trust_x_real_ip", "manage_groups",
    }
)  # fmt: skip
CHOOSE: Final = "Choose your institution, then try again."
log = logging.getLogger(__name__)


class SeveralAuthenticators(TeamAuthenticator):
    """``c.JupyterHub.authenticator_class = "collab-several"``."""

    authenticators = List(
        Dict(),
        config=True,
        help="""
        The sources, in the order of the login page: `{"class": "collab-ldap", "config": {...}}`
        each. The class is one of ours, by its short name, its import path or itself; the config has
        its settings by name.
        """,
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not self.authenticators:
            raise TraitError("SeveralAuthenticators.authenticators must name at least one source")
        numbered = enumerate(self.authenticators, start=1)
        self._sources = tuple(self._make(number, entry) for number, entry in numbered)
        _refuse_alike(self._sources)

    @default("enable_auth_state")
    def _enable_auth_state_default(self) -> bool:
        return any(source.enable_auth_state for source in getattr(self, "_sources", ()))

    @property
    def issuer(self) -> str:
        """None of its own: events of a log-in that found no source."""
        return "several"

    @property
    def sources(self) -> tuple[TeamAuthenticator, ...]:
        """All of them, in the order of the login page."""
        return self._sources

    @property
    def form_sources(self) -> tuple[TeamAuthenticator, ...]:
        """Those that take a name and a password on the login page."""
        return tuple(
            s for s in self._sources if s.login_url("/") == Authenticator.login_url(s, "/")
        )

    def may_name(self, source: TeamAuthenticator, name: str) -> bool:
        """Not a name under another source's prefix: it would take it from somebody there."""
        others = (other.name_prefix for other in self._sources if other is not source)
        mine = source.name_prefix.lower()
        return not any(
            prefix and name.startswith(prefix.lower()) and not mine.startswith(prefix.lower())
            for prefix in others
        )

    def get_handlers(self, app: Any) -> list[tuple[str, type]]:
        """The whole hub's, and each source's own."""
        of_the_hub = super().get_handlers(app)
        found: list[Any] = []
        owners: dict[str, TeamAuthenticator] = {}
        for source in self._sources:
            for item in source.get_handlers(app):
                path, handler = item[:2]
                if path.lstrip("/") in ("login", "logout"):
                    continue  # of the whole hub: below
                if path in owners:
                    raise TraitError(
                        f"The sources {owners[path].issuer!r} and {source.issuer!r} both want the"
                        f" address {path}. Give one of them another slug"
                    )
                owners[path] = source
                found.append((path, bind(handler, source), *item[2:]))
        return [("/login", SeveralLoginHandler), *found, *of_the_hub]

    async def get_authenticated_user(self, handler: Any, data: Any) -> Any:
        """Whom the source lets in that somebody chose in the form.

        All of JupyterHub's steps are that source's own; here none is done twice. Sources with a
        page of their own never come this way.
        """
        if not isinstance(data, Mapping):
            return None
        source = self._chosen(data.get("source"))
        fields = {key: value for key, value in data.items() if key != "source"}
        return await source.get_authenticated_user(handler, fields)

    async def check(self, username: str | None = None) -> Findings:
        """Try out all sources."""
        found: list[Finding] = []
        facts = None
        for source in self._sources:
            seen = await source.check(username)
            facts = facts or seen.facts
            for one in seen.found:
                found.append(Finding(f"{source.issuer}: {one.step}", one.is_fine, one.text))
        return Findings(tuple(found), facts)

    async def pre_spawn_start(self, user: Any, spawner: Any) -> None:
        """That of the source that let them in."""
        source = await self._source_of_user(user)
        if source is not None:
            await maybe_future(source.pre_spawn_start(user, spawner))

    async def post_spawn_stop(self, user: Any, spawner: Any) -> None:
        """That of the source that let them in."""
        source = await self._source_of_user(user)
        if source is not None:
            await maybe_future(source.post_spawn_stop(user, spawner))

    async def _source_of_user(self, user: Any) -> TeamAuthenticator | None:
        try:
            membership = await self.admission.memberships.read(user.name)
        except RetryableError as e:
            log.error("Nobody can say which source let %s in: %s", user.name, e)
            return None
        return None if membership is None else self.source_of(membership)

    def _chosen(self, issuer: object) -> TeamAuthenticator:
        forms = self.form_sources
        if not issuer and len(forms) == 1:
            return forms[0]
        found = next((source for source in forms if source.issuer == issuer), None)
        if found is None:
            raise web.HTTPError(400, CHOOSE)
        return found

    def _make(self, number: int, entry: Mapping[str, Any]) -> TeamAuthenticator:
        where = f"SeveralAuthenticators.authenticators, entry {number}"
        unknown = sorted(map(str, set(entry) - {"class", "config"}))
        if unknown or "class" not in entry:
            raise TraitError(f"{where}: needs class and may have config, and has no {unknown}")
        kind = _to_class(entry["class"], where)
        settings = entry.get("config", {})
        if not isinstance(settings, Mapping):
            raise TraitError(f"{where}: config is no dictionary")
        known = kind.class_trait_names(config=True)
        for name in settings:
            if name not in known:
                raise TraitError(f"{where}: {kind.__name__} has no setting {name!r}")
            if name in _OF_THE_HUB:
                raise TraitError(
                    f"{where}: {name} is one for the whole hub: set c.TeamAuthenticator.{name}"
                )
        return kind(parent=self, **settings)


def _to_class(found: Any, where: str) -> type[TeamAuthenticator]:
    if isinstance(found, str):
        named = list(entry_points(group=_GROUP, name=found))
        try:
            found = named[0].load() if named else import_item(found)
        except (ImportError, AttributeError) as e:
            raise TraitError(f"{where}: there is no authenticator {found!r}: {e}") from e
    is_ours = isinstance(found, type) and issubclass(found, TeamAuthenticator)
    if not is_ours or issubclass(found, SeveralAuthenticators):
        raise TraitError(f"{where}: {found!r} is no source of this project's")
    kind: type[TeamAuthenticator] = found
    return kind


def _refuse_alike(sources: tuple[TeamAuthenticator, ...]) -> None:
    """Raises TraitError where two sources could give one name, or one identity, to two people."""
    for number, source in enumerate(sources):
        for other in sources[:number]:
            if source.issuer == other.issuer:
                raise TraitError(
                    f"Two sources are called {source.issuer!r}. Their people could not be told"
                    " apart: give each a name of its own"
                )
            one, two = source.name_prefix.lower(), other.name_prefix.lower()
            if one == two:
                raise TraitError(
                    f"The sources {other.issuer!r} and {source.issuer!r} both have the name_prefix"
                    f" {one!r}, so both could give one user name to two people. Set another"
                    " name_prefix for one of them"
                )
            if one and two and (one.startswith(two) or two.startswith(one)):
                raise TraitError(
                    f"The name_prefix {one!r} of {source.issuer!r} and {two!r} of {other.issuer!r}"
                    " begin alike, so a name could belong to both. Set others"
                )
