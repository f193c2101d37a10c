"""Pages of the audit log for people: which data sets, who accessed one, search, one event.

Everything works without scripts and by keyboard; the script only follows the log as it grows. The
filters are in the address. All that stands in events is somebody else's text: templates escape it,
and the pages allow no script but our own file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from tornado.template import Loader
from tornado.web import HTTPError

from ... import names
from ...errors import CollabError
from ...managers.audit_reading import SURVEY_MAX, Hours, NotYetError, Page
from ...models.audit import PARTS, Outcome, Verb
from ...policy.audit_reading import Reader, ShownEvent
from .. import static_files
from .handlers import Route
from .reading import NO_EVENT, ReadingHandler
from .reading_query import Asked, BadQueryError, read_query, to_sequence

_HERE: Final = Path(__file__).parent
STATIC: Final = _HERE / "static"
_BARS_MAX: Final = 168  # a week of hours; longer spans are counted by day
_HOUR: Final = timedelta(hours=1)
_FORMS: Final = {
    "csv": "CSV",
    "jsonl": "JSON Lines",
    "parquet": "Parquet",
    "bundle": "with proofs (zip)",
}
_TITLES: Final = {
    401: "Log in",
    403: "Not for you",
    404: "Nothing here",
    503: "Not just now",
}


@dataclass(frozen=True)
class Field:
    """One field of the search form."""

    name: str
    label: str
    value: str
    hint: str = ""
    choices: tuple[str, ...] = ()
    is_wrong: bool = False


@dataclass(frozen=True)
class Bar:
    """One bar of the time line. `height` of 100; `link` leads to its events."""

    at: int
    height: int
    count: int
    label: str
    link: str


@dataclass(frozen=True)
class Timeline:
    """Bars, and the same in words."""

    bars: tuple[Bar, ...]
    width: int
    words: str


class PageHandler(ReadingHandler):
    """Base of all pages."""

    here = ""

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header(
            "Content-Security-Policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
            "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        )

    def wants_page(self) -> bool:
        """Always: whoever is not logged in is sent to the hub's login."""
        return True

    def show(self, template: str, **more: Any) -> None:
        """Answer with a page."""
        reader = getattr(self, "reader", None)
        values = {"prefix": self.work.prefix, "reader": reader, "here": self.here, **more}
        self.finish(_loader.load(template).generate(**values))

    def refuse(self, status: int, message: str, **more: Any) -> None:
        self.set_status(status)
        self.show("refused.html", title=_TITLES.get(status, "That did not work"), message=message)


class StartPage(PageHandler):
    """Data sets that the reader has to do with."""

    async def get(self) -> None:
        self.show(
            "start.html",
            datasets=datasets_of(self.reader),
            may_read=may_read(self.reader),
        )


class DatasetPage(PageHandler):
    """Who accessed a data set, when and how often."""

    async def get(self, contest: str, dataset: str) -> None:
        if not (names.is_team_id(contest) and names.is_team_id(dataset)):
            raise HTTPError(404, "There is nothing here.")
        try:
            accesses = await self.reading.accesses(self.reader, contest, dataset)
        except CollabError as error:
            self.answer_error(error)
            return
        about = ("dataset", f"{contest}/{dataset}")
        self.show(
            "dataset.html",
            contest=contest,
            dataset=dataset,
            accesses=accesses,
            may_read=may_read(self.reader),
            most=SURVEY_MAX,
            all_events=urlencode([about]),
            link=lambda row: urlencode([about, ("person", row.name)]),
            minute=partial(_cut, length=16),
        )


