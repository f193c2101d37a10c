"""Asks the sources again while nobody is at the door, and ends what was lost meanwhile.

JupyterHub asks only when a request comes; a server that runs by itself is never asked about. So
this looks, every so often, at everybody whom a source let in: in bulk where the source can
(`TeamAuthenticator.look_over`), one by one where that raises a doubt. A source that does not answer
takes nothing from anybody, but its last word grows old, and protected access closes after a while
(`Admission.close_stale`).

Each look also brings the hub after rosters that nobody told it of (`Admission.catch_up`), and ends
what is there and should not be (`losing`), whatever came in between.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from jupyterhub import orm

from ...errors import CollabError, PermanentError, RetryableError
from ...storage.database import DatabaseError
from ...storage.memberships import Membership
from .events import CLOSED, SOURCE_UP, STALENESS
from .source import CannotAskError

if TYPE_CHECKING:
    from .admission import Admission
    from .team_authenticator import TeamAuthenticator

_AT_ONCE: Final = 8  # people whom a source is asked about at the same time
log = logging.getLogger(__name__)


class Watcher:
    """Looks in turn, until it is stopped."""

    def __init__(
        self, admission: Admission, authenticator: TeamAuthenticator, *, interval_s: float
    ) -> None:
        self._admission = admission
        self._authenticator = authenticator
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; the hub's loop runs already."""
        self._task = asyncio.ensure_future(self._run())

    async def look(self) -> None:
        """One look at everybody. Never raises."""
        try:
            await self._admission.catch_up()
        except RetryableError as e:
            log.error("Rosters that changed are looked at again: %s", e)
        except Exception:  # the sources are asked all the same
            log.exception("Rosters could not be looked at")
        for source in self._authenticator.sources:
            try:
                memberships = await self._admission.memberships.list_of(source.issuer)
            except DatabaseError as e:
                log.error("Nobody could be asked about: %s", e)
                return
            try:
                await self._look_at(source, [m for m in memberships if m.is_active])
            except CannotAskError:
                continue  # it speaks for itself: a portal revokes
            except (RetryableError, PermanentError) as e:
                SOURCE_UP.labels(source.issuer).set(0)
                log.error("%s could not be asked, and nobody loses by it: %s", source.issuer, e)
            except Exception:  # one source's fault must not keep the others from being asked
                SOURCE_UP.labels(source.issuer).set(0)
                log.exception("%s could not be asked", source.issuer)
            await self._judge_staleness(source)
        await self._end_lost()

    async def _look_at(self, source: TeamAuthenticator, memberships: Sequence[Membership]) -> None:
        if not memberships:
            return
        rules = self._admission.rules_file.rules().fingerprint
        at = self._admission.now()
        seen = await source.look_over(memberships)
        SOURCE_UP.labels(source.issuer).set(1)
        # Judged by other rules: what nobody looked at then may give something now.
        outdated = {m.name for m in memberships if m.rules != rules} & seen.confirmed
        asked = seen.doubtful | outdated
        await self._admission.memberships.confirm(sorted(seen.confirmed - asked), at)
        doubtful = iter([m for m in memberships if m.name in asked])
        workers = [self._ask_each(source, doubtful) for _ in range(_AT_ONCE)]
        for outcome in await asyncio.gather(*workers, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _ask_each(self, source: TeamAuthenticator, doubtful: Iterator[Membership]) -> None:
        """Ask about one after the other, until nobody is left."""
        for membership in doubtful:
            user = self._admission.app.users.get(membership.name)
            if user is None:
                continue
            model = await source.refresh(user, membership)
            # At the door JupyterHub keeps it.
            if isinstance(model, dict) and "auth_state" in model:
                await user.save_auth_state(model["auth_state"])

    async def _judge_staleness(self, source: TeamAuthenticator) -> None:
        try:
            memberships = await self._admission.memberships.list_of(source.issuer)
        except CollabError as e:
            log.error("Nobody can say how old the word of %s is: %s", source.issuer, e)
            return
        active = [m for m in memberships if m.is_active]
        here = {user.name for user in self._with_servers()}
        now = self._admission.now()
        ages = [(now - m.confirmed_at).total_seconds() for m in active if m.name in here]
        STALENESS.labels(source.issuer).set(max(ages, default=0.0))
        CLOSED.labels(source.issuer).set(len(self._admission.close_stale(active)))

    async def _end_lost(self) -> None:
        """End what is there and should not be: of all who have a server or share one.

        The hub serves others between two people: each takes the database some milliseconds.
        """
        app = self._admission.app
        users = self._with_servers()
        sharing = app.db.query(orm.Share.user_id).filter(orm.Share.user_id.is_not(None)).distinct()
        users += [app.users[user_id] for (user_id,) in sharing]
        for user in dict.fromkeys(users):
            self._admission.ender.end_lost(user)
            await asyncio.sleep(0)

    def _with_servers(self) -> list[Any]:
        """Hub users who have a server. The hub holds all of them in memory anyway."""
        users = list(self._admission.app.users.values())
        return [user for user in users if any(s.active for s in user.spawners.values())]

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.look()
            except Exception:  # whatever it was: look again
                log.exception("A look at everybody failed")
