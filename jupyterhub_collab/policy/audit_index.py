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
    """Collects what events say, then compares. Events are told by rising sequence.

    Sequences are kept in decimal digits, the form in which they are compared.

    Attributes
    ----------
    names
        Of each name the sequences of events that name it.
    datasets
        Likewise, of each contest and data set.
    contests, teams, verbs
        Likewise, of each contest, team, and verb with outcome.
    """

    def __init__(self) -> None:
        self.names: defaultdict[bytes, list[bytes]] = defaultdict(list)
        self.datasets: defaultdict[tuple[bytes, bytes], list[bytes]] = defaultdict(list)
        self.contests: defaultdict[bytes, list[bytes]] = defaultdict(list)
        self.teams: defaultdict[bytes, list[bytes]] = defaultdict(list)
        self.verbs: defaultdict[tuple[bytes, bytes], list[bytes]] = defaultdict(list)
        self._lists: dict[tuple[bytes, bytes], list[list[bytes]]] = {}  # most come again and again

    def add_columns(self, sequences: Sequence[bytes], columns: Any) -> None:
        """Contests, teams, data sets, verbs and outcomes; `columns` are those of `Facts`."""
        _collect(self.contests, columns.contest, sequences)
        _collect(self.teams, columns.team, sequences)
        verbs = self.verbs
        for pair, sequence in zip(
            zip(columns.verb, columns.outcome, strict=True), sequences, strict=True
        ):
            verbs[pair].append(sequence)
        if any(columns.datasets):
            found = zip(columns.contest, columns.datasets, strict=True)
            for pair, sequence in zip(found, sequences, strict=True):
                if pair[1]:
                    for listed in self._lists_of(pair):
                        listed.append(sequence)

    def add_name(self, sequence: int, name: bytes) -> None:
        """An event names somebody."""
        self.names[name].append(b"%d" % sequence)

    def add_names(self, sequences: Iterable[bytes], names: Iterable[bytes]) -> None:
        """The name that each event names; empty for none. An event may stand there again."""
        known = self.names
        for sequence, name in zip(sequences, names, strict=True):
            if name:
                known[name].append(sequence)

    def cut(self, last: int) -> None:
        """Forget events after one."""
        found: Any
        for found in (self.names, self.datasets, self.contests, self.teams, self.verbs):
            for sequences in found.values():
                while sequences and int(sequences[-1]) > last:
                    sequences.pop()

    def is_fitting(self, table: str, found: Iterable[tuple[Any, ...]]) -> bool:
        """Whether all fits, down to the form. If not, `compare` tells what does not.

        Parameters
        ----------
        table
            One of `SEARCHES`.
        found
            For all that is searched for in it: that, and its events as a JSON array.
        """
        left = {key: sequences for key, sequences in self._wanted(table).items() if sequences}
        for *key, array in found:
            right = left.pop(tuple(key) if len(key) > 1 else key[0], None)
            if right is None or array != b"[%b]" % b",".join(right):
                return False
        return not left

    def compare(self, table: str, found: Iterable[tuple[Any, ...]]) -> Findings:
        """What does not fit. Parameters as of `is_fitting`, but events as ``b"1,5,9"``."""
        findings = Findings()
        pairs = ((key[0] if len(key) == 1 else tuple(key), events) for *key, events in found)
        _compare(findings, self._wanted(table), pairs, SEARCHES[table])
        return findings

    def _wanted(self, table: str) -> Mapping[Any, list[bytes]]:
        lists: dict[str, Mapping[Any, list[bytes]]] = {
            "audit_people": self.names,
            "audit_datasets": self.datasets,
            "audit_contests": self.contests,
            "audit_teams": self.teams,
            "audit_verbs": self.verbs,
        }
        return lists[table]

    def _lists_of(self, pair: tuple[bytes, bytes]) -> list[list[bytes]]:
        """Where an event of a contest goes that is about data sets: a JSON list."""
        found = self._lists.get(pair)
        if found is None:
            contest, datasets = pair
            found = [self.datasets[contest, dataset] for dataset in _to_names(datasets)]
            if len(self._lists) < _LISTS_MAX:
                self._lists[pair] = found
        return found


def _collect(
    lists: defaultdict[bytes, list[bytes]], keys: Sequence[bytes], sequences: Sequence[bytes]
) -> None:
    """Put each event where its key says; empty for nowhere."""
    one = keys[0]
    if one == keys[-1] and keys.count(one) == len(keys):
        if one:
            lists[one].extend(sequences)
        return
    for key, sequence in zip(keys, sequences, strict=True):
        if key:
            lists[key].append(sequence)


def _compare(
    findings: Findings, wanted: Mapping[Any, list[bytes]], found: Iterable[Any], what: str
) -> None:
    left = set(wanted)
    for key, text in found:
        right = wanted.get(key, [])
        left.discard(key)
        if text == b",".join(right):
            continue
        texts = text.split(b",")
        there = {int(sequence) for sequence in texts if sequence.isdigit()}
        if len(there) < len(texts):  # SQLite keeps fractions where whole numbers belong
            findings.add(Kind.INDEX, 0, f"Searches for {what} find what is no event.")
        named = set(map(int, right))
        for sequence in sorted(named - there):
            _tell_hidden(findings, sequence, what)
        for sequence in sorted(there - named):
            findings.add(
                Kind.INDEX,
                sequence,
                f"Searches for {what} find event {sequence}, which does not name it (any more).",
            )
    for key in left:
        for sequence in map(int, wanted[key]):
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
