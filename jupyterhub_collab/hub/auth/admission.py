"""What all authenticators of a hub share: one decider, one throttle, one way to end access.

An authenticator proves who somebody is; from there on the way is the same for all, and it is here:
the decider is asked, the hub's groups are made as it says, and whatever the user still holds of
teams they lost is ended (`losing`). The same is done when nobody is at the door: a source was asked
in the background (`watching`), a roster changed, a portal revoked somebody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

from jupyterhub import roles
from sqlalchemy import create_engine, make_url
from tornado import web

from ...errors import PermanentError, RetryableError, UserError
from ...managers.membership import MembershipManager, Standing
from ...models import EntitlementRules, Entitlements, Facts, Invitation
from ...policy.entitlements import parse_entitlement_rules
from ...policy.roster import hash_roster
from ...policy.spec import is_team_group
from ...policy.throttling import Throttle, ThrottleSettings
from ...storage.database import DatabaseError
from ...storage.identities import Identities, NameTakenError
from ...storage.invitations import Invitations
from ...storage.memberships import Membership, Memberships
from ...storage.rosters import Rosters
from ..audit.logins import know_roles, tell_roles
from ..audit.origin import caused
from ..audit.recorder import RECORDER
from ..audit.telling import ROLES
from ..teams import teams_of
from .brake import LoginBrake
from .events import Events
from .losing import AccessEnder
from .registry import HubRegistry

_TEAMS_A_LOOK: Final = 500  # that a look at rosters brings the hub after; the next has the rest
_NOBODY: Final = hash_roster(())
_AT_ONCE: Final = 2  # more would not be quicker: the rest of a log-in is the loop's own work
TRY_AGAIN = "Nobody can say just now who you are here. Try again in a minute."
log = logging.getLogger(__name__)


class RulesFile:
    """Rules of a file, read again when it has changed.

    A file that has become wrong is told of in the log, and the rules before it go on to count.

    Raises
    ------
    PermanentError
        At the beginning the file cannot be read, or is not right.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path) if path else None
        self._stamp: tuple[int, int] | None = None
        self._rules = EntitlementRules.model_validate(
            {"apiVersion": "jupyterhub-collab.org/v1alpha1", "kind": "Entitlements"}
        )
        if self._path is not None:
            self._stamp, self._rules = self._read(self._path)

    def rules(self) -> EntitlementRules:
        """The rules as they are now."""
        if self._path is not None:
            try:
                if _stamp_of(self._path) != self._stamp:
                    self._stamp, self._rules = self._read(self._path)
                    log.info("The rules in %s were read again", self._path)
            except (OSError, PermanentError) as e:
                log.error("The rules of before go on to count: %s", e)
        return self._rules

    def _read(self, path: Path) -> tuple[tuple[int, int], EntitlementRules]:
        try:
            self._stamp = _stamp_of(path)  # even if it is wrong: told once a change
            return self._stamp, parse_entitlement_rules(path.read_bytes(), file=str(path))
        except OSError as e:
            raise PermanentError(f"{path} cannot be read: {e.strerror or e}") from e
        except UserError as e:
            raise PermanentError(str(e)) from e


