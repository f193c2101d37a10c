"""From a request's query to what is asked of the log. What is not right is named by its field.

Times without a zone are UTC, as everything in the log is. An empty value is none: forms send all
their fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final
from urllib.parse import urlencode

from ... import names
from ...errors import Problem
from ...managers.audit_reading import PAGE_MAX
from ...models.audit import Outcome, Verb
from ...models.audit_query import EventQuery, Scope
from ...policy.problems import to_found

VALUES_MAX: Final = 20  # of one filter
_SEQUENCE_MAX: Final = 2**53
_NAME_MAX: Final = 255
_FILTERS: Final = ("contest", "team", "dataset", "person", "verb", "outcome", "since", "until")
_PAGING: Final = ("limit", "before", "after")
_LISTS: Final = frozenset({"contest", "team", "dataset", "verb", "outcome"})
_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+ -]\d\d:\d\d)?)?", re.ASCII
)
_NUMBER: Final = re.compile(r"[0-9]{1,16}", re.ASCII)

Arguments = Mapping[str, Sequence[bytes]]


class BadQueryError(ValueError):
    """Something in a request's query is not right. `problems` names each field."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, problems)))


@dataclass(frozen=True)
class Asked:
    """A query, and which page of its answer.

    Attributes
    ----------
    texts
        The filters as they were sent, for forms and links.
    """

    query: EventQuery
    texts: Mapping[str, Sequence[str]]
    limit: int = 100
    before: int | None = None
    after: int | None = None

    def link(self, **changed: object) -> str:
        """Query of an address with the same filters."""
        pairs = [(name, value) for name, values in self.texts.items() for value in values]
        pairs += [(name, str(value)) for name, value in changed.items() if value is not None]
        return urlencode(pairs)


_NOTHING: Final = Scope()  # whoever reads gives the query their own


def read_query(arguments: Arguments, *, also: Iterable[str] = (), paging: bool = True) -> Asked:
    """What a request asks for.

    Parameters
    ----------
    also
        Further names that the request may have, which are not looked at here.
    paging
        Whether it may say which page.

    Raises
    ------
    BadQueryError
        With all problems.
    """
    reader = _Reader(arguments)
    known = {*_FILTERS, *(_PAGING if paging else ()), *also, "_xsrf"}
    for name in sorted(set(arguments) - known):
        reader.problem(name, name, "one of " + ", ".join(sorted(known - {"_xsrf"})))
    query = EventQuery(
        scope=_NOTHING,
        contests=reader.ids("contest"),
        teams=reader.ids("team"),
        people=reader.person(),
        datasets=reader.datasets(),
        verbs=reader.verbs(),
        outcomes=reader.outcomes(),
        since=reader.time("since"),
        until=reader.time("until"),
    )
    limit = reader.number("limit", 1, PAGE_MAX) if paging else None
    before = reader.number("before", 1, _SEQUENCE_MAX) if paging else None
    after = reader.number("after", 0, _SEQUENCE_MAX) if paging else None
    if before is not None and after is not None:
        reader.problem("after", str(after), "only one of before and after")
    if reader.problems:
        raise BadQueryError(reader.problems)
    texts = {name: reader.texts(name) for name in _FILTERS if reader.texts(name)}
    return Asked(query, texts, 100 if limit is None else limit, before, after)


def read_number(arguments: Arguments, name: str, least: int, most: int) -> int | None:
    """One whole number of a request. Raises BadQueryError."""
    reader = _Reader(arguments)
    found = reader.number(name, least, most)
    if reader.problems:
        raise BadQueryError(reader.problems)
    return found


def read_choice(arguments: Arguments, name: str, choices: Sequence[str], default: str) -> str:
    """One of some words. Raises BadQueryError."""
    reader = _Reader(arguments)
    text = reader.one(name) or default
    if text not in choices:
        reader.problem(name, text, "one of " + ", ".join(choices))
    if reader.problems:
        raise BadQueryError(reader.problems)
    return text


