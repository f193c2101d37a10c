"""Notices over HTTP: hosts write them, members read theirs, the hub reads anybody's.

``GET notices`` tells a person their own. A program with the scope
``custom:collab:contests:notices`` names somebody (``user``) and the teams in which the hub knows
them (``team``, several): the hub shows them above its pages, and to JupyterLab.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from tornado.web import HTTPError

from ... import names
from ...constants import SCOPE_CONTESTS_NOTICES
from ...errors import UserError
from ...managers.contest_refusals import NotNowError, NotThereError, in_words
from ...models.contest_life import Notice
from ...policy.contest_access import Right
from ...policy.notices import notice_id
from ...storage.contests import EVERYBODY
from .bodies import bad_field
from .handlers import Handler, Route
from .pages import PageHandler, zone_of
from .requests import NOTICE_MAX, NoticeBody
from .work import Work

_TEAMS_MAX: Final = 200  # that one person is in
_NAME_MAX: Final = 255
_UNDONE_MAX: Final = 1000  # that are told of one contest


class ContestNoticesHandler(Handler):
    """Notices of a contest."""

    async def get(self, contest: str) -> None:
        found = await self.require(Right.HOST, contest)
        notices = await self.work.store.notices(contest=found.id, now=self.work.now())
        undone = await read_undelivered(self.work, found.id)
        self.send(
            {
                "notices": [
                    {**notice_wire(notice), "undelivered": undone.get(notice_id(notice), [])}
                    for notice in notices
                ]
            }
        )

    async def post(self, contest: str) -> None:
        found = await self.require(Right.HOST, contest)
        body = self.read_body(NoticeBody)
        key = self.read_key()
        notice, is_new = await write_notice(self.work, found.id, body, key=key)
        self.send({"notice": notice_wire(notice)}, 201 if is_new else 200)


class NoticesHandler(Handler):
    """Notices to somebody."""

    async def get(self) -> None:
        if self.asker.is_person:
            teams = frozenset(self.asker.teams)
        else:
            teams = await self._named()
        notices: tuple[Notice, ...] = ()
        if teams:
            notices = await self.work.store.notices(teams=sorted(teams), now=self.work.now())
        self.send({"notices": [notice_wire(notice) for notice in notices]})

    async def _named(self) -> frozenset[str]:
        """Teams of whom a program names. Raises HTTPError, BadRequestError."""
        if SCOPE_CONTESTS_NOTICES not in (self.hub_model or {}).get("scopes", ()):
            raise HTTPError(403, f"This needs the hub scope {SCOPE_CONTESTS_NOTICES}.")
        user = self.get_query_argument("user", "", strip=False)
        teams = self.get_query_arguments("team")[: _TEAMS_MAX + 1]
        if not 0 < len(user) <= _NAME_MAX:
            raise bad_field("user (query)", f"{len(user)} characters", "a hub user's name")
        if len(teams) > _TEAMS_MAX or not all(map(names.is_team_id, teams)):
            raise bad_field("team (query)", "something else", f"at most {_TEAMS_MAX} team ids")
        registered = await self.work.store.teams_of(user)
        return frozenset(teams).union(registered)


class WriteNoticePage(PageHandler):
    """The form in which a host writes a notice."""

    async def get(self, contest: str) -> None:
        record = await self.require(Right.HOST, contest)
        await self.show_form(record.id, self.get_query_argument("team", ""), "", "14", "")

    async def post(self, contest: str) -> None:
        record = await self.require(Right.HOST, contest)
        said = {name: self.get_body_argument(name, "") for name in ("text", "team", "days")}
        text = said["text"].replace("\r\n", "\n").strip()
        problem = _problem(text, said["team"], said["days"])
        if not problem:
            body = NoticeBody(text=text, team=said["team"] or None, days=int(said["days"]))
            try:
                await write_notice(self.work, record.id, body, key=self.form_key())
            except UserError as error:
                problem = str(error)
            else:
                self.go(f"contests/{record.id}", "told")
                return
        self.set_status(422)
        await self.show_form(record.id, said["team"], text, said["days"], problem)

    async def show_form(self, contest: str, team: str, text: str, days: str, problem: str) -> None:
        """The form, with what was written."""
        record = await self.require(Right.HOST, contest)
        self.show(
            "write_notice.html",
            contest=record,
            zone=zone_of(record),
            team=team,
            text=text,
            days=days,
            problem=problem,
            most=NOTICE_MAX,
            key=self.new_key(),
        )


async def write_notice(
    work: Work, contest: str, body: NoticeBody, *, key: str
) -> tuple[Notice, bool]:
    """Keep a notice; and whether it is new: the same key again is the same notice.

    Raises
    ------
    NotThereError
        The contest has no such team.
    NotNowError
        With this key another one was written.
    """
    if body.team is not None:
        team = await work.store.team(body.team)
        if team is None or team.contest != contest:
            raise NotThereError(f"There is no team {body.team} in the contest {contest}.")
    now = work.now()
    until = now + timedelta(days=body.days)
    notice = Notice(contest, body.team or "", body.text, now, until, key=f"host {key}")
    with in_words():
        kept, is_new = await work.store.put_notice_once(notice)
    if _wish(kept) != _wish(notice):
        raise NotNowError(
            f"With this Idempotency-Key another notice was written (at {kept.at.isoformat()}, to"
            f" {kept.team or 'all'}). Use another key for another notice."
        )
    return kept, is_new


def _wish(notice: Notice) -> tuple[object, ...]:
    """What of a notice is its writer's."""
    lasts = None if notice.until is None else notice.until - notice.at
    return notice.team, notice.text, lasts


async def read_undelivered(work: Work, contest: str) -> dict[str, list[dict[str, Any]]]:
    """Whom notices of a contest did not reach by webhook or e-mail, by the notice's id.

    For hosts: it names teams, never an address.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for notice, delivery in await work.store.deliveries.undone(contest, limit=_UNDONE_MAX):
        team = delivery.recipient.partition("/")[0]
        found.setdefault(notice_id(notice), []).append(
            {
                "channel": delivery.channel,
                "team": None if team == EVERYBODY else team,
                "state": delivery.state.value,
                "attempts": delivery.attempts,
                "why": delivery.why,
            }
        )
    return found


def notice_wire(notice: Notice) -> dict[str, str | None]:
    """As the API gives it."""
    return {
        "id": notice_id(notice),
        "contest": notice.contest,
        "team": notice.team or None,
        "text": notice.text,
        "at": notice.at.isoformat(),
        "until": None if notice.until is None else notice.until.isoformat(),
    }


def _problem(text: str, team: str, days: str) -> str:
    """What is not right with a form; empty: nothing."""
    if not text or len(text) > NOTICE_MAX:
        return f"Write 1 to {NOTICE_MAX} characters; these are {len(text)}."
    if any((ord(c) < 32 and c != "\n") or ord(c) == 127 for c in text):
        return "The text has characters that cannot be shown. Write it anew."
    if team and not names.is_team_id(team):
        return "The team is named by its id, or left empty for all."
    if not (days.isascii() and days.isdigit() and len(days) < 4 and 1 <= int(days) <= 366):
        return "A notice is shown for 1 to 366 days."
    return ""


ROUTES: Final[list[Route]] = [
    ("api/contests/([^/]+)/notices", ContestNoticesHandler),
    ("api/notices", NoticesHandler),
    (r"contests/([^/]+)/notices/new", WriteNoticePage),
]