class SearchPage(PageHandler):
    """Events that the filters in the address let through."""

    here = "events"

    async def get(self) -> None:
        arguments = self.request.query_arguments
        try:
            asked = read_query(arguments)
            page = await self.reading.search(
                self.reader,
                asked.query,
                before=asked.before,
                after=asked.after,
                limit=asked.limit,
                with_hours=asked.before is None and asked.after is None,
            )
        except BadQueryError as error:
            self.set_status(422)
            sent = {
                name: [v.decode(errors="replace") for v in arguments[name]] for name in arguments
            }
            wrong = {problem.field for problem in error.problems}
            self._show(sent, wrong=wrong, problems=error.problems)
            return
        except CollabError as error:
            self.answer_error(error)
            return
        self._show(asked.texts, asked=asked, page=page)

    def _show(
        self,
        sent: Mapping[str, Sequence[str]],
        *,
        wrong: Iterable[str] = (),
        problems: Sequence[Any] = (),
        asked: Asked | None = None,
        page: Page | None = None,
    ) -> None:
        following, live, timeline = "", "", None
        if asked is not None and page is not None:
            limit = asked.limit if asked.limit != 100 else None
            if page.following is not None and asked.after is None:
                following = asked.link(before=page.following, limit=limit)
            token = self.xsrf_token
            live = f"{self.work.prefix}api/events/live?"
            live += asked.link(_xsrf=token.decode() if isinstance(token, bytes) else token)
            timeline = None if page.hours is None else make_timeline(page.hours, asked)
        self.show(
            "events.html",
            fields=_fields(sent, set(wrong)),
            problems=problems,
            page=page,
            timeline=timeline,
            following=following,
            live=live,
            forms=_FORMS,
            may_read=may_read(self.reader),
            who=_who,
            thing=_thing,
            second=partial(_cut, length=19),
        )


class EventPage(PageHandler):
    """One event, and its proof."""

    here = "events"

    async def get(self, number: str) -> None:
        sequence = to_sequence(number) or 0
        proof = None
        try:
            try:
                proof = await self.reading.prove(self.reader, sequence)
                event = None if proof is None else proof.event
            except NotYetError as early:
                event = early.event
        except CollabError as error:
            self.answer_error(error)
            return
        if event is None:
            self.refuse(404, NO_EVENT)
            return
        self.show("event.html", event=event, proof=proof, rows=list(_rows(event)))


class StaticHandler(static_files.StaticHandler):
    """This service's."""

    folder = STATIC


def datasets_of(reader: Reader) -> list[tuple[str, str]]:
    """Contest and data set of all that a reader has to do with, sorted."""
    standing = reader.standing
    found = {(c.contest, d) for c in standing.contests for d in (*c.datasets, *c.keeps)}
    found |= {(t.contest, d) for t in standing.teams if t.contest for d in t.datasets}
    return sorted(found)


def may_read(reader: Reader) -> str:
    """What a reader may see, in a sentence."""
    scope = reader.scope
    if scope.everything:
        return "You see the whole log."
    parts = ["events that you stand in"]
    for word, ids in (
        ("team", sorted(scope.teams)),
        ("contest", sorted(scope.contests)),
        ("data set", sorted("/".join(pair) for pair in scope.datasets)),
    ):
        if ids:
            parts.append(f"all of {word}{'s' if len(ids) > 1 else ''} {', '.join(ids)}")
    return f"You see {'; '.join(parts)}."


