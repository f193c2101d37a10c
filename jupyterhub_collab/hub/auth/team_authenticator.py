"""What the authenticators here share: a source says who somebody is, the decider says as what.

An authenticator of ours is a JupyterHub authenticator with one source behind it. It says how a
person is let in (`authenticate`) and what the source says of them later (`ask`); names, groups, the
admin flag and refreshing are the same for all and are here.

Refreshing never answers False for somebody who lost access: JupyterHub would send the browser to
the login page and go on serving tokens. It answers with everything taken away.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from jupyterhub.auth import Authenticator
from jupyterhub.utils import maybe_future
from tornado import web
from traitlets import Bool, Enum, Float, Integer, TraitError, Unicode, default, validate

from ...errors import PermanentError, RetryableError, SpecError, UserError
from ...managers.membership import Standing
from ...models import Facts
from ...policy.throttling import Budget, ThrottleSettings
from ...storage.database import DatabaseError
from ...storage.memberships import Membership
from .. import TEMPLATES as HUB_TEMPLATES
from ..audit.logins import know_roles
from ..audit.origin import caused
from ..logs import join_hub_log
from ..teams import team_spec, teams_of
from .admission import Admission
from .events import SOURCE_UP, Outcome
from .handlers import HANDLERS
from .identities import HANDLERS as IDENTITY_HANDLERS
from .pages import HANDLERS as PAGES
from .pages import TEMPLATES
from .source import Asked, CannotAskError, Finding, Findings, Overview, SessionOverError
from .watching import Watcher

_STANDING: Final = "collab_standing"
_NAME_MAX: Final = 255  # characters of a hub user's name, as JupyterHub's database has them
NOBODY: Final = (
    "{who}, you are known, but no team, contest or role here is yours. Ask the host of your contest"
    " to put you in a team; they may need this: {identity}."
)
log = logging.getLogger(__name__)


class TeamAuthenticator(Authenticator):  # type: ignore[misc]
    """Base of all authenticators here. `c.TeamAuthenticator.<name>` sets it for all of them."""

    rules_file = Unicode(
        config=True,
        help="""
        YAML file of kind Entitlements: which facts of which source give which teams, roles and data
        sets. It is read again when it changes. Without it only rosters of contests count.
        """,
    )

    database_url = Unicode(
        config=True,
        help="""
        Where is kept who is who (SQLAlchemy's form). Default: the hub's own database.
        """,
    )

    name_prefix = Unicode(
        config=True,
        help="""
        Put before the names of this source's people, so that two sources cannot give one name to
        two people: `portal-`. All sources of a hub but one need their own.
        """,
    )

    title = Unicode(
        config=True,
        help="""
        What people call this source, on the login page: `University of Genoa`. Default: the name of
        the login service, else the source's name in rules.
        """,
    )

    watch_interval = Float(
        60.0,
        min=1.0,
        config=True,
        help="Seconds between two looks at a source while nobody is at the door.",
    )

    max_staleness = Float(
        900.0,
        min=1.0,
        config=True,
        help="""
        Seconds that a source's last word about somebody counts where data is protected. After it,
        with the source down, servers of such teams are stopped, until it answers.
        """,
    )

    close_when_stale = Enum(
        ("protected", "all"),
        "protected",
        config=True,
        help="Which teams are closed to people whose source's word is too old.",
    )

    tries_per_account = Integer(
        2,
        min=1,
        config=True,
        help="""
        Wrong passwords in a row for one account from devices that it never logged in on; as many
        again from each device that it did. Both together must stay below the directory's own
        lock-out, or a stranger could lock members out of everything.
        """,
    )

    tries_per_address = Integer(
        30, min=1, config=True, help="Tries a minute from one address, over all accounts."
    )

    retry_after = Float(
        600.0, min=1.0, config=True, help="Seconds until one wrong password is forgotten."
    )

    trust_x_real_ip = Bool(
        False,
        config=True,
        help="""
        Whether a proxy before the hub's own (an ingress) sets the header X-Real-Ip on each request.
        JupyterHub's proxy passes it on as the browser sent it, so without such a proxy whoever
        guesses could claim another address for each try.
        """,
    )

    any_allow_config = Bool(
        True, help="Being in a team, a contest or a role is what lets people in."
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not self.manage_groups:  # traitlets validates no value that is the trait's own default
            raise TraitError("manage_groups must be on: the groups are what these give")
        self._admission: Admission | None = None
        if self.parent is not None and self.parent.has_trait("template_paths"):
            # An admin's own come before ours, and JupyterHub's after them: it appends those.
            theirs = str(Path(self.parent.data_files_path) / "templates")
            given = self.parent.template_paths
            pages = str(HUB_TEMPLATES)  # its page.html is for hubs with another authenticator
            own = [path for path in given if path not in (theirs, pages)]
            last = [pages] if pages in given else []
            self.parent.template_paths = [*own, str(TEMPLATES), *last]

    @default("manage_groups")
    def _manage_groups_default(self) -> bool:
        return True

    @validate("username_map")
    def _validate_username_map(self, proposal: Any) -> Any:
        if proposal["value"]:
            # JupyterHub maps the answer once more: somebody could come in as another person.
            raise TraitError(
                "username_map cannot be used: a name is bound to who first came under it. To let"
                " somebody be an existing hub user, link their identity (docs/auth-several.md)"
            )
        return proposal["value"]

    @default("auth_refresh_strict")
    def _auth_refresh_strict_default(self) -> bool:
        return True

    @default("refresh_pre_spawn")
    def _refresh_pre_spawn_default(self) -> bool:
        return True

    # -- what a source must say -----------------------------------------------------------------

    @property
    def issuer(self) -> str:
        """Name of the source, in identities and rules."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """What people call this source."""
        return str(self.title or self.login_service or self.issuer)

    async def ask(self, user: Any, membership: Membership) -> Asked:
        """What the source says now about somebody it let in.

        Raises
        ------
        CannotAskError
            It cannot be asked about people who are not at the door.
        SessionOverError
            It cannot be asked about this person until they log in again.
        RetryableError, PermanentError
            It does not answer, or an admin must act: nobody loses anything by that.
        """
        raise CannotAskError(f"{self.issuer} cannot be asked")

    async def look_over(self, memberships: Sequence[Membership]) -> Overview:
        """What the source says in bulk about all whom it let in. Raises as `ask`."""
        raise CannotAskError(f"{self.issuer} cannot be asked in bulk")

    async def leave(self, user: Any, handler: Any) -> str | None:
        """Where a browser goes that has logged out here, to log out of the source too.

        None: nowhere.
        """
        return None

    async def check(self, username: str | None = None) -> Findings:
        """Try the source out, without a hub (`jupyterhub-collab doctor auth`).

        Never raises for what it finds, and leaves nothing open.

        Parameters
        ----------
        username
            Somebody to look up, as they would type their name.
        """
        text = "nothing here can be tried while nobody is at the door"
        return Findings((Finding("source", None, text),))

    # -- what is the same for all ---------------------------------------------------------------

    @property
    def sources(self) -> tuple[TeamAuthenticator, ...]:
        """All sources that let people in here: this one, or those that it combines."""
        return (self,)

    @property
    def root(self) -> TeamAuthenticator:
        """The hub's authenticator: this one, or the one that combines it with others."""
        return self.parent.root if isinstance(self.parent, TeamAuthenticator) else self

    def may_name(self, source: TeamAuthenticator, name: str) -> bool:
        """Whether a source here may give somebody this hub user name. Asked of the root."""
        return True

    @property
    def admission(self) -> Admission:
        """What all authenticators of the hub share."""
        if self.root is not self:
            return self.root.admission
        if self._admission is None:
            raise RuntimeError("the hub has not started this authenticator (get_handlers)")
        return self._admission

    def get_handlers(self, app: Any) -> list[tuple[str, type]]:
        """Handlers of the login; also the moment at which the hub is there."""
        if self.root is self:
            self._start(app)
            return [*super().get_handlers(app), *HANDLERS, *IDENTITY_HANDLERS, *PAGES]
        return list(super().get_handlers(app))

    def _start(self, app: Any) -> None:
        join_hub_log(app.log)
        budget = Budget(self.tries_per_account, timedelta(seconds=self.retry_after))
        self._admission = Admission(
            app,
            rules_file=self.rules_file,
            database_url=self.database_url or app.db_url,
            throttle=ThrottleSettings(
                account=budget,
                device=budget,
                address=Budget(
                    self.tries_per_address, timedelta(seconds=60 / self.tries_per_address)
                ),
            ),
            max_staleness=timedelta(seconds=self.max_staleness),
            is_protected=self._is_protected,
            trust_x_real_ip=self.trust_x_real_ip,
        )
        self._watcher = Watcher(self._admission, self, interval_s=self.watch_interval)
        self._watcher.start()

    async def admit(
        self, facts: Facts, *, address: str = "", auth_state: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """JupyterHub's model of somebody whom the source has let in.

        Raises
        ------
        HTTPError
            This person gets no further; the text is for them.
        """
        name = self.normalize_username(f"{self.name_prefix}{facts.username}")
        is_valid = name and self.validate_username(name) and self.root.may_name(self, name)
        if not is_valid:
            log.warning("%s has a user name that the hub does not take: %r", facts.identity, name)
            self.tell(Outcome.REFUSED, address=address, because="a name that the hub does not take")
            raise web.HTTPError(403, "This account's user name cannot be used here. Tell the host.")
        try:
            async with self.admission.turns:
                standing = await self.admission.admit(facts, name=name)
        except web.HTTPError as e:
            outcome = Outcome.REFUSED if e.status_code < 500 else Outcome.UNAVAILABLE
            self.tell(outcome, username=name, address=address, because="not admitted")
            raise
        SOURCE_UP.labels(self.issuer).set(1)
        is_admin = self._is_admin(standing)
        if standing.entitlements is not None:
            # What they lost meanwhile ends before the login does.
            self.admission.settle(standing, is_admin=is_admin, source=self.issuer)
        elif self.admission.app.users.get(standing.name) is None:
            raise web.HTTPError(503, "Nobody can say just now in which team you are. Try again.")
        return {
            "name": standing.name,
            "admin": is_admin,
            "groups": self.admission.groups_for(standing),
            "auth_state": auth_state,
            _STANDING: (standing, facts, address),
        }

    async def check_allowed(self, username: str, authentication: Any = None) -> bool:
        """Whoever has something here; and whom the hub's own settings let in."""
        if authentication is None:
            return True
        standing, facts, address = authentication.pop(_STANDING)
        given = standing.entitlements
        is_allowed = self._had_something(username) if given is None else bool(given.granted)
        if not is_allowed:
            # A coroutine where a source's class is also OAuthenticator; that alone would be true.
            is_allowed = await maybe_future(super().check_allowed(username, authentication))
        if not is_allowed and not Authenticator.check_allowed(self.root, username):
            because = "known, but in no team and no role"
            self.tell(Outcome.REFUSED, username=username, address=address, because=because)
            text = NOBODY.format(who=facts.username, identity=facts.identity)
            raise web.HTTPError(403, text)
        self.tell(
            Outcome.LET_IN, username=username, address=address, subject=facts.identity.subject
        )
        return True

    def check_blocked_users(self, username: str, authentication: Any = None) -> Any:
        """Not whom this source's settings block, nor the hub's."""
        is_welcome = super().check_blocked_users(username, authentication)
        if self.root is self:
            return is_welcome
        return is_welcome and self.root.check_blocked_users(username, authentication)

    async def delete_user(self, user: Any) -> None:
        """Forget who a hub user was: the name is free. JupyterHub asks before it deletes.

        Raises
        ------
        HTTPError
            503: it cannot be forgotten now. JupyterHub then deletes nobody.
        """
        try:
            await self.admission.forget(user.name)
        except DatabaseError as e:
            log.error("%s cannot be forgotten: %s", user.name, e)
            raise web.HTTPError(503, "The database does not answer. Nobody was deleted.") from e
        super().delete_user(user)

    async def refresh_user(self, user: Any, handler: Any = None) -> bool | dict[str, Any]:
        """What has changed for a user, asked at most every `auth_refresh_age` seconds."""
        if self.root is not self:
            return await self.root.refresh_user(user, handler)  # whoever let them in is asked
        try:
            membership = await self.admission.memberships.read(user.name)
        except DatabaseError as e:
            log.error("%s stays as they are: %s", user.name, e)
            return True
        if membership is None:
            return False  # came in another way, before these authenticators
        source = self.source_of(membership)
        if source is None:
            log.error("%s came in through %s, which is no more", user.name, membership.identity)
            return False
        return await source.refresh(user, membership)

    def source_of(self, membership: Membership) -> TeamAuthenticator | None:
        """The source that let somebody in; None: it is not configured any more."""
        wanted = membership.identity.issuer
        return next((source for source in self.sources if source.issuer == wanted), None)

    async def refresh(self, user: Any, membership: Membership) -> bool | dict[str, Any]:
        """Ask this source about somebody it let in, and make the hub as it says.

        True: nothing could be asked, nothing changes.
        """
        know_roles(user.name, membership.granted)
        with caused("refresh", note=self.issuer):
            return await self._refresh(user, membership)

    async def _refresh(self, user: Any, membership: Membership) -> bool | dict[str, Any]:
        try:
            asked = await self.ask(user, membership)
            SOURCE_UP.labels(self.issuer).set(1)
            if asked.facts is None:
                because = asked.because or f"{self.issuer} lets them in no more"
                await self.admission.drop(membership, because=because)
                return {"admin": False, "groups": [g.name for g in user.groups]}
            standing = await self.admission.manager.confirm(user.name, asked.facts)
            self.admission.open_again(user.name)
        except CannotAskError:
            standing = await self.admission.manager.project(membership)
            asked = Asked(None)
        except SessionOverError as e:
            log.info("All sessions of %s end: %s", user.name, e)
            self.admission.ender.log_out(user, servers_too=True, because=str(e))
            self.admission.events.access("logged-out", username=user.name, because=str(e))
            return False
        except DatabaseError as e:
            log.error("%s stays as they are: %s", user.name, e)
            return True
        except (RetryableError, PermanentError, UserError) as e:
            SOURCE_UP.labels(self.issuer).set(0)
            log.error("%s stays as they are, for %s cannot be asked: %s", user.name, self.issuer, e)
            return True
        self.admission.settle(standing, is_admin=self._is_admin(standing), source=self.issuer)
        model: dict[str, Any] = {
            "admin": self._is_admin(standing),
            "groups": self.admission.groups_for(standing),
        }
        return model if asked.auth_state is None else {**model, "auth_state": asked.auth_state}

    def _had_something(self, username: str) -> bool:
        """Whether a hub user has what lets people in, as far as the hub knows."""
        user = self.admission.app.users.get(username)
        return user is not None and (bool(user.admin) or bool(teams_of(user)))

    def _is_admin(self, standing: Standing) -> bool | None:
        if standing.is_admin is None:
            return None
        return standing.is_admin or standing.name in self.admin_users | self.root.admin_users

    def _is_protected(self, user: Any, team: str) -> bool:
        if self.close_when_stale == "all":
            return True
        try:
            return any(dataset.protected for dataset in team_spec(user, team).datasets.values())
        except (SpecError, UserError):
            return True  # nobody can say

    def tell(
        self,
        outcome: Outcome,
        *,
        username: str = "",
        address: str = "",
        because: str = "",
        subject: str = "",
    ) -> None:
        """Tell of a log-in through this source (`events`).

        Parameters
        ----------
        username
            A hub user's name, or what somebody typed: it goes into the event only if there is such
            a hub user, or this lets them in.
        subject
            The source's own key of somebody whom this lets in.
        """
        is_known = outcome is Outcome.LET_IN or self._is_user(username)
        self.admission.events.login(
            outcome,
            source=self.issuer,
            username=username if is_known else None,
            subject=subject,
            address=address,
            because=because,
        )

    def _is_user(self, name: str) -> bool:
        """Whether there is a hub user of that name, which may be anything."""
        if not 0 < len(name) <= _NAME_MAX or not name.isprintable():
            return False
        return self.admission.app.users.get(name) is not None
