"""Pages of the contests service: what all share, the start, style and script.

Everything works without scripts and by keyboard; the script only keeps a page up to date while
something is under way, and says times in the viewer's own zone. Titles, reasons and ids are
somebody else's text: templates escape them, and the pages allow no script but our own file.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tornado.template import Loader
from tornado.web import HTTPError

from ...models.contest_life import ContestRecord, TeamRecord
from ...policy.contest_access import Right, may
from .. import static_files
from .handlers import Handler, Route

_HERE: Final = Path(__file__).parent
STATIC: Final = _HERE / "static"
_TITLES: Final = {
    401: "Log in",
    403: "Not for you",
    404: "Nothing here",
    409: "Not as things stand",
    422: "Something is not right",
    502: "Not as things are",
    503: "Not just now",
}
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


class PageHandler(Handler):
    """Base of all pages."""

    here = ""

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("Content-Security-Policy", POLICY)

    def wants_page(self) -> bool:
        """Always: whoever is not logged in is sent to the hub's login."""
        return True

    async def prepare(self) -> None:
        await super().prepare()
        if not self._finished and not self.is_public and not self.asker.is_person:
            raise HTTPError(403, "Pages are for people. Programs use the API: openapi.json.")

    def show(self, template: str, **more: Any) -> None:
        """Answer with a page."""
        asker = getattr(self, "asker", None)
        values = {
            "prefix": self.work.prefix,
            "asker": asker,
            "here": self.here,
            "xsrf": self._xsrf_text() if asker is not None else "",
            "said": self.get_query_argument("said", "")[:60],
            "at_zone": at_zone,
            "iso": iso,
            "quote": lambda text: quote(text, safe=""),
            **more,
        }
        self.finish(_loader.load(template).generate(**values))

    def refuse(self, status: int, message: str, **more: Any) -> None:
        self.set_status(status)
        title = _TITLES.get(status, "That did not work")
        problems = more.get("problems", ())
        self.show("refused.html", title=title, message=message, problems=problems)

    def go(self, path: str, said: str = "") -> None:
        """To another page, after something was done. `said` is a word of `_SAID`."""
        query = f"?said={said}" if said else ""
        self.redirect(f"{self.work.prefix}{path}{query}", status=303)

    def new_key(self) -> str:
        """For a form: whoever sends it twice has done it once."""
        return secrets.token_urlsafe(18)

    def form_key(self) -> str:
        """The key of the form that was sent. Raises HTTPError."""
        key = self.get_body_argument("key", "")
        if not 8 <= len(key) <= 100 or not key.isascii() or not key.isprintable():
            raise HTTPError(422, "This form has no key of its own. Load the page again.")
        return f"{self.asker.name} {key}"

    def _xsrf_text(self) -> str:
        token = self.xsrf_token
        return token.decode() if isinstance(token, bytes) else str(token)


class StartPage(PageHandler):
    """What whoever asks has to do with: contests they run, teams, what they may register for."""

    async def get(self) -> None:
        contests = await self.work.store.contests()
        unreadable = await self.work.store.unreadable_contests()
        hosted = [c for c in contests if may(self.asker, Right.HOST, contest=c.id)]
        known = await self.work.store.teams_by_id(self.asker.teams)
        teams = [team for _, team in sorted(known.items())]
        ranked = [c for c in contests if self.may(Right.RANK, c) and c not in hosted]
        counts = {c.id: await self.work.store.count_teams(c.id) for c in hosted}
        mine = {team.contest for team in teams if team.state.value != "destroyed"}
        is_open = [c for c in contests if self.may(Right.REGISTER, c) and is_registering(c)]
        self.show(
            "start.html",
            hosted=hosted,
            ranked=ranked,
            unreadable=[u for u in unreadable if may(self.asker, Right.HOST, contest=u.id)],
            counts=counts,
            teams=teams,
            titles={c.id: c.manifest.contest.title for c in contests},
            mine=mine,
            registering=is_open,
        )


class StaticHandler(static_files.StaticHandler):
    """This service's."""

    folder = STATIC


def is_registering(contest: ContestRecord) -> bool:
    """Whether teams come together in it just now."""
    return contest.state.value == "registration" and contest.manifest.registration is not None


def round_of(contest: ContestRecord) -> str:
    """The round it is in, in words; empty: none."""
    rounds = contest.manifest.rounds
    if not 0 < contest.round <= len(rounds):
        return ""
    return f"round {contest.round} of {len(rounds)}, {rounds[contest.round - 1].title}"


def name_of(team: TeamRecord) -> str:
    """Title and id."""
    return f"{team.title} ({team.id})" if team.title else team.id


def zone_of(contest: ContestRecord) -> str:
    """The contest's time zone, by name; UTC where this machine does not know it."""
    try:
        ZoneInfo(contest.manifest.contest.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return "UTC"
    return contest.manifest.contest.time_zone


def at_zone(moment: datetime, zone: str = "UTC") -> str:
    """A moment in a zone, with the zone's short name."""
    return moment.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M %Z")


def iso(moment: datetime) -> str:
    """For machines."""
    return moment.astimezone(timezone.utc).isoformat(timespec="seconds")


_loader: Final = Loader(str(_HERE / "templates"))

ROUTES: Final[list[Route]] = [
    ("", StartPage),
    (r"static/(.*)", StaticHandler),
]