def to_sequence(text: str) -> int | None:
    """An event's number in an address; None: no event can have it."""
    if not _NUMBER.fullmatch(text) or text.startswith("0"):
        return None
    number = int(text)
    return number if number <= _SEQUENCE_MAX else None


class _Reader:
    """Reads field by field and keeps what is wrong."""

    def __init__(self, arguments: Arguments) -> None:
        self.problems: list[Problem] = []
        self._texts: dict[str, tuple[str, ...]] = {}
        for name, values in arguments.items():
            try:
                texts = tuple(value.decode() for value in values)
            except UnicodeDecodeError:
                self.problem(name, "bytes that are no text", "UTF-8")
                continue
            self._texts[name] = tuple(text for text in texts if text)

    def problem(self, name: str, found: str, expected: str) -> None:
        self.problems.append(Problem(name[:60], to_found(found[:60]), expected))

    def texts(self, name: str) -> tuple[str, ...]:
        found = self._texts.get(name, ())
        most = VALUES_MAX if name in _LISTS else 1
        if len(found) > most:
            self.problem(name, f"{len(found)} values", f"at most {most}")
            return ()
        return found

    def one(self, name: str) -> str:
        return next(iter(self.texts(name)), "")

    def ids(self, name: str) -> frozenset[str]:
        found = self.texts(name)
        for text in found:
            if not names.is_team_id(text):
                self.problem(name, text, names.TEAM_ID_RULE)
        return frozenset(found)

    def person(self) -> frozenset[str]:
        text = self.one("person")
        if len(text) > _NAME_MAX or not text.isprintable() or "/" in text:
            self.problem("person", text, f"a hub user's name, at most {_NAME_MAX} characters")
        return frozenset({text} - {""})

    def datasets(self) -> frozenset[tuple[str, str]]:
        found = set()
        for text in self.texts("dataset"):
            contest, _, dataset = text.partition("/")
            if not (names.is_team_id(contest) and names.is_team_id(dataset)):
                self.problem("dataset", text, "contest and data set, as in sea/tides")
            found.add((contest, dataset))
        return frozenset(found)

    def verbs(self) -> frozenset[str]:
        found: set[str] = set()
        for text in self.texts("verb"):
            prefix = text[:-1] if text.endswith(".*") else None
            meant = {
                verb.value
                for verb in Verb
                if verb.value == text or (prefix and verb.value.startswith(prefix))
            }
            if not meant:
                self.problem("verb", text, "a verb such as dataset.read, or dataset.*")
            found |= meant
        return frozenset(found)

    def outcomes(self) -> frozenset[str]:
        found = self.texts("outcome")
        known = [outcome.value for outcome in Outcome]
        for text in found:
            if text not in known:
                self.problem("outcome", text, "one of " + ", ".join(known))
        return frozenset(found)

    def time(self, name: str) -> datetime | None:
        text = self.one(name)
        if not text:
            return None
        expected = "a moment such as 2027-03-01 or 2027-03-01T10:00:00Z"
        if not _TIME.fullmatch(text):
            self.problem(name, text, expected)
            return None
        plain = text.replace("Z", "+00:00")
        if len(plain) > 16 and plain[-6] == " ":  # a + in an address is a space
            plain = f"{plain[:-6]}+{plain[-5:]}"
        try:
            found = datetime.fromisoformat(_with_microseconds(plain))
            found = found if found.tzinfo else found.replace(tzinfo=timezone.utc)
            return found.astimezone(timezone.utc)
        except (ValueError, OverflowError):
            self.problem(name, text, expected)
            return None

    def number(self, name: str, least: int, most: int) -> int | None:
        text = self.one(name)
        if not text:
            return None
        if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
            self.problem(name, text, f"a whole number from {least} to {most}")
            return None
        return int(text)


def _with_microseconds(text: str) -> str:
    """With six digits after the point, which is all that Python 3.10 reads."""
    return re.sub(r"\.(\d{1,6})", lambda m: f".{m[1]:0<6}", text)
