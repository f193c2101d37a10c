"""What all handlers of the contests service share: who asks, what they may, errors in one form.

A handler calls `require` (or `require_team`) first, before it reads what was sent, then works;
whatever a manager raises becomes the answer here: 4xx in words for the person who asked, 503 where
something does not answer. What somebody may not see is answered as if it were not there, in the
same words and for the same work.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, NoReturn, TypeVar

from tornado.web import HTTPError

from ... import names
from ...constants import SCOPE_CONTESTS_MANAGE, SCOPE_CONTESTS_REGISTER
from ...errors import CollabError, PermanentError, RetryableError, SpecError, UserError
from ...hubapi.errors import HubRefusedError
from ...managers.contest_refusals import NotNowError, NotThereError
from ...models import Document, RosterEntry
from ...models.contest_life import ContestRecord, ContestState, TeamRecord
from ...models.standing import PersonStanding
from ...policy.contest_access import Asker, Right, may, what_it_takes
from ...policy.contest_projection import to_acceptance
from ...storage.contests import UnreadableError
from ..handlers import ServiceHandler
from ..routing import Route
from .bodies import BODY_BYTES_MAX, BadRequestError, bad_field, read_body, to_wire_problems
from .work import Work

__all__ = ["Handler", "Route"]
log = logging.getLogger(__name__)

D = TypeVar("D", bound=Document)
CACHE_S: Final = 5  # in which the hub's word on a token counts; it can be revoked
PAGE_MAX: Final = 500
_KEY_MAX: Final = 200


class Handler(ServiceHandler):
    """Base of this service's.

    Attributes
    ----------
    methods
        Requests that this class takes on its path; none named: all.
    asker
        Who asks; there after `prepare`, but where a handler is public.
    """

    methods: ClassVar[tuple[str, ...]] = ()
    work: Work
    asker: Asker

    async def prepare(self) -> None:
        cache = self.hub_auth.cache
        cache.max_age = min(cache.max_age or CACHE_S, CACHE_S)
        await super().prepare()
        if self._finished or self.is_public:
            return
        self.asker = await self.ask(self.hub_model or {})

    async def ask(self, model: dict[str, Any]) -> Asker:
        """Who asks, as hub and registry say now. Raises RetryableError, HTTPError."""
        is_admin = model.get("admin") is True
        if model.get("kind") != "user":
            scopes = frozenset(model.get("scopes", ()))
            return Asker(
                name=f"service:{model.get('name', '')}",
                is_person=False,
                is_admin=is_admin,
                may_manage=SCOPE_CONTESTS_MANAGE in scopes,
                may_register=SCOPE_CONTESTS_REGISTER in scopes,
            )
        name = str(model["name"])
        standing = await self._standing(name)
        hosts = frozenset(c.contest for c in standing.contests if c.is_host)
        judges = frozenset(c.contest for c in standing.contests if c.is_judge)
        found = await self.work.store.teams_of_any((name, *standing.entries))
        mine = {team.id: team for team, _ in found}
        teams = {t.team: t.contest or "" for t in standing.teams}
        teams |= {team.id: team.contest for team in mine.values()}
        entries: dict[str, tuple[RosterEntry, ...]] = {}
        for team, entry in found:
            if entry != name:
                entries[team.id] = (*entries.get(team.id, ()), entry)
        return Asker(
            name=name,
            is_admin=is_admin,
            hosts=hosts,
            judges=judges,
            teams=teams,
            leads=frozenset(t.id for t in mine.values() if t.captain == name),
            entries=entries,
        )

    async def _standing(self, name: str) -> PersonStanding:
        try:
            found = await self.work.ask_standing(name)
        except HubRefusedError as e:
            if e.status == 404:  # a hub without our handlers: it knows of no roles
                return PersonStanding(name=name)
            log.error("The hub refuses to say where somebody stands: %s", e)
            raise HTTPError(
                502, "The hub does not tell this service what you may do. Tell an admin."
            ) from e
        if found is None:
            raise HTTPError(403, "The hub does not know you any more. Log in again.")
        return found

    async def require(self, right: Right, contest: str) -> ContestRecord:
        """The contest, if whoever asks has this right there. Raises HTTPError 403 or 404."""
        found = await self._seen(contest)
        if found is None:
            self.not_there("contest", contest)
        if not self.may(right, found):
            raise HTTPError(403, what_it_takes(right))
        return found

    async def _seen(self, contest: str) -> ContestRecord | None:
        """The contest; None: there is none, or who asks may not see it.

        For them nothing of a contest is read but whether its registration is open: how long an
        answer takes must not tell the two apart.
        """
        store = self.work.store
        if not names.is_team_id(contest):
            return None
        has_standing = may(self.asker, Right.SEE_CONTEST, contest=contest)
        if not has_standing and not await store.is_registering(contest):
            return None
        try:
            found = await store.contest(contest)
        except UnreadableError as e:
            if may(self.asker, Right.HOST, contest=contest):
                raise HTTPError(502, str(e)) from e
            if not has_standing:
                return None
            raise
        return found if found is not None and self.may(Right.SEE_CONTEST, found) else None

    async def require_team(self, right: Right, team: str) -> tuple[TeamRecord, ContestRecord]:
        """The team and its contest, if whoever asks has this right. Raises HTTPError 403 or 404."""
        try:
            found = await self.work.store.team(team) if names.is_team_id(team) else None
        except UnreadableError as e:
            if may(self.asker, Right.HOST, contest=e.contest):
                raise HTTPError(502, str(e)) from e
            found = None
        if found is None or not self.may_of_team(Right.SEE_TEAM, found):
            self.not_there("team", team)
        if not self.may_of_team(right, found):
            raise HTTPError(403, what_it_takes(right))
        contest = await self.work.store.contest(found.contest)
        if contest is None:
            self.not_there("team", team)
        return found, contest

    def require_on_hub(self, right: Right, contest: str = "") -> None:
        """Unless whoever asks has this right on the hub, HTTPError 403."""
        if not may(self.asker, right, contest=contest):
            raise HTTPError(403, what_it_takes(right))

    def may(self, right: Right, contest: ContestRecord) -> bool:
        """Whether whoever asks has this right in a contest."""
        is_open = (
            contest.state is ContestState.REGISTRATION and contest.manifest.registration is not None
        )
        return may(self.asker, right, contest=contest.id, is_open=is_open)

    def may_of_team(self, right: Right, team: TeamRecord) -> bool:
        """Whether whoever asks has this right in a team."""
        return may(self.asker, right, contest=team.contest, team=team.id)

    def entry_or_self(self, entry: RosterEntry | None) -> RosterEntry:
        """Whom it is about: who asks, or whom a program says that may speak for others."""
        is_self = self.asker.is_person and entry in (None, self.asker.name)
        if is_self:
            return self.asker.name
        if not may(self.asker, Right.ENTER_OTHERS):
            raise HTTPError(403, what_it_takes(Right.ENTER_OTHERS))
        if entry is None:
            raise bad_field("entry", "nothing", "whom it is about: a program is nobody")
        return entry

    def own_entries(self, team: str = "", *, contest: str = "") -> tuple[RosterEntry, ...]:
        """How rosters name the person who asks, in a team or in all of a contest: by their name,
        or as the hub says that only they are named."""
        asker = self.asker
        named = [
            entry
            for one, entries in asker.entries.items()
            if one == team or (contest and asker.teams.get(one) == contest)
            for entry in entries
        ]
        return tuple(dict.fromkeys((asker.name, *named)))

    def accepted_at(
        self, accepted: Mapping[str, datetime], own: Sequence[RosterEntry]
    ) -> datetime | None:
        """When the person who asks accepted an agreement; None: not, or not all that they are."""
        # Who is named otherwise comes into the hub's group by that, and not by the name.
        counting = own[1:] or own
        times = [accepted.get(to_acceptance(entry)) for entry in counting]
        known = [at for at in times if at is not None]
        return max(known) if len(known) == len(times) else None

    @staticmethod
    def not_there(what: str, name: object) -> NoReturn:
        """Answer 404."""
        raise HTTPError(404, f"There is no {what} {str(name)[:60]!r}, or it is not for you.")

    def read_body(self, model: type[D], *, bytes_max: int = BODY_BYTES_MAX) -> D:
        """What was sent. Raises BadRequestError."""
        return read_body(model, self.request.body, bytes_max=bytes_max)

    def read_key(self) -> str:
        """The Idempotency-Key of a request that makes something. Raises BadRequestError."""
        key = self.request.headers.get("Idempotency-Key", "")
        if not key:
            raise bad_field(
                "Idempotency-Key (header)",
                "nothing",
                "a text of your own for this request, the same when you send it again",
            )
        if len(key) > _KEY_MAX or not key.isascii() or not key.isprintable():
            raise bad_field(
                "Idempotency-Key (header)",
                f"{len(key)} characters",
                f"1 to {_KEY_MAX} printable characters of ASCII",
            )
        # One caller's key is not another's.
        return f"{self.asker.name} {key}"

    def read_number(self, name: str, default: int, most: int, *, least: int = 0) -> int:
        """A whole number of the query. Raises BadRequestError."""
        text = self.get_query_argument(name, "")
        if not text:
            return default
        if not (
            text.isascii() and text.isdigit() and len(text) <= 16 and least <= int(text) <= most
        ):
            raise bad_field(f"{name} (query)", repr(text[:60]), f"a number from {least} to {most}")
        return int(text)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if isinstance(value, RetryableError):
            log.warning("Not answered for now: %s", value)
        elif not isinstance(value, (BadRequestError, UserError)):
            super().log_exception(typ, value, tb)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, BadRequestError):
            more = {"problems": to_wire_problems(error.problems)} if error.problems else {}
            self.refuse(error.status, error.message, **more)
        elif isinstance(error, NotNowError):
            self.refuse(409, str(error))
        elif isinstance(error, NotThereError):
            self.refuse(404, str(error))
        elif isinstance(error, SpecError):
            self.refuse(
                422,
                "What was sent is not right; `problems` names each field.",
                problems=to_wire_problems(error.problems),
            )
        elif isinstance(error, UserError):
            self.refuse(422, str(error))
        elif isinstance(error, RetryableError):
            self.set_header("Retry-After", str(max(1, round(error.retry_after_s or 5))))
            self.refuse(503, "This cannot be done just now. Ask again in a few seconds.")
        elif isinstance(error, PermanentError):
            self.refuse(502, "This cannot be done as things are. Tell an admin of the hub.")
        elif isinstance(error, CollabError):
            self.refuse(500, "This failed. Tell an admin of the hub.")
        else:
            super().write_error(status_code, **kwargs)
