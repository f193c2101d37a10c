"""What searches of the audit log should find, beside what the database says they find.

An event that no search finds is as good as gone, so the tables that repeat an event's contest,
team, verb, names and data sets are compared with the events themselves, up to the mark to which
they are written. After it a search looks at each event; a mark far back makes all of them slow.

It must not: repeat a name in what it tells.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from .audit_bundle import read_json
from .audit_finding import Findings, Kind

BEHIND_MAX: Final = 5000  # events; the log writes its tables once they lack 1,000 and a group
_LISTS_MAX: Final = 10_000

SEARCHES: Final = {
    "audit_people": "a person",
    "audit_datasets": "a data set",
    "audit_contests": "a contest",
    "audit_teams": "a team",
    "audit_verbs": "a verb",
}
"""What is searched for along each table."""


def read_mark(found: Sequence[Any], last: int, findings: Findings) -> int:
    """Up to which event the tables are to be compared; tells of a mark that cannot be right.

    Parameters
    ----------
    found
        All rows of the mark's table, as the database gives them.
    last
        The last event.
    """
    mark = found[0] if len(found) == 1 else None
    if type(mark) is not int or not 0 <= mark <= last:
        text = "Up to which event searches go along tables is not to be told."
        findings.add(Kind.INDEX, 0, text)
        return last
    if last - mark > BEHIND_MAX:
        text = (
            f"Searches look at events {mark + 1} to {last} one by one: the tables they go along are"
            f" written up to event {mark} only. The service writes them within a second; if its"
            " log does not say why it could not, the mark was moved."
        )
        findings.add(Kind.INDEX, mark + 1, text, last)
    return mark


class SearchIndex:
    """Collects what events say, then compares.

    Attributes
    ----------
    names
        Of each name the events that name it, rising.
    datasets
        Likewise, of each contest and data set.
    contests, teams, verbs
        Likewise, of each contest, team, and verb with outcome.
    """

    def __init__(self) -> None:
        self.names: defaultdict[bytes, list[int]] = defaultdict(list)
        self.datasets: defaultdict[tuple[bytes, bytes], list[int]] = defaultdict(list)
        self.contests: defaultdict[bytes, list[int]] = defaultdict(list)
        self.teams: defaultdict[bytes, list[int]] = defaultdict(list)
        self.verbs: defaultdict[tuple[bytes, bytes], list[int]] = defaultdict(list)
        self._lists: dict[tuple[bytes, bytes], list[list[int]]] = {}  # most come again and again

    def add_columns(self, sequences: Iterable[int], columns: Any) -> None:
        """Contests, teams, verbs and outcomes of events; `columns` are those of `Facts`."""
        contests, teams, verbs = self.contests, self.teams, self.verbs
        found = zip(
            sequences,
            columns.contest,
            columns.team,
            zip(columns.verb, columns.outcome, strict=True),
            strict=True,
        )
        for sequence, contest, team, verb in found:
            verbs[verb].append(sequence)
            if contest:
                contests[contest].append(sequence)
            if team:
                teams[team].append(sequence)

    def add_name(self, sequence: int, name: bytes) -> None:
        """An event names somebody. Sequences rise."""
        self.names[name].append(sequence)

    def add_datasets(self, sequence: int, contest: bytes, datasets: bytes) -> None:
        """An event is about data sets: a JSON list. Sequences rise."""
        key = (contest, datasets)
        found = self._lists.get(key)
        if found is None:
            found = [self.datasets[contest, dataset] for dataset in _to_names(datasets)]
            if len(self._lists) < _LISTS_MAX:
                self._lists[key] = found
        for sequences in found:
            sequences.append(sequence)

    def cut(self, last: int) -> None:
        """Forget events after one."""
        for found in (self.names, self.datasets, self.contests, self.teams, self.verbs):
            lists: Iterable[list[int]] = found.values()
            for sequences in lists:
                while sequences and sequences[-1] > last:
                    sequences.pop()

    def compare(self, table: str, found: Iterable[tuple[Any, ...]]) -> Findings:
        """What does not fit.

        Parameters
        ----------
        table
            One of `SEARCHES`.
        found
            For all that is searched for in it: that, and its events: ``b"ocean", b"1,5,9"``.
        """
        findings = Findings()
        what = SEARCHES[table]
        if table in ("audit_datasets", "audit_verbs"):
            pairs = self.datasets if table == "audit_datasets" else self.verbs
            two = (((first, second), events) for first, second, events in found)
            _compare(findings, pairs, two, what)
            return findings
        one = {"audit_people": self.names, "audit_contests": self.contests}.get(table, self.teams)
        _compare(findings, one, found, what)
        return findings


def _compare(
    findings: Findings, wanted: Mapping[Any, list[int]], found: Iterable[Any], what: str
) -> None:
    left = set(wanted)
    for key, text in found:
        right = wanted.get(key, [])
        left.discard(key)
        if text == ",".join(map(str, right)).encode():
            continue
        texts = text.split(b",")
        there = {int(sequence) for sequence in texts if sequence.isdigit()}
        if len(there) < len(texts):  # SQLite keeps fractions where whole numbers belong
            findings.add(Kind.INDEX, 0, f"Searches for {what} find what is no event.")
        for sequence in sorted(set(right) - there):
            _tell_hidden(findings, sequence, what)
        for sequence in sorted(there - set(right)):
            findings.add(
                Kind.INDEX,
                sequence,
                f"Searches for {what} find event {sequence}, which does not name it (any more).",
            )
    for key in left:
        for sequence in wanted[key]:
            _tell_hidden(findings, sequence, what)


def tell_astray(findings: Findings, table: str, sequence: Any, first: int, mark: int) -> None:
    """A row of a table is for no event that rows are written for."""
    is_event = type(sequence) is int and 0 < sequence < 2**63
    which = f"event {sequence}" if is_event else "what is no event"
    text = (
        f"Searches for {SEARCHES[table]} go along a row for {which}: rows are written for events"
        f" {first} to {mark}."
    )
    findings.add(Kind.INDEX, sequence if is_event else 0, text)


def _tell_hidden(findings: Findings, sequence: int, what: str) -> None:
    findings.add(
        Kind.INDEX,
        sequence,
        f"Event {sequence} is hidden from searches for {what} that it names.",
    )


def _to_names(datasets: bytes) -> tuple[bytes, ...]:
    names = read_json(b'{"names":' + datasets + b"}")["names"]
    return tuple(dict.fromkeys(name.encode() for name in names))