def _stamp_of(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


class Admission:
    """One for a hub.

    Parameters
    ----------
    app
        JupyterHub's application.
    database_url
        Where identities, memberships and spent tokens are kept; SQLAlchemy's form.
    max_staleness
        How old a source's last word may be where data is protected.
    is_protected
        Whether a team has data that is.
    """

    def __init__(
        self,
        app: Any,
        *,
        rules_file: str,
        database_url: str,
        throttle: ThrottleSettings,
        max_staleness: timedelta,
        is_protected: Callable[[Any, str], bool],
        trust_x_real_ip: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self.app = app
        self.now = now
        self.max_staleness = max_staleness
        self._is_protected = is_protected
        url = make_url(database_url)
        if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
            raise PermanentError(
                "Who is who cannot be kept in a database in memory: nobody would have their name"
                " after a restart. Set c.JupyterHub.db_url, or c.TeamAuthenticator.database_url"
            )
        self.engine = create_engine(url)
        self.memberships = Memberships(self.engine)
        identities = Identities(self.engine)
        invitations = Invitations(self.engine)
        self._rosters = Rosters(self.engine)
        for store in (identities, invitations, self.memberships, self._rosters):
            store.create_tables()
        self.registry = HubRegistry(app.db)
        self.rules_file = RulesFile(rules_file)
        self.manager = MembershipManager(
            identities=identities,
            invitations=invitations,
            memberships=self.memberships,
            registry=self.registry,
            rules=self.rules_file.rules,
            now=now,
        )
        # Of a hundred who come at once two are let in at a time: what JupyterHub does for each
        # takes its loop some milliseconds, in which it serves nobody.
        self.turns = asyncio.Semaphore(_AT_ONCE)
        self.throttle = Throttle(throttle)
        self.brake = LoginBrake(self.throttle, now=now, trust_x_real_ip=trust_x_real_ip)
        self.events = Events(app.eventlog)
        self.ender = AccessEnder(app, may_use=self.may_use)
        self._stale: set[str] = set()  # hub users whose protected access is closed

    # -- at the door ----------------------------------------------------------------------------

    async def admit(self, facts: Facts, *, name: str) -> Standing:
        """Where somebody stands whom a source has just let in.

        Raises
        ------
        HTTPError
            403: the name is another person's. 503: nobody can say who this is here.
        """
        try:
            await self._know(name)
            standing = await self.manager.admit(facts, name=name)
        except NameTakenError as e:
            log.warning("%s came as %r: %s", facts.identity, name, e)
            raise web.HTTPError(403, str(e)) from e
        except ValueError as e:
            log.warning("A name or key that cannot be kept: %s", e)
            raise web.HTTPError(403, "This account has a name that no hub can keep.") from e
        except DatabaseError as e:
            log.error("Nobody could be let in: %s", e)
            raise web.HTTPError(503, TRY_AGAIN) from e
        self.open_again(standing.name)
        given = standing.entitlements or Entitlements()
        if standing.entitlements is not None:
            tell_roles(standing.name, given.granted)
        for granted in given.granted:
            log.info("%s: %s", standing.name, granted)
        for note in given.notes:
            log.warning("%s: %s", standing.name, note)
        return standing

    async def _know(self, name: str) -> None:
        """What somebody was found to be at their last log-in, before this one says it anew."""
        if ROLES.of(name) is None and RECORDER.is_on:
            membership = await self.memberships.read(name)
            if membership is not None:
                know_roles(name, membership.granted)

    def groups_for(self, standing: Standing) -> list[str] | None:
        """The full list for JupyterHub's sync: teams, and groups that are not teams; None: keep."""
        teams = standing.teams
        if teams is None:
            return None
        user = self.app.users.get(standing.name)
        others = [] if user is None else [g.name for g in user.groups if not _is_ours(g)]
        return sorted({*teams, *others})

    # -- when nobody is at the door -------------------------------------------------------------

    def settle(self, standing: Standing, *, is_admin: bool | None, source: str = "") -> None:
        """Make the hub as the standing says, and end what is lost.

        Parameters
        ----------
        is_admin
            What the hub's admin flag shall be; None: as it is.
        """
        user = self.app.users.get(standing.name)
        if user is None or standing.entitlements is None:
            return
        tell_roles(user.name, standing.entitlements.granted)
        before = frozenset(teams_of(user))
        groups = self.groups_for(standing)
        assert groups is not None
        user.sync_groups(groups)
        if is_admin is not None and user.admin != is_admin:
            user.admin = is_admin
            self.app.db.commit()
            # The flag alone is a word: it is the role that lets them do everything.
            roles.assign_default_roles(self.app.db, entity=user.orm_user)
        after = frozenset(teams_of(user))
        self.ender.end_lost(user)
        if before != after:
            self.events.access(
                "changed" if after else "ended",
                username=user.name,
                source=source,
                gained=after - before,
                lost=before - after,
            )
        if not standing.entitlements.granted and before:
            self.ender.log_out(user, servers_too=True, because="nothing is left of their access")

    async def project(self, teams: Iterable[str]) -> None:
        """Bring hub users after rosters that have changed, without asking any source.

        Raises
        ------
        RetryableError
            Nobody can say at the moment.
        """
        for team in teams:
            entries = self.registry.roster_of(team)
            names = set(self.registry.users_of(team))
            for entry in entries:
                name = await self.manager.name_of(entry)
                if name is None and isinstance(entry, Invitation):
                    name = await self.manager.take_for(entry)
                names |= {name} if name else set()
            for name in sorted(names):
                membership = await self.memberships.read(name)
                if membership is None:
                    continue  # never came through a source; at the first log-in all is worked out
                know_roles(name, membership.granted)
                standing = await self.manager.project(membership)
                if standing.entitlements is None:
                    raise RetryableError(f"where {name} stands cannot be said just now")
                self.settle(standing, is_admin=None, source=membership.identity.issuer)
            await self._rosters.write({team: hash_roster(entries)})

    async def catch_up(self) -> None:
        """Find rosters that changed without the hub being brought after them, and do so.

        Whoever wrote them tells the hub (`project`), but that word can be lost, and the hub killed
        half way.

        Raises
        ------
        RetryableError
            Nobody can say at the moment. The next look begins where this one ended.
        """
        known = await self._rosters.read()
        behind: list[str] = []
        gone = set(known)
        async for team, roster in self.registry.list_rosters():
            gone.discard(team)
            if known.get(team, _NOBODY) != roster:
                behind.append(team)
        if gone:
            await self._rosters.forget(gone)
        for team in behind[:_TEAMS_A_LOOK]:
            log.info("The hub is brought after the roster of %s", team)
            with caused("roster", note=team):
                await self.project([team])

    async def drop(self, membership: Membership, *, because: str) -> None:
        """The source lets this person in no more: nothing is left of what they had.

        Raises
        ------
        DatabaseError
            It could not be written down; nothing was done.
        """
        log.warning("%s loses everything: %s", membership.name, because)
        know_roles(membership.name, membership.granted)
        standing = await self.manager.withdraw(membership)
        user = self.app.users.get(membership.name)
        self.settle(standing, is_admin=False, source=membership.identity.issuer)
        if user is not None:
            self.ender.log_out(user, servers_too=True, because=because)
            self.events.access("logged-out", username=user.name, because=because)

    async def forget(self, name: str) -> None:
        """A hub user is deleted: whoever comes under the name next is somebody else.

        Raises
        ------
        DatabaseError
            Some of it may still be known; to be asked again.
        """
        ROLES.forget(name)
        await self.memberships.forget(name)
        await self.manager.identities.forget(name)

    # -- staleness ------------------------------------------------------------------------------

    def may_use(self, user: Any, team: str) -> bool:
        """Whether a member may have a server of this team as far as staleness goes."""
        return user.name not in self._stale or not self._is_protected(user, team)

    def close_stale(self, memberships: Sequence[Membership]) -> frozenset[str]:
        """Close protected access of those whom a source last spoke of too long ago; open others'.

        Returns the names of those who are closed now, people who have not been here for long too.
        """
        before = self.now() - self.max_staleness
        stale = {m.name for m in memberships if m.confirmed_at < before}
        news = stale - self._stale
        if news:
            log.warning("Protected access of %s is closed: no word of them", _to_words(news))
        self._stale = (self._stale - {m.name for m in memberships}) | stale
        return frozenset(stale)

    def open_again(self, name: str) -> None:
        """The source has just spoken of this hub user."""
        self._stale.discard(name)

    def close(self) -> None:
        """Give the database back."""
        self.manager.identities.close()
        self.manager.invitations.close()
        self.memberships.close()
        self._rosters.close()
        self.engine.dispose()


def _to_words(names: Iterable[str]) -> str:
    """A few names and how many more."""
    found = sorted(names)
    shown = ", ".join(found[:5])
    return shown if len(found) <= 5 else f"{shown} and {len(found) - 5} more"


def _is_ours(group: Any) -> bool:
    return is_team_group(group.name, group.properties or {})