def make_timeline(hours: Hours, asked: Asked) -> Timeline | None:
    """Bars of the hours in which there were events, or of days; None: there is nothing to show."""
    if not hours.counts:
        return None
    counts = {_to_moment(hour): count for hour, count in hours.counts.items()}
    first, last = min(counts), max(counts)
    step, unit = _HOUR, "hour"
    if (last - first) / _HOUR >= _BARS_MAX:
        step, unit = timedelta(days=1), "day"
        first = first.replace(hour=0)
        while (last - first) / step >= _BARS_MAX:
            step, unit = step * 7, "span of days"
    sums: dict[int, int] = {}
    for moment, count in counts.items():
        place = (moment - first) // step
        sums[place] = sums.get(place, 0) + count
    most = max(sums.values())
    bars = tuple(
        Bar(
            place,
            max(2, round(100 * count / most)),
            count,
            *_label(first + place * step, step, asked),
        )
        for place, count in sorted(sums.items())
    )
    peak = next(bar for bar in bars if bar.count == most)
    total = sum(sums.values())
    newest = f"The newest {total} events" if hours.is_cut else f"{total} event{'s' * (total > 1)}"
    words = (
        f"{newest}, by {unit}, from {bars[0].label} to {bars[-1].label} UTC;"
        f" most at {peak.label}: {most}."
    )
    return Timeline(bars, (last - first) // step + 1, words)


def _label(start: datetime, step: timedelta, asked: Asked) -> tuple[str, str]:
    """What a bar is called, and where its events are."""
    texts = {k: v for k, v in asked.texts.items() if k not in ("since", "until")}
    narrowed = Asked(asked.query, texts)
    form = "%Y-%m-%dT%H:%M:%SZ"
    link = narrowed.link(since=start.strftime(form), until=(start + step).strftime(form))
    return start.strftime("%Y-%m-%d %H:%M" if step == _HOUR else "%Y-%m-%d"), link


def _to_moment(hour: str) -> datetime:
    return datetime.strptime(hour, "%Y-%m-%dT%H").replace(tzinfo=timezone.utc)


def _fields(sent: Mapping[str, Sequence[str]], wrong: set[str]) -> list[Field]:
    verbs = [verb.value for verb in Verb]
    groups = sorted({f"{verb.split('.')[0]}.*" for verb in verbs if "." in verb})
    known: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
        ("person", "Person", "hub user, in whichever part", ()),
        ("team", "Team", "", ()),
        ("contest", "Contest", "", ()),
        ("dataset", "Data set", "with its contest, as in sea/tides", ()),
        ("verb", "What was done", "", (*groups, *verbs)),
        ("outcome", "Outcome", "", tuple(outcome.value for outcome in Outcome)),
        ("since", "From (UTC)", "as in 2027-03-01 or 2027-03-01T10:00", ()),
        ("until", "Before (UTC)", "", ()),
    )
    return [
        Field(name, label, next(iter(sent.get(name, ())), ""), hint, choices, name in wrong)
        for name, label, hint, choices in known
    ]


def _cut(time: str, length: int) -> str:
    return time[:length].replace("T", " ")


def _name(event: ShownEvent, part: str) -> str:
    if part in event.people:
        return str(event.people[part].get("name") or "(not named)")
    return "(erased)" if part in event.erased else ""


def _who(event: ShownEvent) -> str:
    actor, recipient = _name(event, "actor"), _name(event, "recipient")
    words = [_name(event, "subject"), actor and f"by {actor}", recipient and f"to {recipient}"]
    return " ".join(word for word in words if word)


def _thing(document: Mapping[str, Any]) -> str:
    return ", ".join([*document.get("datasets", ()), *filter(None, [document.get("thing")])])


def _rows(event: ShownEvent) -> Iterable[tuple[str, str]]:
    """What there is to say of an event, in order."""
    document = event.document
    words = (
        ("stored", "In the log since"),
        ("time", "Happened (emitter's clock)"),
        ("outcome", "Outcome"),
        ("reason", "Reason"),
        ("contest", "Contest"),
        ("team", "Team"),
        ("thing", "Object"),
    )
    for key, word in words:
        if key in document:
            yield word, str(document[key])
    if "datasets" in document:
        yield "Data sets", ", ".join(document["datasets"])
    for part in PARTS:
        if part in event.erased:
            yield part.capitalize(), "erased"
        for key, value in event.people.get(part, {}).items():
            text = ", ".join(value) if isinstance(value, list) else str(value)
            yield f"{part.capitalize()}: {key}", text
    for key, value in document.get("details", {}).items():
        yield key, ", ".join(value) if isinstance(value, list) else str(value)
    yield "Told by", document["emitter"] + (", late" if document.get("late") else "")
    if "correlation" in document:
        yield "Correlation", document["correlation"]


_loader: Final = Loader(str(_HERE / "templates"))

ROUTES: Final[list[Route]] = [
    ("", StartPage),
    ("events", SearchPage),
    (r"events/([^/]+)", EventPage),
    (r"datasets/([^/]+)/([^/]+)", DatasetPage),
    (r"static/(.*)", StaticHandler),
]
